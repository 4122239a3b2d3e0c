"""Commands that are told to whoever may want to give them."""

from __future__ import annotations

import shlex
from pathlib import Path


def command(name: str, of: Path, run: Path | None = None) -> str:
    """A command as a shell takes it.

    Args:
        name: such as ``everlong train``.
        of: its argument.
        run: its ``--run``; None: it has none.
    """
    return f"{name} {shlex.quote(str(of))}" + (
        "" if run is None else f" --run {shlex.quote(str(run))}"
    )
