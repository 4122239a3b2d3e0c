"""Several processes find what one finds, and end with it."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from everlong.engine.config import EngineConfig
from everlong.errors import ConfigError, EngineStoppedError
from everlong.evaluation.data import Data
from everlong.evaluation.processes import Processes
from everlong.evaluation.runner import evaluate
from everlong.evaluation.task import Model
from everlong.evaluation.tasks.understanding import arc_easy, copa
from tests.checkpoint.samples import tiny_config, tiny_gguf

QUESTIONS = 11

pytestmark = pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return Model(
        str(tiny_gguf(tmp_path / "tiny.gguf", tiny_config())),
        "float32",
        EngineConfig(max_num_seqs=4, max_num_batched_tokens=64, kv_cache_memory=1 << 22),
    )


@pytest.fixture
def data(tmp_path: Path) -> Data:
    lines = [
        json.dumps({"query": f"Question {n}", "choices": ["fire", "ice"], "gold": n % 2})
        for n in range(QUESTIONS)
    ]
    (tmp_path / "lm_eval").mkdir()
    (tmp_path / "lm_eval/arc_easy.jsonl").write_text("\n".join(lines))
    return Data(tmp_path)


def test_they_find_what_one_finds(model: Model, data: Data, tmp_path: Path) -> None:
    before = os.sched_getaffinity(0)
    with Processes(model, 2) as several, model.load() as llm:
        assert len(os.sched_getaffinity(0)) < len(before)
        both = evaluate(llm, arc_easy.TASK, data, kept=tmp_path / "a", processes=several)
        with pytest.raises(ConfigError, match=r"copa\.jsonl"):
            evaluate(llm, copa.TASK, data, kept=tmp_path / "a", processes=several)
        again = evaluate(llm, arc_easy.TASK, data, kept=tmp_path / "b", processes=several)
    assert os.sched_getaffinity(0) == before
    with model.load() as llm:
        alone = evaluate(llm, arc_easy.TASK, data, kept=tmp_path / "c")
    for found in (both, again):
        assert found.answered == QUESTIONS
        assert [s.id for s in found.samples] == [str(n) for n in range(QUESTIONS)]
        for one, other in zip(found.samples, alone.samples, strict=True):
            assert one.record["logprobs"] == pytest.approx(other.record["logprobs"], abs=1e-3)


def test_a_process_that_dies_is_said_and_what_was_answered_is_kept(
    model: Model, data: Data, tmp_path: Path
) -> None:
    with Processes(model, 2) as several, model.load() as llm:
        ((process, _),) = several._others
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(EngineStoppedError, match="has died"):
            evaluate(llm, arc_easy.TASK, data, kept=tmp_path / "a", processes=several)
        rest = evaluate(llm, arc_easy.TASK, data, kept=tmp_path / "a")
    assert 0 < rest.answered <= QUESTIONS
    assert len(rest.samples) == QUESTIONS


def test_more_than_there_are_cores_is_refused(model: Model) -> None:
    with pytest.raises(ConfigError, match="processes is 10000; give from 1"):
        Processes(model, 10_000)
