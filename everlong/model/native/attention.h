// Attention of query rows over lists of blocks.
//
// A block holds keys and values of 64 tokens, bf16 [layer][kv head][K or V][64][D]. The tokens of
// a sequence are read in segments of 8 blocks: each segment is reduced alone and the segments are
// merged in order, whether one thread reads them all or several share them. So a row's result
// depends on its own blocks only (online softmax: Milakov and Gimelshein 2018; segments: Flash-Decoding,
// Dao et al. 2023).
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "elementwise.h"

namespace everlong {

constexpr int kBlock = 64;            // tokens in a block
constexpr int kPiece = 4;             // tokens that are chosen together where rows are routed
constexpr int kPieces = kBlock / kPiece;
constexpr int kSegment = 8 * kBlock;  // tokens reduced together
constexpr int kMaxQueries = 96;       // queries in one call of `segment`
constexpr int kTileQueries = 96;      // queries that share the work of unpacking a block

// By how many blocks block `number` is moved towards queries in block `own`; twin of `moved` in
// everlong/model/cache.py.
inline int moved(int own, int number, int reach, int run) {
  const int place = (std::max(0, own - reach) + run - 1) / run * run;
  return std::max(0, place - number / run * run);
}

// Blocks of the frames before that of a block; a frame has as many as there are within reach.
inline int frames(int number, int reach) { return number - number % (reach + 1); }

// Where one layer and kv head of a sequence is read by queries of one of its blocks. Of a block that
// is moved keys stay as they are, and the queries are turned.
struct Keys {
  const uint64_t* blocks;  // addresses of the sequence's blocks
  const int32_t* pieces;   // which pieces of the sequence are read, ascending; null: all
  int64_t offset;          // of this layer and head inside a block, in bf16
  int own;                 // number of the block of the queries
  int reach, run;
  const float* turns;  // [*, D]: cosine [D/2], sine [D/2] of a move by so many blocks

  int piece(int i) const { return pieces ? pieces[i] : i; }
  const bf16* key(int i, int d) const {
    const int n = piece(i);
    return (const bf16*)blocks[n / kPieces] + offset + n % kPieces * kPiece * d;
  }
  int turn(int i) const { return moved(own, piece(i) / kPieces, reach, run); }
};

struct Reduced {  // of one query over some keys; scores are in powers of two
  float max, sum;
  float* value;  // [D], not yet divided by sum
};

// Queries whose sums of values stay in registers together.
constexpr int queries_at_once(int d) { return 28 / (d / 16) < 1 ? 1 : std::min(6, 28 / (d / 16)); }

// The query as a block sees it that is moved: turned back by the move.
inline void turn_back(const float* q, const float* turn, int d, float* out) {
  for (int i = 0; i < d / 2; i += 16) {
    __m512 c = _mm512_loadu_ps(turn + i), s = _mm512_loadu_ps(turn + d / 2 + i);
    __m512 a = _mm512_loadu_ps(q + i), b = _mm512_loadu_ps(q + d / 2 + i);
    _mm512_storeu_ps(out + i, _mm512_fmadd_ps(a, c, _mm512_mul_ps(b, s)));
    _mm512_storeu_ps(out + d / 2 + i, _mm512_fmsub_ps(b, c, _mm512_mul_ps(a, s)));
  }
}

// The pieces of 64 tokens of one head as products of bf16 pairs want them.
template <int D>
struct Unpacked {
  alignas(64) uint32_t keys[D / 2][kBlock];      // pairs of neighbouring dimensions, by token
  alignas(64) uint32_t values[kBlock / 2][D];    // pairs of neighbouring tokens, by dimension

  // Tokens outside [from, to) were perhaps never written: their values become 0.
  //   part: where the keys of each piece begin; their values lie a block of keys later
  void read(const bf16* const* part, int from, int to) {
    for (int t = from & ~15; t < to; t += 16)
      for (int d = 0; d < D; d += 32) {
        __m512i r[16];
        for (int i = 0; i < 16; ++i)
          r[i] = _mm512_loadu_si512(part[(t + i) / kPiece] + i % kPiece * D + d);
        transpose16(r);
        for (int i = 0; i < 16; ++i) _mm512_store_si512(&keys[d / 2 + i][t], r[i]);
      }
    __m512i low = _mm512_setr_epi32(0x00200000, 0x00210001, 0x00220002, 0x00230003, 0x00240004,
                                    0x00250005, 0x00260006, 0x00270007, 0x00280008, 0x00290009,
                                    0x002a000a, 0x002b000b, 0x002c000c, 0x002d000d, 0x002e000e,
                                    0x002f000f);
    __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(0x00100010));
    for (int t = from & ~1; t < to; t += 2) {
      const bf16* v = part[t / kPiece] + (kBlock + t % kPiece) * D;
      for (int d = 0; d < D; d += 32) {
        __mmask32 first = t >= from ? ~0u : 0u, second = t + 1 < to ? ~0u : 0u;
        __m512i a = _mm512_maskz_loadu_epi16(first, v + d);
        __m512i b = _mm512_maskz_loadu_epi16(second, v + D + d);
        _mm512_store_si512(&values[t / 2][d], _mm512_permutex2var_epi16(a, low, b));
        _mm512_store_si512(&values[t / 2][d + 16], _mm512_permutex2var_epi16(a, high, b));
      }
    }
  }
};

