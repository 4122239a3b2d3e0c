"""Reasoning, a file for each set of data."""
