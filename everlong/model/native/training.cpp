// What training computes natively, forward and backward: attention of packed sequences, rotations,
// norms, gates, cross-entropies.
#include <omp.h>

#include <memory>

#include "cross_entropy.h"
#include "gate.h"
#include "narrow_attention.h"
#include "normalization.h"
#include "packed_attention.h"
#include "rotation.h"

using namespace everlong;

namespace {

// `work` computes one item; each thread has memory of its own.
template <class Attention, class Do>
void each_item(const PackedRows& rows, int threads, Do work) {
#pragma omp parallel num_threads(threads)
  {
    auto attention = std::make_unique<Attention>(rows);
#pragma omp for schedule(dynamic)
    for (int item = 0; item < attention->items(); ++item) work(*attention, item);
  }
}

// Narrow heads of a size that is known only now; `work` is told the type of numbers, too.
template <class T, class Do>
void each_narrow(const PackedRows& rows, int threads, Do work) {
  const auto typed = [&](auto& attention, int item) { work(attention, item, (T*)nullptr); };
  switch (rows.head_dim) {
    case 4: return each_item<NarrowAttention<4, T>>(rows, threads, typed);
    case 8: return each_item<NarrowAttention<8, T>>(rows, threads, typed);
    default: return each_item<NarrowAttention<16, T>>(rows, threads, typed);
  }
}

template <class Do>
void each_narrow(const PackedRows& rows, int threads, Do work) {
  rows.half ? each_narrow<bf16>(rows, threads, work) : each_narrow<float>(rows, threads, work);
}

// Wide heads, whose numbers are bf16.
template <class Do>
void each_wide(const PackedRows& rows, int threads, Do work) {
  switch (rows.head_dim) {
    case 32: return each_item<PackedAttention<32>>(rows, threads, work);
    case 48: return each_item<PackedAttention<48>>(rows, threads, work);
    case 64: return each_item<PackedAttention<64>>(rows, threads, work);
    case 80: return each_item<PackedAttention<80>>(rows, threads, work);
    case 96: return each_item<PackedAttention<96>>(rows, threads, work);
    case 128: return each_item<PackedAttention<128>>(rows, threads, work);
    default: return each_item<PackedAttention<256>>(rows, threads, work);
  }
}

constexpr int kNarrow = 16;

// Gradients of a kv head from those of its query heads: [rows][heads][D] to [rows][kv heads][D].
void add_heads(const PackedRows& rows, const float* parts, bf16* to, int threads) {
  const int group = rows.heads / rows.kv_heads, size = rows.head_dim;
  const int64_t count = int64_t(rows.starts[rows.sequences]) * rows.kv_heads;
#pragma omp parallel for num_threads(threads)
  for (int64_t i = 0; i < count; ++i)
    for (int d = 0; d < size; d += 16) {
      __m512 sum = _mm512_setzero_ps();
      for (int head = 0; head < group; ++head)
        sum = _mm512_add_ps(sum, _mm512_loadu_ps(parts + (i * group + head) * size + d));
      _mm256_storeu_si256((__m256i*)(to + i * size + d), narrow(sum));
    }
}

template <class From, class To>
void rotate_rows(const void* x, const float* rope, void* y, int64_t rows, int heads, int size,
                 bool back, int threads) {
#pragma omp parallel for num_threads(threads)
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t at = row * heads * size;
    const auto* from = static_cast<const From*>(x) + at;
    auto* to = static_cast<To*>(y) + at;
    const float* turn = rope + row * size;
    switch (size) {
      case 4: rotate<4>(from, turn, to, heads, back); break;
      case 8: rotate<8>(from, turn, to, heads, back); break;
      case 16: rotate<16>(from, turn, to, heads, back); break;
      case 32: rotate<32>(from, turn, to, heads, back); break;
      case 48: rotate<48>(from, turn, to, heads, back); break;
      case 64: rotate<64>(from, turn, to, heads, back); break;
      case 80: rotate<80>(from, turn, to, heads, back); break;
      case 96: rotate<96>(from, turn, to, heads, back); break;
      case 128: rotate<128>(from, turn, to, heads, back); break;
      default: rotate<256>(from, turn, to, heads, back); break;
    }
  }
}

// `work` computes the numbers of a mask, from a place on.
template <class Do>
void each_sixteen(int64_t count, int threads, Do work) {
#pragma omp parallel for num_threads(threads)
  for (int64_t i = 0; i < count / 16; ++i) work(i * 16, __mmask16(0xffff));
  if (count % 16) work(count / 16 * 16, __mmask16((1u << count % 16) - 1));
}

constexpr int kRowsOfSum = 64;  // rows whose gradients of a norm's weight are one sum

}  // namespace

