"""Language understanding, a file for each set of data."""
