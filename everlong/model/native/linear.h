// y = x W^T for weights in bfloat16 or in integer groups.
//
// Integer groups are turned into bfloat16 in registers, value = bf16(scale * code + minimum), which
// is exactly what the bfloat16 packing of the same weight holds: the packings differ in bytes, not
// in values. Each output is one chain of dot products over K in steps of 32, added up in one
// order, whatever M is: a row's result does not depend on the rows beside it.
#pragma once

#include <algorithm>

#include "simd.h"

namespace everlong {

enum Format : int32_t {
  kBf16 = 0,       // codes: bf16 [N, K]
  kInt4Half = 1,   // codes: two per byte [N, K/2], even index low; scales: fp16 (scale, minimum)
  kInt4Float = 2,  // the same, scales: float (scale, minimum)
  kInt8 = 3,       // codes: int8 [N, K]; scales: float [N, K/32]
  kInt8Min = 4,    // codes: int8; scales: float (scale, minimum) [N, K/32, 2]
  kInt8By16 = 5,   // codes: int8; scales: float [N, K/16]
};

struct Matrix {
  const void* codes;
  const void* scales;
  const float* bias;  // [N] or null
  int32_t format;
  int32_t n;
  int32_t k;  // a multiple of 32, at most kMostInputs
};

constexpr int kMostInputs = 1 << 15;  // K

// One row of a matrix, read 32 weights at a time.
template <int F>
struct Row {
  const uint8_t* codes;
  const float* scales;
  float converted[F == kInt4Half ? kMostInputs / 16 : 1];  // scales in float, 16 at a time

  void open(const Matrix& w, int64_t n) {
    auto* c = static_cast<const uint8_t*>(w.codes);
    auto* s = static_cast<const float*>(w.scales);
    int64_t k = w.k, groups = k / 32;
    if constexpr (F == kBf16) codes = c + n * k * 2, scales = nullptr;
    if constexpr (F == kInt4Half) {
      codes = c + n * k / 2, scales = converted;
      auto* half = static_cast<const uint16_t*>(w.scales) + n * groups * 2;
      for (int64_t i = 0; i < groups * 2; i += 16) {
        __mmask16 rest = groups * 2 - i >= 16 ? 0xffff : (1 << (groups * 2 - i)) - 1;
        _mm512_storeu_ps(converted + i, _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(rest, half + i)));
      }
    }
    if constexpr (F == kInt4Float) codes = c + n * k / 2, scales = s + n * groups * 2;
    if constexpr (F == kInt8) codes = c + n * k, scales = s + n * groups;
    if constexpr (F == kInt8Min) codes = c + n * k, scales = s + n * groups * 2;
    if constexpr (F == kInt8By16) codes = c + n * k, scales = s + n * groups * 2;
  }

  __m512i load(int64_t g) const {  // weights 32 g .. 32 g + 31 in bf16
    if constexpr (F == kBf16) return _mm512_loadu_si512(codes + g * 64);
    if constexpr (F == kInt4Half || F == kInt4Float) {
      // The 16 values that the group can take; a permutation by the codes then looks them up.
      const __m512 code = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
      __m512 value = _mm512_fmadd_ps(code, _mm512_set1_ps(scales[2 * g]),
                                     _mm512_set1_ps(scales[2 * g + 1]));
      __m512i table = _mm512_broadcast_i64x4(narrow(value));
      __m512i bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)(codes + g * 16)));
      // 16-bit lanes (low nibble, high nibble); bit 4 of an index picks the table's equal copy.
      __m512i index = _mm512_or_si512(bytes, _mm512_slli_epi32(bytes, 12));
      return _mm512_permutexvar_epi16(index, table);
    }
    if constexpr (F == kInt8 || F == kInt8Min || F == kInt8By16) {
      const __m128i* c = (const __m128i*)(codes + g * 32);
      __m512 lo = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(c)));
      __m512 hi = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(c + 1)));
      const float* s = scales + g * (F == kInt8 ? 1 : 2);
      __m512 first = _mm512_set1_ps(s[0]);
      if constexpr (F == kInt8) lo = _mm512_mul_ps(lo, first), hi = _mm512_mul_ps(hi, first);
      if constexpr (F == kInt8By16)
        lo = _mm512_mul_ps(lo, first), hi = _mm512_mul_ps(hi, _mm512_set1_ps(s[1]));
      if constexpr (F == kInt8Min) {
        __m512 minimum = _mm512_set1_ps(s[1]);
        lo = _mm512_fmadd_ps(lo, first, minimum), hi = _mm512_fmadd_ps(hi, first, minimum);
      }
      return (__m512i)_mm512_cvtne2ps_pbh(hi, lo);
    }
  }
};

