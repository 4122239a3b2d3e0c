"""What is remembered: blocks and texts as bytes and records, without knowledge of models."""
