"""Going on after a restart, with a tiny model."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from benchmarks import memory_resume, resume_once
from benchmarks.memory_resume import Subject, measure
from everlong.files import cache_dir
from tests.checkpoint.samples import tiny_config, tiny_gguf
from tests.home import own_home

TOKENS = 192


@pytest.fixture
def subject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Subject:
    if (kernels := cache_dir() / "native").is_dir():  # compiling them takes a minute
        shutil.copytree(kernels, tmp_path / "home" / "native")
    monkeypatch.setenv("EVERLONG_HOME", own_home(tmp_path))
    path = tiny_gguf(tmp_path / "tiny.gguf", tiny_config(max_position=2048))
    # One process stands for all of them: each call loads and closes the model.
    monkeypatch.setattr(memory_resume, "_ask", lambda module, request: resume_once.main(**request))
    monkeypatch.setattr(memory_resume, "_TAILS", (0, 31, 63))
    monkeypatch.setattr(memory_resume, "_CONTINUED", 80)
    return Subject("tiny", path, "auto", TOKENS)


def test_a_session_goes_on_from_its_memory(subject: Subject, tmp_path: Path) -> None:
    claims, samples = measure(subject, tmp_path, 1, print)
    assert samples["identical"] is True
    assert set(claims) == set(memory_resume.CLAIMS)
    for claim in claims.values():
        assert claim.value is not None
        assert claim.value > 0
    assert [len(samples[kind][0]) for kind in ("prefill", "warm", "cold")] == [1, 3, 2]
    assert samples["prefill"][0][0]["found"] == 0
    for done in (samples["warm"][0], samples["cold"][0]):
        assert min(result["found"] for result in done) >= TOKENS - 64
    assert not (tmp_path / "memory").exists()


def test_another_continuation_is_no_figure(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def differs(module: str, request: dict[str, Any]) -> dict[str, Any]:
        answer = resume_once.main(**request)
        if request["deterministic"] and request["memory"]:
            answer["results"][0]["tokens"][-1] += 1
        return answer

    monkeypatch.setattr(memory_resume, "_ask", differs)
    claims, _ = measure(subject, tmp_path, 1, print)
    for claim in claims.values():
        assert claim.value is None
        assert "differs" in claim.detail
