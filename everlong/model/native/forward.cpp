// The whole forward step of a batch of tokens in one call; twin of everlong/model/transformer.py.
//
// One parallel region per step: threads share the outputs of each product and meet at barriers, so
// that a step of a small model is not dominated by starting threads and dispatching operators.
#include <omp.h>

#include <vector>

#include "linear.h"
#include "step_attention.h"

using namespace everlong;

namespace {

class Step {
 public:
  Step(const Model& model, int threads)
      : m_(model), threads_(threads), attention_(model, threads) {
    layers_.assign(model.layers, model.layers + model.num_layers);
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
    if (!qkv_ || !gate_ || !scratch_ || !attention_.plan(batch, qkv_) ||
        !all_space_.get(*this, batch.rows, all_) ||
        (cut_ && !last_space_.get(*this, batch.wanted_rows, last_)))
      return 1;
    last_.place = places_.data();
    Barrier barrier(threads_);
#pragma omp parallel num_threads(threads_)
    run_thread(batch, omp_get_thread_num(), barrier);
    return 0;
  }

  const StepAttention& attention() const { return attention_; }

 private:
  void look(const Matrix& w) { (w.bits == 16 ? plain_ : integers_) = true; }

  // Whether some rows end with the attention of the last layer, and where the others go on.
  void plan(const Batch& b) {
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
      attention_.run(b, layer, i, rest, t, barrier);
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
  int threads_, query_size_, kv_size_, widest_, mlp_width_;
  bool plain_ = false, integers_ = false;  // forms of rows that some product reads
  std::vector<int32_t> places_;  // of each row among the wanted ones, or -1
  bool exact_ = false;
  bool cut_ = false;  // some rows end with the attention of the last layer
  size_t scratch_size_ = 0;  // of a thread
  StepAttention attention_;
  Buffer<float> qkv_buffer_, gate_buffer_;
  Buffer<bf16> scratch_buffer_;
  Space all_space_, last_space_;
  Rest all_{}, last_{};
  float *qkv_ = nullptr, *gate_ = nullptr;
  bf16* scratch_ = nullptr;
};

}  // namespace

extern "C" {

void* everlong_create(const Model* model, int threads) { return new Step(*model, threads); }

void everlong_destroy(void* step) { delete static_cast<Step*>(step); }

// 0: done; 1: out of memory.
int everlong_forward(void* step, const Batch* batch) { return static_cast<Step*>(step)->run(*batch); }

// The routing index of a block; the model is routed.
//   before: blocks of the frames before that of the block; turns: as in a batch
void everlong_index(void* step, const bf16* block, int before, const float* turns,
                    uint8_t* codes) {
  static_cast<Step*>(step)->attention().index(block, before, turns, codes);
}

// Puts blocks [begin, end) of a sequence into its outline; see outline.h.
//   codes: addresses of the routing index of its blocks
void everlong_outline(void* step, const uint64_t* codes, int begin, int end, uint8_t* groups,
                      int64_t capacity) {
  static_cast<Step*>(step)->attention().router().write_outlines(codes, begin, end, groups,
                                                                capacity);
}

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
