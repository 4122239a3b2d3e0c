// Attention of packed sequences with narrow heads, and its gradients; for training.
//
// Products with 4 to 16 numbers are too short to be worth a matrix product: here sixteen keys lie in
// the lanes of a register, so a score costs D multiplications and its exponential is most of the
// work. Sums are float32 whatever the inputs are. Queries see a range of the keys, so causal,
// bidirectional and prefix sight and windows are one kernel. As in FlashAttention (Dao et al. 2022,
// section 3.1) nothing of the size T x T is kept: the backward pass computes weights again from the
// sum of each row. One thread computes all of a sequence and kv head, so results do not depend on
// the number of threads.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "simd.h"

namespace everlong {

// The rows of all sequences, one after the other.
struct PackedRows {
  const int32_t* starts;  // [sequences + 1]: first row of each, and the number of rows
  const int32_t* first;   // [rows]: first row that each row sees
  const int32_t* last;    // [rows]: the row behind the last that it sees
  int32_t sequences, heads, kv_heads, head_dim;
  int32_t half;  // whether q, k, v and their gradients are bf16, else float
};

inline float load_one(const float* x) { return *x; }
inline float load_one(const bf16* x) {
  const uint32_t bits = uint32_t(*x) << 16;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}
inline void store_one(float* to, float x) { *to = x; }
inline void store_one(bf16* to, float x) {
  *to = bf16(_mm_extract_epi16((__m128i)_mm_cvtneps_pbh(_mm_set1_ps(x)), 0));
}

template <int D, class T>
class NarrowAttention {
 public:
  explicit NarrowAttention(const PackedRows& rows) : r_(rows), group_(rows.heads / rows.kv_heads) {}

  int items() const { return r_.sequences * r_.kv_heads; }

  // sums [rows][heads]: log2 of the sum of each row's exponentials
  void forward(int item, const T* q, const T* k, const T* v, T* out, float* sums) {
    open(item, k, v);
    scores_.resize(size_t(kTogether) * padded_);
    for (int head = h_ * group_; head < (h_ + 1) * group_; ++head)
      for (int row = begin_; row < end_; row += kTogether)
        forward_rows(row, std::min(kTogether, end_ - row), head, q, out, sums);
  }

  // of_q, of_k, of_v: gradients, of which this writes those of the item
  void backward(int item, const T* q, const T* k, const T* v, const T* out, const float* sums,
                const T* of_out, T* of_q, T* of_k, T* of_v) {
    open(item, k, v);
    scores_.resize(size_t(kTogether) * padded_);
    of_keys_.assign(size_t(D) * padded_, 0.0f);
    of_values_.assign(size_t(D) * padded_, 0.0f);
    for (int head = h_ * group_; head < (h_ + 1) * group_; ++head)
      for (int row = begin_; row < end_; row += kTogether)
        backward_rows(row, std::min(kTogether, end_ - row), head, q, out, sums, of_out, of_q);
    // Queries are scaled for powers of two; gradients are those of powers of e.
    for (int t = 0; t < end_ - begin_; ++t)
      for (int d = 0; d < D; ++d) {
        store_one(of_k + at(begin_ + t, r_.kv_heads, h_) + d,
                  of_keys_[size_t(d) * padded_ + t] / kLog2E);
        store_one(of_v + at(begin_ + t, r_.kv_heads, h_) + d, of_values_[size_t(d) * padded_ + t]);
      }
  }

 private:
  static constexpr int kTogether = 4;  // rows that share what is loaded of keys and values

  static size_t at(int row, int heads, int head) { return (size_t(row) * heads + head) * D; }