extern "C" {

// q, out [rows][heads][D]; k, v [rows][kv heads][D]; sums [rows][heads].
// D is 4, 8 or 16, or 32, 48, 64, 80, 96, 128 or 256 of bf16.
void everlong_attention_forward(const PackedRows* rows, const void* q, const void* k,
                                const void* v, void* out, float* sums, int threads) {
  if (rows->head_dim > kNarrow)
    return each_wide(*rows, threads, [&](auto& attention, int item) {
      attention.forward(item, (const bf16*)q, (const bf16*)k, (const bf16*)v, (bf16*)out, sums);
    });
  each_narrow(*rows, threads, [&](auto& attention, int item, auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    attention.forward(item, (const T*)q, (const T*)k, (const T*)v, (T*)out, sums);
  });
}

// of_q, of_k, of_v: gradients; of_out: that of the output.
void everlong_attention_backward(const PackedRows* rows, const void* q, const void* k,
                                 const void* v, const void* out, const float* sums,
                                 const void* of_out, void* of_q, void* of_k, void* of_v,
                                 int threads) {
  if (rows->head_dim > kNarrow) {
    const size_t size = size_t(rows->starts[rows->sequences]) * rows->heads * rows->head_dim;
    const std::unique_ptr<float[]> of_keys(new float[size]), of_values(new float[size]);
    each_wide(*rows, threads, [&](auto& attention, int item) {
      attention.backward(item, (const bf16*)q, (const bf16*)k, (const bf16*)v, (const bf16*)out,
                         sums, (const bf16*)of_out, (bf16*)of_q, of_keys.get(), of_values.get());
    });
    add_heads(*rows, of_keys.get(), (bf16*)of_k, threads);
    return add_heads(*rows, of_values.get(), (bf16*)of_v, threads);
  }
  each_narrow(*rows, threads, [&](auto& attention, int item, auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    attention.backward(item, (const T*)q, (const T*)k, (const T*)v, (const T*)out, sums,
                       (const T*)of_out, (T*)of_q, (T*)of_k, (T*)of_v);
  });
}

// x, y [rows][heads][D], one of them bf16, the other likewise or as `half` says; rope [rows][D].
// `back`: turned the other way, and x is what is bf16.
void everlong_rotate(const void* x, const float* rope, void* y, int64_t rows, int heads, int size,
                     int half, int back, int threads) {
  if (half)
    rotate_rows<bf16, bf16>(x, rope, y, rows, heads, size, back, threads);
  else if (back)
    rotate_rows<bf16, float>(x, rope, y, rows, heads, size, back, threads);
  else
    rotate_rows<float, bf16>(x, rope, y, rows, heads, size, back, threads);
}

// x [rows][size], w [size], y [rows][size]; factors [rows]: 1 / rms of each row.
void everlong_norm_forward(const float* x, const float* w, bf16* y, float* factors, int64_t rows,
                           int size, float eps, int threads) {
#pragma omp parallel for num_threads(threads)
  for (int64_t row = 0; row < rows; ++row)
    factors[row] = normalize(x + row * size, w, y + row * size, size, eps);
}

void everlong_norm_backward(const float* x, const float* w, const float* factors,
                            const bf16* of_y, float* of_x, float* of_w, int64_t rows, int size,
                            int threads) {
  const int64_t parts = (rows + kRowsOfSum - 1) / kRowsOfSum;
  std::vector<float> sums(parts * size, 0.0f);
#pragma omp parallel for num_threads(threads)
  for (int64_t part = 0; part < parts; ++part)
    for (int64_t row = part * kRowsOfSum; row < std::min(rows, (part + 1) * kRowsOfSum); ++row)
      normalize_back(x + row * size, w, factors[row], of_y + row * size, of_x + row * size,
                     &sums[part * size], size);
  std::fill_n(of_w, size, 0.0f);
  for (int64_t part = 0; part < parts; ++part)
    for (int i = 0; i < size; ++i) of_w[i] += sums[part * size + i];
}

void everlong_gate_forward(const bf16* gate, const bf16* up, bf16* out, int64_t count,
                           int threads) {
  each_sixteen(count, threads, [&](int64_t i, __mmask16 valid) {
    gate_forward(gate + i, up + i, out + i, valid);
  });
}

void everlong_gate_backward(const bf16* gate, const bf16* up, const bf16* of_out, bf16* of_gate,
                            bf16* of_up, int64_t count, int threads) {
  each_sixteen(count, threads, [&](int64_t i, __mmask16 valid) {
    gate_backward(gate + i, up + i, of_out + i, of_gate + i, of_up + i, valid);
  });
}

// logits [rows][size] become their gradients; losses [rows] in nats.
void everlong_cross_entropy(bf16* logits, const int64_t* targets, float* losses, int64_t rows,
                            int64_t size, int threads) {
#pragma omp parallel for num_threads(threads)
  for (int64_t row = 0; row < rows; ++row)
    losses[row] = cross_entropy(logits + row * size, size, targets[row]);
}
}
