// Which pieces of 4 tokens a few rows read; twin of everlong/model/routing.py.
#pragma once

#include <vector>

#include "choosing.h"
#include "outline.h"
#include "workspace.h"

namespace everlong {

constexpr int kScanBlocks = 128;  // that a thread scans at once

// Neighbouring rows of one block of one sequence, which read the same pieces.
struct Group {
  int row, rows, own;       // own: number of their block
  bool outlined;            // whether they search in two levels
  bool thorough;            // whether they are a prompt's end
  bool last, only;          // of their sequence in this step
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
    for (int n = 0; n < m_.num_layers * m_.kv_heads * kDirections; ++n)
      inverse_worth_.push_back(r_.worth[n] > 0 ? 1 / r_.worth[n] : 0);
  }

  // Which rows of a step are routed. False: no memory.
  bool plan(const Batch& b) {
    groups_.clear();
    of_row_.assign(b.rows, -1);
    if (!m_.routing) return true;
    for (int row = 0; row < b.rows;) {
      int end = row + 1;
      while (end < b.rows && b.sequence[end] == b.sequence[row]) ++end;
      group(b, row, end);
      row = end;
    }
    if (groups_.empty()) return true;
    int longest = 0, turns = 1, outlines = 0;
    candidates_ = 0;
    const int fixed = r_.first + r_.last;
    for (const Group& g : groups_) {
      longest = std::max(longest, g.own + 1);
      turns = std::max(turns, int(g.turns.size()));
      const int blocks = g.own + 1 - fixed, outlined = outline(b, g).blocks;
      candidates_ = std::max(candidates_, g.outlined ? r_.searched + g.own - outlined : blocks);
      if (g.outlined) outlines = std::max(outlines, outlined);
    }
    const int64_t most = std::max({r_.most, r_.prompt, r_.asked});
    length_ = int(std::min<int64_t>(kPieces * longest, most + kPieces * fixed));
    // A thread that chooses for an item alone needs its estimates no longer than that.
    shared_ = parts() > 1 && items() < 4 * threads_;
    asked_size_ = size_t(turns) * most_queries_;
    outline_size_ = size_t(outlines + kOutlined) / kOutlined * kOutlineQueries * 16;
    const size_t items = groups_.size() * m_.kv_heads;
    work_.resize(items);
    queries_ = queries_buffer_.get(size_t(threads_) * most_queries_ * m_.head_dim);
    asked_ = asked_buffer_.get(items * asked_size_);
    fixed_ = fixed_buffer_.get(items * most_queries_);
    shares_ = shares_buffer_.get((shared_ ? items : threads_) * candidates_ * most_queries_ *
                                 kPieces);
    outlines_ = outlines_buffer_.get(threads_ * outline_size_);
    pieces_ = pieces_buffer_.get(items * length_);
    return queries_ && asked_ && fixed_ && shares_ && outlines_ && pieces_;
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

  // The share of its attention that a query does not read, as estimated by the next one that
  // chooses; 0 where nothing is known of the values that it would read.
  //   head: among those of kv head h
  float unread(const Batch& b, int group, int row, int h, int head) const {
    const Group& g = groups_[group];
    if (!b.means[b.sequence[g.row]]) return 0;
    const int step = chooser_step(g), begin = (g.rows - 1) % step, after = row - g.row - begin;
    const int chooser = after <= 0 ? 0 : (after + step - 1) / step;
    const Work& work = work_[item(group, h)];
    return work.unread[size_t(known_chooser(work.queries / group_, chooser)) * group_ + head];
  }

  // The mean value of what is not read.
  const float* mean_value(const Batch& b, int group, int layer, int h) const {
    return (const float*)b.means[b.sequence[groups_[group].row]] +
           (size_t(layer) * m_.kv_heads + h) * m_.head_dim;
  }

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

  // The queries that choose, their attention to what is read anyway, and where they search.
  //   qkv: [M][ld], rotated and scaled queries of row r at qkv + r * ld; t: the thread
  void prepare(const Batch& b, int layer, int64_t offset, int i, const float* qkv, int64_t ld,
               int t) {
    const Group& g = groups_[i / m_.kv_heads];
    const int h = i % m_.kv_heads, d = m_.head_dim;
    Work& work = work_[i];
    float* q = queries_ + size_t(t) * most_queries_ * d;
    const int step = chooser_step(g), begin = (g.rows - 1) % step;
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
    work.blocks.clear();
    if (g.outlined) {
      search_outline(b, layer, i, t);
    } else {
      for (int number = r_.first; number < near; ++number) work.blocks.push_back(number);
    }
  }

  // Estimates the attention to a part of the blocks that are searched.
  //   slot: of the memory for estimates; the item, or where it is not shared the thread
  void scan(const Batch& b, int layer, int i, int part, int slot) const {
    const Group& g = groups_[i / m_.kv_heads];
    const std::vector<int>& blocks = work_[i].blocks;
    const int h = i % m_.kv_heads, count = work_[i].queries, end = int(blocks.size());
    const int64_t at = b.first[b.sequence[g.row]];
    for (int n = part * kScanBlocks; n < std::min((part + 1) * kScanBlocks, end); ++n) {
      const uint8_t* next = index(b, at + blocks[std::min(n + 4, end - 1)], layer, h);
      for (int line = 0; line < kIndexBytes; line += 64) _mm_prefetch(next + line, _MM_HINT_T0);
      scan_block(index(b, at + blocks[n], layer, h), asked(i, turned(g, blocks[n])), count,
                 shares(slot, n));
    }
  }

  // Chooses from the estimates, and lists what is read.
  void select(const Batch& b, int layer, int i, int slot) {
    const Group& g = groups_[i / m_.kv_heads];
    Work& work = work_[i];
    const int near = g.own + 1 - r_.last;
    const int64_t estimates = int64_t(slot) * candidates_ * most_queries_ * kPieces;
    const Estimates found{shares_ + estimates, fixed_ + size_t(i) * most_queries_, most_queries_,
                          work.queries, group_, int(work.blocks.size())};
    find_mass(found, g.rows == 1, work);
    choose(r_, g.own, g.rows == 1, g.thorough, work);
    if (!work.all && b.means[b.sequence[g.row]]) find_unread(found, work);
    int32_t* pieces = pieces_ + size_t(i) * length_;
    work.count = 0;
    auto read = [&](int piece) { pieces[work.count++] = piece; };
    for (int n = 0; n < r_.first * kPieces; ++n) read(n);
    for (int n : work.chosen) read(n);
    for (int n = near * kPieces; n < (g.own + 1) * kPieces; ++n) read(n);
    const int64_t skipped = int64_t(g.rows) * ((g.own + 1) * kPieces - work.count);
    __atomic_fetch_add(&b.skipped[b.sequence[g.row]], skipped, __ATOMIC_RELAXED);
    if (g.last && outline(b, g).blocks) remember(b, layer, i);
  }

  // See `everlong_outline`.
  void write_outlines(const uint64_t* codes, int begin, int end, uint8_t* groups,
                      int64_t capacity) const {
    for (int lh = 0; lh < m_.num_layers * m_.kv_heads; ++lh)
      for (int number = begin; number < end; ++number)
        write_outline((const uint8_t*)codes[number] + size_t(lh) * kIndexBytes,
                      r_.worth + size_t(lh) * kDirections, number,
                      groups + (lh * capacity + number / kOutlined) * kGroupBytes);
  }

 private:
  static constexpr int kFixed = 64;           // most blocks that are always read
  static constexpr int kOutlineQueries = 32;  // that search outlines; all those of a token alone
  static constexpr int kThorough = 2 * kBlock;
  static constexpr float kFading = 0.95f;

  // The routed rows of one sequence in groups.
  void group(const Batch& b, int begin, int end) {
    const bool wanted = std::binary_search(b.wanted, b.wanted + b.wanted_rows, end - 1);
    for (int row = begin, next; row < end; row = next) {
      const int own = b.index[row] / kBlock;
      // A prompt's end says what is asked for, so it searches everything, and each of its tokens.
      const bool thorough = wanted && end - begin > 1 && row >= end - kThorough;
      const int most = thorough ? std::min(r_.rows, r_.queries) : r_.rows;
      bool causal = true;
      next = row;
      do {
        causal = causal && b.visible[next] == b.index[next] + 1;
        ++next;
      } while (next < end && next - row < most && b.index[next] % r_.rows);
      // Where all others would be chosen anyway nothing is searched.
      const int others = (own + 1 - r_.first - r_.last) * kPieces;
      const int chosen = next - row == 1 ? 0 : thorough ? r_.asked : r_.prompt;
      if (!causal || own + 1 <= r_.dense || others <= chosen) continue;
      Group g{row, next - row, own, false, thorough, next == end, row == begin && next == end,
              {0}, {}};
      g.outlined = own + 1 > r_.flat && !thorough && outline(b, g).blocks > 0;
      if (own > b.reach) find_turns(b, g);
      std::fill(of_row_.begin() + row, of_row_.begin() + next, int(groups_.size()));
      groups_.push_back(std::move(g));
    }
  }

  int chooser_step(const Group& g) const { return (g.rows + r_.queries - 1) / r_.queries; }

  static const Outline& outline(const Batch& b, const Group& g) {
    return b.outlines[b.sequence[g.row]];
  }

  static int turned(const Group& g, int number) { return g.turned.empty() ? 0 : g.turned[number]; }

  // Which blocks are searched token by token: those that had attention lately and those after them,
  // those that are too new for the outline, and those whose outline promises most.
  void search_outline(const Batch& b, int layer, int i, int t) {
    const Group& g = groups_[i / m_.kv_heads];
    const Outline& o = outline(b, g);
    Work& work = work_[i];
    const int near = g.own + 1 - r_.last, outlined = std::min(o.blocks, near);
    scan_outline(b, layer, i, outlined, outlines_ + t * outline_size_);
    std::vector<float>& promise = work.of_block;
    constexpr float kTaken = -1, kSurely = std::numeric_limits<float>::infinity();
    std::vector<int>& surely = work.blocks;
    const int most = r_.searched / 2;
    if (g.only) {
      const int32_t* lately = o.lately + lh(layer, i) * kLately;
      for (int n = 0; n < kLately && lately[n] >= 0; ++n)
        for (int number = lately[n]; number < std::min(lately[n] + 2, outlined); ++number)
          if (number >= r_.first && promise[number] != kTaken && int(surely.size()) < most)
            promise[number] = kTaken, surely.push_back(number);
    }
    const float bar = bar_of(promise.data(), outlined, r_.searched - int(surely.size()));
    for (int number : surely) promise[number] = kSurely;
    work.blocks.clear();
    each_above(promise.data(), outlined, bar, [&](int number) {
      if (int(work.blocks.size()) < r_.searched) work.blocks.push_back(number);
    });
    for (int number = std::max(r_.first, outlined); number < near; ++number)
      work.blocks.push_back(number);
  }

  // What the outline of each block promises, for queries that have 1 each: `of_block`.
  void scan_outline(const Batch& b, int layer, int i, int outlined, float* shares) {
    const Group& g = groups_[i / m_.kv_heads];
    const Outline& o = outline(b, g);
    Work& work = work_[i];
    const uint8_t* groups = o.groups + lh(layer, i) * o.capacity * kGroupBytes;
    // Of tokens that choose together, some search.
    const int choosers = work.queries / group_;
    const int step = (choosers * group_ + kOutlineQueries - 1) / kOutlineQueries;
    int query[kOutlineQueries], count = 0;
    for (int n = choosers - 1; n >= 0; n -= step)
      for (int k = 0; k < group_ && count < kOutlineQueries; ++k) query[count++] = n * group_ + k;
    __m512 total[kOutlineQueries] = {};
    const int size = (outlined + kOutlined - 1) / kOutlined;
    for (int at = 0; at < size; ++at) {
      const uint8_t* group = groups + size_t(at) * kGroupBytes;
      const Sixteen means(group);
      const Asked* q = asked(i, turned(g, at * kOutlined));
      const int begin = std::max(0, r_.first - at * kOutlined);
      const int end = std::min(kOutlined, outlined - at * kOutlined);
      const unsigned there = end > begin ? (1u << end) - (1u << begin) : 0;
      for (int n = 0; n < count; ++n) {
        const __m512 share = _mm512_maskz_mov_ps(__mmask16(there | there << kOutlined),
                                                 scan_group(means, group, q[query[n]]));
        total[n] = _mm512_add_ps(total[n], share);
        _mm512_storeu_ps(shares + (size_t(at) * count + n) * 16, share);
      }
    }
    const float* fixed = fixed_ + size_t(i) * most_queries_;
    for (int n = 0; n < count; ++n)
      total[n] = _mm512_set1_ps(1 / (sum16(total[n]) + fixed[query[n]]));
    work.of_block.resize(size_t(size) * kOutlined + 16);
    for (int at = 0; at < size; ++at) {
      __m512 sum = _mm512_setzero_ps();
      for (int n = 0; n < count; ++n)
        sum = _mm512_fmadd_ps(_mm512_loadu_ps(shares + (size_t(at) * count + n) * 16), total[n],
                              sum);
      _mm256_storeu_ps(&work.of_block[size_t(at) * kOutlined],
                       _mm256_add_ps(_mm512_castps512_ps256(sum), _mm512_extractf32x8_ps(sum, 1)));
    }
  }

  // Keeps which blocks had attention, for the next token to search.
  void remember(const Batch& b, int layer, int i) {
    const Group& g = groups_[i / m_.kv_heads];
    const Outline& o = outline(b, g);
    Work& work = work_[i];
    int32_t* lately = o.lately + lh(layer, i) * kLately;
    float* shares = o.shares + lh(layer, i) * kLately;
    const float fading = std::pow(kFading, float(g.rows));
    std::vector<Candidate>& best = work.best;
    best.clear();
    for (size_t n = 0; n < work.blocks.size(); ++n) {
      const float mass = sum16(_mm512_loadu_ps(&work.mass[n * kPieces]));
      best.push_back({mass, work.blocks[n]});
    }
    for (int n = 0; n < kLately && lately[n] >= 0; ++n) {
      auto at = std::lower_bound(work.blocks.begin(), work.blocks.end(), lately[n]);
      const bool there = at != work.blocks.end() && *at == lately[n];
      if (there)
        best[at - work.blocks.begin()].mass =
            std::max(best[at - work.blocks.begin()].mass, fading * shares[n]);
      else
        best.push_back({fading * shares[n], lately[n]});
    }
    if (int(best.size()) > kLately) {
      std::nth_element(best.begin(), best.begin() + kLately, best.end());
      best.resize(kLately);
    }
    std::sort(best.begin(), best.end());
    std::fill(lately, lately + kLately, -1);
    for (int n = 0; n < int(best.size()) && best[n].mass > 0; ++n)
      lately[n] = best[n].number, shares[n] = best[n].mass;
  }

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
  size_t lh(int layer, int item) const { return size_t(layer) * m_.kv_heads + item % m_.kv_heads; }

  static const uint64_t* blocks_of(const Batch& b, const Group& g) {
    return b.blocks + b.first[b.sequence[g.row]];
  }

  Asked* asked(int i, int turn) const {
    return asked_ + size_t(i) * asked_size_ + size_t(turn) * most_queries_;
  }

  // [queries][pieces] of a block, by its place among those that are searched.
  bf16* shares(int slot, int block) const {
    return shares_ + (size_t(slot) * candidates_ + block) * most_queries_ * kPieces;
  }

  Asked asking(int layer, int h, const float* q, float shift) const {
    const size_t lh = size_t(layer) * m_.kv_heads + h, d = m_.head_dim;
    return ask(q, int(d), r_.decoder + lh * d * kDirections, r_.centre + lh * d,
               inverse_worth_.data() + lh * kDirections, shift);
  }

  Model m_;
  Routing r_{};
  int threads_, group_, most_queries_ = 0, length_ = 0, candidates_ = 0;
  size_t asked_size_ = 0, outline_size_ = 0;
  bool shared_ = false;
  std::vector<Group> groups_;
  std::vector<int> of_row_;  // group of each row, or -1
  std::vector<Work> work_;
  std::vector<float> inverse_worth_;
  Buffer<float> queries_buffer_, fixed_buffer_, outlines_buffer_;
  Buffer<bf16> shares_buffer_;
  Buffer<Asked> asked_buffer_;
  Buffer<int32_t> pieces_buffer_;
  float *queries_ = nullptr, *fixed_ = nullptr, *outlines_ = nullptr;
  bf16* shares_ = nullptr;
  Asked* asked_ = nullptr;
  int32_t* pieces_ = nullptr;
};

}  // namespace everlong
