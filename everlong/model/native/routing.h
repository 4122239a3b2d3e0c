// Which pieces of 16 tokens a few rows read; twin of everlong/model/routing.py.
//
// The routing index of a block has kDirections codes of 4 bits for each of its tokens:
// [layer][kv head][token % 16 / 4][4][token / 16][token % 4][4], where byte j of group g has code
// 8 g + j in its low half and 8 g + 4 + j in its high half, both plus 8. So 16 tokens, four of each
// piece, meet 4 codes of a query in one instruction.
//
// Keys are rotated at their position, which may lie far past what the directions were found on; so
// codes are those of the key at its place in a frame of blocks, and queries are turned back by the
// frames before it.
#pragma once

#include <vector>

#include "attention.h"
#include "batch.h"
#include "workspace.h"

namespace everlong {

constexpr int kDirections = 32;
constexpr int kIndexBytes = kBlock * kDirections / 2;  // of a block, layer and kv head
constexpr int kScanBlocks = 128;                       // that a thread scans at once

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
  uint8_t* out = index + token % 16 / 4 * 256 + token / 16 * 16 + token % 4 * 4;
  for (int g = 0; g < 4; ++g)
    for (int j = 0; j < 4; ++j)
      out[64 * g + j] = uint8_t(code[8 * g + j] | code[8 * g + 4 + j] << 4);
}

// Attention to four tokens by the largest of their scores alone: times this, as measured
// (docs/experiments.md, section 23). Four times as many exponentials tell no more.
constexpr float kFourTokens = 1.6f;

// A query as the index is asked with: score of a token = scale * (codes . quads) + offset.
struct Asked {
  uint32_t quads[kDirections / 4];  // 4 neighbouring codes each, signed bytes
  float scale, offset;
};

//   shift: is subtracted from all scores
inline Asked ask(const float* q, int d, const float* decoder, const float* centre,
                 float shift) {
  Asked out;
  __m512 along[2], middle = _mm512_setzero_ps();
  project(q, decoder, d, along);
  for (int i = 0; i < d; i += 16)
    middle = _mm512_fmadd_ps(_mm512_loadu_ps(q + i), _mm512_loadu_ps(centre + i), middle);
  const float highest =
      _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(along[0]), _mm512_abs_ps(along[1])));
  const __m512 inverse = _mm512_set1_ps(highest > 0 ? 127 / highest : 0.0f);
  int sum = 0;
  for (int j = 0; j < 2; ++j) {
    __m512i whole = _mm512_cvtps_epi32(_mm512_mul_ps(along[j], inverse));
    sum += _mm512_reduce_add_epi32(whole);
    _mm_storeu_si128((__m128i*)(out.quads + 4 * j), _mm512_cvtsepi32_epi8(whole));
  }
  out.scale = highest / 127;
  out.offset = sum16(middle) - out.scale * 8 * float(sum) - shift + std::log2(kFourTokens);
  return out;
}

// Estimated attention that Q queries pay to the pieces of a block, in units of 2^shift.
//   out: [Q / 4 rounded up][piece][4 queries]
template <int Q>
inline void scan_queries(const uint8_t* index, const Asked* asked, float* out) {
  constexpr int kPadded = (Q + 3) / 4 * 4;
  const __m512i low = _mm512_set1_epi8(15);
  __m512i best[Q];
#pragma GCC unroll 4
  for (int v = 0; v < 4; ++v) {
    __m512i code[8];
    for (int g = 0; g < 4; ++g) {
      __m512i both = _mm512_loadu_si512(index + (4 * v + g) * 64);
      code[2 * g] = _mm512_and_si512(both, low);
      code[2 * g + 1] = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
    }
#pragma GCC unroll 8
    for (int i = 0; i < Q; ++i) {
      __m512i dot = _mm512_setzero_si512();
      for (int j = 0; j < 8; ++j)
        dot = _mm512_dpbusd_epi32(dot, code[j], _mm512_set1_epi32(int(asked[i].quads[j])));
      best[i] = v ? _mm512_max_epi32(best[i], dot) : dot;
    }
  }
  __m512 share[kPadded];
#pragma GCC unroll 8
  for (int i = 0; i < kPadded; ++i) {
    if (i >= Q) {
      share[i] = _mm512_setzero_ps();
      continue;
    }
    __m512 score = _mm512_fmadd_ps(_mm512_cvtepi32_ps(best[i]), _mm512_set1_ps(asked[i].scale),
                                   _mm512_set1_ps(asked[i].offset));
    // No estimate may be so wrong that it leaves the range of numbers.
    share[i] = exp2_16(_mm512_min_ps(score, _mm512_set1_ps(100.0f)));
  }
  for (int i = 0; i < kPadded; i += 4)
    _mm512_storeu_ps(out + 4 * i,
                     sum_quarters(share[i], share[i + 1], share[i + 2], share[i + 3]));
}

