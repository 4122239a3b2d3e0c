"""Every task reads the public data as it should, and chance scores chance."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from everlong.errors import ConfigError, MissingDataError
from everlong.evaluation.answers import first_line, last_number, normalised, number
from everlong.evaluation.data import Data
from everlong.evaluation.generation import Question
from everlong.evaluation.likelihood import Choice, Verdict
from everlong.evaluation.task import Example, Settings, fair_sample, spread, with_shots
from everlong.evaluation.tasks.reasoning import bbh, gsm8k
from everlong.evaluation.tasks.suites import SUITES
from tests.evaluation.public_data import public_data

TASKS: list[Any] = [task for tasks in SUITES.values() for task in tasks]
GROUPS = {"sib200": 205, "mgsm": 11, "emoji_names": 100, "babi": 20, "bbh": 27, "clutrr": 9}
"""How many parts a task has at least."""
LEAST = {"seat": 20}
"""Examples of tasks that have few."""
WITHOUT_DATA = ("facts_recall", "facts_recall_minilm", "facts_leak", "facts_forget")


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_public_data_is_read(task: Any) -> None:
    data = Data(public_data())
    try:
        examples = task.examples(data, Settings())
    except MissingDataError:
        assert task.name == "humaneval", "which is not among the public data"
        return
    assert len({example.id for example in examples}) == len(examples) >= LEAST.get(task.name, 30)
    groups = {example.group for example in examples}
    assert len(groups) >= GROUPS.get(task.name, 1)
    # A limit is a fair sample of the parts.
    if len(groups) > 1:
        first = Counter(e.group for e in task.sample(examples, 2 * len(groups)))
        assert len(first) >= 0.9 * len(groups)
    for example in examples[:50]:
        if isinstance(example, Question):
            assert example.prompt.strip()
            if example.target:  # some of MBXP's published solutions are empty
                assert example.target not in example.prompt[-len(example.target) - 1 :]
    if isinstance(examples[0], Choice):
        check_chance(task, examples)


def check_chance(task: Any, examples: list[Choice]) -> None:
    """A model that answers at random scores what the number of options says."""
    draw = random.Random(0)
    expected = sum(1 / len(e.options) for e in examples) / len(examples)
    scores = []
    for example in examples:
        chosen = draw.randrange(len(example.options))
        verdict = Verdict(tuple(0.0 for _ in example.options), chosen, chosen)
        scores.append(task.judge(example, verdict)[task.metrics[0]])
    if len(examples[0].options) > 1:
        assert abs(sum(scores) / len(scores) - expected) < 3.5 * (0.25 / len(scores)) ** 0.5


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_a_missing_set_is_said(task: Any, tmp_path: Path) -> None:
    if task.name in WITHOUT_DATA:
        assert task.examples(Data(tmp_path), Settings())
        return
    with pytest.raises(MissingDataError, match="see --data"):
        task.examples(Data(tmp_path), Settings())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("bbh/cot_prompts", "gsm8k"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


def test_bbh_shows_the_authors_prompt_without_its_warning(folder: Path) -> None:
    (folder / "bbh/sums.json").write_text('{"examples": [{"input": "1 + 1 =", "target": "2"}]}')
    (folder / "bbh/cot_prompts/sums.txt").write_text(
        "DO NOT TRAIN ON THIS\n-----\nAdd.\n\nQ: 1 + 2 =\nA: Let's think. So the answer is 3.\n"
    )
    (asked,) = bbh.TASK.examples(Data(folder), Settings())
    assert asked.prompt == (
        "Add.\n\nQ: 1 + 2 =\nA: Let's think. So the answer is 3.\n\n"
        "Q: 1 + 1 =\nA: Let's think step by step."
    )
    assert bbh.TASK.judge(asked, " 1 and 1. So the answer is 2.") == {"accuracy": 1.0}
    assert bbh.TASK.judge(asked, " The answer is (2)\n") == {"accuracy": 1.0}
    assert bbh.TASK.judge(asked, " So the answer is 3 or 2.") == {"accuracy": 0.0}
    assert bbh.TASK.judge(asked, "2") == {"accuracy": 0.0}


def test_gsm8k_reads_the_number(folder: Path) -> None:
    (folder / "gsm8k/test.jsonl").write_text('{"question": "q", "answer": "6*300\\n#### 1,800"}\n')
    (folder / "gsm8k/train.jsonl").write_text('{"question": "a", "answer": "1\\n#### 1"}\n' * 6)
    (asked,) = gsm8k.TASK.examples(Data(folder), Settings())
    assert asked.prompt.count("Question: a\nAnswer: 1\n#### 1\n\n") == 5
    assert gsm8k.judge(asked, "so\n#### 1800.00") == {"strict_match": 1, "flexible_extract": 1}
    assert gsm8k.judge(asked, "it is $1,800.") == {"strict_match": 0, "flexible_extract": 1}
    assert gsm8k.judge(asked, "#### 18") == {"strict_match": 0, "flexible_extract": 0}
    (folder / "gsm8k/test.jsonl").write_text('{"question": "q", "answer": "none"}\n')
    with pytest.raises(ConfigError, match=r"row 1: .*no number after ####"):
        gsm8k.TASK.examples(Data(folder), Settings())


def test_numbers_are_read_in_every_script() -> None:
    assert number("১,২৫০") == "1250"
    assert number("-3.50") == "-3.5"
    assert number("three") is None
    assert last_number("๑๒ แล้ว ๔๕") == "45"
    assert last_number("first 12,000 then 7.0 apples") == "7"
    assert last_number("nothing") is None
    assert normalised(' The  "Kitchen". ') == 'the "kitchen'
    assert first_line("\n one \n two") == "one "


def test_shots_come_from_the_same_part() -> None:
    asked = [Question(f"{g}{n}", g, f"{g}{n}?", "yes") for g in "ab" for n in range(3)]
    shown = with_shots(asked, None, 1)
    assert [(q.id, before) for q, before in shown] == [
        ("a0", "a2? yes\n\n"),
        ("a1", "a2? yes\n\n"),
        ("b0", "b2? yes\n\n"),
        ("b1", "b2? yes\n\n"),
    ]
    train = [Question("t", "c", "t?", "no"), Question("u", "a", "u?", "no")]
    assert [before for _, before in with_shots(asked, train, 1)] == ["u? no\n\n"] * 3 + [
        "t? no\n\n"
    ] * 3
    with pytest.raises(ConfigError, match="shots is 2, and there are 1 examples to show"):
        with_shots(asked, train, 2)


def test_a_sample_of_what_is_sorted_by_the_answer_has_every_answer() -> None:
    # The parts a and b, each sorted by what is right, as SIB-200 is published.
    examples = [
        Example(f"{part}{right}{n}", part) for part in "ab" for right in "xyz" for n in range(40)
    ]
    chosen = fair_sample(examples, 60)
    counts = Counter(e.id[:2] for e in chosen)
    assert len(chosen) == 60
    assert all(counts[f"{part}{right}"] >= 4 for part in "ab" for right in "xyz")
    assert sum(counts[f"a{right}"] for right in "xyz") == 30
    assert [e.id for e in chosen] == [e.id for e in examples if e in chosen]
    assert fair_sample(examples, 1000) == examples


def test_examples_are_spread_over_their_parts() -> None:
    examples = [Example(f"{g}{n}", g) for g in "abc" for n in range(2)]
    assert [e.id for e in spread(examples)] == ["a0", "b0", "c0", "a1", "b1", "c1"]


def test_every_task_is_in_the_documentation() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "evaluation.md").read_text("utf-8")
    missing = [task.name for task in TASKS if f"`{task.name}`" not in page]
    assert not missing
