// Small AVX-512 helpers shared by the kernels.
//
// Letters used in all kernels:
//   M rows (tokens of this step)   N outputs   K inputs   D head size   L = 64 tokens in a block
#pragma once

#include <immintrin.h>
#include <sched.h>

#include <atomic>
#include <cstdint>
#include <cstring>

namespace everlong {

using bf16 = uint16_t;

inline __m512bh as_bh(__m512i x) { return (__m512bh)x; }

inline __m512 dot_bf16(__m512 sum, __m512i a, __m512i b) {
  return _mm512_dpbf16_ps(sum, as_bh(a), as_bh(b));
}

inline __m512 widen(__m256i x) {  // 16 bf16 -> float, exact
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16));
}

inline __m256i narrow(__m512 x) {  // 16 float -> bf16, round to nearest even
  return (__m256i)_mm512_cvtneps_pbh(x);
}

inline float sum16(__m512 x) {
  __m256 a = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
  __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  b = _mm_hadd_ps(b, b);
  return _mm_cvtss_f32(_mm_hadd_ps(b, b));
}

// Sums of four registers at once. The order of additions inside each sum is that of sum16, so a
// result does not depend on which of its neighbours were computed with it.
inline __m128 sum16x4(__m512 a, __m512 b, __m512 c, __m512 d) {
  auto half = [](__m512 x) {
    __m256 y = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    return _mm_add_ps(_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1));
  };
  return _mm_hadd_ps(_mm_hadd_ps(half(a), half(b)), _mm_hadd_ps(half(c), half(d)));
}

// exp(x) for x <= 88, relative error below 2e-7; 0 where x is below -87 (and for -inf).
inline __m512 exp16(__m512 x) {
  const __m512 log2e = _mm512_set1_ps(1.44269504088896341f);
  __mmask16 alive = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-87.0f), _CMP_GT_OQ);
  x = _mm512_max_ps(x, _mm512_set1_ps(-87.0f));
  __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, log2e), _MM_FROUND_TO_NEAREST_INT);
  __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693145751953125f), x);
  r = _mm512_fnmadd_ps(n, _mm512_set1_ps(1.42860682030941723e-6f), r);
  __m512 p = _mm512_set1_ps(1.0f / 5040);
  for (float c : {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f})
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(c));
  return _mm512_maskz_scalef_ps(alive, p, n);
}

// Threads of one parallel region meet here. Spins, because the phases between two barriers take
// microseconds; yields when another process holds the core.
class Barrier {
 public:
  explicit Barrier(int threads) : threads_(threads) {}
  void wait() {
    if (threads_ == 1) return;
    int phase = phase_.load(std::memory_order_acquire);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) == threads_ - 1) {
      arrived_.store(0, std::memory_order_relaxed);
      phase_.store(phase + 1, std::memory_order_release);
      return;
    }
    for (int spins = 0; phase_.load(std::memory_order_acquire) == phase;) {
      _mm_pause();
      if (++spins == 512) {
        sched_yield();
        spins = 0;
      }
    }
  }

 private:
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<int> phase_{0};
  int threads_;
};

struct Range {
  int begin, end;
};

// The part of [0, size) of thread `index`, in multiples of `step`.
inline Range share(int size, int step, int index, int threads) {
  int64_t units = (size + step - 1) / step;
  int begin = int(units * index / threads) * step, end = int(units * (index + 1) / threads) * step;
  return {begin < size ? begin : size, end < size ? end : size};
}

}  // namespace everlong
