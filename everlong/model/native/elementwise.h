// What is computed on one row or one head at a time.
#pragma once

#include <cmath>

#include "simd.h"

namespace everlong {

inline float rms_scale(const float* x, float eps, int size) {
  __m512 sum = _mm512_setzero_ps();
  for (int i = 0; i < size; i += 16) {
    __m512 v = _mm512_loadu_ps(x + i);
    sum = _mm512_fmadd_ps(v, v, sum);
  }
  return 1.0f / std::sqrt(sum16(sum) / float(size) + eps);
}

// Those values `part` (in multiples of 32) of a normalised row (Zhang and Sennrich 2019).
template <class Put>
void rms_norm(const float* x, const float* weight, float eps, int size, Range part, Put put) {
  const __m512 scale = _mm512_set1_ps(rms_scale(x, eps, size));
  auto value = [&](int i) {
    return _mm512_mul_ps(_mm512_mul_ps(_mm512_loadu_ps(x + i), scale), _mm512_loadu_ps(weight + i));
  };
  for (int i = part.begin; i < part.end; i += 32) put(i, value(i), value(i + 16));
}

inline void rms_norm(const float* x, const float* weight, float eps, int size, float* out) {
  rms_norm(x, weight, eps, size, {0, size}, [out](int i, __m512 a, __m512 b) {
    _mm512_storeu_ps(out + i, a), _mm512_storeu_ps(out + i + 16, b);
  });
}

// Rotates one head in place (Su et al. 2021; halves, not pairs, as the checkpoints have it).
inline void rotate(float* x, const float* rope, int d) {
  for (int i = 0; i < d / 2; i += 16) {
    __m512 c = _mm512_loadu_ps(rope + i), s = _mm512_loadu_ps(rope + d / 2 + i);
    __m512 a = _mm512_loadu_ps(x + i), b = _mm512_loadu_ps(x + d / 2 + i);
    _mm512_storeu_ps(x + i, _mm512_fmsub_ps(a, c, _mm512_mul_ps(b, s)));
    _mm512_storeu_ps(x + d / 2 + i, _mm512_fmadd_ps(b, c, _mm512_mul_ps(a, s)));
  }
}

inline __m512 silu(__m512 x) {
  __m512 e = exp2_16(_mm512_min_ps(_mm512_mul_ps(x, _mm512_set1_ps(-kLog2E)),
                                   _mm512_set1_ps(126.0f)));
  return _mm512_div_ps(x, _mm512_add_ps(e, _mm512_set1_ps(1.0f)));
}

inline void store_bf16(const float* x, int size, bf16* out) {
  for (int i = 0; i < size; i += 16)
    _mm256_storeu_si256((__m256i*)(out + i), narrow(_mm512_loadu_ps(x + i)));
}

}  // namespace everlong
