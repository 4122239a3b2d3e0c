// Heads turned by their positions (Su et al. 2021, section 3.4), in training.
#pragma once

#include "simd.h"

namespace everlong {

inline float as_float(float x) { return x; }
inline float as_float(bf16 x) {
  const uint32_t bits = uint32_t(x) << 16;
  float y;
  std::memcpy(&y, &bits, 4);
  return y;
}
inline void assign(float& to, float x) { to = x; }
inline void assign(bf16& to, float x) {  // to the nearest even
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  const uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  to = x == x ? bf16(rounded) : bf16(0x7fc0);
}

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