  // Keys and values of a sequence and kv head, by dimension: [D][padded].
  void open(int item, const T* k, const T* v) {
    const int sequence = item / r_.kv_heads;
    h_ = item % r_.kv_heads;
    begin_ = r_.starts[sequence], end_ = r_.starts[sequence + 1];
    padded_ = (end_ - begin_ + 15) / 16 * 16;
    keys_.assign(size_t(D) * padded_, 0.0f);
    values_.assign(size_t(D) * padded_, 0.0f);
    for (int t = 0; t < end_ - begin_; ++t)
      for (int d = 0; d < D; ++d) {
        keys_[size_t(d) * padded_ + t] = load_one(k + at(begin_ + t, r_.kv_heads, h_) + d);
        values_[size_t(d) * padded_ + t] = load_one(v + at(begin_ + t, r_.kv_heads, h_) + d);
      }
  }

  // Which of the sixteen keys from `t` on a row sees.
  __mmask16 seen(int row, int t) const {
    const int from = std::max(0, r_.first[row] - begin_ - t);
    const int to = std::min(16, r_.last[row] - begin_ - t);
    return from < to ? __mmask16((1u << to) - (1u << from)) : __mmask16(0);
  }

  // The chunks of sixteen keys that some of the rows see, as [begin, end).
  Range chunks(int row, int count) const {
    int first = std::numeric_limits<int>::max(), last = 0;
    for (int i = row; i < row + count; ++i)
      first = std::min(first, r_.first[i]), last = std::max(last, r_.last[i]);
    return {(first - begin_) / 16 * 16, last - begin_};
  }

  // A row of queries, scaled so that scores are in powers of two.
  void load_query(const T* q, int row, int head, float* to) const {
    const float scale = kLog2E / std::sqrt(float(D));
    for (int d = 0; d < D; ++d) to[d] = scale * load_one(q + at(row, r_.heads, head) + d);
  }

  // query . key of sixteen keys, or of_out . value.
  static __m512 product(const float* row, const float* by_dimension, int stride) {
    __m512 even = _mm512_setzero_ps(), odd = _mm512_setzero_ps();
#pragma GCC unroll 16
    for (int d = 0; d < D; d += 2) {
      even = _mm512_fmadd_ps(_mm512_set1_ps(row[d]),
                             _mm512_loadu_ps(by_dimension + size_t(d) * stride), even);
      odd = _mm512_fmadd_ps(_mm512_set1_ps(row[d + 1]),
                            _mm512_loadu_ps(by_dimension + size_t(d + 1) * stride), odd);
    }
    return _mm512_add_ps(even, odd);
  }

  void forward_rows(int row, int count, int head, const T* q, T* out, float* sums) {
    const Range range = chunks(row, count);
    alignas(64) float query[kTogether][D];
    __m512 highest[kTogether];
    for (int i = 0; i < kTogether; ++i) {
      load_query(q, row + std::min(i, count - 1), head, query[i]);
      highest[i] = _mm512_set1_ps(-std::numeric_limits<float>::infinity());
    }
    for (int t = range.begin; t < range.end; t += 16)
      for (int i = 0; i < kTogether; ++i) {
        const __m512 score = product(query[i], keys_.data() + t, padded_);
        highest[i] = _mm512_mask_max_ps(highest[i], seen(row + std::min(i, count - 1), t),
                                        highest[i], score);
        _mm512_storeu_ps(&scores_[size_t(i) * padded_ + t], score);
      }
    for (int i = 0; i < count; ++i) {
      const float max = _mm512_reduce_max_ps(highest[i]);
      __m512 sum = _mm512_setzero_ps(), value[D];
      for (auto& one : value) one = _mm512_setzero_ps();
      for (int t = range.begin; t < range.end; t += 16) {
        const __m512 score = _mm512_loadu_ps(&scores_[size_t(i) * padded_ + t]);
        const __m512 weight = _mm512_maskz_mov_ps(
            seen(row + i, t), exp2_16(_mm512_sub_ps(score, _mm512_set1_ps(max))));
        sum = _mm512_add_ps(sum, weight);
#pragma GCC unroll 16
        for (int d = 0; d < D; ++d)
          value[d] = _mm512_fmadd_ps(weight, _mm512_loadu_ps(&values_[size_t(d) * padded_ + t]),
                                     value[d]);
      }
      const float total = sum16(sum);
      for (int d = 0; d < D; ++d)
        store_one(out + at(row + i, r_.heads, head) + d, sum16(value[d]) / total);
      sums[size_t(row + i) * r_.heads + head] = max + std::log2(total);
    }
  }

