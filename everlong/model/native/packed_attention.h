// Attention of packed sequences with heads of 32 numbers and more, and its gradients; for training.
//
// Blocks of 64 queries meet blocks of 64 keys, and no more of the T x T scores is in memory
// (FlashAttention, Dao et al. 2022, section 3.1; the order of loops is that of Dao 2023, section
// 3.1). Products are of bfloat16 pairs and add up in float32. The backward pass has keys in rows
// and queries in lanes: so weights come out as the rows that the next products read, and nothing is
// transposed but the queries' gradients at the end. One thread computes all of a sequence and head,
// so results do not depend on the number of threads.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "packed_rows.h"
#include "simd.h"

namespace everlong {

// Rows of c, 16 V columns: c (+)= a b.
//   a: [R][2 pairs]; b: two rows of numbers interleaved, [pairs][ldb][2]
template <int R, int V>
void pairs_tile(int pairs, const bf16* a, int64_t lda, const bf16* b, int64_t ldb, float* c,
                int64_t ldc, bool add) {
  __m512 sum[R][V];
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < V; ++v)
      sum[r][v] = add ? _mm512_loadu_ps(c + r * ldc + 16 * v) : _mm512_setzero_ps();
  for (int p = 0; p < pairs; ++p) {
    __m512i right[V];
    for (int v = 0; v < V; ++v) right[v] = _mm512_loadu_si512(b + p * ldb * 2 + 32 * v);
    for (int r = 0; r < R; ++r) {
      const __m512i left = broadcast_pair(a + r * lda + 2 * p);
      for (int v = 0; v < V; ++v) sum[r][v] = dot_bf16(sum[r][v], right[v], left);
    }
  }
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < V; ++v) _mm512_storeu_ps(c + r * ldc + 16 * v, sum[r][v]);
}

template <int R, int V>
void pairs_rows(int rows, int pairs, const bf16* a, int64_t lda, const bf16* b, int64_t ldb,
                float* c, int64_t ldc, bool add) {
  if (rows == R) {
    pairs_tile<R, V>(pairs, a, lda, b, ldb, c, ldc, add);
  } else if constexpr (R > 1) {
    pairs_rows<R - 1, V>(rows, pairs, a, lda, b, ldb, c, ldc, add);
  }
}

// c [rows][N] (+)= a [rows][2 pairs] b [pairs][N][2]
template <int N>
void pairs_product(int rows, int pairs, const bf16* a, int64_t lda, const bf16* b, float* c,
                   bool add) {
  static_assert(N % 16 == 0);
  constexpr int kRows = 6, kWhole = N / 64 * 64;
  for (int m = 0; m < rows; m += kRows) {
    const int count = std::min(kRows, rows - m);
    const bf16* from = a + m * lda;
    float* to = c + m * N;
    for (int n = 0; n < kWhole; n += 64)
      pairs_rows<kRows, 4>(count, pairs, from, lda, b + 2 * n, N, to + n, N, add);
    if constexpr (N > kWhole)
      pairs_rows<kRows, (N - kWhole) / 16>(count, pairs, from, lda, b + 2 * kWhole, N, to + kWhole,
                                           N, add);
  }
}

template <int D>
class PackedAttention {
 public:
  explicit PackedAttention(const PackedRows& rows) : r_(rows) {}

  int items() const { return r_.sequences * r_.heads; }

  // sums [rows][heads]: log2 of the sum of each row's exponentials
  void forward(int item, const bf16* q, const bf16* k, const bf16* v, bf16* out, float* sums) {
    open(item);
    keys_.resize(blocks_ * kSide * D), values_.resize(blocks_ * kSide * D);
    for (int b = 0; b < blocks_; ++b) {
      by_lane(k, r_.kv_heads, kv_, b, &keys_[size_t(b) * kSide * D]);
      by_pair(v, r_.kv_heads, kv_, b, &values_[size_t(b) * kSide * D]);
    }
    for (int b = 0; b < blocks_; ++b) forward_block(b, q, out, sums);
  }

