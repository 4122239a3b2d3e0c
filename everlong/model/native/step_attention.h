// The attention of a step: keys are written, blocks chosen where rows are routed, and rows attended.
#pragma once

#include <vector>

#include "routing.h"

namespace everlong {

// What the rest of a layer, after its attention, reads and writes. In the last layer only the
// wanted rows go on.
struct Rest {
  float* x;              // [rows][hidden]
  const int32_t* place;  // of each row of the step among these, or -1; null: all, in their order
  Rows normed, attended, act;

  int of(int row) const { return place ? place[row] : row; }
};

class StepAttention {
 public:
  StepAttention(const Model& model, int threads)
      : m_(model), router_(model, threads), threads_(threads) {
    group_ = m_.heads / m_.kv_heads;
    ld_ = (m_.heads + 2 * m_.kv_heads) * m_.head_dim;
  }

  // Which rows are attended together, and whether their work is shared between threads.
  //   qkv: queries, keys and values of the rows of each layer, [M][H + 2 K][D]
  // False: no memory.
  bool plan(const Batch& b, float* qkv) {
    qkv_ = qkv;
    if (!router_.plan(b)) return false;
    tiles_.clear();
    const int at_once = std::max(1, kTileQueries / group_);
    tile_queries_ = at_once * group_;
    fused_ = true;
    int longest = 0;
    for (int row = 0; row < b.rows;) {
      int end = row + 1;
      while (end < b.rows && end - row < at_once && together(b, row, end)) ++end;
      if (end - row > 1 || (end < b.rows && b.sequence[end] == b.sequence[row])) fused_ = false;
      const int group = router_.group_of(row);
      for (int r = row; r < end; ++r)
        longest = std::max(longest, group < 0 ? b.visible[r] : router_.longest_list() * kPiece);
      tiles_.push_back({row, end - row, group});
      row = end;
    }
    segments_ = (longest + kSegment - 1) / kSegment;
    const int items = int(tiles_.size()) * m_.kv_heads;
    const bool few = threads_ > 1 && items < 4 * threads_;
    split_ = few && segments_ > 1;
    if (split_ || router_.shared()) fused_ = false;
    partial_ = partial_buffer_.get(
        split_ ? size_t(items) * segments_ * tile_queries_ * (m_.head_dim + 2) : 1);
    return partial_ != nullptr;
  }

  // Attends in one layer; all threads call it, after a barrier.
  void run(const Batch& b, const Layer& layer, int layer_index, const Rest& rest, int t,
           Barrier& barrier) {
    const int64_t offset = int64_t(layer_index) * m_.kv_heads * 2 * kBlock * m_.head_dim;
    const int items = int(tiles_.size()) * m_.kv_heads;
    const bool routed = router_.groups() > 0 && layer.window == 0;
    Range mine = share(items, 1, t, threads_);
    if (fused_) {  // one row a sequence: who writes a key is the only one to read it in this step
      for (int i = mine.begin; i < mine.end; ++i) {
        const int h = head_of(i), group = tile_of(i).group;
        write_keys(b, layer, layer_index, offset, tile_of(i).row, h);
        if (routed && group >= 0) choose_alone(b, layer_index, offset, group * m_.kv_heads + h, t);
        attend_tile(b, layer, layer_index, rest, i, -1, routed);
      }
      return;
    }
    for (int i = mine.begin; i < mine.end; ++i)
      for (int r = 0; r < tile_of(i).rows; ++r)
        write_keys(b, layer, layer_index, offset, tile_of(i).row + r, head_of(i));
    start(t);
    barrier.wait();
    if (routed) choose(b, layer_index, offset, t, barrier);
    if (!split_) {
      each(items, [&](int i) { attend_tile(b, layer, layer_index, rest, i, -1, routed); });
      return;
    }
    each(items * segments_, [&](int i) {
      attend_tile(b, layer, layer_index, rest, i / segments_, i % segments_, routed);
    });
    barrier.wait();
    for (int i = mine.begin; i < mine.end; ++i) merge_tile(b, layer_index, rest, i, routed);
  }

  const Router& router() const { return router_; }

  // See `everlong_index`.
  void index(const bf16* block, int before, const float* turns, uint8_t* codes) const {
    for (int i = 0; i < m_.num_layers * m_.kv_heads; ++i)
      for (int token = 0; token < kBlock; ++token)
        router_.write(i, block + (int64_t(i) * 2 * kBlock + token) * m_.head_dim, before, token,
                      turns, codes + int64_t(i) * kIndexBytes);
  }

 private:
  struct Tile {  // rows of one sequence that are attended together
    int row, rows;
    int group;  // of the router, or -1: dense
  };

