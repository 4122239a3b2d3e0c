// Attention of packed sequences with narrow heads, and its gradients; for training.
//
// Products with 4 to 16 numbers are too short to be worth a matrix product: here sixteen queries (or
// keys, where their gradients are summed) lie in the lanes of a register, so a score costs D
// multiplications and nothing is summed across lanes. Sums are float32 whatever the inputs are.
// Queries see a range of the keys, so causal, bidirectional and prefix sight and windows are one
// kernel. As in FlashAttention (Dao et al. 2022, section 3.1) nothing of the size T x T is kept: the
// backward pass computes weights again from the sum of each row. One thread computes all of a
// sequence and kv head, so results do not depend on the number of threads.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "packed_rows.h"
#include "simd.h"

namespace everlong {

// A vector of D numbers; bf16 is rounded to the nearest even.
template <int D>
void load(const float* from, float* to) {
  std::memcpy(to, from, D * sizeof(float));
}
template <int D>
void load(const bf16* from, float* to) {
  if constexpr (D == 16) {
    _mm512_storeu_ps(to, widen(_mm256_loadu_si256((const __m256i*)from)));
  } else {
    const auto* at = (const __m128i*)from;
    const __m128i half = D == 8 ? _mm_loadu_si128(at) : _mm_loadl_epi64(at);
    const __m256i wide = _mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16);
    if constexpr (D == 8)
      _mm256_storeu_si256((__m256i*)to, wide);
    else
      _mm_storeu_si128((__m128i*)to, _mm256_castsi256_si128(wide));
  }
}
template <int D>
void store(float* to, const float* from) {
  std::memcpy(to, from, D * sizeof(float));
}
template <int D>
void store(bf16* to, const float* from) {
  if constexpr (D == 16)
    _mm256_storeu_si256((__m256i*)to, narrow(_mm512_loadu_ps(from)));
  else if constexpr (D == 8)
    _mm_storeu_si128((__m128i*)to, (__m128i)_mm256_cvtneps_pbh(_mm256_loadu_ps(from)));
  else
    _mm_storel_epi64((__m128i*)to, (__m128i)_mm_cvtneps_pbh(_mm_loadu_ps(from)));
}

template <int D, class T>
class NarrowAttention {
 public:
  explicit NarrowAttention(const PackedRows& rows) : r_(rows), group_(rows.heads / rows.kv_heads) {}

  int items() const { return r_.sequences * r_.kv_heads; }

  // sums [rows][heads]: log2 of the sum of each row's exponentials
  void forward(int item, const T* q, const T* k, const T* v, T* out, float* sums) {
    open(item, k, v);
    for (int head = h_ * group_; head < (h_ + 1) * group_; ++head)
      for (int row = begin_; row < end_; row += 16) forward_rows(row, head, q, out, sums);
  }

  // of_q, of_k, of_v: gradients, of which this writes those of the item
  void backward(int item, const T* q, const T* k, const T* v, const T* out, const float* sums,
                const T* of_out, T* of_q, T* of_k, T* of_v) {
    open(item, k, v);
    of_keys_.assign(size_t(D) * padded_, 0.0f);
    of_values_.assign(size_t(D) * padded_, 0.0f);
    for (int head = h_ * group_; head < (h_ + 1) * group_; ++head)
      for (int row = begin_; row < end_; row += 16)
        backward_rows(row, head, q, out, sums, of_out, of_q);
    // Queries are scaled for powers of two; gradients are those of powers of e.
    for (int t = 0; t < end_ - begin_; ++t) {
      const size_t place = at(begin_ + t, r_.kv_heads, h_);
      alignas(64) float key[D], value[D];
      for (int d = 0; d < D; ++d) {
        key[d] = of_keys_[size_t(d) * padded_ + t] / kLog2E;
        value[d] = of_values_[size_t(d) * padded_ + t];
      }
      store<D>(of_k + place, key), store<D>(of_v + place, value);
    }
  }

 private:
  static size_t at(int row, int heads, int head) { return (size_t(row) * heads + head) * D; }

  // Keys and values of a sequence and kv head, by token [padded][D] and by dimension [D][padded].
  void open(int item, const T* k, const T* v) {
    const int sequence = item / r_.kv_heads;
    h_ = item % r_.kv_heads;
    begin_ = r_.starts[sequence], end_ = r_.starts[sequence + 1];
    padded_ = (end_ - begin_ + 15) / 16 * 16;
    const size_t size = size_t(D) * padded_;
    for (auto* one : {&keys_, &values_, &keys_by_dimension_, &values_by_dimension_})
      one->assign(size, 0.0f);
    scores_.resize(size_t(16) * padded_);
    for (int t = 0; t < end_ - begin_; ++t) {
      const size_t place = at(begin_ + t, r_.kv_heads, h_);
      float *key = &keys_[size_t(t) * D], *value = &values_[size_t(t) * D];
      load<D>(k + place, key), load<D>(v + place, value);
      for (int d = 0; d < D; ++d) {
        keys_by_dimension_[size_t(d) * padded_ + t] = key[d];
        values_by_dimension_[size_t(d) * padded_ + t] = value[d];
      }
    }
  }

