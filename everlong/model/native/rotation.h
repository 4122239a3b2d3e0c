// Heads turned by their positions (Su et al. 2021, section 3.4), in training.
#pragma once

#include "simd.h"

namespace everlong {

// x, y [heads][D]; rope: cosines [D / 2], then sines. `back` turns the other way.
template <int D, class From, class To>
void rotate(const From* x, const float* rope, To* y, int heads, bool back) {
  alignas(64) float cosine[D / 2], sine[D / 2];
  for (int d = 0; d < D / 2; ++d) {
    cosine[d] = rope[d];
    sine[d] = back ? -rope[D / 2 + d] : rope[D / 2 + d];
  }
  for (int head = 0; head < heads; ++head, x += D, y += D)
    for (int d = 0; d < D / 2; ++d) {
      const float a = as_float(x[d]), b = as_float(x[D / 2 + d]);
      assign(y[d], a * cosine[d] - b * sine[d]);
      assign(y[D / 2 + d], b * cosine[d] + a * sine[d]);
    }
}

}  // namespace everlong