  // of_q: gradient; of_k, of_v [rows][heads][D]: the head's part of those of its kv head
  void backward(int item, const bf16* q, const bf16* k, const bf16* v, const bf16* out,
                const float* sums, const bf16* of_out, bf16* of_q, float* of_k, float* of_v) {
    open(item);
    const size_t size = size_t(blocks_) * kSide * D;
    for (auto* one : {&keys_, &queries_, &queries_by_pair_, &given_, &given_by_pair_})
      one->resize(size);
    of_queries_.assign(size, 0.0f);
    sums_.assign(size_t(blocks_) * kSide, std::numeric_limits<float>::infinity());
    means_.assign(size_t(blocks_) * kSide, 0.0f);
    for (int b = 0; b < blocks_; ++b) {
      const size_t at = size_t(b) * kSide * D;
      by_number(k, b, &keys_[at]);
      by_lane(q, r_.heads, head_, b, &queries_[at]);
      by_pair(q, r_.heads, head_, b, &queries_by_pair_[at]);
      by_lane(of_out, r_.heads, head_, b, &given_[at]);
      by_pair(of_out, r_.heads, head_, b, &given_by_pair_[at]);
    }
    for (int t = 0; t < length_; ++t) {
      const size_t place = at(t, r_.heads, head_);
      sums_[t] = sums[size_t(begin_ + t) * r_.heads + head_];
      __m512 sum = _mm512_setzero_ps();
      for (int d = 0; d < D; d += 16)
        sum = _mm512_fmadd_ps(load(out + place + d), load(of_out + place + d), sum);
      means_[t] = sum16(sum);
    }
    for (int b = 0; b < blocks_; ++b) backward_block(b, k, v, of_k, of_v);
    const float scale = 1 / std::sqrt(float(D));
    for (int t = 0; t < length_; ++t) {
      const float* from = &of_queries_[size_t(t / kSide) * kSide * D + t % kSide];
      alignas(64) float one[D];
      for (int d = 0; d < D; ++d) one[d] = scale * from[d * kSide];
      store(one, of_q + at(t, r_.heads, head_));
    }
  }

 private:
  static constexpr int kSide = 64;  // tokens of a block

  static __m512 load(const bf16* from) { return widen(_mm256_loadu_si256((const __m256i*)from)); }
  static void store(const float* from, bf16* to) {
    for (int d = 0; d < D; d += 16)
      _mm256_storeu_si256((__m256i*)(to + d), narrow(_mm512_loadu_ps(from + d)));
  }

  void open(int item) {
    const int sequence = item / r_.heads;
    head_ = item % r_.heads, kv_ = head_ / (r_.heads / r_.kv_heads);
    begin_ = r_.starts[sequence], length_ = r_.starts[sequence + 1] - begin_;
    blocks_ = (length_ + kSide - 1) / kSide;
    first_.assign(size_t(blocks_) * kSide, 0), last_.assign(size_t(blocks_) * kSide, 0);
    for (int t = 0; t < length_; ++t)
      first_[t] = r_.first[begin_ + t] - begin_, last_[t] = r_.last[begin_ + t] - begin_;
  }

  size_t at(int t, int heads, int head) const {
    return (size_t(begin_ + t) * heads + head) * D;
  }
  int count(int block) const { return std::min(kSide, length_ - block * kSide); }

  // A block of rows as pairs of numbers, one row a lane: [D / 2][64][2]; zero behind the end.
  void by_lane(const bf16* from, int heads, int head, int block, bf16* to) const {
    __m512i r[16];
    for (int lane = 0; lane < kSide; lane += 16)
      for (int d = 0; d < D; d += 32) {
        const int pairs = std::min(16, (D - d) / 2);
        const __mmask16 valid = __mmask16((1u << pairs) - 1);
        for (int i = 0; i < 16; ++i) {
          const int t = block * kSide + lane + i;
          r[i] = t < length_ ? _mm512_maskz_loadu_epi32(valid, from + at(t, heads, head) + d)
                             : _mm512_setzero_si512();
        }
        transpose16(r);
        for (int i = 0; i < pairs; ++i)
          _mm512_storeu_si512(to + (size_t(d / 2 + i) * kSide + lane) * 2, r[i]);
      }
  }

  // As pairs of rows, one number a lane: [32][D][2].
  void by_pair(const bf16* from, int heads, int head, int block, bf16* to) const {
    for (int i = 0; i < kSide; i += 2)
      for (int d = 0; d < D; d += 16) {
        __m512i pair = _mm512_setzero_si512();
        for (int odd = 0; odd < 2; ++odd) {
          const int t = block * kSide + i + odd;
          if (t >= length_) break;
          const __m512i one = _mm512_cvtepu16_epi32(
              _mm256_loadu_si256((const __m256i*)(from + at(t, heads, head) + d)));
          pair = _mm512_or_si512(pair, odd ? _mm512_slli_epi32(one, 16) : one);
        }
        _mm512_storeu_si512(to + (size_t(i / 2) * D + d) * 2, pair);
      }
  }

