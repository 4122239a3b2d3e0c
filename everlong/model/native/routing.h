// Which pieces of 16 tokens a few rows read; twin of everlong/model/routing.py.
//
// The routing index of a block has kDirections codes of 4 bits for each of its tokens:
// [layer][kv head][token / 16][4][token % 16][4], where byte j of group g has code 8 g + j in its
// low half and 8 g + 4 + j in its high half, both plus 8. So 16 tokens meet 4 codes of a query in
// one instruction.
//
// Keys are rotated at their position, which may lie far past what the directions were found on; so
// codes are those of the key at its place in a frame of `reach` + 1 blocks, and queries are turned
// back by the frames before it.
#pragma once

#include <vector>

#include "attention.h"
#include "batch.h"
#include "workspace.h"

namespace everlong {

constexpr int kDirections = 32;
constexpr int kIndexBytes = kBlock * kDirections / 2;  // of a block, layer and kv head
constexpr int kScanBlocks = 128;                       // places that a thread scans at once
constexpr int kPieceBytes = kIndexBytes / kPieces;

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
inline void write_codes(const float* key, int d, const float* directions, const float* offset,
                        int token, uint8_t* index) {
  __m512 along[2];
  project(key, directions, d, along);
  alignas(16) uint8_t code[kDirections];
  for (int j = 0; j < 2; ++j) {
    __m512 value = _mm512_sub_ps(along[j], _mm512_loadu_ps(offset + 16 * j));
    __m512i whole = _mm512_add_epi32(_mm512_cvtps_epi32(value), _mm512_set1_epi32(8));
    whole = _mm512_max_epi32(_mm512_min_epi32(whole, _mm512_set1_epi32(15)),
                             _mm512_setzero_si512());
    _mm_store_si128((__m128i*)(code + 16 * j), _mm512_cvtepi32_epi8(whole));
  }
  uint8_t* out = index + token / 16 * 256 + token % 16 * 4;
  for (int g = 0; g < 4; ++g)
    for (int j = 0; j < 4; ++j)
      out[64 * g + j] = uint8_t(code[8 * g + j] | code[8 * g + 4 + j] << 4);
}

// A query as the index is asked with: score of a token = scale * (codes . quads) + offset.
struct Asked {
  uint32_t quads[kDirections / 4];  // 4 neighbouring codes each, signed bytes
  float scale, offset;
};

//   shift: is subtracted from all scores
inline Asked ask(const float* q, int d, const float* directions, const float* centre,
                 float shift) {
  Asked out;
  __m512 along[2], middle = _mm512_setzero_ps();
  project(q, directions, d, along);
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
  out.offset = sum16(middle) - out.scale * 8 * float(sum) - shift;
  return out;
}

// Estimated attention that `count` queries pay to the 16 tokens of a piece, in units of 2^shift.
//   out: [count rounded up to 16]
inline void scan_piece(const uint8_t* index, const Asked* asked, int count, float* out) {
  const __m512i low = _mm512_set1_epi8(15);
  __m512i code[8];
  for (int g = 0; g < 4; ++g) {
    __m512i both = _mm512_loadu_si512(index + g * 64);
    code[2 * g] = _mm512_and_si512(both, low);
    code[2 * g + 1] = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
  }
  __m512 share[16] = {};
  for (int start = 0; start < count; start += 16) {
    for (int i = 0; i < std::min(16, count - start); ++i) {
      const Asked& q = asked[start + i];
      __m512i dot = _mm512_setzero_si512();
      for (int j = 0; j < 8; ++j)
        dot = _mm512_dpbusd_epi32(dot, code[j], _mm512_set1_epi32(int(q.quads[j])));
      __m512 score = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), _mm512_set1_ps(q.scale),
                                     _mm512_set1_ps(q.offset));
      // No estimate may be so wrong that it leaves the range of numbers.
      share[i] = exp2_16(_mm512_min_ps(score, _mm512_set1_ps(100.0f)));
    }
    _mm512_storeu_ps(out + start, sum16x16(share));
  }
}

