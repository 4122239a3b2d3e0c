// What training computes natively: attention with narrow heads, forward and backward.
#include <omp.h>

#include "narrow_attention.h"

using namespace everlong;

namespace {

template <class Do>
void each_size(int head_dim, Do work) {
  switch (head_dim) {
    case 4: return work(std::integral_constant<int, 4>());
    case 8: return work(std::integral_constant<int, 8>());
    default: return work(std::integral_constant<int, 16>());
  }
}

// `work` computes one item; each thread has memory of its own.
template <int D, class T, class Do>
void each_item(const PackedRows& rows, int threads, Do work) {
#pragma omp parallel num_threads(threads)
  {
    NarrowAttention<D, T> attention(rows);
#pragma omp for schedule(dynamic)
    for (int item = 0; item < attention.items(); ++item) work(attention, item);
  }
}

}  // namespace

extern "C" {

// q, out [rows][heads][D]; k, v [rows][kv heads][D]; sums [rows][heads]; D is 4, 8 or 16.
void everlong_narrow_forward(const PackedRows* rows, const void* q, const void* k, const void* v,
                             void* out, float* sums, int threads) {
  each_size(rows->head_dim, [&](auto size) {
    auto run = [&](auto* type) {
      using T = std::remove_pointer_t<decltype(type)>;
      each_item<size, T>(*rows, threads, [&](auto& attention, int item) {
        attention.forward(item, (const T*)q, (const T*)k, (const T*)v, (T*)out, sums);
      });
    };
    rows->half ? run((bf16*)nullptr) : run((float*)nullptr);
  });
}

// of_q, of_k, of_v: gradients; of_out: that of the output.
void everlong_narrow_backward(const PackedRows* rows, const void* q, const void* k, const void* v,
                              const void* out, const float* sums, const void* of_out, void* of_q,
                              void* of_k, void* of_v, int threads) {
  each_size(rows->head_dim, [&](auto size) {
    auto run = [&](auto* type) {
      using T = std::remove_pointer_t<decltype(type)>;
      each_item<size, T>(*rows, threads, [&](auto& attention, int item) {
        attention.backward(item, (const T*)q, (const T*)k, (const T*)v, (const T*)out, sums,
                           (const T*)of_out, (T*)of_q, (T*)of_k, (T*)of_v);
      });
    };
    rows->half ? run((bf16*)nullptr) : run((float*)nullptr);
  });
}
}