  // Keys by number: [D][64].
  void by_number(const bf16* k, int block, bf16* to) const {
    for (int i = 0; i < kSide; ++i) {
      const int t = block * kSide + i;
      const bf16* from = k + at(t, r_.kv_heads, kv_);
      for (int d = 0; d < D; ++d) to[d * kSide + i] = t < length_ ? from[d] : 0;
    }
  }

  // Which keys the queries of a block see.
  struct Seen {
    int begin, end;          // some query sees something from begin on, none from end on
    int all_begin, all_end;  // these all of them see
  };
  Seen seen(int block) const {
    Seen s{std::numeric_limits<int>::max(), 0, 0, std::numeric_limits<int>::max()};
    for (int t = block * kSide; t < block * kSide + count(block); ++t) {
      s.begin = std::min(s.begin, first_[t]), s.end = std::max(s.end, last_[t]);
      s.all_begin = std::max(s.all_begin, first_[t]), s.all_end = std::min(s.all_end, last_[t]);
    }
    return s;
  }
  static bool whole(const Seen& s, int keys) {
    return keys * kSide >= s.all_begin && (keys + 1) * kSide <= s.all_end;
  }

  void forward_block(int block, const bf16* q, bf16* out, float* sums) {
    const Seen s = seen(block);
    const int rows = count(block);
    const __m512 scale = _mm512_set1_ps(kLog2E / std::sqrt(float(D)));
    alignas(64) float highest[kSide], total[kSide];
    std::fill_n(highest, kSide, std::numeric_limits<float>::lowest());
    std::fill_n(total, kSide, 0.0f);
    std::fill_n(&sum_[0][0], kSide * D, 0.0f);
    for (int keys = s.begin / kSide; keys * kSide < s.end; ++keys) {
      pairs_product<kSide>(rows, D / 2, q + at(block * kSide, r_.heads, head_), r_.heads * D,
                           &keys_[size_t(keys) * kSide * D], &scores_[0][0], false);
      for (int i = 0; i < rows; ++i) {
        __m512 x[4];
        for (int j = 0; j < 4; ++j)
          x[j] = _mm512_mul_ps(scale, _mm512_load_ps(&scores_[i][16 * j]));
        if (!whole(s, keys)) {
          const int t = block * kSide + i, from = keys * kSide;
          for (int j = 0; j < 4; ++j)
            x[j] = _mm512_mask_mov_ps(
                _mm512_set1_ps(-std::numeric_limits<float>::infinity()),
                lanes(first_[t] - from - 16 * j, last_[t] - from - 16 * j), x[j]);
        }
        const float before = highest[i];
        highest[i] = std::max(before, _mm512_reduce_max_ps(_mm512_max_ps(
                                          _mm512_max_ps(x[0], x[1]), _mm512_max_ps(x[2], x[3]))));
        __m512 sum = _mm512_setzero_ps();
        for (int j = 0; j < 4; ++j) {
          x[j] = exp2_16(_mm512_sub_ps(x[j], _mm512_set1_ps(highest[i])));
          sum = _mm512_add_ps(sum, x[j]);
          _mm256_store_si256((__m256i*)&weights_[i][16 * j], narrow(x[j]));
        }
        if (highest[i] > before) {
          const float less = std::exp2(before - highest[i]);
          total[i] *= less;
          for (int d = 0; d < D; d += 16)
            _mm512_store_ps(&sum_[i][d], _mm512_mul_ps(_mm512_set1_ps(less),
                                                       _mm512_load_ps(&sum_[i][d])));
        }
        total[i] += sum16(sum);
      }
      pairs_product<D>(rows, kSide / 2, &weights_[0][0], kSide,
                       &values_[size_t(keys) * kSide * D], &sum_[0][0], true);
    }
    for (int i = 0; i < rows; ++i) {
      const int t = block * kSide + i;
      for (int d = 0; d < D; ++d) sum_[i][d] /= total[i];
      store(sum_[i], out + at(t, r_.heads, head_));
      sums[size_t(begin_ + t) * r_.heads + head_] = highest[i] + std::log2(total[i]);
    }
  }

