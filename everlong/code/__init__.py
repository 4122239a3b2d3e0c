"""Code that models write: run where it can do no harm."""
