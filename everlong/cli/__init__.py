"""The command line."""

from everlong.cli.program import main

__all__ = ["main"]