  // What sixteen rows see of their sequence; those behind its end see nothing.
  struct Seen {
    __m512i first, last;       // of each row
    int begin, end;            // some row sees something from begin on, none from end on
    int all_begin, all_end;    // these all of them see
  };

  Seen seen(int row) const {
    alignas(64) int32_t first[16] = {}, last[16] = {};
    Seen s{{}, {}, std::numeric_limits<int>::max(), 0, 0, std::numeric_limits<int>::max()};
    for (int i = 0; i < 16; ++i) {
      if (row + i < end_) {
        first[i] = r_.first[row + i] - begin_, last[i] = r_.last[row + i] - begin_;
        s.begin = std::min(s.begin, first[i]), s.end = std::max(s.end, last[i]);
      }
      s.all_begin = std::max(s.all_begin, first[i]), s.all_end = std::min(s.all_end, last[i]);
    }
    s.first = _mm512_load_si512(first), s.last = _mm512_load_si512(last);
    return s;
  }

  // Which rows see a key.
  static __mmask16 who(const Seen& s, int key) {
    const __m512i t = _mm512_set1_epi32(key);
    return _mm512_cmple_epi32_mask(s.first, t) & _mm512_cmpgt_epi32_mask(s.last, t);
  }

  // Sixteen rows by dimension, times a factor.
  void load_rows(const T* from, int row, int head, float scale, __m512 to[D]) const {
    alignas(64) float x[D][16] = {}, one[D];
    for (int i = 0; i < 16 && row + i < end_; ++i) {
      load<D>(from + at(row + i, r_.heads, head), one);
      for (int d = 0; d < D; ++d) x[d][i] = scale * one[d];
    }
    for (int d = 0; d < D; ++d) to[d] = _mm512_load_ps(x[d]);
  }

  void store_rows(const __m512 rows[D], __m512 scale, int row, int head, T* to) const {
    alignas(64) float x[D][16], one[D];
    for (int d = 0; d < D; ++d) _mm512_store_ps(x[d], _mm512_mul_ps(rows[d], scale));
    for (int i = 0; i < 16 && row + i < end_; ++i) {
      for (int d = 0; d < D; ++d) one[d] = x[d][i];
      store<D>(to + at(row + i, r_.heads, head), one);
    }
  }

  // Products with one vector of D numbers, of sixteen others that lie by dimension.
  static __m512 product(const __m512 by_dimension[D], const float* one) {
    __m512 even = _mm512_mul_ps(by_dimension[0], _mm512_set1_ps(one[0]));
    __m512 odd = _mm512_mul_ps(by_dimension[1], _mm512_set1_ps(one[1]));
#pragma GCC unroll 16
    for (int d = 2; d < D; d += 2) {
      even = _mm512_fmadd_ps(by_dimension[d], _mm512_set1_ps(one[d]), even);
      odd = _mm512_fmadd_ps(by_dimension[d + 1], _mm512_set1_ps(one[d + 1]), odd);
    }
    return _mm512_add_ps(even, odd);
  }

  // Adds sixteen numbers times one vector to sixteen vectors.
  static void add(__m512 to[D], __m512 numbers, const float* one) {
#pragma GCC unroll 16
    for (int d = 0; d < D; ++d) to[d] = _mm512_fmadd_ps(numbers, _mm512_set1_ps(one[d]), to[d]);
  }

