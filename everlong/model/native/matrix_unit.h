// Products of integers by a matrix unit (AMX): 16 rows times 16 outputs in one instruction.
//
// The codes of 16 outputs are brought into signed bytes, [K / 4][16][4], and serve all rows. Sums of
// a group are the same integers as in integer.h, and are scaled and added up in the same order: a
// result is equal, bit for bit, whichever of the two computes it.
#pragma once

#if defined(__AMX_INT8__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "integer.h"

namespace everlong {

enum class Unit : int { none, hardware, emulated };

inline Unit unit_in_use = Unit::none;

constexpr int kUnitRows = 16;  // with fewer, half of the unit would be idle

// The unit in plain C++, for tests on processors without one.
struct EmulatedUnit {
  static void begin(int) {}
  static void end() {}

  // out [16 rows][16 outputs] = products of 4 Quads inputs; `stride`: bytes from a row to the next.
  template <int Slot, int Quads>
  static void multiply(const int8_t* rows, int64_t stride, const int8_t* outputs, int32_t* out) {
    for (int r = 0; r < 16; ++r)
      for (int n = 0; n < 16; ++n) {
        int32_t sum = 0;
        for (int i = 0; i < 4 * Quads; ++i)
          sum += rows[r * stride + i] * outputs[(i / 4 * 16 + n) * 4 + i % 4];
        out[r * 16 + n] = sum;
      }
  }
};

#if defined(__AMX_INT8__)
struct HardwareUnit {
  // Linux hands the unit's registers out on request only.
  static bool allowed() {
    constexpr int kRequest = 0x1023, kTileData = 18;
    return syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
  }

  // Registers 0 and 1 hold sums, 2 and 3 rows, 4 and 5 outputs. Other libraries use them as well, so
  // every product states their shapes and gives them back.
  static void begin(int quads) {
    struct alignas(64) Shapes {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t row_bytes[16] = {};
      uint8_t rows[16] = {};
    } shapes;
    for (int i = 0; i < 2; ++i) {
      shapes.row_bytes[i] = 64, shapes.rows[i] = 16;
      shapes.row_bytes[2 + i] = uint16_t(quads * 4), shapes.rows[2 + i] = 16;
      shapes.row_bytes[4 + i] = 64, shapes.rows[4 + i] = uint8_t(quads);
    }
    _tile_loadconfig(&shapes);
  }
  static void end() { _tile_release(); }

