// What training computes natively: attention with narrow heads, forward and backward.
#include <omp.h>

#include "narrow_attention.h"

using namespace everlong;

namespace {

// `work` computes one item; each thread has memory of its own.
template <int D, class T, class Do>
void each_item(const PackedRows& rows, int threads, Do work) {
#pragma omp parallel num_threads(threads)
  {
    NarrowAttention<D, T> attention(rows);
#pragma omp for schedule(dynamic)
    for (int item = 0; item < attention.items(); ++item) work(attention, item, (T*)nullptr);
  }
}

// The same for a head size that is known only now; `work` is told the type of numbers, too.
template <class T, class Do>
void each_item(const PackedRows& rows, int threads, Do work) {
  switch (rows.head_dim) {
    case 4: return each_item<4, T>(rows, threads, work);
    case 8: return each_item<8, T>(rows, threads, work);
    default: return each_item<16, T>(rows, threads, work);
  }
}

template <class Do>
void compute(const PackedRows& rows, int threads, Do work) {
  rows.half ? each_item<bf16>(rows, threads, work) : each_item<float>(rows, threads, work);
}

}  // namespace

extern "C" {

// q, out [rows][heads][D]; k, v [rows][kv heads][D]; sums [rows][heads]; D is 4, 8 or 16.
void everlong_narrow_forward(const PackedRows* rows, const void* q, const void* k, const void* v,
                             void* out, float* sums, int threads) {
  compute(*rows, threads, [&](auto& attention, int item, auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    attention.forward(item, (const T*)q, (const T*)k, (const T*)v, (T*)out, sums);
  });
}

// of_q, of_k, of_v: gradients; of_out: that of the output.
void everlong_narrow_backward(const PackedRows* rows, const void* q, const void* k, const void* v,
                              const void* out, const float* sums, const void* of_out, void* of_q,
                              void* of_k, void* of_v, int threads) {
  compute(*rows, threads, [&](auto& attention, int item, auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    attention.backward(item, (const T*)q, (const T*)k, (const T*)v, (const T*)out, sums,
                       (const T*)of_out, (T*)of_q, (T*)of_k, (T*)of_v);
  });
}
}