  void backward_rows(int row, int count, int head, const T* q, const T* out, const float* sums,
                     const T* of_out, T* of_q) {
    const Range range = chunks(row, count);
    // What comes back for a score: weight times (of_out . value - of_out . out).
    alignas(64) float query[kTogether][D], given[kTogether][D], mean[kTogether], sum[kTogether];
    for (int i = 0; i < count; ++i) {
      load_query(q, row + i, head, query[i]);
      const size_t place = at(row + i, r_.heads, head);
      mean[i] = 0;
      for (int d = 0; d < D; ++d) {
        given[i][d] = load_one(of_out + place + d);
        mean[i] += given[i][d] * load_one(out + place + d);
      }
      sum[i] = sums[size_t(row + i) * r_.heads + head];
    }
    for (int t = range.begin; t < range.end; t += 16) {
      __m512 of_key[D], of_value[D];
#pragma GCC unroll 16
      for (int d = 0; d < D; ++d) {
        of_key[d] = _mm512_loadu_ps(&of_keys_[size_t(d) * padded_ + t]);
        of_value[d] = _mm512_loadu_ps(&of_values_[size_t(d) * padded_ + t]);
      }
      for (int i = 0; i < count; ++i) {
        const __mmask16 mask = seen(row + i, t);
        const __m512 score = product(query[i], keys_.data() + t, padded_);
        const __m512 weight =
            _mm512_maskz_mov_ps(mask, exp2_16(_mm512_sub_ps(score, _mm512_set1_ps(sum[i]))));
        const __m512 along = product(given[i], values_.data() + t, padded_);
        const __m512 back = _mm512_mul_ps(weight, _mm512_sub_ps(along, _mm512_set1_ps(mean[i])));
        _mm512_storeu_ps(&scores_[size_t(i) * padded_ + t], back);
#pragma GCC unroll 16
        for (int d = 0; d < D; ++d) {
          of_value[d] = _mm512_fmadd_ps(weight, _mm512_set1_ps(given[i][d]), of_value[d]);
          of_key[d] = _mm512_fmadd_ps(back, _mm512_set1_ps(query[i][d]), of_key[d]);
        }
      }
#pragma GCC unroll 16
      for (int d = 0; d < D; ++d) {
        _mm512_storeu_ps(&of_keys_[size_t(d) * padded_ + t], of_key[d]);
        _mm512_storeu_ps(&of_values_[size_t(d) * padded_ + t], of_value[d]);
      }
    }
    const float scale = 1 / std::sqrt(float(D));
    for (int i = 0; i < count; ++i) {
      __m512 of_query[D];
      for (auto& one : of_query) one = _mm512_setzero_ps();
      for (int t = range.begin; t < range.end; t += 16) {
        const __m512 back = _mm512_loadu_ps(&scores_[size_t(i) * padded_ + t]);
#pragma GCC unroll 16
        for (int d = 0; d < D; ++d)
          of_query[d] = _mm512_fmadd_ps(back, _mm512_loadu_ps(&keys_[size_t(d) * padded_ + t]),
                                        of_query[d]);
      }
      for (int d = 0; d < D; ++d)
        store_one(of_q + at(row + i, r_.heads, head) + d, scale * sum16(of_query[d]));
    }
  }

  PackedRows r_;
  int group_, h_ = 0, begin_ = 0, end_ = 0, padded_ = 0;
  std::vector<float> keys_, values_, scores_, of_keys_, of_values_;
};

}  // namespace everlong