  void backward_block(int keys, const bf16* k, const bf16* v, float* of_k, float* of_v) {
    const int rows = count(keys), from = keys * kSide;
    const size_t stride = size_t(r_.kv_heads) * D, place = at(from, r_.kv_heads, kv_);
    const __m512 scale = _mm512_set1_ps(kLog2E / std::sqrt(float(D)));
    std::fill_n(&sum_[0][0], kSide * D, 0.0f), std::fill_n(&other_sum_[0][0], kSide * D, 0.0f);
    for (int block = 0; block < blocks_; ++block) {
      const Seen s = seen(block);
      if (s.begin >= from + kSide || s.end <= from) continue;
      const size_t panel = size_t(block) * kSide * D;
      pairs_product<kSide>(rows, D / 2, k + place, stride, &queries_[panel], &scores_[0][0], false);
      pairs_product<kSide>(rows, D / 2, v + place, stride, &given_[panel], &along_[0][0], false);
      const bool all = whole(s, keys);
      for (int i = 0; i < (rows + 1) / 2 * 2; ++i)
        for (int j = 0; j < kSide; j += 16) {
          // What comes back for a score: weight times (of_out . value - of_out . out).
          const int t = block * kSide + j;
          __m512 weight = _mm512_setzero_ps(), back = weight;
          if (i < rows) {
            weight = exp2_16(_mm512_fmsub_ps(scale, _mm512_load_ps(&scores_[i][j]),
                                             _mm512_loadu_ps(&sums_[t])));
            if (!all) weight = _mm512_maskz_mov_ps(who(t, from + i), weight);
            back = _mm512_mul_ps(weight, _mm512_sub_ps(_mm512_load_ps(&along_[i][j]),
                                                       _mm512_loadu_ps(&means_[t])));
          }
          _mm256_store_si256((__m256i*)&weights_[i][j], narrow(weight));
          _mm256_store_si256((__m256i*)&back_[i][j], narrow(back));
        }
      for (int i = 0; i < (rows + 1) / 2 * 2; i += 2)
        for (int j = 0; j < kSide; j += 16) {
          const auto wide = [&](int row) {
            return _mm512_cvtepu16_epi32(_mm256_load_si256((const __m256i*)&back_[row][j]));
          };
          _mm512_store_si512(&back_by_pair_[i / 2][2 * j],
                             _mm512_or_si512(wide(i), _mm512_slli_epi32(wide(i + 1), 16)));
        }
      pairs_product<D>(rows, kSide / 2, &weights_[0][0], kSide, &given_by_pair_[panel],
                       &sum_[0][0], true);
      pairs_product<D>(rows, kSide / 2, &back_[0][0], kSide, &queries_by_pair_[panel],
                       &other_sum_[0][0], true);
      pairs_product<kSide>(D, (rows + 1) / 2, &keys_[size_t(keys) * kSide * D], kSide,
                           &back_by_pair_[0][0], &of_queries_[panel], true);
    }
    for (int i = 0; i < rows; ++i) {
      const size_t to = at(from + i, r_.heads, head_);
      for (int d = 0; d < D; ++d) of_k[to + d] = other_sum_[i][d] / std::sqrt(float(D));
      std::memcpy(of_v + to, sum_[i], sizeof(sum_[i]));
    }
  }

  // The lanes [from, to) of sixteen.
  static __mmask16 lanes(int from, int to) {
    from = std::max(from, 0), to = std::min(to, 16);
    return from < to ? __mmask16((1u << to) - (1u << from)) : __mmask16(0);
  }

  // Which of the sixteen queries from `t` on see a key.
  __mmask16 who(int t, int key) const {
    const __m512i one = _mm512_set1_epi32(key);
    return _mm512_cmple_epi32_mask(_mm512_loadu_si512(&first_[t]), one) &
           _mm512_cmpgt_epi32_mask(_mm512_loadu_si512(&last_[t]), one);
  }

  PackedRows r_;
  int head_ = 0, kv_ = 0, begin_ = 0, length_ = 0, blocks_ = 0;
  std::vector<int32_t> first_, last_;
  // Of all blocks; how one is laid out is said where it is written.
  std::vector<bf16> keys_, values_, queries_, queries_by_pair_, given_, given_by_pair_;
  std::vector<float> of_queries_, sums_, means_;  // of_queries_: [D][64] each
  // Of one block of queries and one of keys.
  alignas(64) float scores_[kSide][kSide], along_[kSide][kSide];
  alignas(64) float sum_[kSide][D], other_sum_[kSide][D];
  alignas(64) bf16 weights_[kSide][kSide], back_[kSide][kSide];
  alignas(64) bf16 back_by_pair_[kSide / 2][2 * kSide];
};

}  // namespace everlong
