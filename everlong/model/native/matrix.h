// Weights and rows of activations in the forms that products read.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "simd.h"

namespace everlong {

// Weights [N, K], in bfloat16 or in groups of integers, value = scale * code + minimum.
struct Matrix {
  const void* codes;   // 16 bits: bf16 [N][K]; else as `integer.h` describes
  const void* scales;  // null for 16 bits
  const float* bias;   // [N] or null
  int32_t bits;        // 16, 8 or 4
  int32_t group;       // inputs that share a scale: 32, or 16 (8 bits only)
  int32_t minimum;     // whether scales come with minimums (groups of 32 only)
  int32_t half;        // whether both are fp16, else float
  int32_t n;
  int32_t k;  // a multiple of 32, at most kMostInputs
};

constexpr int kMostInputs = 1 << 15;  // K

constexpr int kTileRows = 8;  // rows that a product of integers computes together

// M rows of K activations. Products with bf16 weights read `plain`; those with integers read the
// rest, in which every 32 inputs of a row are rounded to 8 bits with a scale of their own, as
// llama.cpp has them too. A form that no product reads is null.
struct Rows {
  bf16* plain;      // [M][K]
  uint32_t* quads;  // [tiles][K / 4][kTileRows], four neighbouring inputs in each
  int8_t* bytes;    // [tiles][kTileRows][K]: the same integers for a matrix unit, or null
  float* scales;    // [tiles][K / 32][kTileRows]
  float* sums;      // the same: scale times sum of the 32 integers
  int32_t* biases;  // [tiles][K / 32][3][kTileRows]: -128 times the sum of all 32, of each 16
  int32_t* places;  // [M]: kTileRows times the tile of a row, plus its place there
  int m;
  int k;

  int tiles() const { return (m + kTileRows - 1) / kTileRows; }
  Range tile(int i) const { return share(m, 1, i, tiles()); }

  void set_places() const {
    for (int t = 0; t < tiles(); ++t)
      for (int row = tile(t).begin; row < tile(t).end; ++row)
        places[row] = t * kTileRows + row - tile(t).begin;
  }

  // Stores inputs at .. at + 31 of a row; `at` is a multiple of 32.
  void put(int row, int at, __m512 a, __m512 b) const {
    if (plain) {
      bf16* out = plain + size_t(row) * k + at;
      _mm512_storeu_si512(out, (__m512i)_mm512_cvtne2ps_pbh(b, a));
    }
    if (quads) put_integers(row, at / 32, a, b);
  }

 private:
  void put_integers(int row, int g, __m512 a, __m512 b) const {
    const int slot = places[row] % kTileRows;
    const size_t at = (size_t(places[row] / kTileRows) * (k / 32) + g) * kTileRows + slot;
    float highest = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(a), _mm512_abs_ps(b)));
    // A maximum may hide what is not a number.
    if (_mm512_cmp_ps_mask(a, b, _CMP_UNORD_Q)) highest = std::numeric_limits<float>::quiet_NaN();
    const float scale = highest / 127;
    const __m512 inverse = _mm512_set1_ps(highest == 0 ? 0.0f : 127 / highest);
    __m128i first = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(a, inverse)));
    __m128i second = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(b, inverse)));
    if (bytes) {
      int8_t* out = bytes + size_t(places[row]) * k + g * 32;
      _mm_storeu_si128((__m128i*)out, first), _mm_storeu_si128((__m128i*)out + 1, second);
    }
    alignas(32) uint32_t quad[8];
    _mm_store_si128((__m128i*)quad, first), _mm_store_si128((__m128i*)quad + 1, second);
    uint32_t* out = quads + (at - slot) * 8 + slot;
    for (int i = 0; i < 8; ++i) out[i * kTileRows] = quad[i];
    const int32_t low = sum_bytes(first), high = sum_bytes(second);
    scales[at] = scale;
    sums[at] = scale * float(low + high);
    int32_t* bias = biases + (at - slot) * 3 + slot;
    bias[0] = -128 * (low + high), bias[kTileRows] = -128 * low, bias[2 * kTileRows] = -128 * high;
  }

  static int32_t sum_bytes(__m128i x) {
    __m128i s = _mm_dpbusd_epi32(_mm_setzero_si128(), _mm_set1_epi8(1), x);
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    return _mm_cvtsi128_si32(s) + _mm_extract_epi32(s, 1);
  }
};

}  // namespace everlong
