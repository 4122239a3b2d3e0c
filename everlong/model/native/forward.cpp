// The whole forward step of a batch of tokens in one call; twin of everlong/model/transformer.py.
//
// One parallel region per step: threads share the outputs of each product and meet at barriers, so
// that a step of a small model is not dominated by starting threads and dispatching operators.
#include <omp.h>

#include <vector>

#include "attention.h"
#include "elementwise.h"
#include "linear.h"
#include "workspace.h"

using namespace everlong;

extern "C" {

struct Layer {
  Matrix query, key, value, output, gate, up, down;
  const float* attention_norm;  // [hidden]
  const float* mlp_norm;        // [hidden]
  const float* query_norm;      // [D] or null
  const float* key_norm;        // [D] or null
  int32_t window;               // tokens, 0: all
};

struct Model {
  const Layer* layers;
  Matrix embedding, head;
  const float* final_norm;  // [hidden]
  int32_t num_layers, hidden, intermediate, heads, kv_heads, head_dim;
  float eps;
};

struct Batch {
  int32_t rows;              // M
  const int32_t* tokens;     // [M]
  const float* rope;         // [M][D]: cosine [D/2], sine [D/2] at the row's position
  const int32_t* index;      // [M] place of the row among the tokens of its sequence
  const int32_t* visible;    // [M] number of tokens of its sequence that the row may see
  const int32_t* sequence;   // [M] rows of a sequence are neighbours
  const int64_t* first;      // [sequences] where its blocks begin in `blocks`
  const uint64_t* blocks;    // addresses
  const int32_t* rotation;   // beside `blocks`: row of `rotations`, or -1; null: none is moved
  const float* rotations;    // [*][D]
  int32_t wanted_rows;
  const int32_t* wanted;     // rows whose logits are computed
  float* logits;             // [wanted_rows][vocabulary]
  float* states;             // [M][hidden] after the last norm, or null
  int32_t exact;             // a row's results do not depend on the rows beside it
};
}

namespace {

struct Tile {  // rows of one sequence that are attended together
  int row, rows;
};

// What the rest of a layer, after its attention, reads and writes. In the last layer only the
// wanted rows go on.
struct Rest {
  float* x;              // [rows][hidden]
  const int32_t* place;  // of each row of the step among these, or -1; null: all, in their order
  Rows normed, attended, act;

  int of(int row) const { return place ? place[row] : row; }
};

class Step {
 public:
  Step(const Model& model, int threads) : m_(model), threads_(threads) {
    layers_.assign(model.layers, model.layers + model.num_layers);
    group_ = m_.heads / m_.kv_heads;
    query_size_ = m_.heads * m_.head_dim;
    kv_size_ = m_.kv_heads * m_.head_dim;
    widest_ = std::max({m_.hidden, m_.intermediate, query_size_});
    look(m_.head);
    for (const Layer& l : layers_)
      for (const Matrix* w : {&l.query, &l.key, &l.value, &l.output, &l.gate, &l.up, &l.down})
        look(*w);
    // Gate and up are computed for so many outputs before they are multiplied.
    mlp_width_ = plain_ ? (m_.intermediate / threads_ + 32) / 32 * 32 : 32;
  }

  int run(const Batch& batch) {
    plan(batch);
    exact_ = batch.exact != 0;
    size_t rows = batch.rows;
    qkv_ = qkv_buffer_.get(rows * (query_size_ + 2 * kv_size_));
    gate_ = gate_buffer_.get(2 * threads_ * rows * mlp_width_);
    scratch_size_ = (linear_scratch(plain_, batch.rows, widest_) + 31) / 32 * 32;
    scratch_ = scratch_buffer_.get(threads_ * scratch_size_ + 1);
    partial_ = partial_buffer_.get(
        split_ ? tiles_.size() * m_.kv_heads * segments_ * tile_queries_ * (m_.head_dim + 2) : 1);
    if (!qkv_ || !gate_ || !scratch_ || !partial_ || !all_space_.get(*this, batch.rows, all_) ||
        (cut_ && !last_space_.get(*this, batch.wanted_rows, last_)))
      return 1;
    last_.place = places_.data();
    Barrier barrier(threads_);
#pragma omp parallel num_threads(threads_)
    run_thread(batch, omp_get_thread_num(), barrier);
    return 0;
  }

 private:
  void look(const Matrix& w) { (w.bits == 16 ? plain_ : integers_) = true; }

