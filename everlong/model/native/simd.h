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
#include <initializer_list>

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

// One number; compilers make vectors of loops over these.
inline float as_float(float x) { return x; }
inline float as_float(bf16 x) {
  const uint32_t bits = uint32_t(x) << 16;
  float y;
  std::memcpy(&y, &bits, 4);
  return y;
}
inline void assign(float& to, float x) { to = x; }
inline void assign(bf16& to, float x) {  // to the nearest even
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  const uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  to = x == x ? bf16(rounded) : bf16(0x7fc0);
}

// The additions inside the sum of 16 lanes are in one order in all of the following, so that a
// result does not depend on which of its neighbours were computed with it: in each quarter
// (0 + 2) + (1 + 3), then of the quarters (0 + 1) + (2 + 3).

// Sums of the quarters of four registers: quarter q of the result holds those of quarter q.
inline __m512 sum_quarters(__m512 a, __m512 b, __m512 c, __m512 d) {
  __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
  __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
  __m512d x = _mm512_castps_pd(ab), y = _mm512_castps_pd(cd);
  return _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(x, y)),
                       _mm512_castpd_ps(_mm512_unpackhi_pd(x, y)));
}

inline __m512 add_neighbours(__m512 a, __m512 b) {  // quarters a0+a1, a2+a3, b0+b1, b2+b3
  return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
}

inline __m128 sum16x4(__m512 a, __m512 b, __m512 c, __m512 d) {
  __m512 q = sum_quarters(a, b, c, d);
  q = add_neighbours(q, q);
  return _mm_add_ps(_mm512_castps512_ps128(q), _mm512_extractf32x4_ps(q, 1));
}

inline __m128 max16x4(const __m512* s) {  // the largest of the 16 lanes of each of four registers
  __m512 ab = _mm512_max_ps(_mm512_unpacklo_ps(s[0], s[1]), _mm512_unpackhi_ps(s[0], s[1]));
  __m512 cd = _mm512_max_ps(_mm512_unpacklo_ps(s[2], s[3]), _mm512_unpackhi_ps(s[2], s[3]));
  __m512d x = _mm512_castps_pd(ab), y = _mm512_castps_pd(cd);
  __m512 q = _mm512_max_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(x, y)),
                           _mm512_castpd_ps(_mm512_unpackhi_pd(x, y)));
  __m256 h = _mm256_max_ps(_mm512_castps512_ps256(q), _mm512_extractf32x8_ps(q, 1));
  return _mm_max_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
}

// Sums of 16 registers: quarter q of the result holds those of s[4 q] to s[4 q + 3].
inline __m512 sum16x16(const __m512* s) {
  __m512 q[4];
  for (int i = 0; i < 4; ++i)
    q[i] = sum_quarters(s[4 * i], s[4 * i + 1], s[4 * i + 2], s[4 * i + 3]);
  return add_neighbours(add_neighbours(q[0], q[1]), add_neighbours(q[2], q[3]));
}

inline float sum16(__m512 x) { return _mm_cvtss_f32(sum16x4(x, x, x, x)); }

inline void transpose16(__m512i r[16]) {  // 16 x 16 of 32 bits
  __m512i t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
  for (int i = 0; i < 16; i += 4)
    for (int j = 0; j < 2; ++j) {
      r[i + 2 * j] = _mm512_unpacklo_epi64(t[i + j], t[i + 2 + j]);
      r[i + 2 * j + 1] = _mm512_unpackhi_epi64(t[i + j], t[i + 2 + j]);
    }
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
  }
  for (int i = 0; i < 8; ++i) {
    r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
    r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
  }
}

inline __m512i broadcast_pair(const bf16* pair) {
  int32_t both;
  std::memcpy(&both, pair, 4);
  return _mm512_set1_epi32(both);
}

// 2^x, relative error below 3e-7; 0 far below -126 and for -inf.
inline __m512 exp2_16(__m512 x) {
  // x - floor(x), 0 for -inf; scalef takes the floor itself.
  __m512 r = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF);
  __m512 p = _mm512_set1_ps(1.86713e-3f);  // minimax on [0, 1] with 2^0 = 1
  for (float c : {9.01703e-3f, 5.579991e-2f, 2.4016445e-1f, 6.9315131e-1f, 1.0f})
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(c));
  return _mm512_scalef_ps(p, x);
}

constexpr float kLog2E = 1.44269504088896341f;

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
