"""Training data: token shards, and the streams of packed sequences that are read from them."""
