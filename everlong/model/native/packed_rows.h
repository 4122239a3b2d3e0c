// Which rows of packed sequences see which.
#pragma once

#include <cstdint>

namespace everlong {

// The rows of all sequences, one after the other.
struct PackedRows {
  const int32_t* starts;  // [sequences + 1]: first row of each, and the number of rows
  const int32_t* first;   // [rows]: first row that each row sees
  const int32_t* last;    // [rows]: the row behind the last that it sees
  int32_t sequences, heads, kv_heads, head_dim;
  int32_t half;  // whether q, k, v and their gradients are bf16, else float
};

}  // namespace everlong