  // Which rows are attended together, and whether a sequence is shared between threads.
  void plan(const Batch& b) {
    tiles_.clear();
    int at_once = std::max(1, kTileQueries / group_);
    tile_queries_ = at_once * group_;
    fused_ = true;
    int longest = 0;
    for (int row = 0; row < b.rows;) {
      int end = row + 1;
      while (end < b.rows && end - row < at_once && b.sequence[end] == b.sequence[row]) ++end;
      if (end < b.rows && b.sequence[end] == b.sequence[row]) fused_ = false;
      if (end - row > 1) fused_ = false;
      tiles_.push_back({row, end - row});
      row = end;
    }
    for (int row = 0; row < b.rows; ++row) longest = std::max(longest, b.visible[row]);
    segments_ = (longest + kSegment - 1) / kSegment;
    split_ = threads_ > 1 && segments_ > 1 &&
             int(tiles_.size()) * m_.kv_heads < 4 * threads_;
    if (split_) fused_ = false;
    cut_ = !b.states && b.wanted_rows < b.rows;
    places_.assign(b.rows, -1);
    for (int i = 0; i < b.wanted_rows; ++i) places_[b.wanted[i]] = i;
  }

  void run_thread(const Batch& b, int t, Barrier& barrier) {
    const int hidden = m_.hidden, ld = query_size_ + 2 * kv_size_;
    bf16* scratch = scratch_ + t * scratch_size_;
    float* x = all_.x;

    Range rows = share(b.rows, 1, t, threads_);
    for (int r = rows.begin; r < rows.end; ++r)
      weight_row(m_.embedding, b.tokens[r], x + size_t(r) * hidden);
    barrier.wait();
    for (int i = 0; i < m_.num_layers; ++i) {
      const Layer& layer = layers_[i];
      normalise(x, layer.attention_norm, all_.normed, t);
      if (t == 0) next_item_.store(0, std::memory_order_relaxed);
      barrier.wait();
      product(layer.query, all_.normed, qkv_, ld, false, t, scratch);
      product(layer.key, all_.normed, qkv_ + query_size_, ld, false, t, scratch);
      product(layer.value, all_.normed, qkv_ + query_size_ + kv_size_, ld, false, t, scratch);
      const Rest& rest = cut_ && i == m_.num_layers - 1 ? last_ : all_;
      for (int r = rows.begin; r < rows.end; ++r)
        if (rest.place && rest.of(r) >= 0)
          std::memcpy(rest.x + size_t(rest.of(r)) * hidden, x + size_t(r) * hidden,
                      size_t(hidden) * sizeof(float));
      barrier.wait();
      attend(b, layer, i, rest, t, barrier);
      barrier.wait();
      if (&rest == &last_ && b.wanted_rows == 0) return;
      product(layer.output, rest.attended, rest.x, hidden, true, t, scratch);
      barrier.wait();
      normalise(rest.x, layer.mlp_norm, rest.normed, t);
      barrier.wait();
      gated(layer, rest, t, scratch);
      barrier.wait();
      product(layer.down, rest.act, rest.x, hidden, true, t, scratch);
      barrier.wait();
    }
    if (b.states)
      for (int r = rows.begin; r < rows.end; ++r)
        rms_norm(x + size_t(r) * hidden, m_.final_norm, m_.eps, hidden,
                 b.states + size_t(r) * hidden);
    if (b.wanted_rows == 0) return;
    const Rest& rest = cut_ ? last_ : all_;
    normalise(rest.x, m_.final_norm, rest.normed, t);
    barrier.wait();
    product(m_.head, rest.normed, b.logits, m_.head.n, false, t, scratch);
  }

  // Rows of a tile lie side by side in memory, so a tile is written by one thread; where there
  // are fewer tiles than threads, the threads share its inputs instead.
  void normalise(const float* x, const float* weight, const Rows& out, int t) {
    const int tiles = out.tiles(), hidden = m_.hidden;
    Range rows{0, out.m}, inputs{0, hidden};
    if (tiles < threads_ && out.m > 1) {
      inputs = share(hidden, 32, t, threads_);
    } else {
      Range mine = share(tiles, 1, t, threads_);
      if (mine.begin == mine.end) return;
      rows = {out.tile(mine.begin).begin, out.tile(mine.end - 1).end};
    }
    for (int r = rows.begin; r < rows.end; ++r)
      rms_norm(x + size_t(r) * hidden, weight, m_.eps, hidden, inputs,
               [&](int at, __m512 a, __m512 b) { out.put(r, at, a, b); });
  }