template <int Q = 8>
inline void scan_some(int count, const uint8_t* index, const Asked* asked, float* out) {
  if (count == Q)
    scan_queries<Q>(index, asked, out);
  else if constexpr (Q > 1)
    scan_some<Q - 1>(count, index, asked, out);
}

// The same of any number of queries.
inline void scan_block(const uint8_t* index, const Asked* asked, int count, float* out) {
  for (int i = 0; i < count; i += 8)
    scan_some(std::min(8, count - i), index, asked + i, out + 4 * i);
}

// Neighbouring rows of one block of one sequence, which read the same pieces.
struct Group {
  int row, rows, own;  // own: number of their block
  std::vector<int> turns;   // by so many blocks queries are turned to ask, each once
  std::vector<int> turned;  // of each block, which of these; empty: all the first
};

class Router {
 public:
  Router(const Model& model, int threads) : m_(model), threads_(threads) {
    group_ = m_.heads / m_.kv_heads;
    if (!m_.routing) return;
    r_ = *m_.routing;
    most_queries_ = r_.queries * group_;
  }

  // Which rows of a step are routed. False: no memory.
  bool plan(const Batch& b) {
    groups_.clear();
    of_row_.assign(b.rows, -1);
    int longest = 0, turns = 1;
    if (!m_.routing) return true;
    for (int row = 0; row < b.rows;) {
      const int own = b.index[row] / kBlock;
      bool causal = true;
      int end = row;
      do {
        causal = causal && b.visible[end] == b.index[end] + 1;
        ++end;
      } while (end < b.rows && b.sequence[end] == b.sequence[row] && b.index[end] % r_.rows);
      if (causal && own + 1 > r_.dense && own + 1 > r_.first + r_.last) {
        std::fill(of_row_.begin() + row, of_row_.begin() + end, int(groups_.size()));
        groups_.push_back({row, end - row, own, {0}, {}});
        if (own > b.reach) find_turns(b, groups_.back());
        turns = std::max(turns, int(groups_.back().turns.size()));
        longest = std::max(longest, own + 1);
      }
      row = end;
    }
    if (groups_.empty()) return true;
    const int fixed = r_.first + r_.last;
    const int64_t most = std::max(r_.most, r_.prompt_most);
    length_ = int(std::min<int64_t>(kPieces * longest, most + kPieces * fixed));
    candidates_ = longest - fixed;
    // A thread that chooses for an item alone needs its estimates no longer than that.
    shared_ = parts() > 1 && items() < 4 * threads_;
    quads_ = (most_queries_ + 3) / 4;
    asked_size_ = size_t(turns) * most_queries_;
    const size_t items = groups_.size() * m_.kv_heads;
    work_.resize(items);
    queries_ = queries_buffer_.get(items * most_queries_ * m_.head_dim);
    asked_ = asked_buffer_.get(items * asked_size_);
    fixed_ = fixed_buffer_.get(items * most_queries_);
    shares_ = shares_buffer_.get((shared_ ? items : threads_) * candidates_ * quads_ * 16);
    pieces_ = pieces_buffer_.get(items * length_);
    return queries_ && asked_ && fixed_ && shares_ && pieces_;
  }

  int groups() const { return int(groups_.size()); }
  int items() const { return groups() * m_.kv_heads; }
  int group_of(int row) const { return of_row_[row]; }  // -1: dense
  int parts() const { return (candidates_ + kScanBlocks - 1) / kScanBlocks; }  // of a scan
  int longest_list() const { return length_; }  // pieces that a routed row reads, at most
  bool shared() const { return shared_; }       // whether threads share the search for an item

