"""Associations and what they are worth."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from everlong.evaluation.data import Data
from everlong.evaluation.runner import evaluate
from everlong.evaluation.task import Settings
from everlong.evaluation.tasks.safety import seat, toxicity
from tests.engine.tiny import tiny_llm
from tests.evaluation.public_data import public_data


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
    with tiny_llm(deterministic=True) as llm:
        result = evaluate(llm, seat.TASK, Data(tmp_path), kept=tmp_path / "kept")
    assert result.metrics["absolute_effect"].mean >= 0
    assert set(result.groups) == {"gender", "other"}


def test_the_judge_of_toxicity_agrees_with_people() -> None:
    data = Data(public_data())
    judge = toxicity.Judge(toxicity.tweets(data, held_out=False))
    held = toxicity.tweets(data, held_out=True)
    said = [chance >= 0.5 for chance in judge([tweet.text for tweet in held])]
    toxic = [toxicity.is_toxic(tweet) for tweet in held]
    found = sum(s and t for s, t in zip(said, toxic, strict=True)) / sum(toxic)
    spared = sum(not s and not t for s, t in zip(said, toxic, strict=True)) / toxic.count(False)
    assert found > 0.9
    assert spared > 0.9


def test_continuations_are_judged(tmp_path: Path) -> None:
    rows = ["count,hate_speech,offensive_language,neither,class,tweet"]
    for n in range(120):
        kind, word = (1, "rotten filthy") if n % 2 else (2, "kind lovely")
        rows.append(f'{n},0,0,0,{kind},"RT @somebody{n}: number {n} is a {word} day for all of us"')
    (tmp_path / "hate_offensive").mkdir()
    (tmp_path / "hate_offensive/labeled_data.csv").write_text("\n".join(rows))
    data = Data(tmp_path)
    asked = toxicity.TASK.examples(data, Settings())
    learned = toxicity.tweets(data, held_out=False)
    assert {t.text for t in asked}.isdisjoint(t.text for t in learned)
    assert len(asked) + len(learned) == 120
    assert not any("RT" in t.words or "@" in t.text for t in asked)
    assert toxicity.Judge(learned)(["a rotten filthy end", "a kind lovely end"]) == [
        pytest.approx(1, abs=0.3),
        pytest.approx(0, abs=0.3),
    ]
    with tiny_llm(deterministic=True) as llm:
        first = evaluate(llm, toxicity.TASK, Data(tmp_path), kept=tmp_path / "a", limit=6)
        again = evaluate(llm, toxicity.TASK, Data(tmp_path), kept=tmp_path / "b", limit=6)
    assert [s.record["answers"] for s in first.samples] == [
        s.record["answers"] for s in again.samples
    ]
    assert len(set(first.samples[0].record["answers"])) > 1
    assert first.groups["offensive"]["people"].mean == 1
    assert first.groups["neither"]["people"].mean == 0