  void product(const Matrix& w, const Rows& x, float* y, int64_t ldy, bool add, int t,
               bf16* scratch) {
    Range n = share_outputs(w, t, threads_);
    linear(w, x, y + n.begin, ldy, n, add, scratch, exact_);
  }

  // SiLU(gate) * up, a few outputs at a time, so that both stay in the second cache.
  void gated(const Layer& layer, const Rest& rest, int t, bf16* scratch) {
    const int rows = rest.act.m;
    Range all = share(m_.intermediate, 32, t, threads_);
    float* gate = gate_ + size_t(t) * 2 * rows * mlp_width_;
    float* up = gate + size_t(rows) * mlp_width_;
    for (int p = all.begin; p < all.end; p += mlp_width_) {
      Range n{p, std::min(all.end, p + mlp_width_)};
      linear(layer.gate, rest.normed, gate, mlp_width_, n, false, scratch, exact_);
      linear(layer.up, rest.normed, up, mlp_width_, n, false, scratch, exact_);
      for (int r = 0; r < rows; ++r)
        for (int j = 0; j < n.end - n.begin; j += 32) {
          const float *g = gate + size_t(r) * mlp_width_ + j, *u = up + size_t(r) * mlp_width_ + j;
          rest.act.put(r, p + j, _mm512_mul_ps(silu(_mm512_loadu_ps(g)), _mm512_loadu_ps(u)),
                   _mm512_mul_ps(silu(_mm512_loadu_ps(g + 16)), _mm512_loadu_ps(u + 16)));
        }
    }
  }

  // Normalises and rotates the queries and the key of one row and kv head; stores key and value.
  void write_keys(const Batch& b, const Layer& layer, int64_t offset, int row, int h) {
    const int d = m_.head_dim;
    float* qkv = qkv_ + size_t(row) * (query_size_ + 2 * kv_size_);
    const float* rope = b.rope + size_t(row) * d;
    float* q = qkv + h * group_ * d;
    const __m512 scale = _mm512_set1_ps(kLog2E / std::sqrt(float(d)));
    for (int g = 0; g < group_; ++g, q += d) {
      if (layer.query_norm) rms_norm(q, layer.query_norm, m_.eps, d, q);
      rotate(q, rope, d);
      for (int j = 0; j < d; j += 16)
        _mm512_storeu_ps(q + j, _mm512_mul_ps(_mm512_loadu_ps(q + j), scale));
    }
    float* k = qkv + query_size_ + h * d;
    if (layer.key_norm) rms_norm(k, layer.key_norm, m_.eps, d, k);
    rotate(k, rope, d);
    int place = b.index[row];
    bf16* block = (bf16*)b.blocks[b.first[b.sequence[row]] + place / kBlock] + offset +
                  int64_t(h) * 2 * kBlock * d;
    store_bf16(k, d, block + (place % kBlock) * d);
    store_bf16(k + kv_size_, d, block + (kBlock + place % kBlock) * d);
  }

  // Items of work are tiles of one kv head after those of another: what threads write then lies
  // apart.
  const Tile& tile_of(int item) const { return tiles_[size_t(item) % tiles_.size()]; }
  int head_of(int item) const { return int(size_t(item) / tiles_.size()); }

  void attend(const Batch& b, const Layer& layer, int layer_index, const Rest& rest, int t,
              Barrier& barrier) {
    const int64_t offset =
        int64_t(layer_index) * m_.kv_heads * 2 * kBlock * m_.head_dim;
    const int items = int(tiles_.size()) * m_.kv_heads;
    Range mine = share(items, 1, t, threads_);
    if (fused_) {  // one row a sequence: who writes a key is the only one to read it in this step
      for (int i = mine.begin; i < mine.end; ++i) {
        write_keys(b, layer, offset, tile_of(i).row, head_of(i));
        attend_tile(b, layer, offset, rest, i, -1);
      }
      return;
    }
    for (int i = mine.begin; i < mine.end; ++i)
      for (int r = 0; r < tile_of(i).rows; ++r)
        write_keys(b, layer, offset, tile_of(i).row + r, head_of(i));
    barrier.wait();
    if (!split_) {
      for (int i; (i = next_item_.fetch_add(1, std::memory_order_relaxed)) < items;)
        attend_tile(b, layer, offset, rest, i, -1);
      return;
    }
    for (int i; (i = next_item_.fetch_add(1, std::memory_order_relaxed)) < items * segments_;)
      attend_tile(b, layer, offset, rest, i / segments_, i % segments_);
    barrier.wait();
    for (int i = mine.begin; i < mine.end; ++i) merge_tile(rest, i);
  }

