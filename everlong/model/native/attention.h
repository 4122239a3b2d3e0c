// Attention of query rows over lists of blocks.
//
// A block holds keys and values of 64 tokens, bf16 [layer][kv head][K or V][64][D]. The tokens of
// a sequence are read in segments of 8 blocks: each segment is reduced alone and the segments are
// merged in order, whether one thread reads them all or several share them. So a row's result
// depends on its own blocks only (online softmax: Milakov and Gimelshein 2018; segments: Flash-Decoding,
// Dao et al. 2023).
#pragma once

#include <cmath>
#include <limits>

#include "simd.h"

namespace everlong {

constexpr int kBlock = 64;            // tokens in a block
constexpr int kSegment = 8 * kBlock;  // tokens reduced together
constexpr int kMaxQueries = 8;        // queries in one call of `segment_queries`

// Where one layer and kv head of a sequence is read.
struct Keys {
  const uint64_t* blocks;   // address of each block of the sequence
  const int32_t* rotation;  // per block: row of the table of rotations, or -1
  const float* rotations;   // [*, D]: cosine [D/2], sine [D/2] of the block's shift
  int64_t offset;           // of this layer and head inside a block, in bf16
};

struct Reduced {  // of one query over some keys
  float max, sum;
  float* value;  // [D], not yet divided by sum
};

// Queries that one call takes: their sums of values stay in registers.
constexpr int queries_at_once(int d) {
  return 28 / (d / 16) < 1 ? 1 : 28 / (d / 16) > kMaxQueries ? kMaxQueries : 28 / (d / 16);
}

// The query as a block moved by a shift sees it: rotated back by the shift.
template <int D>
void rotate_back(const float* q, const float* rotation, bf16* out) {
  for (int i = 0; i < D / 2; i += 16) {
    __m512 c = _mm512_loadu_ps(rotation + i), s = _mm512_loadu_ps(rotation + D / 2 + i);
    __m512 a = _mm512_loadu_ps(q + i), b = _mm512_loadu_ps(q + D / 2 + i);
    __m512 x = _mm512_fmadd_ps(a, c, _mm512_mul_ps(b, s));
    __m512 y = _mm512_fmsub_ps(b, c, _mm512_mul_ps(a, s));
    _mm256_storeu_si256((__m256i*)(out + i), narrow(x));
    _mm256_storeu_si256((__m256i*)(out + D / 2 + i), narrow(y));
  }
}

// Reduces Q queries over the keys [begin, end) of one segment.
//   q: float [Q][D], scaled; first, last: keys that each query sees, as [first, last)
template <int D, int Q>
void segment_queries(const Keys& keys, const float* q, int begin, int end, const int* first,
                     const int* last, Reduced* out) {
  constexpr int W = D / 16;
  alignas(64) bf16 qb[Q][D];
  alignas(64) float score[Q][kBlock];
  __m512 acc[Q][W];
  for (auto& a : acc)
    for (auto& v : a) v = _mm512_setzero_ps();
  for (int i = 0; i < Q; ++i) out[i].max = -std::numeric_limits<float>::infinity(), out[i].sum = 0;
  int rotated_by = -2;
  for (int b = begin / kBlock; b * kBlock < end; ++b) {
    const bf16* k = (const bf16*)keys.blocks[b] + keys.offset;
    const bf16* v = k + kBlock * D;
    int from = b * kBlock < begin ? begin - b * kBlock : 0;
    int to = (b + 1) * kBlock > end ? end - b * kBlock : kBlock;
    int rotation = keys.rotation ? keys.rotation[b] : -1;
    if (rotation != rotated_by) {
      for (int i = 0; i < Q; ++i) {
        if (rotation >= 0) {
          rotate_back<D>(q + i * D, keys.rotations + (int64_t)rotation * D, qb[i]);
        } else {
          for (int j = 0; j < D; j += 16)
            _mm256_store_si256((__m256i*)(qb[i] + j), narrow(_mm512_loadu_ps(q + i * D + j)));
        }
      }
      rotated_by = rotation;
    }
    for (int t = from & ~3; t < to; t += 4) {
      for (int line = 0; line < 4 * D; line += 32) _mm_prefetch(v + t * D + line, _MM_HINT_T0);
      for (int i = 0; i < Q; ++i) {
        __m512 s[4];
        for (int j = 0; j < 4; ++j) {
          s[j] = _mm512_setzero_ps();
          for (int w = 0; w < D / 32; ++w)
            s[j] = dot_bf16(s[j], _mm512_loadu_si512(k + (t + j) * D + w * 32),
                            _mm512_load_si512(qb[i] + w * 32));
        }
        _mm_store_ps(&score[i][t], sum16x4(s[0], s[1], s[2], s[3]));
      }
    }
    for (int i = 0; i < Q; ++i) {
      int lo = std::max(from, first[i] - b * kBlock), hi = std::min(to, last[i] - b * kBlock);
      __m512 none = _mm512_set1_ps(-std::numeric_limits<float>::infinity()), high = none;
      __m512 s[4];
      for (int j = 0; j < 4; ++j) {
        __m512i at = _mm512_add_epi32(
            _mm512_set1_epi32(16 * j),
            _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
        __mmask16 seen = _mm512_cmp_epi32_mask(at, _mm512_set1_epi32(lo), _MM_CMPINT_NLT) &
                         _mm512_cmp_epi32_mask(at, _mm512_set1_epi32(hi), _MM_CMPINT_LT);
        s[j] = _mm512_mask_loadu_ps(none, seen, &score[i][16 * j]);
        high = _mm512_max_ps(high, s[j]);
      }
      float block_max = _mm512_reduce_max_ps(high);
      float m = std::max(out[i].max, block_max);
      if (block_max == -std::numeric_limits<float>::infinity()) {
        for (int j = 0; j < 4; ++j) _mm512_store_ps(&score[i][16 * j], _mm512_setzero_ps());
        continue;
      }
      __m512 total = _mm512_setzero_ps();
      for (int j = 0; j < 4; ++j) {
        __m512 p = exp16(_mm512_sub_ps(s[j], _mm512_set1_ps(m)));
        _mm512_store_ps(&score[i][16 * j], p);
        total = _mm512_add_ps(total, p);
      }
      __m512 keep = exp16(_mm512_set1_ps(out[i].max - m));
      out[i].sum = out[i].sum * _mm512_cvtss_f32(keep) + sum16(total);
      out[i].max = m;
      for (int w = 0; w < W; ++w) acc[i][w] = _mm512_mul_ps(acc[i][w], keep);
    }
    const bf16* next = (b + 1) * kBlock < end ? (const bf16*)keys.blocks[b + 1] + keys.offset : v;
    for (int t = from; t < to; ++t) {
      for (int line = 0; line < D; line += 32) _mm_prefetch(next + t * D + line, _MM_HINT_T0);
      __m512 value[W];
      for (int w = 0; w < W; ++w)
        value[w] = widen(_mm256_loadu_si256((const __m256i*)(v + t * D + w * 16)));
      for (int i = 0; i < Q; ++i) {
        __m512 p = _mm512_set1_ps(score[i][t]);
        for (int w = 0; w < W; ++w) acc[i][w] = _mm512_fmadd_ps(p, value[w], acc[i][w]);
      }
    }
  }
  for (int i = 0; i < Q; ++i)
    for (int w = 0; w < W; ++w) _mm512_storeu_ps(out[i].value + 16 * w, acc[i][w]);
}

template <int D, int Q = queries_at_once(D)>
void segment(int count, const Keys& keys, const float* q, int begin, int end, const int* first,
             const int* last, Reduced* out) {
  if (count == Q) {
    segment_queries<D, Q>(keys, q, begin, end, first, last, out);
  } else if constexpr (Q > 1) {
    segment<D, Q - 1>(count, keys, q, begin, end, first, last, out);
  }
}

// Adds the result of the next segment to `total`.
inline void merge(Reduced& total, const Reduced& next, int d) {
  if (next.max == -std::numeric_limits<float>::infinity()) return;
  float m = std::max(total.max, next.max);
  __m512 keep = exp16(_mm512_set1_ps(total.max - m)), add = exp16(_mm512_set1_ps(next.max - m));
  total.sum = total.sum * _mm512_cvtss_f32(keep) + next.sum * _mm512_cvtss_f32(add);
  total.max = m;
  for (int i = 0; i < d; i += 16) {
    __m512 a = _mm512_mul_ps(_mm512_loadu_ps(total.value + i), keep);
    _mm512_storeu_ps(total.value + i,
                     _mm512_fmadd_ps(_mm512_loadu_ps(next.value + i), add, a));
  }
}

}  // namespace everlong