  template <int Slot, int Quads>
  static void multiply(const int8_t* rows, int64_t stride, const int8_t* outputs, int32_t* out) {
    if constexpr (Slot == 0) {  // the intrinsics take nothing but literal numbers
      _tile_zero(0);
      _tile_loadd(2, rows, stride);
      _tile_loadd(4, outputs, 64);
      _tile_dpbssd(0, 2, 4);
      _tile_stored(0, out, 64);
    } else {
      _tile_zero(1);
      _tile_loadd(3, rows, stride);
      _tile_loadd(5, outputs, 64);
      _tile_dpbssd(1, 3, 5);
      _tile_stored(1, out, 64);
    }
  }
};
#endif

// Codes of 16 outputs as signed bytes.
inline void unpack_codes(const Matrix& w, int block, int8_t* out) {
  const int64_t size = int64_t(w.k) * 2 * w.bits;  // bytes
  const auto* codes = static_cast<const uint8_t*>(w.codes) + block * size;
  const __m512i low = _mm512_set1_epi8(15), middle = _mm512_set1_epi8(-128);
  for (int64_t i = 0; i < size; i += 64) {
    const __m512i v = _mm512_loadu_si512(codes + i);
    if (w.bits == 8) {
      _mm512_storeu_si512(out + i, _mm512_xor_si512(v, middle));
    } else {
      _mm512_storeu_si512(out + 2 * i, _mm512_and_si512(v, low));
      _mm512_storeu_si512(out + 2 * i + 64, _mm512_and_si512(_mm512_srli_epi16(v, 4), low));
    }
  }
}

// Two tiles of rows, which lie one after the other, times 16 outputs. The second may be missing.
//   codes: of the outputs, from `unpack_codes`; other arguments as in `integer_tile`
template <class Unit, int Parts>
void unit_tiles(const Matrix& w, int block, const int8_t* codes, const Rows& x, int tile, float* y,
                int64_t ldy, int count, bool add) {
  constexpr int kQuads = 8 / Parts;
  const int groups = w.k / 32, each = w.minimum ? 2 : Parts, steps = groups * Parts;
  const bool both = tile + 1 < x.tiles(), lowest = w.bits == 4 || w.minimum;
  const int64_t first = int64_t(tile) * groups * kTileRows;
  const int64_t second = both ? first + groups * kTileRows : first;
  const int8_t* rows = x.bytes + first * 32;
  alignas(64) int32_t dots[2][256];
  __m512 sum[16];
  for (auto& s : sum) s = _mm512_setzero_ps();

  auto multiply = [&](auto slot, int step) {
    Unit::template multiply<slot(), kQuads>(rows + step * (32 / Parts), w.k,
                                            codes + step * kQuads * 64, dots[slot()]);
  };
  auto add_up = [&](const int32_t* dot, int step) {
    const int g = step / Parts, part = step % Parts;
    __m512 scale = load_scales(w, (int64_t(block) * groups + g) * each * 16 + part * 16);
    auto at = [&](int r) { return (r < 8 ? first : second) + g * kTileRows + r % 8; };
#pragma GCC unroll 16
    for (int r = 0; r < 16; ++r)
      sum[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_load_si512(dot + r * 16)),
                               _mm512_mul_ps(_mm512_set1_ps(x.scales[at(r)]), scale), sum[r]);
    if (!lowest) return;
    scale = w.minimum ? load_scales(w, (int64_t(block) * groups + g) * 32 + 16)
                      : _mm512_mul_ps(scale, _mm512_set1_ps(-8.0f));
#pragma GCC unroll 16
    for (int r = 0; r < 16; ++r)
      sum[r] = _mm512_fmadd_ps(scale, _mm512_set1_ps(x.sums[at(r)]), sum[r]);
  };
  // The unit multiplies a group while the one before it is added up.
  constexpr std::integral_constant<int, 0> kEven;
  constexpr std::integral_constant<int, 1> kOdd;
  multiply(kEven, 0);
  for (int step = 0; step < steps; step += 2) {
    if (step + 1 < steps) multiply(kOdd, step + 1);
    add_up(dots[0], step);
    if (step + 2 < steps) multiply(kEven, step + 2);
    if (step + 1 < steps) add_up(dots[1], step + 1);
  }
  for (int half = 0; half < (both ? 2 : 1); ++half) {
    const Range own = x.tile(tile + half);
    for (int r = own.begin; r < own.end; ++r)
      store_outputs(w, block, sum[half * 8 + r - own.begin], y + r * ldy, count, add);
  }
}

template <class Unit, int Parts>
void unit_product(const Matrix& w, const Rows& x, float* y, int64_t ldy, Range n, bool add,
                  int8_t* codes) {
  Unit::begin(8 / Parts);
  for (int p = n.begin; p < n.end; p += 16) {
    unpack_codes(w, p / 16, codes);
    for (int t = 0; t < x.tiles(); t += 2)
      unit_tiles<Unit, Parts>(w, p / 16, codes, x, t, y + (p - n.begin), ldy,
                              std::min(16, n.end - p), add);
  }
  Unit::end();
}

// As `integer_linear`, for rows that have bytes.
//   codes: space for 16 K
inline void unit_linear(const Matrix& w, const Rows& x, float* y, int64_t ldy, Range n, bool add,
                        int8_t* codes) {
  auto product = [&](auto unit) {
    if (w.group == 16)
      unit_product<decltype(unit), 2>(w, x, y, ldy, n, add, codes);
    else
      unit_product<decltype(unit), 1>(w, x, y, ldy, n, add, codes);
  };
#if defined(__AMX_INT8__)
  if (unit_in_use == Unit::hardware) return product(HardwareUnit{});
#endif
  product(EmulatedUnit{});
}

}  // namespace everlong
