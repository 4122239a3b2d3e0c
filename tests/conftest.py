"""What every test has: a name that stays, and a place of its own for what is remembered."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def nobodys_memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Commands that are told no folder would write into the memory of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))
        yield


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes make no name: packed ones hold the time they were packed.

    Processes that share the tests must agree on what each is called.
    """
    return argname if isinstance(val, bytes) else None