  // Rows that are routed, or moved, together are in one block.
  bool together(const Batch& b, int row, int other) const {
    if (b.sequence[other] != b.sequence[row]) return false;
    if (router_.group_of(other) != router_.group_of(row)) return false;
    const bool moved = b.index[other] / kBlock > b.reach;
    return !moved || b.index[other] / kBlock == b.index[row] / kBlock;
  }

  // Items of work are tiles of one kv head after those of another: what threads write then lies
  // apart.
  const Tile& tile_of(int item) const { return tiles_[size_t(item) % tiles_.size()]; }
  int head_of(int item) const { return int(size_t(item) / tiles_.size()); }

  // Items that threads take one after the other. `start` comes first, and a barrier after it.
  void start(int t) {
    if (t == 0) next_item_.store(0, std::memory_order_relaxed);
  }
  template <class Do>
  void each(int count, Do work) {
    for (int i; (i = next_item_.fetch_add(1, std::memory_order_relaxed)) < count;) work(i);
  }

  // Normalises and rotates the queries and the key of one row and kv head; stores key and value.
  void write_keys(const Batch& b, const Layer& layer, int layer_index, int64_t offset, int row,
                  int h) {
    const int d = m_.head_dim, query_size = m_.heads * d, kv_size = m_.kv_heads * d;
    float* qkv = qkv_ + size_t(row) * ld_;
    const float* rope = b.rope + size_t(row) * d;
    float* q = qkv + h * group_ * d;
    const __m512 scale = _mm512_set1_ps(kLog2E / std::sqrt(float(d)));
    for (int g = 0; g < group_; ++g, q += d) {
      if (layer.query_norm) rms_norm(q, layer.query_norm, m_.eps, d, q);
      rotate(q, rope, d);
      for (int j = 0; j < d; j += 16)
        _mm512_storeu_ps(q + j, _mm512_mul_ps(_mm512_loadu_ps(q + j), scale));
    }
    float* k = qkv + query_size + h * d;
    if (layer.key_norm) rms_norm(k, layer.key_norm, m_.eps, d, k);
    rotate(k, rope, d);
    int place = b.index[row];
    bf16* block = (bf16*)b.blocks[b.first[b.sequence[row]] + place / kBlock] + offset +
                  int64_t(h) * 2 * kBlock * d;
    bf16* key = block + (place % kBlock) * d;
    store_bf16(k, d, key);
    store_bf16(k + kv_size, d, block + (kBlock + place % kBlock) * d);
    if (b.codes)
      router_.write(layer_index * m_.kv_heads + h, key, frames(place / kBlock, b.reach),
                    place % kBlock, b.turns,
                    router_.index(b, b.first[b.sequence[row]] + place / kBlock, layer_index, h));
  }

  // Chooses what is read: one item of the router alone, or all of them by all threads.
  void choose_alone(const Batch& b, int layer, int64_t offset, int item, int t) {
    router_.prepare(b, layer, offset, item, qkv_, ld_, t);
    for (int part = 0; part < router_.parts(); ++part) router_.scan(b, layer, item, part, t);
    router_.select(b, layer, item, t);
  }

  void choose(const Batch& b, int layer, int64_t offset, int t, Barrier& barrier) {
    const int items = router_.items(), parts = router_.parts();
    if (!router_.shared()) {
      each(items, [&](int i) { choose_alone(b, layer, offset, i, t); });
    } else {
      each(items, [&](int i) { router_.prepare(b, layer, offset, i, qkv_, ld_, t); });
      barrier.wait();
      start(t);
      barrier.wait();
      each(items * parts, [&](int i) { router_.scan(b, layer, i / parts, i % parts, i / parts); });
      barrier.wait();
      start(t);
      barrier.wait();
      each(items, [&](int i) { router_.select(b, layer, i, i); });
    }
    barrier.wait();
    start(t);
    barrier.wait();
  }