// Neighbouring rows of one block of one sequence, which read the same pieces.
struct Group {
  int row, rows, own;  // own: number of their block
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
    longest_ = 0;
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
        groups_.push_back({row, end - row, own});
        longest_ = std::max(longest_, own + 1);
      }
      row = end;
    }
    if (groups_.empty()) return true;
    const int fixed = r_.first + r_.last;
    const int64_t most = std::max(r_.most, r_.prompt_most);
    length_ = int(std::min<int64_t>(kPieces * longest_, most + kPieces * fixed));
    candidates_ = longest_ - fixed;
    places_ = std::min(longest_, b.reach + 1);
    // A thread that chooses for an item alone needs its estimates no longer than that.
    shared_ = parts() > 1 && items() < 4 * threads_;
    padded_ = (most_queries_ + 15) / 16 * 16;
    const size_t items = groups_.size() * m_.kv_heads;
    work_.resize(items);
    queries_ = queries_buffer_.get(items * most_queries_ * m_.head_dim);
    asked_ = asked_buffer_.get(items * most_queries_);
    shift_ = shift_buffer_.get(items * most_queries_);
    fixed_ = fixed_buffer_.get(items * most_queries_);
    shares_ = shares_buffer_.get((shared_ ? items : threads_) * padded_ * candidates_ * kPieces);
    pieces_ = pieces_buffer_.get(items * length_);
    return queries_ && asked_ && shift_ && fixed_ && shares_ && pieces_;
  }

  int groups() const { return int(groups_.size()); }
  int items() const { return groups() * m_.kv_heads; }
  int group_of(int row) const { return of_row_[row]; }  // -1: dense
  int parts() const { return (places_ + kScanBlocks - 1) / kScanBlocks; }  // of a scan
  int longest_list() const { return length_; }  // pieces that a routed row reads, at most
  bool shared() const { return shared_; }       // whether threads share the search for an item

  // What the rows of a group read in the layer that was last chosen for.
  Keys keys(const Batch& b, int group, int h, int64_t offset) const {
    return {blocks_of(b, groups_[group]), pieces_ + item(group, h) * size_t(length_), offset,
            groups_[group].own, b.reach, b.turns};
  }
  int count(int group, int h) const { return work_[item(group, h)].count; }

  // Puts a key in the index.
  //   lh: layer * kv heads + head
  //   number: of its block in its sequence
  //   codes: of that block, layer and head
  void write(int lh, const bf16* key, int number, int token, int reach, const float* turns,
             uint8_t* codes) const {
    const int d = m_.head_dim, before = frames(number, reach);
    alignas(64) float x[256], turned[256];
    for (int i = 0; i < d; i += 16)
      _mm512_store_ps(x + i, widen(_mm256_loadu_si256((const __m256i*)(key + i))));
    if (before) turn_back(x, turns + int64_t(before) * d, d, turned);
    write_codes(before ? turned : x, d, r_.key_directions + size_t(lh) * d * kDirections,
                r_.key_offset + size_t(lh) * kDirections, token, codes);
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
                    b.turns};
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
        const size_t at = size_t(i) * most_queries_ + start + n;
        shift_[at] = part[n].max;
        fixed_[at] = part[n].sum;
        asked_[at] = asking(layer, h, q + size_t(start + n) * d, part[n].max);
      }
    }
  }

  // Estimates the attention to some of the blocks: those at a part of the places of a frame, in all
  // frames. A block beyond reach is moved to where reach ends, so what queries are turned by depends
  // on its place in its frame alone, and they are turned once for all frames.
  //   slot: of the memory for estimates; the item, or where it is not shared the thread
  void scan(const Batch& b, int layer, int i, int part, int slot) const {
    const Group& g = groups_[i / m_.kv_heads];
    const int h = i % m_.kv_heads, count = work_[i].queries, frame = b.reach + 1;
    const int64_t at = b.first[b.sequence[g.row]];
    const int end = g.own + 1 - r_.last;
    Turned far, near[2];  // within reach are parts of two frames at most
    for (int place = part * kScanBlocks; place < std::min((part + 1) * kScanBlocks, places_);
         ++place)
      for (int number = place; number < end; number += frame) {
        if (number < r_.first) continue;
        const int before = number - place, beyond = std::max(0, g.own - number - b.reach);
        const Asked* asked = asked_ + size_t(i) * most_queries_;
        if (beyond + before) {
          Turned& turned = beyond ? far : near[before / frame % 2];
          if (turned.by != beyond + before) turn(b, layer, i, beyond + before, turned);
          asked = turned.asked.data();
        }
        const uint8_t* codes = index(b, at + number, layer, h);
        if (number + 4 < end) {
          const uint8_t* next = index(b, at + number + 4, layer, h);
          for (int line = 0; line < kIndexBytes; line += 64)
            _mm_prefetch(next + line, _MM_HINT_T0);
        }
        for (int p = 0; p < kPieces; ++p)
          scan_piece(codes + p * kPieceBytes, asked, count,
                     shares(slot, (number - r_.first) * kPieces + p));
      }
  }

  // Chooses from the estimates, and lists what is read.
  void select(const Batch& b, int i, int slot) {
    const Group& g = groups_[i / m_.kv_heads];
    Work& work = work_[i];
    const int near = g.own + 1 - r_.last;
    choose(i, slot, (near - r_.first) * kPieces, g.rows == 1, work);
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

  struct Work {  // of one group and kv head
    int queries = 0;
    int count = 0;  // of the pieces that are read
    std::vector<int> chosen;  // numbers, ascending
    std::vector<float> total, mass;  // of each query, of each candidate
    std::vector<int> order;
  };

  // Blocks of the frames before that of a block.
  static int frames(int number, int reach) { return number - number % (reach + 1); }

  struct Turned {  // queries of an item, turned back by so many blocks
    int by = 0;
    std::vector<Asked> asked;
  };

  void turn(const Batch& b, int layer, int i, int by, Turned& out) const {
    const int d = m_.head_dim;
    out.by = by;
    out.asked.resize(work_[i].queries);
    for (size_t n = 0; n < out.asked.size(); ++n) {
      alignas(64) float moved[256];
      const size_t query = size_t(i) * most_queries_ + n;
      turn_back(queries_ + query * d, b.turns + int64_t(by) * d, d, moved);
      out.asked[n] = asking(layer, i % m_.kv_heads, moved, shift_[query]);
    }
  }

  int item(int group, int h) const { return group * m_.kv_heads + h; }

  static const uint64_t* blocks_of(const Batch& b, const Group& g) {
    return b.blocks + b.first[b.sequence[g.row]];
  }

  float* shares(int slot, int piece) const {
    return shares_ + (size_t(slot) * candidates_ * kPieces + piece) * padded_;
  }

  Asked asking(int layer, int h, const float* q, float shift) const {
    const size_t lh = size_t(layer) * m_.kv_heads + h, d = m_.head_dim;
    return ask(q, int(d), r_.query_directions + lh * d * kDirections, r_.centre + lh * d, shift);
  }

  // The best of the candidates, until with what is read anyway they have the wanted share.
  void choose(int i, int slot, int candidates, bool alone, Work& work) {
    const int n = work.queries;
    const float* fixed = fixed_ + size_t(i) * most_queries_;
    std::vector<float>& total = work.total;
    total.assign(fixed, fixed + n);
    for (int c = 0; c < candidates; ++c)
      for (int q = 0; q < n; ++q) total[q] += shares(slot, c)[q];
    float had = 0, all = 0;
    for (int q = 0; q < n; ++q) {
      total[q] = 1 / total[q];
      had += fixed[q] * total[q];
    }
    work.mass.resize(candidates), work.order.resize(candidates);
    for (int c = 0; c < candidates; ++c) {
      float sum = 0;
      for (int q = 0; q < n; ++q) sum += shares(slot, c)[q] * total[q];
      work.mass[c] = sum, work.order[c] = c;
      all += sum;
    }
    all += had;
    const int most = std::min(alone ? r_.most : r_.prompt_most, candidates);
    const float enough = (alone ? r_.mass : r_.prompt_mass) * all;
    auto better = [&](int a, int b) {
      return work.mass[a] != work.mass[b] ? work.mass[a] > work.mass[b] : a < b;
    };
    std::partial_sort(work.order.begin(), work.order.begin() + most, work.order.end(), better);
    work.chosen.clear();
    for (int c = 0; c < most && (c < r_.least || had < enough); ++c) {
      had += work.mass[work.order[c]];
      work.chosen.push_back(r_.first * kPieces + work.order[c]);
    }
    std::sort(work.chosen.begin(), work.chosen.end());
  }

  Model m_;
  Routing r_{};
  int threads_, group_, most_queries_ = 0;
  int longest_ = 0, places_ = 0, length_ = 0, candidates_ = 0, padded_ = 0;
  bool shared_ = false;
  std::vector<Group> groups_;
  std::vector<int> of_row_;  // group of each row, or -1
  std::vector<Work> work_;
  Buffer<float> queries_buffer_, shift_buffer_, fixed_buffer_, shares_buffer_;
  Buffer<Asked> asked_buffer_;
  Buffer<int32_t> pieces_buffer_;
  float *queries_ = nullptr, *shift_ = nullptr, *fixed_ = nullptr, *shares_ = nullptr;
  Asked* asked_ = nullptr;
  int32_t* pieces_ = nullptr;
};

}  // namespace everlong