  // What the rows of a group read in the layer that was last chosen for.
  Keys keys(const Batch& b, int group, int h, int64_t offset) const {
    return {blocks_of(b, groups_[group]), pieces_ + item(group, h) * size_t(length_), offset,
            groups_[group].own, b.reach, b.run, b.turns};
  }
  int count(int group, int h) const { return work_[item(group, h)].count; }

  // Puts a key in the index.
  //   lh: layer * kv heads + head
  //   before: blocks of the frames before that of its block
  //   codes: of that block, layer and head
  void write(int lh, const bf16* key, int before, int token, const float* turns,
             uint8_t* codes) const {
    const int d = m_.head_dim;
    alignas(64) float x[256], turned[256];
    for (int i = 0; i < d; i += 16)
      _mm512_store_ps(x + i, widen(_mm256_loadu_si256((const __m256i*)(key + i))));
    if (before) turn_back(x, turns + int64_t(before) * d, d, turned);
    write_codes(before ? turned : x, d, r_.encoder + size_t(lh) * d * kDirections,
                r_.offset + size_t(lh) * kDirections, token, codes);
  }

  // Of a block of the step.
  uint8_t* index(const Batch& b, int64_t block, int layer, int h) const {
    return (uint8_t*)b.codes[block] + (size_t(layer) * m_.kv_heads + h) * kIndexBytes;
  }

  // The queries that choose, and their attention to what is read anyway.
  //   qkv: [M][ld], rotated and scaled queries of row r at qkv + r * ld
  void prepare(const Batch& b, int layer, int64_t offset, int i, const float* qkv, int64_t ld) {
    const Group& g = groups_[i / m_.kv_heads];
    const int h = i % m_.kv_heads, d = m_.head_dim;
    Work& work = work_[i];
    float* q = queries_ + size_t(i) * most_queries_ * d;
    const int step = (g.rows + r_.queries - 1) / r_.queries;
    const int begin = (g.rows - 1) % step;
    int seen[kMaxQueries], none[kMaxQueries] = {};
    work.queries = 0;
    const int near = g.own + 1 - r_.last;
    int32_t pieces[kFixed * kPieces];
    const int count = (r_.first + r_.last) * kPieces;
    for (int n = 0; n < count; ++n)
      pieces[n] = n < r_.first * kPieces ? n : n + (near - r_.first) * kPieces;
    const Keys keys{blocks_of(b, g), pieces, offset + int64_t(h) * 2 * kBlock * d, g.own, b.reach,
                    b.run, b.turns};
    for (int at = begin; at < g.rows; at += step) {
      const float* from = qkv + size_t(g.row + at) * ld + size_t(h) * group_ * d;
      std::memcpy(q + size_t(work.queries) * d, from, size_t(group_) * d * sizeof(float));
      work.queries += group_;
    }
    for (int start = 0; start < work.queries; start += kMaxQueries) {
      const int some = std::min(kMaxQueries, work.queries - start);
      alignas(64) float value[kMaxQueries * 256];
      Reduced part[kMaxQueries];
      for (int n = 0; n < some; ++n) {
        const int row = g.row + begin + (start + n) / group_ * step;
        seen[n] = b.index[row] + 1 - (near - r_.first) * kBlock;
        part[n].value = value + n * d;
      }
      segment(d, some, keys, q + size_t(start) * d, 0, count * kPiece, none, seen, part);
      for (int n = 0; n < some; ++n) {
        fixed_[size_t(i) * most_queries_ + start + n] = part[n].sum;
        const float* query = q + size_t(start + n) * d;
        for (size_t turn = 0; turn < g.turns.size(); ++turn) {
          alignas(64) float moved[256];
          if (g.turns[turn]) turn_back(query, b.turns + int64_t(g.turns[turn]) * d, d, moved);
          asked(i, int(turn))[start + n] =
              asking(layer, h, g.turns[turn] ? moved : query, part[n].max);
        }
      }
    }
  }

