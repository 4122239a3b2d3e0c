// y = x W^T for weights in bfloat16.
//
// Each output is one chain of dot products over K in steps of 32, added up in one order, whatever
// M is: a row's result does not depend on the rows beside it. Only `most_rows` is different.
#pragma once

#include "matrix.h"

namespace everlong {

// Few rows: weights are read once, straight from memory, for M rows and J outputs at a time.
//   x: the rows interleaved, [K / 32][M][32], so that every address is a constant away
template <int M, int J>
void few_rows(const bf16* w, int64_t k, const bf16* x, float* y, int64_t ldy, int count, bool add) {
  for (int i = 0; i < count; i += J) {
    if constexpr (J > 1)
      if (count - i < J) return few_rows<M, 1>(w + i * k, k, x, y + i, ldy, count - i, add);
    __m512 sum[M * J];
    for (auto& s : sum) s = _mm512_setzero_ps();
    for (int64_t g = 0; g < k / 32; ++g) {
      __m512i v[J];
      for (int j = 0; j < J; ++j) v[j] = _mm512_loadu_si512(w + (i + j) * k + g * 32);
      for (int m = 0; m < M; ++m) {
        __m512i a = _mm512_loadu_si512(x + (g * M + m) * 32);
        for (int j = 0; j < J; ++j) sum[m * J + j] = dot_bf16(sum[m * J + j], v[j], a);
      }
    }
    float out[(M * J + 3) / 4 * 4];
    int s = 0;
    for (; s + 16 <= M * J; s += 16) _mm512_storeu_ps(out + s, sum16x16(sum + s));
    for (; s + 4 <= M * J; s += 4)
      _mm_storeu_ps(out + s, sum16x4(sum[s], sum[s + 1], sum[s + 2], sum[s + 3]));
    for (; s < M * J; ++s) out[s] = sum16(sum[s]);
    for (int m = 0; m < M; ++m)
      for (int j = 0; j < J; ++j) {
        float* to = y + m * ldy + i + j;
        *to = add ? *to + out[m * J + j] : out[m * J + j];
      }
  }
}

// Four outputs of R rows.
template <int R>
void tile(const bf16* w, const bf16* x, int64_t ldx, float* y, int64_t ldy, int64_t k, bool add) {
  __m512 sum[R * 4];
  for (auto& s : sum) s = _mm512_setzero_ps();
  for (int64_t i = 0; i < k; i += 32) {
    __m512i v[4];
    for (int j = 0; j < 4; ++j) v[j] = _mm512_loadu_si512(w + j * k + i);
    for (int m = 0; m < R; ++m) {
      __m512i a = _mm512_loadu_si512(x + m * ldx + i);
      for (int j = 0; j < 4; ++j) sum[m * 4 + j] = dot_bf16(sum[m * 4 + j], v[j], a);
    }
  }
  for (int m = 0; m < R; ++m) {
    __m128 four = sum16x4(sum[m * 4], sum[m * 4 + 1], sum[m * 4 + 2], sum[m * 4 + 3]);
    if (add) four = _mm_add_ps(four, _mm_loadu_ps(y + m * ldy));
    _mm_storeu_ps(y + m * ldy, four);
  }
}

constexpr int kPanel = 32;  // outputs whose weights stay in the second cache for all rows
constexpr int64_t kNearBytes = 36 << 10;  // of the rows of x, so that they stay in the first cache

inline void many_rows(const bf16* w, int64_t k, const bf16* x, float* y, int64_t ldy, int m_count,
                      int count, bool add) {
  for (int p = 0; p < count; p += kPanel) {
    const int size = std::min(kPanel, count - p), whole = size & ~3;
    const bf16* panel = w + p * k;
    for (int m = 0; m < m_count; m += 6) {
      const bf16* a = x + m * k;
      for (int j = 0; j < whole; j += 4) {
        const bf16* b = panel + j * k;
        float* out = y + m * ldy + p + j;
        switch (std::min(6, m_count - m)) {
          case 6: tile<6>(b, a, k, out, ldy, k, add); break;
          case 5: tile<5>(b, a, k, out, ldy, k, add); break;
          case 4: tile<4>(b, a, k, out, ldy, k, add); break;
          case 3: tile<3>(b, a, k, out, ldy, k, add); break;
          case 2: tile<2>(b, a, k, out, ldy, k, add); break;
          default: tile<1>(b, a, k, out, ldy, k, add);
        }
      }
    }
    for (int m = 0; m < m_count; ++m)
      few_rows<1, 1>(panel + whole * k, k, x + m * k, y + m * ldy + p + whole, ldy, size - whole,
                     add);
  }
}

constexpr int kMostRows = 48;    // from here on the other order of additions pays
constexpr int kLaneRows = 12;    // rows of x in a tile whose lanes are outputs
constexpr int kLaneOutputs = 32;

// Tile of R rows and 32 outputs, one output a lane: nothing is added up over lanes.
//   w: pairs of inputs [K / 2][32]; x: pairs of inputs [K / 2][16]; outputs: those stored, as bits
template <int R>
void lane_tile(const uint32_t* w, const uint32_t* x, float* y, int64_t ldy, int64_t k,
               uint32_t outputs, bool add) {
  __m512 sum[R][2];
  for (auto& s : sum) s[0] = s[1] = _mm512_setzero_ps();
  for (int64_t i = 0; i < k / 2; ++i) {
    __m512i v[2] = {_mm512_loadu_si512(w + i * 32), _mm512_loadu_si512(w + i * 32 + 16)};
    for (int m = 0; m < R; ++m) {
      __m512i a = _mm512_set1_epi32(int(x[i * 16 + m]));
      sum[m][0] = dot_bf16(sum[m][0], v[0], a);
      sum[m][1] = dot_bf16(sum[m][1], v[1], a);
    }
  }
  for (int m = 0; m < R; ++m)
    for (int half = 0; half < 2; ++half) {
      const __mmask16 stored = __mmask16(outputs >> 16 * half);
      float* out = y + m * ldy + 16 * half;
      __m512 v = sum[m][half];
      if (add) v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(stored, out));
      _mm512_mask_storeu_ps(out, stored, v);
    }
}

