// The first level of the search far back: what eight blocks are about; twin of
// everlong/model/outline.py.
//
// Of each half of a block an outline keeps the mean of its 32 tokens' codes and how much they
// spread. A half is worth looking at token by token where a query's score of the mean, and of as
// much more as the spread makes likely for the best of its tokens, is high.
#pragma once

#include "batch.h"
#include "routing_index.h"

namespace everlong {

constexpr int kOutlined = 8;  // blocks in a group
constexpr int kHalves = 2;
constexpr int kMeansBytes = kOutlined * kHalves * kDirections / 2;
// Of a group: the means as in the index, first halves before second ones; then the spreads.
constexpr int kGroupBytes = kMeansBytes + kOutlined * kHalves * int(sizeof(float));

constexpr int kLately = 128;  // blocks that are kept because they had attention

// The best of 32 tokens lies so many standard deviations above their mean, as measured.
constexpr float kBestAbove = 3;

// Puts a full block in its group.
//   codes: of the block, a layer and kv head; worth: [kDirections]
inline void write_outline(const uint8_t* codes, const float* worth, int number, uint8_t* group) {
  uint8_t code[kBlock][kDirections];
  for (int token = 0; token < kBlock; ++token) {
    const uint8_t* in = codes + token % kPiece * 256 + token / kPiece * 4;
    for (int g = 0; g < 4; ++g)
      for (int j = 0; j < 4; ++j) {
        code[token][8 * g + j] = in[64 * g + j] & 15;
        code[token][8 * g + 4 + j] = in[64 * g + j] >> 4;
      }
  }
  constexpr int kTokens = kBlock / kHalves;
  for (int half = 0; half < kHalves; ++half) {
    int sum[kDirections] = {}, squares[kDirections] = {};
    for (int token = half * kTokens; token < (half + 1) * kTokens; ++token)
      for (int r = 0; r < kDirections; ++r) {
        sum[r] += code[token][r];
        squares[r] += code[token][r] * code[token][r];
      }
    float spread = 0;
    uint8_t mean[kDirections];
    for (int r = 0; r < kDirections; ++r) {
      mean[r] = uint8_t((2 * sum[r] + kTokens) / (2 * kTokens));
      const float exact = float(sum[r]) / kTokens;
      spread += (float(squares[r]) / kTokens - exact * exact) * worth[r] * worth[r];
    }
    const int lane = half * kOutlined + number % kOutlined;
    store_codes(mean, lane, group);
    spread = kBestAbove * std::sqrt(std::max(0.0f, spread));
    std::memcpy(group + kMeansBytes + 4 * lane, &spread, 4);
  }
}

// Estimated attention of the best tokens of each half of a group's blocks.
inline __m512 scan_group(const Sixteen& means, const uint8_t* group, const Asked& q) {
  const __m512 spread = _mm512_loadu_ps(group + kMeansBytes);
  return attention(means.times(q), q,
                   _mm512_fmadd_ps(spread, _mm512_set1_ps(q.norm), _mm512_set1_ps(q.offset)));
}

// Which of the numbers from `at` on are above a bar; behind all of them there is room for 16.
inline unsigned above(const float* values, int at, int size, float bar) {
  const __mmask16 there = __mmask16(size - at < 16 ? (1u << (size - at)) - 1 : 0xffff);
  return _mm512_mask_cmp_ps_mask(there, _mm512_loadu_ps(values + at), _mm512_set1_ps(bar),
                                 _CMP_GT_OQ);
}

template <class Do>
void each_above(const float* values, int size, float bar, Do take) {
  for (int at = 0; at < size; at += 16)
    for (unsigned found = above(values, at, size, bar); found; found &= found - 1)
      take(at + __builtin_ctz(found));
}

// Above which value `count` of some numbers are, or a few more; none is negative but those that are
// not meant.
inline float bar_of(const float* values, int size, int count) {
  // Numbers that are not negative have the order of their bits.
  uint32_t low = 0, high = 0x7f800000;
  float bar = 0;
  while (high - low > 1) {
    const uint32_t middle = low + (high - low) / 2;
    std::memcpy(&bar, &middle, 4);
    int found = 0;
    for (int at = 0; at < size; at += 16) found += __builtin_popcount(above(values, at, size, bar));
    if (found >= count && found <= count + count / 16) return bar;
    (found < count ? high : low) = middle;
  }
  std::memcpy(&bar, &high, 4);  // ties: rather too few than too many
  return bar;
}

}  // namespace everlong
