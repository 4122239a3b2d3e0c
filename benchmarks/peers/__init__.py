"""One file a contender: how it is loaded, run, and set at its best."""
