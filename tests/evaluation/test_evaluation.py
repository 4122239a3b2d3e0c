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
from everlong.evaluation.data import Data
from everlong.evaluation.likelihood import Choice, LikelihoodTask, judge, place_of
from everlong.evaluation.runner import evaluate
from everlong.evaluation.samples import read_samples, write_samples
from everlong.evaluation.statistics import bootstrap
from everlong.evaluation.task import Settings
from everlong.evaluation.tasks.suites import SUITES
from tests.engine.tiny import tiny_llm

BY_NAME: dict[str, Any] = {task.name: task for task in SUITES["understanding"]}
FILES = {"lambada": "lm_eval/lambada_openai.jsonl"}


def write(data: Path, name: str, lines: list[dict[str, Any]]) -> LikelihoodTask:
    path = data / FILES.get(name, f"lm_eval/{name}.jsonl")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return BY_NAME[name]


def read(task: LikelihoodTask, folder: Path, shots: int | None = None) -> list[Choice]:
    return task.examples(Data(folder), Settings(shots))


QUESTION = {"query": "Question: what is warm?\n", "choices": ["ice", "the sun"], "gold": 1}


def test_prompts_of_each_form(tmp_path: Path) -> None:
    (example,) = read(write(tmp_path, "arc_easy", [QUESTION]), tmp_path)
    context = "Question: what is warm?\nAnswer:"
    assert example == Choice("0", "", ((context, " ice"), (context, " the sun")), 1)
    line = {"context_options": ["Ann thanked Bo so Ann", "Ann thanked Bo so Bo"]}
    task = write(tmp_path, "winogrande", [{**line, "continuation": "smiled.", "gold": 1}])
    (example,) = read(task, tmp_path)
    assert example.options[0] == ("Ann thanked Bo so Ann", " smiled.")
    (example,) = read(
        write(tmp_path, "lambada", [{"context": "a b", "continuation": "c"}]), tmp_path
    )
    assert example == Choice("0", "", (("a b", " c"),), 0)


def test_solved_examples_are_shown_and_not_asked(tmp_path: Path) -> None:
    lines = [{**QUESTION, "query": f"Question: {n}?"} for n in range(4)]
    task = write(tmp_path, "arc_easy", lines)
    asked = read(task, tmp_path, shots=2)
    assert [example.id for example in asked] == ["0", "1"]
    before = "Question: 3?\nAnswer: the sun\n\nQuestion: 2?\nAnswer: the sun\n\n"
    assert asked[0].options[0] == (before + "Question: 0?\nAnswer:", " ice")
    with pytest.raises(ConfigError, match="shots is 5, and there are 4 examples to show"):
        read(task, tmp_path, shots=5)


def test_packed_data_is_the_same(tmp_path: Path) -> None:
    task = write(tmp_path, "copa", [QUESTION, QUESTION])
    plain = read(task, tmp_path)
    path = tmp_path / "lm_eval/copa.jsonl"
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    assert read(task, tmp_path) == plain


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "which is not there; see --data"),
        ("", "has no rows"),
        ("{", "row 0: not what is expected"),
        ('{"query": "a"}', "row 1: not what is expected"),
        ('{"query": "a", "choices": ["b"], "gold": 1}', "gold is 1, and there are 1 options"),
        ('{"query": "a", "choices": [""], "gold": 0}', "a continuation is empty"),
    ],
)
def test_data_that_cannot_be_used(tmp_path: Path, content: str | None, says: str) -> None:
    if content is not None:
        (tmp_path / "lm_eval").mkdir()
        (tmp_path / "lm_eval/copa.jsonl").write_text(content)
    with pytest.raises(ConfigError, match=says):
        read(BY_NAME["copa"], tmp_path)


def answer(*logprobs: float, likeliest: bool = False) -> tuple[TokenLogprob, ...]:
    return tuple(TokenLogprob(5, p, ((5 if likeliest else 6, -0.1),)) for p in logprobs)


def test_answers_are_judged_by_sum_and_by_length() -> None:
    example = Choice("0", "", (("q", " yes"), ("q", " no, never in my life")), 1)
    sample = judge(example, [answer(-2.0), answer(-1.0, -1.5)])
    assert (sample.chosen, sample.by_length) == (0, 1)
    assert sample.sums == (-2.0, -2.5)
    cloze = Choice("0", "", (("q", " word"),), 0)
    assert judge(cloze, [answer(-0.1, likeliest=True)]).chosen == 0
    assert judge(cloze, [answer(-0.1)]).chosen == -1


