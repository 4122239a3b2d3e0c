"""Whenever the power is cut, what was promised is there, byte for byte."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.crash import shim
from tests.crash.life import LARGE, SMALL, Promise
from tests.crash.power import CutDisk
from tests.crash.power_cuts import power_cuts

pytestmark = pytest.mark.skipif(bool(shim.missing()), reason=shim.missing())


@pytest.mark.parametrize("size", [LARGE, SMALL])
def test_no_promise_is_lost_to_a_cut(place: Path, size: int) -> None:
    outcome = power_cuts(12, place, seed=1, recordings=2, steps=20, size=size)
    assert not outcome.problems, "\n".join(outcome.problems)
    assert outcome.runs == outcome.survived == 12


def test_the_log_has_everything_that_was_done(place: Path) -> None:
    root, log, image = place / "root", place / "log", place / "image"
    root.mkdir()
    image.mkdir()
    library = shim.compiled(place)
    given = json.dumps(Promise().as_json())
    done = shim.run(
        library, "tests.crash.recorded", *map(str, (root, log, SMALL, 3, 20)), given=given
    )
    assert done.returncode == 0, done.stderr
    disk = CutDisk(root)
    disk.apply_all(shim.read_log(log))
    disk.whole(image)
    # SQLite's -shm is a map that nothing durable is in.
    files = {p.relative_to(root) for p in root.rglob("*") if not p.name.endswith("-shm")}
    assert {p.relative_to(image) for p in image.rglob("*") if not p.name.endswith("-shm")} == files
    assert any(p.name.endswith("-wal") for p in files)
    for file in files:
        if (root / file).is_file():
            assert (image / file).read_bytes() == (root / file).read_bytes(), file
