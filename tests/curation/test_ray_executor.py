"""Curation on Ray: the same bytes, and documents that kill processes are found there, too."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from everlong.curation.lock import outputs_of
from everlong.curation.pipeline import INCIDENTS, Pipeline
from everlong.curation.ray_executor import RayExecutor
from everlong.curation.workers import LocalExecutor, WorkerLimits
from tests.curation.steps import Same, Short, Terrible
from tests.curation.test_pipeline import recipe, terrible

pytest.importorskip("ray")


@pytest.mark.filterwarnings("default")  # a library's own
def test_the_same_bytes_on_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    terrible(tmp_path, "good", "crash")
    steps = (Terrible(), Short(), Same())
    limits = WorkerLimits(seconds=20)
    given = replace(recipe(tmp_path, *steps, run="here"), task_bytes=2_000)
    here = Pipeline(given, LocalExecutor(2, limits)).run()
    there = Pipeline(replace(given, run=tmp_path / "there"), RayExecutor(2, limits)).run()
    assert there == here
    assert outputs_of(tmp_path / "there") == outputs_of(tmp_path / "here") != {}
    assert "010.txt" in (tmp_path / "there" / INCIDENTS).read_text()
    assert os.environ.get("RAY_ADDRESS") is None
