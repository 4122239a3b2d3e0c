"""A cache of a test's own."""

from __future__ import annotations

from pathlib import Path

from everlong.files import cache_dir


def own_home(folder: Path) -> str:
    """Make a cache in which nothing is but the kernels that are built already.

    Processes that a test starts would build them anew, which takes most of a minute.

    Args:
        folder: of the test.

    Returns:
        What ``EVERLONG_HOME`` is to be.
    """
    home, built = folder / "home", cache_dir() / "native"
    home.mkdir(exist_ok=True)
    if built.is_dir() and not (home / "native").exists():
        (home / "native").symlink_to(built)
    return str(home)