template <int R = kLaneRows>
void lane_rows(int rows, const uint32_t* w, const uint32_t* x, float* y, int64_t ldy, int64_t k,
               uint32_t outputs, bool add) {
  if (rows == R) {
    lane_tile<R>(w, x, y, ldy, k, outputs, add);
  } else if constexpr (R > 1) {
    lane_rows<R - 1>(rows, w, x, y, ldy, k, outputs, add);
  }
}

// Many rows, faster than `many_rows`, with another order of additions: a row computed here differs
// in its last bits from the same row computed among few.
inline void most_rows(const bf16* w, int64_t k, const bf16* x, float* y, int64_t ldy, int m_count,
                      int count, bool add, bf16* scratch) {
  auto* panel = reinterpret_cast<uint32_t*>(scratch);
  auto* rows = reinterpret_cast<uint32_t*>(scratch + kLaneOutputs * k);  // [M / 12][K / 2][16]
  __m512i r[16];
  for (int m = 0; m < m_count; m += kLaneRows)
    for (int64_t i = 0; i < k; i += 32) {
      for (int j = 0; j < 16; ++j)
        r[j] = j < kLaneRows && m + j < m_count ? _mm512_loadu_si512(x + (m + j) * k + i)
                                                : _mm512_setzero_si512();
      transpose16(r);
      uint32_t* out = rows + m / kLaneRows * k * 8 + i * 8;
      for (int j = 0; j < 16; ++j) _mm512_storeu_si512(out + j * 16, r[j]);
    }
  for (int p = 0; p < count; p += kLaneOutputs) {
    const int size = std::min(kLaneOutputs, count - p);
    for (int half = 0; half < kLaneOutputs; half += 16)
      for (int64_t i = 0; i < k; i += 32) {
        for (int j = 0; j < 16; ++j)
          r[j] = _mm512_loadu_si512(w + (p + std::min(half + j, size - 1)) * k + i);
        transpose16(r);
        for (int j = 0; j < 16; ++j)
          _mm512_storeu_si512(panel + (i / 2 + j) * 32 + half, r[j]);
      }
    const uint32_t outputs = size == 32 ? ~0u : (1u << size) - 1;
    for (int m = 0; m < m_count; m += kLaneRows)
      lane_rows(std::min(kLaneRows, m_count - m), panel, rows + m / kLaneRows * k * 8,
                y + m * ldy + p, ldy, k, outputs, add);
  }
}

