"""Whatever call fails, and however: no crash, no wrong byte, and what was promised is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash import shim
from tests.crash.faults import faults

pytestmark = pytest.mark.skipif(bool(shim.missing()), reason=shim.missing())


def test_every_fault_is_survived(place: Path) -> None:
    outcome = faults(place, seed=1, first=41, step=400)
    assert not outcome.problems, "\n".join(outcome.problems)
    assert outcome.runs > 7