  void forward_rows(int row, int head, const T* q, T* out, float* sums) {
    const Seen s = seen(row);
    __m512 query[D], value[D];
    load_rows(q, row, head, kLog2E / std::sqrt(float(D)), query);
    constexpr float kNone = -std::numeric_limits<float>::infinity();
    __m512 highest = _mm512_set1_ps(kNone), sum = _mm512_setzero_ps();
    for (int t = s.begin; t < s.end; ++t) {
      __m512 score = product(query, &keys_[size_t(t) * D]);
      if (t < s.all_begin || t >= s.all_end)
        score = _mm512_mask_mov_ps(_mm512_set1_ps(kNone), who(s, t), score);
      highest = _mm512_max_ps(highest, score);
      _mm512_storeu_ps(&scores_[size_t(t) * 16], score);
    }
    // Rows behind the end see nothing; their highest score must be a number.
    highest = _mm512_max_ps(highest, _mm512_set1_ps(std::numeric_limits<float>::lowest()));
    for (auto& one : value) one = _mm512_setzero_ps();
    for (int t = s.begin; t < s.end; ++t) {
      const __m512 score = _mm512_loadu_ps(&scores_[size_t(t) * 16]);
      const __m512 weight = exp2_16(_mm512_sub_ps(score, highest));
      sum = _mm512_add_ps(sum, weight);
      add(value, weight, &values_[size_t(t) * D]);
    }
    store_rows(value, _mm512_div_ps(_mm512_set1_ps(1), sum), row, head, out);
    alignas(64) float high[16], total[16];
    _mm512_store_ps(high, highest), _mm512_store_ps(total, sum);
    for (int i = 0; i < 16 && row + i < end_; ++i)
      sums[size_t(row + i) * r_.heads + head] = high[i] + std::log2(total[i]);
  }

  void backward_rows(int row, int head, const T* q, const T* out, const float* sums,
                     const T* of_out, T* of_q) {
    const Seen s = seen(row);
    const int count = std::min(16, end_ - row);
    // What comes back for a score: weight times (of_out . value - of_out . out).
    alignas(64) float query[16][D], given[16][D], mean[16], sum[16];
    const float scale = kLog2E / std::sqrt(float(D));
    for (int i = 0; i < count; ++i) {
      const size_t place = at(row + i, r_.heads, head);
      alignas(64) float result[D];
      load<D>(q + place, query[i]), load<D>(of_out + place, given[i]), load<D>(out + place, result);
      mean[i] = 0, sum[i] = sums[size_t(row + i) * r_.heads + head];
      for (int d = 0; d < D; ++d) query[i][d] *= scale, mean[i] += given[i][d] * result[d];
    }
    __m512 of_query[D];
    for (auto& one : of_query) one = _mm512_setzero_ps();
    for (int t = s.begin / 16 * 16; t < s.end; t += 16) {
      __m512 key[D], of_key[D], of_value[D];
#pragma GCC unroll 16
      for (int d = 0; d < D; ++d) {
        key[d] = _mm512_loadu_ps(&keys_by_dimension_[size_t(d) * padded_ + t]);
        of_key[d] = _mm512_loadu_ps(&of_keys_[size_t(d) * padded_ + t]);
        of_value[d] = _mm512_loadu_ps(&of_values_[size_t(d) * padded_ + t]);
      }
      const bool whole = t >= s.all_begin && t + 16 <= s.all_end;
      alignas(64) __m512 back[16];
      for (int i = 0; i < count; ++i) {
        const __m512 score = product(key, query[i]);
        __m512 weight = exp2_16(_mm512_sub_ps(score, _mm512_set1_ps(sum[i])));
        if (!whole) weight = _mm512_maskz_mov_ps(which(row + i, t), weight);
        const float* values = &values_by_dimension_[t];
        __m512 along = _mm512_set1_ps(-mean[i]);
#pragma GCC unroll 16
        for (int d = 0; d < D; ++d)
          along = _mm512_fmadd_ps(_mm512_loadu_ps(values + size_t(d) * padded_),
                                  _mm512_set1_ps(given[i][d]), along);
        back[i] = _mm512_mul_ps(weight, along);
        add(of_value, weight, given[i]);
        add(of_key, back[i], query[i]);
      }
      for (int i = count; i < 16; ++i) back[i] = _mm512_setzero_ps();
#pragma GCC unroll 16
      for (int d = 0; d < D; ++d) {
        _mm512_storeu_ps(&of_keys_[size_t(d) * padded_ + t], of_key[d]);
        _mm512_storeu_ps(&of_values_[size_t(d) * padded_ + t], of_value[d]);
      }
      transpose16((__m512i*)back);
      for (int j = 0; j < std::min(16, s.end - t); ++j)
        add(of_query, back[j], &keys_[size_t(t + j) * D]);
    }
    store_rows(of_query, _mm512_set1_ps(1 / std::sqrt(float(D))), row, head, of_q);
  }

  // Which of the sixteen keys from `t` on a row sees.
  __mmask16 which(int row, int t) const {
    const int from = std::max(0, r_.first[row] - begin_ - t);
    const int to = std::min(16, r_.last[row] - begin_ - t);
    return from < to ? __mmask16((1u << to) - (1u << from)) : __mmask16(0);
  }

  PackedRows r_;
  int group_, h_ = 0, begin_ = 0, end_ = 0, padded_ = 0;
  std::vector<float> keys_, values_, keys_by_dimension_, values_by_dimension_;
  std::vector<float> scores_, of_keys_, of_values_;
};

}  // namespace everlong