  // Estimates the attention to some of the blocks.
  //   slot: of the memory for estimates; the item, or where it is not shared the thread
  void scan(const Batch& b, int layer, int i, int part, int slot) const {
    const Group& g = groups_[i / m_.kv_heads];
    const int h = i % m_.kv_heads, count = work_[i].queries;
    const int64_t at = b.first[b.sequence[g.row]];
    const int end = g.own + 1 - r_.last, begin = r_.first + part * kScanBlocks;
    for (int number = begin; number < std::min(begin + kScanBlocks, end); ++number) {
      const uint8_t* next = index(b, at + std::min(number + 4, end), layer, h);
      for (int line = 0; line < kIndexBytes; line += 64) _mm_prefetch(next + line, _MM_HINT_T0);
      scan_block(index(b, at + number, layer, h),
                 asked(i, g.turned.empty() ? 0 : g.turned[number]), count,
                 shares(slot, number - r_.first));
    }
  }

  // Chooses from the estimates, and lists what is read.
  void select(const Batch& b, int i, int slot) {
    const Group& g = groups_[i / m_.kv_heads];
    Work& work = work_[i];
    const int near = g.own + 1 - r_.last;
    choose(i, slot, near - r_.first, g.rows == 1, work);
    int32_t* pieces = pieces_ + size_t(i) * length_;
    work.count = 0;
    auto read = [&](int piece) { pieces[work.count++] = piece; };
    for (int n = 0; n < r_.first * kPieces; ++n) read(n);
    for (int n : work.chosen) read(n);
    for (int n = near * kPieces; n < (g.own + 1) * kPieces; ++n) read(n);
    const int64_t skipped = int64_t(g.rows) * ((g.own + 1) * kPieces - work.count);
    __atomic_fetch_add(&b.skipped[b.sequence[g.row]], skipped, __ATOMIC_RELAXED);
  }

 private:
  static constexpr int kFixed = 64;  // most blocks that are always read

  struct Candidate {
    float mass;
    int piece;
    bool operator<(const Candidate& other) const {  // the better one first
      return mass != other.mass ? mass > other.mass : piece < other.piece;
    }
  };

  struct Work {  // of one group and kv head
    int queries = 0;
    int count = 0;  // of the pieces that are read
    std::vector<int> chosen;  // numbers, ascending
    std::vector<float> inverse, mass;
    std::vector<Candidate> best;
  };

  // By how much queries are turned for the blocks of a group past reach: back by the frames before
  // a block, and by what it is moved. Both are whole runs, so there are few of them, however many
  // blocks there are.
  static void find_turns(const Batch& b, Group& g) {
    g.turned.resize(g.own + 1);
    std::vector<int> known(g.own / b.run + 2, -1);
    known[0] = 0;
    for (int number = 0; number <= g.own; ++number) {
      const int turn = moved(g.own, number, b.reach, b.run) + frames(number, b.reach);
      int& place = known[turn / b.run];
      if (place < 0) place = int(g.turns.size()), g.turns.push_back(turn);
      g.turned[number] = place;
    }
  }

  int item(int group, int h) const { return group * m_.kv_heads + h; }

  static const uint64_t* blocks_of(const Batch& b, const Group& g) {
    return b.blocks + b.first[b.sequence[g.row]];
  }

  Asked* asked(int i, int turn) const {
    return asked_ + size_t(i) * asked_size_ + size_t(turn) * most_queries_;
  }

  // [quads][piece][4 queries] of a block, counted from the first that may be left out.
  float* shares(int slot, int block) const {
    return shares_ + (size_t(slot) * candidates_ + block) * quads_ * 16;
  }

  Asked asking(int layer, int h, const float* q, float shift) const {
    const size_t lh = size_t(layer) * m_.kv_heads + h, d = m_.head_dim;
    return ask(q, int(d), r_.decoder + lh * d * kDirections, r_.centre + lh * d, shift);
  }

  // The best of the pieces of `blocks` blocks, until with what is read anyway they have the wanted
  // share.
  void choose(int i, int slot, int blocks, bool alone, Work& work) const {
    const int n = work.queries, quads = (n + 3) / 4, count = blocks * kPieces;
    const float had = find_mass(i, slot, blocks, quads, work);
    const int most = std::min(alone ? r_.most : r_.prompt_most, count);
    find_best(work.mass.data(), count, most, work.best);
    const float enough = (alone ? r_.mass : r_.prompt_mass) * float(n);
    work.chosen.clear();
    float sum = had;
    for (int c = 0; c < most && (c < r_.least || sum < enough); ++c) {
      sum += work.best[c].mass;
      work.chosen.push_back(r_.first * kPieces + work.best[c].piece);
    }
    std::sort(work.chosen.begin(), work.chosen.end());
  }