// Few rows: weights are read once, straight from memory, for M rows and J outputs at a time.
//   x: the rows interleaved, [K / 32][M][32], so that every address is a constant away
template <int F, int M, int J>
void few_rows(const Matrix& w, const bf16* x, float* y, int64_t ldy, Range n) {
  const int64_t groups = w.k / 32;
  for (int i = n.begin; i < n.end; i += J) {
    if constexpr (J > 1)
      if (n.end - i < J) return few_rows<F, M, 1>(w, x, y, ldy, {i, n.end});
    Row<F> row[J];
    for (int j = 0; j < J; ++j) row[j].open(w, i + j);
    __m512 sum[M * J];
    for (auto& s : sum) s = _mm512_setzero_ps();
    for (int64_t g = 0; g < groups; ++g) {
      __m512i v[J];
      for (int j = 0; j < J; ++j) v[j] = row[j].load(g);
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
      for (int j = 0; j < J; ++j) y[m * ldy + i + j] = out[m * J + j];
  }
}

// Panel of bf16 weights [rows, K] times M rows of x, in tiles of 4 outputs and R rows.
template <int R>
void tile(const bf16* w, const bf16* x, int64_t ldx, float* y, int64_t ldy, int64_t k) {
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
  int m = 0;
  if constexpr (R >= 4) {
    __m512 four = sum16x16(sum);
    _mm_storeu_ps(y, _mm512_castps512_ps128(four));
    _mm_storeu_ps(y + ldy, _mm512_extractf32x4_ps(four, 1));
    _mm_storeu_ps(y + 2 * ldy, _mm512_extractf32x4_ps(four, 2));
    _mm_storeu_ps(y + 3 * ldy, _mm512_extractf32x4_ps(four, 3));
    m = 4;
  }
  for (const __m512* s = sum + 4 * m; m < R; ++m, s += 4)
    _mm_storeu_ps(y + m * ldy, sum16x4(s[0], s[1], s[2], s[3]));
}

constexpr int kPanel = 32;  // outputs whose weights are unpacked at a time
constexpr int64_t kNearBytes = 36 << 10;  // of the rows of x, so that they stay in the first cache

// Many rows: a panel of weights is unpacked into `scratch` (kPanel * K bf16, stays in the second
// level cache) and used for all rows.
template <int F>
void many_rows(const Matrix& w, const bf16* x, int64_t ldx, float* y, int64_t ldy, int m_count,
               Range n, bf16* scratch) {
  const int64_t k = w.k;
  for (int p = n.begin; p < n.end; p += kPanel) {
    int size = std::min(kPanel, n.end - p);
    const bf16* panel = scratch;
    if constexpr (F == kBf16) {
      panel = static_cast<const bf16*>(w.codes) + p * k;
    } else {
      for (int j = 0; j < size; ++j) {
        Row<F> row;
        row.open(w, p + j);
        for (int64_t g = 0; g < k / 32; ++g)
          _mm512_storeu_si512(scratch + j * k + g * 32, row.load(g));
      }
    }
    int whole = size & ~3;
    for (int m = 0; m < m_count; m += 6) {
      const bf16* a = x + m * ldx;
      float* out = y + m * ldy + p;
      for (int j = 0; j < whole; j += 4) {
        const bf16* b = panel + j * k;
        switch (std::min(6, m_count - m)) {
          case 6: tile<6>(b, a, ldx, out + j, ldy, k); break;
          case 5: tile<5>(b, a, ldx, out + j, ldy, k); break;
          case 4: tile<4>(b, a, ldx, out + j, ldy, k); break;
          case 3: tile<3>(b, a, ldx, out + j, ldy, k); break;
          case 2: tile<2>(b, a, ldx, out + j, ldy, k); break;
          default: tile<1>(b, a, ldx, out + j, ldy, k);
        }
      }
    }
    for (int j = whole; j < size; ++j)
      for (int m = 0; m < m_count; ++m) {
        __m512 sum = _mm512_setzero_ps();
        for (int64_t i = 0; i < k; i += 32)
          sum = dot_bf16(sum, _mm512_loadu_si512(panel + j * k + i),
                         _mm512_loadu_si512(x + m * ldx + i));
        y[m * ldy + p + j] = sum16(sum);
      }
  }
}

inline const bf16* interleave(const bf16* x, int64_t ldx, int m_count, int64_t k, bf16* out) {
  if (m_count == 1) return x;
  for (int m = 0; m < m_count; ++m)
    for (int64_t g = 0; g < k / 32; ++g)
      _mm512_storeu_si512(out + (g * m_count + m) * 32, _mm512_loadu_si512(x + m * ldx + g * 32));
  return out;
}

constexpr int kMostRows = 48;    // from here on the other order of additions pays
constexpr int kLaneRows = 12;    // rows of x in a tile whose lanes are outputs
constexpr int kLaneOutputs = 32;
static_assert(kLaneOutputs <= kPanel, "the panel of weights has room in the same scratch space");

// Tile of R rows and 32 outputs, one output a lane: nothing is added up over lanes.
//   w: pairs of inputs [K / 2][32]; x: pairs of inputs [K / 2][16]
template <int R>
void lane_tile(const uint32_t* w, const uint32_t* x, float* y, int64_t ldy, int64_t k,
               uint32_t outputs) {
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
  for (int m = 0; m < R; ++m) {
    _mm512_mask_storeu_ps(y + m * ldy, __mmask16(outputs), sum[m][0]);
    _mm512_mask_storeu_ps(y + m * ldy + 16, __mmask16(outputs >> 16), sum[m][1]);
  }
}

template <int R = kLaneRows>
void lane_rows(int count, const uint32_t* w, const uint32_t* x, float* y, int64_t ldy, int64_t k,
               uint32_t outputs) {
  if (count == R) {
    lane_tile<R>(w, x, y, ldy, k, outputs);
  } else if constexpr (R > 1) {
    lane_rows<R - 1>(count, w, x, y, ldy, k, outputs);
  }
}

// Many rows, faster than `many_rows`, with another order of additions: a row computed here differs
// in its last bits from the same row computed among few.
template <int F>
void most_rows(const Matrix& w, const bf16* x, int64_t ldx, float* y, int64_t ldy, int m_count,
               Range n, bf16* scratch) {
  const int64_t k = w.k;
  auto* panel = reinterpret_cast<uint32_t*>(scratch);
  auto* rows = reinterpret_cast<uint32_t*>(scratch + kPanel * k);  // [M / 12][K / 2][16]
  __m512i r[16];
  for (int m = 0; m < m_count; m += kLaneRows)
    for (int64_t i = 0; i < k; i += 32) {
      for (int j = 0; j < 16; ++j)
        r[j] = j < kLaneRows && m + j < m_count ? _mm512_loadu_si512(x + (m + j) * ldx + i)
                                                : _mm512_setzero_si512();
      transpose16(r);
      uint32_t* out = rows + m / kLaneRows * k * 8 + i * 8;
      for (int j = 0; j < 16; ++j) _mm512_storeu_si512(out + j * 16, r[j]);
    }
  for (int p = n.begin; p < n.end; p += kLaneOutputs) {
    const int size = std::min(kLaneOutputs, n.end - p);
    for (int half = 0; half < kLaneOutputs; half += 16) {
      Row<F> row[16];
      for (int j = 0; j < 16; ++j) row[j].open(w, p + std::min(half + j, size - 1));
      for (int64_t g = 0; g < k / 32; ++g) {
        for (int j = 0; j < 16; ++j) r[j] = row[j].load(g);
        transpose16(r);
        for (int j = 0; j < 16; ++j) _mm512_storeu_si512(panel + (g * 16 + j) * 32 + half, r[j]);
      }
    }
    const uint32_t outputs = size == 32 ? ~0u : (1u << size) - 1;
    for (int m = 0; m < m_count; m += kLaneRows)
      lane_rows(std::min(kLaneRows, m_count - m), panel, rows + m / kLaneRows * k * 8,
                y + m * ldy + p, ldy, k, outputs);
  }
}

template <int F>
void linear_format(const Matrix& w, const bf16* x, int64_t ldx, float* y, int64_t ldy, int m,
                   Range n, bf16* scratch, bool exact) {
  if (m <= 4 || (m <= 16 && m * w.k * 2 <= kNearBytes)) {
    const bf16* near = interleave(x, ldx, m, w.k, scratch);
    switch (m) {
      case 1: few_rows<F, 1, 4>(w, near, y, ldy, n); break;
      case 2: few_rows<F, 2, 4>(w, near, y, ldy, n); break;
      case 3: few_rows<F, 3, 4>(w, near, y, ldy, n); break;
      case 4: few_rows<F, 4, 4>(w, near, y, ldy, n); break;
      case 5: few_rows<F, 5, 4>(w, near, y, ldy, n); break;
      case 6: few_rows<F, 6, 4>(w, near, y, ldy, n); break;
      case 7: few_rows<F, 7, 3>(w, near, y, ldy, n); break;
      case 8: few_rows<F, 8, 3>(w, near, y, ldy, n); break;
      case 9: few_rows<F, 9, 2>(w, near, y, ldy, n); break;
      case 10: few_rows<F, 10, 2>(w, near, y, ldy, n); break;
      case 11: few_rows<F, 11, 2>(w, near, y, ldy, n); break;
      case 12: few_rows<F, 12, 2>(w, near, y, ldy, n); break;
      case 13: few_rows<F, 13, 1>(w, near, y, ldy, n); break;
      case 14: few_rows<F, 14, 1>(w, near, y, ldy, n); break;
      case 15: few_rows<F, 15, 1>(w, near, y, ldy, n); break;
      case 16: few_rows<F, 16, 1>(w, near, y, ldy, n); break;
    }
  } else if (!exact && m >= kMostRows) {
    most_rows<F>(w, x, ldx, y, ldy, m, n, scratch);
  } else {
    many_rows<F>(w, x, ldx, y, ldy, m, n, scratch);
  }
  if (w.bias)
    for (int i = 0; i < m; ++i)
      for (int j = n.begin; j < n.end; ++j) y[i * ldy + j] += w.bias[j];
}

// Values of bf16 that `linear` needs as scratch space for M rows of at most K inputs.
inline size_t scratch_size(int m, int64_t k) {
  return size_t(k) * (kPanel + (size_t(m) + kLaneRows - 1) / kLaneRows * 16);
}

// Outputs `n` of all rows: y[m, n] = sum_k x[m, k] w[n, k] + bias[n].
//   exact: a row's result is the same, bit for bit, whatever M is
inline void linear(const Matrix& w, const bf16* x, int64_t ldx, float* y, int64_t ldy, int m,
                   Range n, bf16* scratch, bool exact) {
  switch (w.format) {
    case kBf16: linear_format<kBf16>(w, x, ldx, y, ldy, m, n, scratch, exact); break;
    case kInt4Half: linear_format<kInt4Half>(w, x, ldx, y, ldy, m, n, scratch, exact); break;
    case kInt4Float: linear_format<kInt4Float>(w, x, ldx, y, ldy, m, n, scratch, exact); break;
    case kInt8: linear_format<kInt8>(w, x, ldx, y, ldy, m, n, scratch, exact); break;
    case kInt8Min: linear_format<kInt8Min>(w, x, ldx, y, ldy, m, n, scratch, exact); break;
    case kInt8By16: linear_format<kInt8By16>(w, x, ldx, y, ldy, m, n, scratch, exact); break;
  }
}

template <int F>
void copy_row(const Matrix& w, int64_t n, float* out) {
  Row<F> row;
  row.open(w, n);
  for (int64_t g = 0; g < w.k / 32; ++g) {
    __m512i v = row.load(g);
    _mm512_storeu_ps(out + g * 32, widen(_mm512_castsi512_si256(v)));
    _mm512_storeu_ps(out + g * 32 + 16, widen(_mm512_extracti64x4_epi64(v, 1)));
  }
}

// Row n of a matrix in float [K]: the embedding of a token.
inline void embed(const Matrix& w, int64_t n, float* out) {
  switch (w.format) {
    case kBf16: copy_row<kBf16>(w, n, out); break;
    case kInt4Half: copy_row<kInt4Half>(w, n, out); break;
    case kInt4Float: copy_row<kInt4Float>(w, n, out); break;
    case kInt8: copy_row<kInt8>(w, n, out); break;
    case kInt8Min: copy_row<kInt8Min>(w, n, out); break;
    case kInt8By16: copy_row<kInt8By16>(w, n, out); break;
  }
}

}  // namespace everlong
