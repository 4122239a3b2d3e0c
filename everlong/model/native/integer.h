// y = x W^T for weights in groups of 4 or 8 bits.
//
// Codes lie in blocks of 16 outputs and 32 inputs: [N / 16][K / 32][8][16][4], the last three
// being groups of four neighbouring inputs, outputs, and inputs; N is padded with zeros. 8-bit codes
// are stored plus 128, so that they are unsigned as the instruction wants them. With 4 bits two
// neighbouring groups of four inputs share a byte, the first in the low half: [4][16][4]. Scales are
// [N / 16][K / 32][1 or 2][16], the two being scale and minimum, or the scales of each 16 inputs.
// 4-bit codes without a minimum stand for code - 8.
//
// Integers are added up exactly within a group, and groups one after the other: a row's result does
// not depend, in any bit, on the rows beside it.
#pragma once

#include "matrix.h"

namespace everlong {

inline __m512 load_scales(const Matrix& w, int64_t at) {
  if (w.half)
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)((const uint16_t*)w.scales + at)));
  return _mm512_loadu_ps((const float*)w.scales + at);
}

// Stores outputs of one row: `count` of the block's 16, or all if it is more.
inline void store_outputs(const Matrix& w, int block, __m512 sum, float* out, int count, bool add) {
  const __mmask16 stored = count >= 16 ? 0xffff : __mmask16((1u << count) - 1);
  if (w.bias) sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(stored, w.bias + block * 16));
  if (add) sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(stored, out));
  _mm512_mask_storeu_ps(out, stored, sum);
}

// R rows of one tile times 16 C outputs.
//   Parts: scales in 32 inputs; y: first output of the first row; count: outputs to store
//   ahead: fetch the C blocks that follow, which come next, into the second cache
template <int Bits, int Parts, int R, int C>
void integer_tile(const Matrix& w, int block, const Rows& x, int tile, float* y, int64_t ldy,
                  int count, bool add, bool ahead) {
  constexpr int kBytes = Bits * 64, kQuads = 8 / Parts;
  const int groups = w.k / 32, each = w.minimum ? 2 : Parts;
  const uint8_t* codes = static_cast<const uint8_t*>(w.codes) + int64_t(block) * groups * kBytes;
  const int64_t next = int64_t(groups) * kBytes;  // from a block to the next
  const int64_t first = int64_t(tile) * groups * kTileRows;
  const uint32_t* quads = x.quads + first * 8;
  const float* scales = x.scales + first;
  const float* sums = x.sums + first;
  const int32_t* biases = x.biases + first * 3;
  const __m512i low = _mm512_set1_epi8(15);
  __m512 sum[R][C];
  for (auto& row : sum)
    for (auto& s : row) s = _mm512_setzero_ps();
  const int64_t scale_bytes = each * (w.half ? 32 : 64);
  const auto* later = static_cast<const uint8_t*>(w.scales) + int64_t(block + C) * groups * scale_bytes;
  for (int g = 0; g < groups; ++g, codes += kBytes) {
    if (ahead) {
      for (int c = 0; c < C; ++c) {
        for (int i = 0; i < kBytes; i += 64)
          _mm_prefetch(codes + (C + c) * next + i, _MM_HINT_T1);
        _mm_prefetch(later + (c * groups + g) * scale_bytes, _MM_HINT_T1);
      }
    }
    for (int part = 0; part < Parts; ++part) {
      __m512i dot[R][C];
      for (int r = 0; r < R; ++r) {
        __m512i start = _mm512_setzero_si512();
        if constexpr (Bits == 8)
          start = _mm512_set1_epi32(biases[(g * 3 + (Parts == 1 ? 0 : part + 1)) * kTileRows + r]);
        for (int c = 0; c < C; ++c) dot[r][c] = start;
      }
      const uint32_t* quad = quads + (g * 8 + part * kQuads) * kTileRows;
      const uint8_t* from = codes + part * kQuads * 64;
      if constexpr (Bits == 8) {
#pragma GCC unroll 8
        for (int q = 0; q < kQuads; ++q) {
          __m512i v[C];
          for (int c = 0; c < C; ++c) v[c] = _mm512_loadu_si512(from + c * next + q * 64);
          for (int r = 0; r < R; ++r) {
            __m512i a = _mm512_set1_epi32(int(quad[q * kTileRows + r]));
            for (int c = 0; c < C; ++c) dot[r][c] = _mm512_dpbusd_epi32(dot[r][c], v[c], a);
          }
        }
      } else {
#pragma GCC unroll 4
        for (int q = 0; q < kQuads; q += 2) {
          __m512i v[C], u[C];
          for (int c = 0; c < C; ++c) {
            __m512i both = _mm512_loadu_si512(from + c * next + q * 32);
            v[c] = _mm512_and_si512(both, low);
            u[c] = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
          }
          for (int r = 0; r < R; ++r) {
            __m512i a = _mm512_set1_epi32(int(quad[q * kTileRows + r]));
            for (int c = 0; c < C; ++c) dot[r][c] = _mm512_dpbusd_epi32(dot[r][c], v[c], a);
          }
          for (int r = 0; r < R; ++r) {
            __m512i a = _mm512_set1_epi32(int(quad[(q + 1) * kTileRows + r]));
            for (int c = 0; c < C; ++c) dot[r][c] = _mm512_dpbusd_epi32(dot[r][c], u[c], a);
          }
        }
      }
      __m512 scale[C];
      for (int c = 0; c < C; ++c)
        scale[c] = load_scales(w, (int64_t(block + c) * groups + g) * each * 16 + part * 16);
      for (int r = 0; r < R; ++r) {
        __m512 a = _mm512_set1_ps(scales[g * kTileRows + r]);
        for (int c = 0; c < C; ++c)
          sum[r][c] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[r][c]), _mm512_mul_ps(a, scale[c]),
                                      sum[r][c]);
      }
      if (Bits == 4 || w.minimum) {
        for (int c = 0; c < C; ++c)
          scale[c] = w.minimum
                         ? load_scales(w, (int64_t(block + c) * groups + g) * 32 + 16)
                         : _mm512_mul_ps(scale[c], _mm512_set1_ps(-8.0f));
        for (int r = 0; r < R; ++r) {
          __m512 a = _mm512_set1_ps(sums[g * kTileRows + r]);
          for (int c = 0; c < C; ++c) sum[r][c] = _mm512_fmadd_ps(scale[c], a, sum[r][c]);
        }
      }
    }
  }
  for (int c = 0; c < C; ++c)
    for (int r = 0; r < R; ++r)
      store_outputs(w, block + c, sum[r][c], y + r * ldy + c * 16, count - 16 * c, add);
}

