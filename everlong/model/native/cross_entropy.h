// Losses of rows of logits, which become their own gradients.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "simd.h"

namespace everlong {

// In nats; `logits` [size] becomes softmax(logits), less 1 at the target.
inline float cross_entropy(bf16* logits, int64_t size, int64_t target) {
  const auto lanes = [&](int64_t i) {
    return __mmask16(size - i < 16 ? (1u << (size - i)) - 1 : 0xffffu);
  };
  const auto load = [&](int64_t i, __mmask16 valid) {
    return widen(_mm256_maskz_loadu_epi16(valid, logits + i));
  };
  // Four chains, as each of these operations waits for the one before in its own.
  __m512 most[4], sum[4];
  for (auto& one : most) one = _mm512_set1_ps(-std::numeric_limits<float>::infinity());
  for (int64_t i = 0; i < size; i += 16) {
    const __mmask16 valid = lanes(i);
    __m512& one = most[i / 16 % 4];
    one = _mm512_mask_max_ps(one, valid, one, load(i, valid));
  }
  const float highest = _mm512_reduce_max_ps(
      _mm512_max_ps(_mm512_max_ps(most[0], most[1]), _mm512_max_ps(most[2], most[3])));
  const auto less = [&](int64_t i, __mmask16 valid) {  // than the highest, in bits
    return _mm512_mul_ps(_mm512_sub_ps(load(i, valid), _mm512_set1_ps(highest)),
                         _mm512_set1_ps(kLog2E));
  };
  for (auto& one : sum) one = _mm512_setzero_ps();
  for (int64_t i = 0; i < size; i += 16) {
    const __mmask16 valid = lanes(i);
    __m512& one = sum[i / 16 % 4];
    one = _mm512_mask_add_ps(one, valid, one, exp2_16(less(i, valid)));
  }
  const float total =
      sum16(_mm512_add_ps(_mm512_add_ps(sum[0], sum[1]), _mm512_add_ps(sum[2], sum[3])));
  const uint32_t bits = uint32_t(logits[target]) << 16;
  float wanted;
  std::memcpy(&wanted, &bits, 4);
  const __m512 all = _mm512_set1_ps(std::log2(total));
  for (int64_t i = 0; i < size; i += 16) {
    const __mmask16 valid = lanes(i);
    __m512 share = exp2_16(_mm512_sub_ps(less(i, valid), all));
    if (target >= i && target < i + 16)
      share = _mm512_mask_sub_ps(share, __mmask16(1u << (target - i)), share, _mm512_set1_ps(1));
    _mm256_mask_storeu_epi16(logits + i, valid, narrow(share));
  }
  return highest - wanted + std::log(total);
}

}  // namespace everlong