  // The attention to each piece, summed over queries that have 1 each. Returns what is read anyway.
  float find_mass(int i, int slot, int blocks, int quads, Work& work) const {
    const float* fixed = fixed_ + size_t(i) * most_queries_;
    std::vector<float>& inverse = work.inverse;
    inverse.assign(size_t(quads) * 16, 0.0f);
    for (int block = 0; block < blocks; ++block)
      for (int k = 0; k < quads; ++k)
        _mm512_storeu_ps(&inverse[16 * k], _mm512_add_ps(_mm512_loadu_ps(&inverse[16 * k]),
                                                         _mm512_loadu_ps(shares(slot, block) + 16 * k)));
    __m512 had = _mm512_setzero_ps();
    for (int k = 0; k < quads; ++k) {
      __m512 total = _mm512_loadu_ps(&inverse[16 * k]);
      total = _mm512_add_ps(total, _mm512_shuffle_f32x4(total, total, 0x4e));
      total = _mm512_add_ps(total, _mm512_shuffle_f32x4(total, total, 0xb1));
      const __mmask8 there = __mmask8((1u << std::min(4, work.queries - 4 * k)) - 1);
      const __m512 read = _mm512_broadcast_f32x4(_mm_maskz_loadu_ps(there, fixed + 4 * k));
      total = _mm512_maskz_div_ps(__mmask16(there * 0x1111), _mm512_set1_ps(1.0f),
                                  _mm512_add_ps(total, read));
      had = _mm512_fmadd_ps(total, read, had);
      _mm512_storeu_ps(&inverse[16 * k], total);
    }
    const __m512i by_block = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    work.mass.resize((size_t(blocks) + 3) / 4 * 16);
    for (int block = 0; block < blocks; block += 4) {
      __m512 sum[4] = {};
      for (int n = 0; n < std::min(4, blocks - block); ++n)
        for (int k = 0; k < quads; ++k)
          sum[n] = _mm512_fmadd_ps(_mm512_loadu_ps(shares(slot, block + n) + 16 * k),
                                   _mm512_loadu_ps(&inverse[16 * k]), sum[n]);
      const __m512 pieces = sum_quarters(sum[0], sum[1], sum[2], sum[3]);
      _mm512_storeu_ps(&work.mass[size_t(block) * kPieces],
                       _mm512_permutexvar_ps(by_block, pieces));
    }
    return sum16(had) / 4;  // every quarter has it
  }

  // The `most` best of `count` candidates, the best one first.
  static void find_best(const float* mass, int count, int most, std::vector<Candidate>& best) {
    best.clear();
    if (most == 0) return;
    float bar = -1;  // who is not above it is not among them
    auto raise = [&] {
      std::nth_element(best.begin(), best.begin() + most - 1, best.end());
      best.resize(most);
      bar = best[most - 1].mass;
    };
    for (int c = 0; c < count; c += 16) {
      const __mmask16 there = __mmask16(count - c < 16 ? (1u << (count - c)) - 1 : 0xffff);
      unsigned above = _mm512_mask_cmp_ps_mask(there, _mm512_loadu_ps(mass + c),
                                               _mm512_set1_ps(bar), _CMP_GT_OQ);
      for (; above; above &= above - 1) {
        const int piece = c + __builtin_ctz(above);
        best.push_back({mass[piece], piece});
      }
      if (int(best.size()) >= 2 * most + 16) raise();
    }
    if (int(best.size()) > most) raise();
    std::sort(best.begin(), best.end());
  }

  Model m_;
  Routing r_{};
  int threads_, group_, most_queries_ = 0, length_ = 0, candidates_ = 0, quads_ = 0;
  size_t asked_size_ = 0;
  bool shared_ = false;
  std::vector<Group> groups_;
  std::vector<int> of_row_;  // group of each row, or -1
  std::vector<Work> work_;
  Buffer<float> queries_buffer_, fixed_buffer_, shares_buffer_;
  Buffer<Asked> asked_buffer_;
  Buffer<int32_t> pieces_buffer_;
  float *queries_ = nullptr, *fixed_ = nullptr, *shares_ = nullptr;
  Asked* asked_ = nullptr;
  int32_t* pieces_ = nullptr;
};

}  // namespace everlong
