"""Code, a file for each set of data; what a model writes runs in the sandbox only."""
