// Root-mean-square normalisation (Zhang and Sennrich 2019, equation 4), in training.
#pragma once

#include <cmath>

#include "simd.h"

namespace everlong {

// y = x r w with r = 1 / rms(x), which is returned.
inline float normalize(const float* x, const float* w, bf16* y, int size, float eps) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int i = 0; i < size; ++i) sum += x[i] * x[i];
  const float r = 1 / std::sqrt(sum / float(size) + eps);
  for (int i = 0; i < size; ++i) assign(y[i], x[i] * r * w[i]);
  return r;
}

// of_x is written, of_w added to.
inline void normalize_back(const float* x, const float* w, float r, const bf16* of_y, float* of_x,
                           float* of_w, int size) {
  float along = 0;
#pragma omp simd reduction(+ : along)
  for (int i = 0; i < size; ++i) along += as_float(of_y[i]) * w[i] * x[i];
  along *= r * r / float(size);
  for (int i = 0; i < size; ++i) {
    const float back = as_float(of_y[i]);
    of_x[i] = r * (back * w[i] - x[i] * along);
    of_w[i] += back * x[i] * r;
  }
}

}  // namespace everlong
