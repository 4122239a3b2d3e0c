"""Many languages, a file for each set of data."""