inline const bf16* interleave(const bf16* x, int m_count, int64_t k, bf16* out) {
  if (m_count == 1) return x;
  for (int m = 0; m < m_count; ++m)
    for (int64_t g = 0; g < k / 32; ++g)
      _mm512_storeu_si512(out + (g * m_count + m) * 32, _mm512_loadu_si512(x + m * k + g * 32));
  return out;
}

// Values that `bfloat16_linear` needs as scratch space for M rows of at most K inputs.
inline size_t bfloat16_scratch(int m, int64_t k) {
  return size_t(k) * (kLaneOutputs + (size_t(m) + kLaneRows - 1) / kLaneRows * 16);
}

//   exact: a row's result is the same, bit for bit, whatever M is
inline void bfloat16_linear(const Matrix& w, const Rows& x, float* y, int64_t ldy, Range n,
                            bool add, bf16* scratch, bool exact) {
  const int64_t k = w.k;
  const int m = x.m, count = n.end - n.begin;
  const bf16* from = static_cast<const bf16*>(w.codes) + n.begin * k;
  if (m <= 4 || (m <= 16 && m * k * 2 <= kNearBytes)) {
    const bf16* near = interleave(x.plain, m, k, scratch);
    switch (m) {
      case 1: few_rows<1, 4>(from, k, near, y, ldy, count, add); break;
      case 2: few_rows<2, 4>(from, k, near, y, ldy, count, add); break;
      case 3: few_rows<3, 4>(from, k, near, y, ldy, count, add); break;
      case 4: few_rows<4, 4>(from, k, near, y, ldy, count, add); break;
      case 5: few_rows<5, 4>(from, k, near, y, ldy, count, add); break;
      case 6: few_rows<6, 4>(from, k, near, y, ldy, count, add); break;
      case 7: few_rows<7, 3>(from, k, near, y, ldy, count, add); break;
      case 8: few_rows<8, 3>(from, k, near, y, ldy, count, add); break;
      case 9: few_rows<9, 2>(from, k, near, y, ldy, count, add); break;
      case 10: few_rows<10, 2>(from, k, near, y, ldy, count, add); break;
      case 11: few_rows<11, 2>(from, k, near, y, ldy, count, add); break;
      case 12: few_rows<12, 2>(from, k, near, y, ldy, count, add); break;
      case 13: few_rows<13, 1>(from, k, near, y, ldy, count, add); break;
      case 14: few_rows<14, 1>(from, k, near, y, ldy, count, add); break;
      case 15: few_rows<15, 1>(from, k, near, y, ldy, count, add); break;
      case 16: few_rows<16, 1>(from, k, near, y, ldy, count, add); break;
    }
  } else if (!exact && m >= kMostRows) {
    most_rows(from, k, x.plain, y, ldy, m, count, add, scratch);
  } else {
    many_rows(from, k, x.plain, y, ldy, m, count, add);
  }
  if (w.bias)
    for (int i = 0; i < m; ++i)
      for (int j = 0; j < count; ++j) y[i * ldy + j] += w.bias[n.begin + j];
}

}  // namespace everlong
