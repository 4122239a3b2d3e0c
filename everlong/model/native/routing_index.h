// The routing index, and what queries ask of it; twin of everlong/model/routing_index.py.
//
// The routing index of a block has kDirections codes of 4 bits for each of its tokens:
// [layer][kv head][token % 4][4][token / 4][4], where byte j of group g has code 8 g + j in its low
// half and 8 g + 4 + j in its high half, both plus 8. So a token of each of the block's 16 pieces
// meets 4 codes of a query in one instruction.
//
// Keys are rotated at their position, which may lie far past what the directions were found on; so
// codes are those of the key at its place in a frame of blocks, and queries are turned back by the
// frames before it.
#pragma once

#include "attention.h"

namespace everlong {

constexpr int kDirections = 32;
constexpr int kIndexBytes = kBlock * kDirections / 2;  // of a block, layer and kv head

// out [kDirections] = x [D] times matrix [D][kDirections].
inline void project(const float* x, const float* matrix, int d, __m512 out[2]) {
  __m512 sum[4] = {};
  for (int i = 0; i < d; i += 2)
    for (int j = 0; j < 4; ++j)
      sum[j] = _mm512_fmadd_ps(_mm512_set1_ps(x[i + j / 2]),
                               _mm512_loadu_ps(matrix + (i + j / 2) * kDirections + j % 2 * 16),
                               sum[j]);
  out[0] = _mm512_add_ps(sum[0], sum[2]);
  out[1] = _mm512_add_ps(sum[1], sum[3]);
}

// Puts kDirections codes, plus 8, in one lane of the sixteen that lie at `out`.
inline void store_codes(const uint8_t* code, int lane, uint8_t* out) {
  for (int g = 0; g < 4; ++g)
    for (int j = 0; j < 4; ++j)
      out[64 * g + 4 * lane + j] = uint8_t(code[8 * g + j] | code[8 * g + 4 + j] << 4);
}

// Puts the key of one token in the index of its block, layer and kv head.
inline void write_codes(const float* key, int d, const float* encoder, const float* offset,
                        int token, uint8_t* index) {
  __m512 along[2];
  project(key, encoder, d, along);
  alignas(16) uint8_t code[kDirections];
  for (int j = 0; j < 2; ++j) {
    __m512 value = _mm512_sub_ps(along[j], _mm512_loadu_ps(offset + 16 * j));
    __m512i whole = _mm512_add_epi32(_mm512_cvtps_epi32(value), _mm512_set1_epi32(8));
    whole = _mm512_max_epi32(_mm512_min_epi32(whole, _mm512_set1_epi32(15)),
                             _mm512_setzero_si512());
    _mm_store_si128((__m128i*)(code + 16 * j), _mm512_cvtepi32_epi8(whole));
  }
  store_codes(code, token / kPiece, index + token % kPiece * 256);
}

// Attention to the four tokens of a piece by the largest of their scores alone: times this, as
// measured (docs/experiments.md, section 23). Four times as many exponentials tell no more.
constexpr float kFourTokens = 1.8f;

// A query as the index is asked with: score of a token = scale * (codes . quads) + offset.
struct Asked {
  uint32_t quads[kDirections / 4];  // 4 neighbouring codes each, signed bytes
  float scale, offset;
  float norm;  // of the query, in units of what queries ask along each direction
};

//   inverse_worth: [kDirections]; shift: is subtracted from all scores
inline Asked ask(const float* q, int d, const float* decoder, const float* centre,
                 const float* inverse_worth, float shift) {
  Asked out;
  __m512 along[2], middle = _mm512_setzero_ps();
  project(q, decoder, d, along);
  for (int i = 0; i < d; i += 16)
    middle = _mm512_fmadd_ps(_mm512_loadu_ps(q + i), _mm512_loadu_ps(centre + i), middle);
  const float highest =
      _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(along[0]), _mm512_abs_ps(along[1])));
  const __m512 inverse = _mm512_set1_ps(highest > 0 ? 127 / highest : 0.0f);
  int sum = 0;
  __m512 squares = _mm512_setzero_ps();
  for (int j = 0; j < 2; ++j) {
    const __m512 part = _mm512_mul_ps(along[j], _mm512_loadu_ps(inverse_worth + 16 * j));
    squares = _mm512_fmadd_ps(part, part, squares);
    __m512i whole = _mm512_cvtps_epi32(_mm512_mul_ps(along[j], inverse));
    sum += _mm512_reduce_add_epi32(whole);
    _mm_storeu_si128((__m128i*)(out.quads + 4 * j), _mm512_cvtsepi32_epi8(whole));
  }
  out.norm = std::sqrt(sum16(squares) / kDirections);
  out.scale = highest / 127;
  out.offset = sum16(middle) - out.scale * 8 * float(sum) - shift + std::log2(kFourTokens);
  return out;
}

// The codes of sixteen tokens, one in each lane.
struct Sixteen {
  __m512i code[8];

  explicit Sixteen(const uint8_t* packed) {
    const __m512i low = _mm512_set1_epi8(15);
    for (int g = 0; g < 4; ++g) {
      __m512i both = _mm512_loadu_si512(packed + g * 64);
      code[2 * g] = _mm512_and_si512(both, low);
      code[2 * g + 1] = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
    }
  }

  __m512i times(const Asked& q) const {
    __m512i dot = _mm512_setzero_si512();
    for (int j = 0; j < 8; ++j)
      dot = _mm512_dpbusd_epi32(dot, code[j], _mm512_set1_epi32(int(q.quads[j])));
    return dot;
  }
};

// Attention at a score, in units of 2^shift. No estimate may be so wrong that it leaves the range of
// numbers.
inline __m512 attention(__m512i dot, const Asked& q, __m512 more) {
  const __m512 score = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), _mm512_set1_ps(q.scale), more);
  return exp2_16(_mm512_min_ps(score, _mm512_set1_ps(100.0f)));
}

// Estimated attention that Q queries pay to the pieces of a block, in units of 2^shift.
//   out: [Q][kPieces]
template <int Q>
inline void scan_queries(const uint8_t* index, const Asked* asked, bf16* out) {
  __m512i best[Q];
#pragma GCC unroll 4
  for (int v = 0; v < kPiece; ++v) {
    const Sixteen codes(index + 256 * v);
#pragma GCC unroll 8
    for (int i = 0; i < Q; ++i) {
      const __m512i dot = codes.times(asked[i]);
      best[i] = v ? _mm512_max_epi32(best[i], dot) : dot;
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < Q; ++i) {
    const __m512 share = attention(best[i], asked[i], _mm512_set1_ps(asked[i].offset));
    _mm256_storeu_si256((__m256i*)(out + kPieces * i), narrow(share));
  }
}

template <int Q = 8>
inline void scan_some(int count, const uint8_t* index, const Asked* asked, bf16* out) {
  if (count == Q)
    scan_queries<Q>(index, asked, out);
  else if constexpr (Q > 1)
    scan_some<Q - 1>(count, index, asked, out);
}

// The same of any number of queries.
inline void scan_block(const uint8_t* index, const Asked* asked, int count, bf16* out) {
  for (int i = 0; i < count; i += 8)
    scan_some(std::min(8, count - i), index, asked + i, out + kPieces * i);
}

}  // namespace everlong
