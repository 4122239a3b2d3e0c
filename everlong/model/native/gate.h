// silu(gate) * up (Shazeer 2020), in training.
#pragma once

#include "simd.h"

namespace everlong {

// Sixteen numbers, or those of a mask.
struct Gated {
  __m512 gate, up, share;  // share: sigmoid(gate)

  Gated(const bf16* from_gate, const bf16* from_up, __mmask16 valid)
      : gate(widen(_mm256_maskz_loadu_epi16(valid, from_gate))),
        up(widen(_mm256_maskz_loadu_epi16(valid, from_up))) {
    const __m512 one = _mm512_set1_ps(1);
    share = exp2_16(_mm512_mul_ps(gate, _mm512_set1_ps(-kLog2E)));
    share = _mm512_div_ps(one, _mm512_add_ps(one, share));
  }
};

inline void gate_forward(const bf16* gate, const bf16* up, bf16* out, __mmask16 valid) {
  const Gated x(gate, up, valid);
  const __m512 y = _mm512_mul_ps(_mm512_mul_ps(x.gate, x.share), x.up);
  _mm256_mask_storeu_epi16(out, valid, narrow(y));
}

inline void gate_backward(const bf16* gate, const bf16* up, const bf16* of_out, bf16* of_gate,
                          bf16* of_up, __mmask16 valid) {
  const Gated x(gate, up, valid);
  const __m512 back = widen(_mm256_maskz_loadu_epi16(valid, of_out));
  const __m512 silu = _mm512_mul_ps(x.gate, x.share);
  // silu'(g) = s + g s (1 - s)
  const __m512 rest = _mm512_sub_ps(_mm512_set1_ps(1), x.share);
  const __m512 slope = _mm512_fmadd_ps(silu, rest, x.share);
  _mm256_mask_storeu_epi16(of_up, valid, narrow(_mm512_mul_ps(back, silu)));
  _mm256_mask_storeu_epi16(of_gate, valid,
                           narrow(_mm512_mul_ps(_mm512_mul_ps(back, x.up), slope)));
}

}  // namespace everlong