// Adds the tokens [from, to) of one block to the results of Q queries.
//   q: bf16 [Q][D], scaled; first, last: tokens that each query sees, counted from `before`
//   Whole: every query sees every token of the block
template <int D, int Q, bool Whole>
void block_queries(const Unpacked<D>& block, const bf16* q, int from, int to, const int* first,
                   const int* last, int before, Reduced* out) {
  constexpr int W = D / 16;
  alignas(64) float score[Q][kBlock];
  alignas(64) bf16 weight[Q][kBlock];
  {
    __m512 sum[Q][4];  // of tokens outside [from, to) too, which are masked below
    for (auto& query : sum)
      for (auto& s : query) s = _mm512_setzero_ps();
    for (int d = 0; d < D / 2; ++d) {
      __m512i k[4];
      for (int j = 0; j < 4; ++j) k[j] = _mm512_load_si512(&block.keys[d][16 * j]);
      for (int i = 0; i < Q; ++i) {
        __m512i pair = broadcast_pair(q + i * D + 2 * d);
        for (int j = 0; j < 4; ++j) sum[i][j] = dot_bf16(sum[i][j], k[j], pair);
      }
    }
    for (int i = 0; i < Q; ++i)
      for (int j = 0; j < 4; ++j) _mm512_store_ps(&score[i][16 * j], sum[i][j]);
  }
  const __m512i places =
      _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  constexpr float kNone = -std::numeric_limits<float>::infinity();
  constexpr int kFours = (Q + 3) / 4;
  __m512 highest[4 * kFours];
  for (auto& h : highest) h = _mm512_setzero_ps();
  for (int i = 0; i < Q; ++i) {
    __m512 s[4];
    if constexpr (Whole) {
      for (int j = 0; j < 4; ++j) s[j] = _mm512_load_ps(&score[i][16 * j]);
    } else {
      __m512i lo = _mm512_set1_epi32(std::max(from, first[i] - before));
      __m512i hi = _mm512_set1_epi32(std::min(to, last[i] - before));
      for (int j = 0; j < 4; ++j) {
        __m512i at = _mm512_add_epi32(places, _mm512_set1_epi32(16 * j));
        __mmask16 seen = _mm512_cmpge_epi32_mask(at, lo) & _mm512_cmplt_epi32_mask(at, hi);
        s[j] = _mm512_mask_loadu_ps(_mm512_set1_ps(kNone), seen, &score[i][16 * j]);
        _mm512_store_ps(&score[i][16 * j], s[j]);
      }
    }
    highest[i] = _mm512_max_ps(_mm512_max_ps(s[0], s[1]), _mm512_max_ps(s[2], s[3]));
  }
  alignas(64) float high[4 * kFours], total[4 * kFours], fall[16] = {};
  for (int i = 0; i < Q; i += 4) _mm_store_ps(high + i, max16x4(highest + i));
  __m512 sums[4 * kFours];
  for (auto& s : sums) s = _mm512_setzero_ps();
  for (int i = 0; i < Q; ++i) {
    const float max = std::max(out[i].max, high[i]);
    const float shift = max == kNone ? 0.0f : max;  // nothing was seen yet
    for (int j = 0; j < 4; ++j) {
      __m512 s = _mm512_load_ps(&score[i][16 * j]);
      __m256i rounded = narrow(exp2_16(_mm512_sub_ps(s, _mm512_set1_ps(shift))));
      _mm256_store_si256((__m256i*)&weight[i][16 * j], rounded);
      sums[i] = _mm512_add_ps(sums[i], widen(rounded));  // what the values are weighted with
    }
    fall[i] = out[i].max - shift;
    out[i].max = max;
  }
  for (int i = 0; i < Q; i += 4)
    _mm_store_ps(total + i, sum16x4(sums[i], sums[i + 1], sums[i + 2], sums[i + 3]));
  alignas(64) float keep[16];
  _mm512_store_ps(keep, exp2_16(_mm512_load_ps(fall)));
  __m512 acc[Q][W];
  for (int i = 0; i < Q; ++i) {
    out[i].sum = out[i].sum * keep[i] + total[i];
    for (int w = 0; w < W; ++w)
      acc[i][w] = _mm512_mul_ps(_mm512_loadu_ps(out[i].value + 16 * w), _mm512_set1_ps(keep[i]));
  }
  for (int t = from / 2; t < (to + 1) / 2; ++t)
    for (int w = 0; w < W; ++w) {
      __m512i value = _mm512_load_si512(&block.values[t][16 * w]);
      for (int i = 0; i < Q; ++i)
        acc[i][w] = dot_bf16(acc[i][w], value, broadcast_pair(&weight[i][2 * t]));
    }
  for (int i = 0; i < Q; ++i)
    for (int w = 0; w < W; ++w) _mm512_storeu_ps(out[i].value + 16 * w, acc[i][w]);
}