  // Attention of one tile of rows and one kv head, over all segments or (split) over one of them.
  void attend_tile(const Batch& b, const Layer& layer, int layer_index, const Rest& rest, int item,
                   int segment_only, bool routed) {
    const int d = m_.head_dim, h = head_of(item);
    const Tile& tile = tile_of(item);
    if (!goes_on(tile, rest)) return;
    const int64_t head_offset = (int64_t(layer_index) * m_.kv_heads + h) * 2 * kBlock * d;
    const int own = b.index[tile.row] / kBlock;
    Keys keys{b.blocks + b.first[b.sequence[tile.row]], nullptr, head_offset, own, b.reach,
              b.run, b.turns};
    int skipped = 0;  // tokens
    if (routed && tile.group >= 0) {
      keys = router_.keys(b, tile.group, h, head_offset);
      skipped = (own + 1) * kBlock - router_.count(tile.group, h) * kPiece;
    }
    const int count = tile.rows * group_, most = kMaxQueries;
    for (int start = 0; start < count; start += most) {
      const int size = std::min(most, count - start);
      alignas(64) float q[kMaxQueries * 256], value[kMaxQueries * 256], total[kMaxQueries * 256];
      int first[kMaxQueries], last[kMaxQueries], begin = INT32_MAX, end = 0;
      Reduced part[kMaxQueries], all[kMaxQueries];
      for (int i = 0; i < size; ++i) {
        int row = tile.row + (start + i) / group_, head = h * group_ + (start + i) % group_;
        std::memcpy(q + i * d, qkv_ + size_t(row) * ld_ + size_t(head) * d,
                    size_t(d) * sizeof(float));
        last[i] = b.visible[row] - skipped;
        first[i] = layer.window ? std::max(0, b.index[row] + 1 - layer.window) : 0;
        begin = std::min(begin, first[i]);
        end = std::max(end, last[i]);
        part[i].value = value + i * d;
        all[i] = {-std::numeric_limits<float>::infinity(), 0.0f, total + i * d};
        std::memset(total + i * d, 0, size_t(d) * sizeof(float));
      }
      int from = segment_only < 0 ? begin / kSegment : segment_only;
      int to = segment_only < 0 ? (end + kSegment - 1) / kSegment : segment_only + 1;
      for (int s = from; s < to; ++s) {
        int lo = std::max(begin, s * kSegment), hi = std::min(end, (s + 1) * kSegment);
        if (lo >= hi) continue;
        segment(d, size, keys, q, lo, hi, first, last, part);
        for (int i = 0; i < size; ++i) merge(all[i], part[i], d);
      }
      for (int i = 0; i < size; ++i) {
        if (segment_only < 0) {
          const int row = tile.row + (start + i) / group_, head = (start + i) % group_;
          finish(b, layer_index, rest, all[i], row, h, head, routed);
        } else {
          float* p = partial(item, segment_only, start + i);
          p[0] = all[i].max, p[1] = all[i].sum;
          std::memcpy(p + 2, all[i].value, size_t(d) * sizeof(float));
        }
      }
    }
  }

  float* partial(int item, int s, int query) {
    return partial_ +
           ((size_t(item) * segments_ + s) * tile_queries_ + query) * (m_.head_dim + 2);
  }

  void merge_tile(const Batch& b, int layer_index, const Rest& rest, int item, bool routed) {
    const int d = m_.head_dim, h = head_of(item);
    const Tile& tile = tile_of(item);
    if (!goes_on(tile, rest)) return;
    for (int i = 0; i < tile.rows * group_; ++i) {
      alignas(64) float value[256] = {};
      Reduced all{-std::numeric_limits<float>::infinity(), 0.0f, value};
      for (int s = 0; s < segments_; ++s) {
        float* p = partial(item, s, i);
        merge(all, {p[0], p[1], p + 2}, d);
      }
      finish(b, layer_index, rest, all, tile.row + i / group_, h, i % group_, routed);
    }
  }

  static bool goes_on(const Tile& tile, const Rest& rest) {
    for (int r = 0; r < tile.rows; ++r)
      if (rest.of(tile.row + r) >= 0) return true;
    return false;
  }

  // Puts the result of one row and head where it goes on; what a routed row does not read is taken
  // to have the mean value.
  //   head: among those of kv head h
  void finish(const Batch& b, int layer, const Rest& rest, const Reduced& r, int row, int h,
              int head, bool routed) {
    if (rest.of(row) < 0) return;
    const int d = m_.head_dim, group = routed ? router_.group_of(row) : -1;
    const float unread = group < 0 ? 0 : router_.unread(b, group, row, h, head);
    const float* mean = unread > 0 ? router_.mean_value(b, group, layer, h) : nullptr;
    const __m512 scale = _mm512_set1_ps((1 - unread) / r.sum), share = _mm512_set1_ps(unread);
    auto at = [&](int j) {
      const __m512 read = _mm512_mul_ps(_mm512_loadu_ps(r.value + j), scale);
      return mean ? _mm512_fmadd_ps(_mm512_loadu_ps(mean + j), share, read) : read;
    };
    for (int j = 0; j < d; j += 32)
      rest.attended.put(rest.of(row), (h * group_ + head) * d + j, at(j), at(j + 16));
  }

  Model m_;
  Router router_;
  int threads_, group_, tile_queries_ = 0, segments_ = 0;
  int64_t ld_;
  std::vector<Tile> tiles_;
  bool fused_ = false, split_ = false;
  std::atomic<int> next_item_{0};
  Buffer<float> partial_buffer_;
  float *qkv_ = nullptr, *partial_ = nullptr;
};

}  // namespace everlong
