// What Python hands over: a model, and the tokens of a step. Twin of library.py.
#pragma once

#include "matrix.h"

namespace everlong {

// How blocks are chosen; twin of `Budget` in everlong/model/routing.py and of `Projection` in
// everlong/model/routing_index.py.
struct Routing {
  // What a key and a query become in the index, [layers][kv heads] each.
  const float* encoder;           // [D][kDirections]
  const float* offset;            // [kDirections], to be subtracted
  const float* decoder;           // [D][kDirections]
  const float* centre;            // [D]
  const float* worth;             // [kDirections]: what a code's step is worth in a score
  float share;                    // of the attention of a head that a piece has that a row reads
                                  // which is computed alone
  int32_t least, least_of_long, most;  // pieces that a row alone chooses
  int32_t prompt;                 // and rows together
  int32_t asked;                  // and those of a prompt's end
  int32_t first, last;            // blocks that are always read
  int32_t rows, queries;          // of so many neighbouring rows so many choose for all
  int32_t dense;                  // so many blocks are read without choosing
  int32_t flat;                   // of more blocks, only some are searched token by token:
  int32_t searched;               // so many
};

// What is kept of a long sequence to search it in two levels; twin of `Outline` in
// everlong/model/cache.py.
struct Outline {
  const uint8_t* groups;  // [layers][kv heads][capacity][kGroupBytes], see outline.h
  int64_t capacity;
  int32_t blocks;         // so many are outlined
  int32_t* lately;        // [layers][kv heads][kLately]: blocks that had attention lately, or -1
  float* shares;          // beside `lately`: how much, fading
};

struct Layer {
  Matrix query, key, value, output, gate, up, down;
  const float* attention_norm;  // [hidden]
  const float* mlp_norm;        // [hidden]
  const float* query_norm;      // [D] or null
  const float* key_norm;        // [D] or null
  int32_t window;               // tokens, 0: all
};

struct Model {
  const Layer* layers;
  Matrix embedding, head;
  const float* final_norm;  // [hidden]
  const Routing* routing;   // or null
  int32_t num_layers, hidden, intermediate, heads, kv_heads, head_dim;
  float eps;
};

struct Batch {
  int32_t rows;              // M
  const int32_t* tokens;     // [M]
  const float* rope;         // [M][D]: cosine [D/2], sine [D/2] at the row's position
  const int32_t* index;      // [M] place of the row among the tokens of its sequence
  const int32_t* visible;    // [M] number of tokens of its sequence that the row may see
  const int32_t* sequence;   // [M] rows of a sequence are neighbours
  const int64_t* first;      // [sequences] where its blocks begin in `blocks`
  const uint64_t* blocks;    // addresses
  const uint64_t* codes;     // beside `blocks`: addresses of their routing index, or null
  const Outline* outlines;   // [sequences]; without blocks where there is none
  const uint64_t* means;     // [sequences] addresses of the mean values of what is not read,
                             // [layers][kv heads][D], or 0
  int64_t* skipped;          // [sequences] pieces that were not read: summed over rows, layers and
                             // kv heads
  int32_t reach;             // blocks that lie farther back are read as if they lay nearer
  int32_t run;               // so many neighbouring ones are moved by whole multiples of it
  const float* turns;        // [*][D]: cosine [D/2], sine [D/2] of a move by so many blocks
  int32_t wanted_rows;
  const int32_t* wanted;     // rows whose logits are computed
  float* logits;             // [wanted_rows][vocabulary]
  float* states;             // [M][hidden] after the last norm, or null
  int32_t exact;             // a row's results do not depend on the rows beside it
};

}  // namespace everlong