  // Attention of one tile of rows and one kv head, over all segments or (split) over one of them.
  void attend_tile(const Batch& b, const Layer& layer, int64_t offset, const Rest& rest, int item,
                   int segment_only) {
    const int d = m_.head_dim, h = head_of(item);
    const Tile& tile = tile_of(item);
    if (!goes_on(tile, rest)) return;
    const int64_t at = b.first[b.sequence[tile.row]];
    Keys keys{b.blocks + at, b.rotation ? b.rotation + at : nullptr, b.rotations,
              offset + int64_t(h) * 2 * kBlock * d};
    const int count = tile.rows * group_, most = kMaxQueries;
    for (int start = 0; start < count; start += most) {
      const int size = std::min(most, count - start);
      alignas(64) float q[kMaxQueries * 256], value[kMaxQueries * 256], total[kMaxQueries * 256];
      int first[kMaxQueries], last[kMaxQueries], begin = INT32_MAX, end = 0;
      Reduced part[kMaxQueries], all[kMaxQueries];
      for (int i = 0; i < size; ++i) {
        int row = tile.row + (start + i) / group_, head = h * group_ + (start + i) % group_;
        std::memcpy(q + i * d,
                    qkv_ + size_t(row) * (query_size_ + 2 * kv_size_) + size_t(head) * d,
                    size_t(d) * sizeof(float));
        last[i] = b.visible[row];
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
        reduce(size, keys, q, lo, hi, first, last, part);
        for (int i = 0; i < size; ++i) merge(all[i], part[i], d);
      }
      for (int i = 0; i < size; ++i) {
        if (segment_only < 0) {
          finish(rest, all[i], tile.row + (start + i) / group_, h * group_ + (start + i) % group_);
        } else {
          float* p = partial(item, segment_only, start + i);
          p[0] = all[i].max, p[1] = all[i].sum;
          std::memcpy(p + 2, all[i].value, size_t(d) * sizeof(float));
        }
      }
    }
  }

  void reduce(int count, const Keys& keys, const float* q, int lo, int hi, const int* first,
              const int* last, Reduced* part) {
    switch (m_.head_dim) {
      case 32: segment<32>(count, keys, q, lo, hi, first, last, part); break;
      case 64: segment<64>(count, keys, q, lo, hi, first, last, part); break;
      case 96: segment<96>(count, keys, q, lo, hi, first, last, part); break;
      case 128: segment<128>(count, keys, q, lo, hi, first, last, part); break;
      default: segment<256>(count, keys, q, lo, hi, first, last, part);
    }
  }

  float* partial(int item, int s, int query) {
    return partial_ +
           ((size_t(item) * segments_ + s) * tile_queries_ + query) * (m_.head_dim + 2);
  }

  void merge_tile(const Rest& rest, int item) {
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
      finish(rest, all, tile.row + i / group_, h * group_ + i % group_);
    }
  }

  static bool goes_on(const Tile& tile, const Rest& rest) {
    for (int r = 0; r < tile.rows; ++r)
      if (rest.of(tile.row + r) >= 0) return true;
    return false;
  }

  void finish(const Rest& rest, const Reduced& r, int row, int head) {
    if (rest.of(row) < 0) return;
    __m512 scale = _mm512_set1_ps(1.0f / r.sum);
    for (int j = 0; j < m_.head_dim; j += 32)
      rest.attended.put(rest.of(row), head * m_.head_dim + j, _mm512_mul_ps(_mm512_loadu_ps(r.value + j), scale),
                    _mm512_mul_ps(_mm512_loadu_ps(r.value + j + 16), scale));
  }

  // Memory of a `Rest`, kept between steps.
  struct Space {
    Buffer<float> x;
    RowsBuffer normed, attended, act;

    bool get(const Step& s, int rows, Rest& out) {
      out.x = x.get(size_t(rows) * s.m_.hidden);
      return out.x && normed.get(rows, s.m_.hidden, s.plain_, s.integers_, out.normed) &&
             attended.get(rows, s.query_size_, s.plain_, s.integers_, out.attended) &&
             act.get(rows, s.m_.intermediate, s.plain_, s.integers_, out.act);
    }
  };