template <int D, int Q = queries_at_once(D)>
void block_some(int count, const Unpacked<D>& block, const bf16* q, int from, int to,
                const int* first, const int* last, int before, Reduced* out) {
  if (count == Q) {
    bool whole = from == 0 && to == kBlock;
    for (int i = 0; i < Q; ++i)
      whole = whole && first[i] <= before && last[i] >= before + kBlock;
    if (whole)
      block_queries<D, Q, true>(block, q, from, to, first, last, before, out);
    else
      block_queries<D, Q, false>(block, q, from, to, first, last, before, out);
  } else if constexpr (Q > 1) {
    block_some<D, Q - 1>(count, block, q, from, to, first, last, before, out);
  }
}

// Reduces queries over the tokens [begin, end), which lie in one segment.
//   q: float [count][D], scaled; first, last: tokens that each query sees, as [first, last)
template <int D>
void segment(int count, const Keys& keys, const float* q, int begin, int end, const int* first,
             const int* last, Reduced* out) {
  alignas(64) bf16 turned[kMaxQueries][D];
  Unpacked<D> block;
  for (int i = 0; i < count; ++i) {
    out[i].max = -std::numeric_limits<float>::infinity(), out[i].sum = 0;
    std::memset(out[i].value, 0, D * sizeof(float));
  }
  int turned_by = -1;
  for (int b = begin / kBlock; b * kBlock < end; ++b) {
    const int before = b * kBlock;
    const int from = std::max(begin - before, 0), to = std::min(end - before, kBlock);
    const int last_piece = (to - 1) / kPiece;
    const bf16* part[kPieces];
    for (int p = 0; p < kPieces; ++p) part[p] = keys.key(kPieces * b + std::min(p, last_piece), D);
    for (int p = 0; (b + 1) * kBlock < end && p < kPieces; ++p) {
      // The next ones come while these are computed.
      const int next = std::min(kPieces * (b + 1) + p, (end - 1) / kPiece);
      const bf16* key = keys.key(next, D);
      for (int line = 0; line < kPiece * D; line += 32) {
        _mm_prefetch(key + line, _MM_HINT_T1);
        _mm_prefetch(key + kBlock * D + line, _MM_HINT_T1);
      }
    }
    block.read(part, from, to);
    for (int at = from; at < to;) {
      const int turn = keys.turn(kPieces * b + at / kPiece);
      int until = (at / kPiece + 1) * kPiece;
      while (until < to && keys.turn(kPieces * b + until / kPiece) == turn) until += kPiece;
      until = std::min(until, to);
      for (int i = 0; turn != turned_by && i < count; ++i) {
        alignas(64) float moved[D];
        if (turn) turn_back(q + i * D, keys.turns + int64_t(turn) * D, D, moved);
        store_bf16(turn ? moved : q + i * D, D, turned[i]);
      }
      turned_by = turn;
      for (int i = 0; i < count; i += queries_at_once(D))
        block_some<D>(std::min(queries_at_once(D), count - i), block, turned[i], at, until,
                      first + i, last + i, before, out + i);
      at = until;
    }
  }
}

// The same for a head size that is known only now.
inline void segment(int d, int count, const Keys& keys, const float* q, int begin, int end,
                    const int* first, const int* last, Reduced* out) {
  switch (d) {
    case 32: return segment<32>(count, keys, q, begin, end, first, last, out);
    case 64: return segment<64>(count, keys, q, begin, end, first, last, out);
    case 96: return segment<96>(count, keys, q, begin, end, first, last, out);
    case 128: return segment<128>(count, keys, q, begin, end, first, last, out);
    default: return segment<256>(count, keys, q, begin, end, first, last, out);
  }
}

// Adds the result of the next segment to `total`.
inline void merge(Reduced& total, const Reduced& next, int d) {
  if (next.max == -std::numeric_limits<float>::infinity()) return;
  float m = std::max(total.max, next.max);
  __m512 keep = exp2_16(_mm512_set1_ps(total.max - m)),
         add = exp2_16(_mm512_set1_ps(next.max - m));
  total.sum = total.sum * _mm512_cvtss_f32(keep) + next.sum * _mm512_cvtss_f32(add);
  total.max = m;
  for (int i = 0; i < d; i += 16) {
    __m512 a = _mm512_mul_ps(_mm512_loadu_ps(total.value + i), keep);
    _mm512_storeu_ps(total.value + i,
                     _mm512_fmadd_ps(_mm512_loadu_ps(next.value + i), add, a));
  }
}

}  // namespace everlong
