"""Likelihood tasks: their data, how answers are judged, and whole runs."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from everlong.cli import main
from everlong.engine.request import TokenLogprob
from everlong.errors import ConfigError
from everlong.evaluation.runner import evaluate, judge, place_of, write_samples
from everlong.evaluation.statistics import bootstrap
from everlong.evaluation.task import Example, LikelihoodTask
from everlong.evaluation.tasks import understanding
from tests.engine.tiny import tiny_llm

BY_NAME = {task.name: task for task in understanding.TASKS}


def write(data: Path, name: str, lines: list[dict[str, Any]]) -> LikelihoodTask:
    task = BY_NAME[name]
    path = data / task.file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return task


QUESTION = {"query": "Question: what is warm?\n", "choices": ["ice", "the sun"], "gold": 1}


def test_prompts_of_each_form(tmp_path: Path) -> None:
    (example,) = write(tmp_path, "arc_easy", [QUESTION]).examples(tmp_path)
    context = "Question: what is warm?\nAnswer:"
    assert example == Example(((context, " ice"), (context, " the sun")), 1)
    line = {"context_options": ["Ann thanked Bo so Ann", "Ann thanked Bo so Bo"]}
    (example,) = write(
        tmp_path, "winogrande", [{**line, "continuation": "smiled.", "gold": 1}]
    ).examples(tmp_path)
    assert example.options[0] == ("Ann thanked Bo so Ann", " smiled.")
    (example,) = write(tmp_path, "lambada", [{"context": "a b", "continuation": "c"}]).examples(
        tmp_path
    )
    assert example == Example((("a b", " c"),), 0)


def test_packed_data_is_the_same(tmp_path: Path) -> None:
    task = write(tmp_path, "copa", [QUESTION, QUESTION])
    plain = task.examples(tmp_path)
    path = tmp_path / task.file
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    assert task.examples(tmp_path) == plain


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "which is not there; name the folder that has it with --data"),
        ("", "has no examples"),
        ("{", "line 1: not an example of copa"),
        ('{"query": "a"}', "line 1: not an example of copa"),
        ('{"query": "a", "choices": ["b"], "gold": 1}', "gold is 1, and there are 1 options"),
        ('{"query": "a", "choices": [""], "gold": 0}', "a continuation is empty"),
    ],
)
def test_data_that_cannot_be_used(tmp_path: Path, content: str | None, says: str) -> None:
    task = BY_NAME["copa"]
    if content is not None:
        (tmp_path / "lm_eval").mkdir()
        (tmp_path / task.file).write_text(content)
    with pytest.raises(ConfigError, match=says):
        task.examples(tmp_path)


def answer(*logprobs: float, likeliest: bool = False) -> tuple[TokenLogprob, ...]:
    return tuple(TokenLogprob(5, p, ((5 if likeliest else 6, -0.1),)) for p in logprobs)


def test_answers_are_judged_by_sum_and_by_length() -> None:
    example = Example((("q", " yes"), ("q", " no, never in my life")), 1)
    sample = judge(example, [answer(-2.0), answer(-1.0, -1.5)])
    assert (sample.chosen, sample.chosen_by_length) == (0, 1)
    assert sample.logprobs == (-2.0, -2.5)
    cloze = Example((("q", " word"),), 0)
    assert judge(cloze, [answer(-0.1, likeliest=True)]).chosen == 0
    assert judge(cloze, [answer(-0.1)]).chosen == -1


def test_places_of_continuations() -> None:
    with tiny_llm() as llm:
        tokenizer = llm.tokenizer
    ids, start = place_of(tokenizer, "one two", " three", 100)
    assert tokenizer.decode(ids[start:]) == " three"
    assert place_of(tokenizer, "one two ", "three", 100) == (ids, start)
    cut, later = place_of(tokenizer, "one two", " three", len(ids) - 1)
    assert (cut, later) == (ids[1:], start - 1)
    assert place_of(tokenizer, "one two", " three", 2)[1] == 1


def test_a_run_gives_the_model_s_own_likelihoods(tmp_path: Path) -> None:
    lines = [{**QUESTION, "query": f"Question {n}: what is warm?", "gold": n % 2} for n in range(9)]
    task = write(tmp_path, "arc_easy", lines)
    told: list[tuple[int, int]] = []
    with tiny_llm() as llm:
        result = evaluate(llm, task, tmp_path, limit=7, progress=lambda *at: told.append(at))
        for example, sample in zip(task.examples(tmp_path), result.samples, strict=False):
            for (context, text), logprob in zip(example.options, sample.logprobs, strict=True):
                ids, start = place_of(llm.tokenizer, context, text, llm.max_model_len)
                rows = llm.logits(ids)[start - 1 : -1, : llm.tokenizer.vocab_size].log_softmax(-1)
                expected = rows.gather(1, torch.tensor(ids[start:])[:, None]).sum().item()
                assert logprob == pytest.approx(expected, abs=0.2)
    assert told[-1] == (14, 14)
    assert result.accuracy.count == len(result.samples) == 7
    right = [s.chosen == s.gold for s in result.samples]
    assert result.accuracy.mean == pytest.approx(sum(right) / 7)
    assert result.accuracy.low <= result.accuracy.mean <= result.accuracy.high
    write_samples(result, tmp_path / "out" / "arc_easy.jsonl")
    written = (tmp_path / "out" / "arc_easy.jsonl").read_text().splitlines()
    assert [json.loads(line)["gold"] for line in written] == [n % 2 for n in range(7)]


def test_intervals_cover_what_they_should() -> None:
    """Of 200 samples of a coin of 0.3, some 95 % of the intervals hold 0.3."""
    generator = torch.Generator().manual_seed(0)
    held = 0
    for n in range(200):
        coin = (torch.rand(100, generator=generator) < 0.3).double().tolist()
        estimate = bootstrap(coin, seed=n)
        held += estimate.low <= 0.3 <= estimate.high
    assert 180 <= held <= 199
    assert bootstrap([1.0, 0.0, 1.0]) == bootstrap([1.0, 0.0, 1.0])


def test_the_command_refuses_what_is_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("everlong.cli._load", lambda *_: tiny_llm())
    asked = ["eval", "tiny", "--data", str(tmp_path)]
    assert main([*asked, "--tasks", "chess"]) == 2
    assert "'chess' is no task of understanding; allowed: boolq" in capsys.readouterr().err
    assert main([*asked, "--limit", "0"]) == 2
    assert "limit is 0" in capsys.readouterr().err
    write(tmp_path, "copa", [QUESTION])
    assert main([*asked, "--tasks", "copa", "--out", str(tmp_path / "out")]) == 0
    assert "copa" in capsys.readouterr().out
    assert (tmp_path / "out" / "copa.jsonl").exists()
