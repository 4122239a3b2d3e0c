"""Measured claims: one file a benchmark, each prints its claims as JSON."""
