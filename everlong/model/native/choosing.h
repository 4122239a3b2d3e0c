// From estimates of attention to the pieces that are read; twin of `choose`, `worth_of` and
// `unread` in everlong/model/routing.py.
#pragma once

#include <algorithm>
#include <vector>

#include "batch.h"
#include "outline.h"

namespace everlong {

constexpr float kUnread = 0.4f;  // what is left is many small estimates, of which errors make much
constexpr int kKnown = 4;        // of so many that choose together it is known what they do not read

// A piece or block, and how much attention it has.
struct Candidate {
  float mass;
  int number;
  bool operator<(const Candidate& other) const {  // the better one first
    return mass != other.mass ? mass > other.mass : number < other.number;
  }
};

// The choice of one group and kv head.
struct Work {
  int queries = 0;
  int count = 0;            // of the pieces that are read
  bool all = false;         // whether all that were searched and have attention are chosen
  std::vector<int> blocks;  // that are searched, ascending
  std::vector<int> chosen;  // pieces, ascending
  std::vector<float> inverse, mass, read;
  std::vector<float> unread;    // share of the attention that is not read, of some of the queries
  std::vector<float> of_block;  // by number
  std::vector<Candidate> best;
};

// Estimated attention of queries to the blocks that were searched.
struct Estimates {
  const bf16* shares;  // [blocks][most][pieces]
  const float* fixed;  // to what is read anyway, of each query
  int most, queries, heads, blocks;  // heads: of a kv head, whose queries stand side by side

  // To the pieces of one of the blocks.
  __m512 of(int block, int query) const {
    const bf16* at = shares + (size_t(block) * most + query) * kPieces;
    return widen(_mm256_loadu_si256((const __m256i*)at));
  }
};

// Of how many that choose the share that is not read is known of one.
inline int known_step(int choosers) { return (choosers + kKnown - 1) / kKnown; }

// The next one of which it is known, for one that chooses.
inline int known_chooser(int choosers, int chooser) {
  const int last = choosers - 1, each = known_step(choosers);
  return last - (last - chooser) / each * each;
}

// The share of the attention of each piece: of rows together the mean of their queries', of a row
// alone the largest.
inline void find_mass(const Estimates& e, bool alone, Work& work) {
  std::vector<float>& inverse = work.inverse;  // of the attention of each query
  inverse.assign(size_t(e.queries) * kPieces, 0.0f);
  for (int block = 0; block < e.blocks; ++block)
    for (int n = 0; n < e.queries; ++n) {
      float* sum = &inverse[size_t(n) * kPieces];
      _mm512_storeu_ps(sum, _mm512_add_ps(_mm512_loadu_ps(sum), e.of(block, n)));
    }
  for (int n = 0; n < e.queries; ++n) {
    float* sum = &inverse[size_t(n) * kPieces];
    const float one = 1 / (sum16(_mm512_loadu_ps(sum)) + e.fixed[n]);
    _mm512_storeu_ps(sum, _mm512_set1_ps(one));
  }
  const __m512 part = _mm512_set1_ps(1 / float(e.queries));
  work.mass.resize(size_t(e.blocks) * kPieces);
  for (int block = 0; block < e.blocks; ++block) {
    __m512 mass = _mm512_setzero_ps();
    auto share = [&](int n) {
      return _mm512_mul_ps(e.of(block, n), _mm512_loadu_ps(&inverse[size_t(n) * kPieces]));
    };
    if (alone)
      for (int n = 0; n < e.queries; ++n) mass = _mm512_max_ps(mass, share(n));
    else
      for (int n = 0; n < e.queries; ++n) mass = _mm512_fmadd_ps(share(n), part, mass);
    _mm512_storeu_ps(&work.mass[size_t(block) * kPieces], mass);
  }
}

// The last of the `most` best of `count` candidates, or of as many as have something; null: none.
inline const Candidate* find_last(const float* mass, int count, int most,
                                  std::vector<Candidate>& best) {
  best.clear();
  const float bar = most < count ? bar_of(mass, count, most) : 0;
  each_above(mass, count, bar, [&](int number) { best.push_back({mass[number], number}); });
  const int left = std::min(most, int(best.size()));
  if (left == 0) return nullptr;
  std::nth_element(best.begin(), best.begin() + left - 1, best.end());
  return &best[left - 1];
}

// The best of the pieces that were searched; by a row alone besides those that have the wanted
// share of the attention of some head.
//   own: number of the rows' block
//   thorough: whether they are a prompt's end
inline void choose(const Routing& r, int own, bool alone, bool thorough, Work& work) {
  const int count = int(work.blocks.size()) * kPieces;
  int most = std::min(alone ? r.most : thorough ? r.asked : r.prompt, count);
  const float* mass = work.mass.data();
  if (alone) {
    const int least = std::min(std::max((own + 1) * kPieces / 16, r.least), r.least_of_long);
    int wanted = 0;
    for (int c = 0; c < count; ++c) wanted += mass[c] >= r.share;
    most = std::min(most, std::max(least, wanted));
  }
  const Candidate* last = find_last(mass, count, most, work.best);
  work.chosen.clear();
  if (last) {
    const float bar = std::nextafter(last->mass, 0.0f);
    each_above(mass, count, bar, [&](int number) {
      if (mass[number] > last->mass || number <= last->number)
        work.chosen.push_back(work.blocks[number / kPieces] * kPieces + number % kPieces);
    });
  }
  work.all = most == count || int(work.chosen.size()) < most;
  work.unread.assign(work.queries, 0.0f);
}

// The share of the attention that is not read, of some of the queries that choose.
inline void find_unread(const Estimates& e, Work& work) {
  std::vector<float>& read = work.read;
  read.assign(size_t(e.queries) * kPieces, 0.0f);
  auto each_known = [&](auto work_on) {
    const int step = known_step(e.queries / e.heads) * e.heads;
    for (int n = e.queries - e.heads; n >= 0; n -= step)
      for (int k = n; k < n + e.heads; ++k) work_on(k);
  };
  for (size_t c = 0, block = 0; c < work.chosen.size(); ++block) {
    unsigned mask = 0;
    for (; c < work.chosen.size() && work.chosen[c] / kPieces == work.blocks[block]; ++c)
      mask |= 1u << work.chosen[c] % kPieces;
    if (!mask) continue;
    each_known([&](int n) {
      float* at = &read[size_t(n) * kPieces];
      const __m512 sum = _mm512_loadu_ps(at);
      _mm512_storeu_ps(at,
                       _mm512_mask_add_ps(sum, __mmask16(mask), sum, e.of(int(block), n)));
    });
  }
  each_known([&](int n) {
    const float had = sum16(_mm512_loadu_ps(&read[size_t(n) * kPieces])) + e.fixed[n];
    const float left = std::max(0.0f, 1 - had * work.inverse[size_t(n) * kPieces]);
    work.unread[n] = kUnread * left / (1 - left + kUnread * left);
  });
}

}  // namespace everlong
