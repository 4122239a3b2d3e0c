"""Associations and what they are worth."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from everlong.evaluation.data import Data
from everlong.evaluation.runner import evaluate
from everlong.evaluation.task import Settings
from everlong.evaluation.tasks.safety import seat
from tests.engine.tiny import tiny_llm


def test_the_effect_is_that_of_the_definition() -> None:
    scores = torch.tensor([1.0, 2.0, 3.0, -1.0, -2.0, -3.0], dtype=torch.float64)
    assert seat.effect_size(scores, 3) == pytest.approx(4 / 2.366431913)  # deviation of n - 1
    assert seat.effect_size(torch.zeros(6), 3) == 0
    # 2 of the 20 divisions are as far apart as this one.
    assert seat.p_value(scores, 3, 0) == pytest.approx(0.1, abs=0.01)
    x, y = torch.eye(4)[:2], torch.eye(4)[2:]
    near = seat.association([x, y], [x, y])
    assert near.tolist() == [0.5, 0.5, -0.5, -0.5]


def test_states_at_random_have_no_association() -> None:
    draw = torch.Generator().manual_seed(0)
    found = []
    for n in range(50):
        vectors = torch.nn.functional.normalize(torch.randn(64, 32, generator=draw), dim=1)
        x, y, a, b = vectors.split(16)
        found.append(seat.p_value(seat.association([x, y], [a, b]), 16, n))
    assert 0.3 < sum(found) / len(found) < 0.7
    assert sum(p < 0.01 for p in found) <= 3


def test_tests_are_read_and_run(tmp_path: Path) -> None:
    sets = {
        key: {"category": key, "examples": [f"{key} {n} is here." for n in range(4)]}
        for key in ("targ1", "targ2", "attr1", "attr2")
    }
    (tmp_path / "seat").mkdir()
    for name in ("sent-weat6", "sent-weat1"):
        (tmp_path / f"seat/{name}.jsonl").write_text(json.dumps(sets, indent=1))
    examples = seat.TASK.examples(Data(tmp_path), Settings())
    assert {e.id: e.group for e in examples} == {"sent-weat1": "other", "sent-weat6": "gender"}
    with tiny_llm() as llm:
        result = evaluate(llm, seat.TASK, tmp_path, kept=tmp_path / "kept")
    assert result.metrics["absolute_effect"].mean >= 0
    assert set(result.groups) == {"gender", "other"}
