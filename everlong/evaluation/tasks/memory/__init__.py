"""Memory: long texts and long conversations, a file for each set of data."""
