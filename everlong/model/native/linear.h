// y = x W^T + bias for weights of any form.
#pragma once

#include "bfloat16.h"
#include "matrix_unit.h"

namespace everlong {

// Values that `linear` needs as scratch space for M rows of at most K inputs.
//   plain: whether there are bf16 weights
inline size_t linear_scratch(bool plain, int m, int k) {
  const size_t codes = unit_in_use == Unit::none ? 0 : size_t(k) * 16 / sizeof(bf16);
  return std::max(plain ? bfloat16_scratch(m, k) : 0, codes);
}

// Outputs `n` of all rows.
//   y: output n.begin of the first row
//   n: begins at a multiple of 16
//   add: to what is in y, instead of overwriting it
//   scratch: `linear_scratch` values
//   exact: a row's result is the same, bit for bit, whatever M is (for integers it always is)
inline void linear(const Matrix& w, const Rows& x, float* y, int64_t ldy, Range n, bool add,
                   bf16* scratch, bool exact) {
  if (n.begin >= n.end) return;
  if (w.bits == 16)
    bfloat16_linear(w, x, y, ldy, n, add, scratch, exact);
  else if (x.bytes)
    unit_linear(w, x, y, ldy, n, add, reinterpret_cast<int8_t*>(scratch));
  else
    integer_linear(w, x, y, ldy, n, add);
}

// Outputs of thread `index`, in the widths that the products compute at once.
inline Range share_outputs(const Matrix& w, int index, int threads) {
  return share(w.n, w.n < 64 * threads ? 16 : 32, index, threads);
}

// Row n of the weights in float [K].
inline void weight_row(const Matrix& w, int64_t n, float* out) {
  if (w.bits < 16) return integer_row(w, n, out);
  const bf16* from = static_cast<const bf16*>(w.codes) + n * w.k;
  for (int64_t i = 0; i < w.k; i += 16)
    _mm512_storeu_ps(out + i, widen(_mm256_loadu_si256((const __m256i*)(from + i))));
}

}  // namespace everlong
