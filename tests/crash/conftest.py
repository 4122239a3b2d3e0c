"""Where crashes are tried: in memory, if the system has such a folder.

The power of this machine is not cut, and waiting for a disk would take longer than all the rest.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.crash.shim import FAST

_passed = pytest.StashKey[bool]()


@pytest.fixture
def place(request: pytest.FixtureRequest) -> Iterator[Path]:
    """An empty folder; it stays when the test fails, so that what failed can be seen again."""
    folder = Path(tempfile.mkdtemp(prefix="everlong-crash-", dir=FAST))
    yield folder
    if request.node.stash.get(_passed, False):
        shutil.rmtree(folder)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note whether a test passed."""
    report = yield
    if report.when == "call":
        item.stash[_passed] = report.passed
    return report
