// Memory that a model keeps between steps.
#pragma once

#include <cstdlib>
#include <memory>

#include "matrix_unit.h"

namespace everlong {

// Cache-line aligned memory that grows and is kept between steps.
template <class T>
class Buffer {
 public:
  T* get(size_t count) {
    if (count > size_ || !data_) {
      data_.reset(static_cast<T*>(std::aligned_alloc(64, (count * sizeof(T) / 64 + 1) * 64)));
      size_ = data_ ? count : 0;
    }
    return data_.get();
  }

 private:
  struct Free {
    void operator()(T* p) const { std::free(p); }
  };
  std::unique_ptr<T, Free> data_;
  size_t size_ = 0;
};

// Memory of `Rows`, kept between steps.
class RowsBuffer {
 public:
  // Space for M rows of K inputs; false: no memory.
  bool get(int m, int k, bool plain, bool integers, Rows& out) {
    out = {};
    out.m = m, out.k = k;
    const size_t groups = size_t(out.tiles()) * kTileRows * (k / 32);
    if (plain && !(out.plain = plain_.get(size_t(m) * k))) return false;
    if (!integers) return true;
    out.quads = quads_.get(groups * 8), out.biases = biases_.get(groups * 3);
    if (unit_in_use != Unit::none && m >= kUnitRows) {
      // A unit reads two tiles together, also where the last one is alone.
      if (!(out.bytes = bytes_.get((groups + kTileRows * (k / 32)) * 32))) return false;
    }
    out.scales = scales_.get(groups), out.sums = sums_.get(groups);
    out.places = places_.get(m);
    if (!out.quads || !out.biases || !out.scales || !out.sums || !out.places) return false;
    out.set_places();
    return true;
  }

 private:
  Buffer<bf16> plain_;
  Buffer<int8_t> bytes_;
  Buffer<uint32_t> quads_;
  Buffer<int32_t> biases_, places_;
  Buffer<float> scales_, sums_;
};

}  // namespace everlong