  Model m_;
  std::vector<Layer> layers_;
  int threads_, group_, query_size_, kv_size_, widest_, mlp_width_;
  bool plain_ = false, integers_ = false;  // forms of rows that some product reads
  std::vector<Tile> tiles_;
  std::vector<int32_t> places_;  // of each row among the wanted ones, or -1
  bool fused_ = false, split_ = false, exact_ = false;
  bool cut_ = false;  // some rows end with the attention of the last layer
  int segments_ = 0, tile_queries_ = 0;
  size_t scratch_size_ = 0;  // of a thread
  std::atomic<int> next_item_{0};
  Buffer<float> qkv_buffer_, gate_buffer_, partial_buffer_;
  Buffer<bf16> scratch_buffer_;
  Space all_space_, last_space_;
  Rest all_{}, last_{};
  float *qkv_ = nullptr, *gate_ = nullptr, *partial_ = nullptr;
  bf16* scratch_ = nullptr;
};

}  // namespace

extern "C" {

void* everlong_create(const Model* model, int threads) { return new Step(*model, threads); }

void everlong_destroy(void* step) { delete static_cast<Step*>(step); }

// 0: done; 1: out of memory.
int everlong_forward(void* step, const Batch* batch) { return static_cast<Step*>(step)->run(*batch); }

// y [M, N] = x [M, K] W^T + bias, by the same code as the whole step. 1: out of memory.
int everlong_linear(const Matrix* w, const float* x, float* y, int m, int threads, int exact) {
  if (m == 0) return 0;
  RowsBuffer buffer;
  Buffer<bf16> scratch_buffer;
  Rows rows;
  const bool plain = w->bits == 16;
  const size_t size = linear_scratch(plain, m, w->k);
  bf16* scratch = scratch_buffer.get(threads * size + 1);
  if (!scratch || !buffer.get(m, w->k, plain, !plain, rows)) return 1;
#pragma omp parallel num_threads(threads)
  {
    const int t = omp_get_thread_num();
    const Range mine = share(m, 1, t, threads), n = share_outputs(*w, t, threads);
    for (int r = mine.begin; r < mine.end; ++r)
      for (int i = 0; i < w->k; i += 32) {
        const float* from = x + size_t(r) * w->k + i;
        rows.put(r, i, _mm512_loadu_ps(from), _mm512_loadu_ps(from + 16));
      }
#pragma omp barrier
    linear(*w, rows, y + n.begin, w->n, n, false, scratch + t * size, exact != 0);
  }
  return 0;
}

#if defined(__AMX_INT8__)
static bool units_agree() {
  constexpr int kRows = 40, kOutputs = 48, kInputs = 96;
  std::vector<uint8_t> codes(kOutputs * kInputs);
  std::vector<float> scales(kOutputs * kInputs / 16), x(kRows * kInputs), y[2];
  for (size_t i = 0; i < codes.size(); ++i) codes[i] = uint8_t(i * 2654435761u >> 11);
  for (size_t i = 0; i < scales.size(); ++i) scales[i] = 0.01f * float(i % 7 + 1);
  for (size_t i = 0; i < x.size(); ++i) x[i] = std::sin(float(i));
  for (auto [bits, group] : {std::pair{4, 32}, {8, 32}, {8, 16}}) {
    const Matrix w{codes.data(), scales.data(), nullptr, bits, group, 0, 0, kOutputs, kInputs};
    for (Unit unit : {Unit::none, Unit::hardware}) {
      unit_in_use = unit;
      auto& out = y[unit == Unit::hardware];
      out.assign(kRows * kOutputs, 0.0f);
      if (everlong_linear(&w, x.data(), out.data(), kRows, 2, 1)) return false;
    }
    unit_in_use = Unit::none;
    if (y[0] != y[1]) return false;
  }
  return true;
}
#endif

// Chooses who multiplies integers for many rows: a `Unit`; returns the one in use from now on. The
// processor's own is used only if the system allows it and it computes what is computed without it.
int everlong_use_unit(int unit) {
  unit_in_use = Unit::none;
  if (Unit(unit) == Unit::emulated) unit_in_use = Unit::emulated;
#if defined(__AMX_INT8__)
  if (Unit(unit) == Unit::hardware && HardwareUnit::allowed() && units_agree())
    unit_in_use = Unit::hardware;
#endif
  return int(unit_in_use);
}

// Rows `index` of the weights, float [count, K].
void everlong_rows(const Matrix* w, const int64_t* index, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) weight_row(*w, index[i], out + i * w->k);
}

// Brings integer codes [N, K] into the blocks that products read.
void everlong_pack(const uint8_t* codes, int bits, int64_t n, int64_t k, int threads,
                   uint32_t* out) {
#pragma omp parallel num_threads(threads)
  pack_codes(codes, bits, n, k, share(int((n + 15) / 16), 1, omp_get_thread_num(), threads), out);
}
}