def test_places_of_continuations() -> None:
    with tiny_llm(deterministic=True) as llm:
        tokenizer = llm.tokenizer
    ids, start = place_of(tokenizer, "one two", " three", 100)
    assert tokenizer.decode(ids[start:]) == " three"
    assert place_of(tokenizer, "one two ", "three", 100) == (ids, start)
    cut, later = place_of(tokenizer, "one two", " three", len(ids) - 1)
    assert (cut, later) == (ids[1:], start - 1)
    assert place_of(tokenizer, "one two", " three", 2)[1] == 1


def test_a_text_after_nothing_has_a_probability_for_every_token() -> None:
    with tiny_llm(deterministic=True) as llm:
        ids, start = place_of(llm.tokenizer, "", "words", 100)
        assert llm.tokenizer.decode(ids[start:]) == "words"


def test_a_run_gives_the_model_s_own_likelihoods(tmp_path: Path) -> None:
    lines = [{**QUESTION, "query": f"Question {n}: what is warm?", "gold": n % 2} for n in range(9)]
    task = write(tmp_path, "arc_easy", lines)
    told: list[tuple[str, int, int]] = []
    kept = tmp_path / "kept"
    with tiny_llm(deterministic=True) as llm:
        result = evaluate(
            llm, task, Data(tmp_path), limit=7, kept=kept, progress=lambda *at: told.append(at)
        )
        examples = {example.id: example for example in read(task, tmp_path)}
        for sample in result.samples:
            example = examples[sample.id]
            logprobs = sample.record["logprobs"]
            for (context, text), logprob in zip(example.options, logprobs, strict=True):
                ids, start = place_of(llm.tokenizer, context, text, llm.max_model_len)
                rows = llm.logits(ids)[start - 1 : -1, : llm.tokenizer.vocab_size].log_softmax(-1)
                expected = rows.gather(1, torch.tensor(ids[start:])[:, None]).sum().item()
                assert logprob == pytest.approx(expected, abs=0.2)
    assert (told[0], told[-1]) == (("arc_easy", 0, 7), ("arc_easy", 7, 7))
    accuracy = result.metrics["accuracy"]
    assert accuracy.count == len(result.samples) == 7
    right = [s.record["chosen"] == int(s.id) % 2 for s in result.samples]
    assert accuracy.mean == pytest.approx(sum(right) / 7)
    assert accuracy.low <= accuracy.mean <= accuracy.high
    write_samples(result.samples, tmp_path / "out.jsonl")
    assert [s.id for s in read_samples(tmp_path / "out.jsonl")] == [s.id for s in result.samples]


def test_a_broken_run_goes_on_where_it_was(tmp_path: Path) -> None:
    task = write(tmp_path, "arc_easy", [{**QUESTION, "query": f"{n}?"} for n in range(9)])
    kept = tmp_path / "kept"
    with tiny_llm(deterministic=True) as llm:
        whole = evaluate(llm, task, Data(tmp_path), kept=tmp_path / "other")
        first = evaluate(llm, task, Data(tmp_path), limit=3, kept=kept)
        (file,) = kept.rglob("*.jsonl")
        with file.open("a") as lines:
            lines.write('{"id": "3", "gro')  # the process was killed while it wrote
        second = evaluate(llm, task, Data(tmp_path), kept=kept)
        assert (first.answered, second.answered) == (3, 6)
        assert [s.scores for s in second.samples] == [s.scores for s in whole.samples]
        third = evaluate(llm, task, Data(tmp_path), kept=kept)
        assert third.answered == 0
        assert third.metrics == second.metrics
        # Other data, other settings: nothing is found.
        shown = evaluate(llm, task, Data(tmp_path), kept=kept, settings=Settings(shots=1))
        assert shown.answered == 8
        write(tmp_path, "arc_easy", [QUESTION])
        assert evaluate(llm, task, Data(tmp_path), kept=kept).answered == 1


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
    monkeypatch.setattr(
        "everlong.evaluation.task.load", lambda *_, **__: tiny_llm(deterministic=True)
    )
    asked = ["eval", "tiny", "--data", str(tmp_path)]
    monkeypatch.setenv("EVERLONG_HOME", str(tmp_path / "home"))
    assert main([*asked, "--tasks", "chess"]) == 2
    assert "'chess' is no task of understanding; allowed: boolq" in capsys.readouterr().err
    assert main([*asked, "--limit", "0"]) == 2
    assert "limit is 0" in capsys.readouterr().err
    write(tmp_path, "copa", [QUESTION])
    assert main([*asked, "--tasks", "copa", "--out", str(tmp_path / "out")]) == 0
    assert "copa" in capsys.readouterr().out
    assert (tmp_path / "out" / "samples" / "copa.jsonl").exists()
    assert main([*asked, "--tasks", "[copa, piqa]"]) == 0
    assert "not run: piqa: needs" in " ".join(capsys.readouterr().err.split())
