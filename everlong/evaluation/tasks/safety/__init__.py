"""Bias and harm, a file for each set of data."""