template <int Bits, int Parts, int C, int R = kTileRows>
void integer_rows(const Matrix& w, int block, const Rows& x, int tile, int rows, float* y,
                  int64_t ldy, int count, bool add, bool ahead) {
  if (rows == R) {
    integer_tile<Bits, Parts, R, C>(w, block, x, tile, y, ldy, count, add, ahead);
  } else if constexpr (R > 1) {
    integer_rows<Bits, Parts, C, R - 1>(w, block, x, tile, rows, y, ldy, count, add, ahead);
  }
}

template <int Bits, int Parts>
void integer_product(const Matrix& w, const Rows& x, float* y, int64_t ldy, Range n, bool add) {
  const int tiles = x.tiles();
  for (int p = n.begin; p < n.end; p += 32)
    for (int t = 0; t < tiles; ++t) {
      const Range rows = x.tile(t);
      const int count = std::min(32, n.end - p), size = rows.end - rows.begin;
      const bool ahead = t == tiles - 1 && n.end - p >= 64;
      float* out = y + rows.begin * ldy + (p - n.begin);
      if (count > 16)
        integer_rows<Bits, Parts, 2>(w, p / 16, x, t, size, out, ldy, count, add, ahead);
      else
        integer_rows<Bits, Parts, 1>(w, p / 16, x, t, size, out, ldy, count, add, ahead);
    }
}

inline void integer_linear(const Matrix& w, const Rows& x, float* y, int64_t ldy, Range n,
                           bool add) {
  if (w.bits == 4) return integer_product<4, 1>(w, x, y, ldy, n, add);
  if (w.group == 16) return integer_product<8, 2>(w, x, y, ldy, n, add);
  integer_product<8, 1>(w, x, y, ldy, n, add);
}

// Row n of the weights in float [K].
inline void integer_row(const Matrix& w, int64_t n, float* out) {
  const int groups = w.k / 32, each = w.minimum || w.group == 16 ? 2 : 1;
  const int64_t block = n / 16, lane = n % 16;
  const auto* codes = static_cast<const uint8_t*>(w.codes) + block * groups * w.bits * 64 + lane * 4;
  auto scale = [&](int64_t g, int i) {
    const int64_t at = ((block * groups + g) * each + i) * 16 + lane;
    return w.half ? _cvtsh_ss(static_cast<const uint16_t*>(w.scales)[at])
                  : static_cast<const float*>(w.scales)[at];
  };
  for (int64_t g = 0; g < groups; ++g)
    for (int i = 0; i < 32; ++i) {
      int code = w.bits == 8
                     ? codes[(g * 8 + i / 4) * 64 + i % 4] - 128
                     : codes[(g * 4 + i / 8) * 64 + i % 4] >> (i % 8 < 4 ? 0 : 4) & 15;
      if (w.bits == 4 && !w.minimum) code -= 8;
      const float s = scale(g, w.group == 16 ? i / 16 : 0);
      out[g * 32 + i] = w.minimum ? std::fma(s, float(code), scale(g, 1)) : s * float(code);
    }
}

// Brings codes [N][K] (8 bits: signed; 4 bits: 0 to 15) into blocks; `out` holds N padded to 16.
inline void pack_codes(const uint8_t* codes, int bits, int64_t n, int64_t k, Range blocks,
                       uint32_t* out) {
  const int64_t words = k / 4, kept = words * bits / 8;
  for (int64_t b = blocks.begin; b < blocks.end; ++b)
    for (int lane = 0; lane < 16; ++lane) {
      uint32_t* to = out + b * kept * 16 + lane;
      const int64_t row = b * 16 + lane;
      for (int64_t i = 0; i < kept; ++i) {
        uint32_t word = 0, other = 0;
        if (row < n) {
          const uint8_t* from = codes + row * k + i * (bits == 8 ? 4 : 8);
          std::memcpy(&word, from, 4);
          if (bits == 4) std::memcpy(&other, from + 4, 4);
        }
        to[i * 16] = bits == 8 ? word ^ 0x80808080u : word | other << 4;
      }
    }
}

}  // namespace everlong
