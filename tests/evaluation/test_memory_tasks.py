"""Texts with something hidden in them, and finding what answers a question."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from everlong.errors import ConfigError
from everlong.evaluation.data import Data
from everlong.evaluation.generation import Question
from everlong.evaluation.haystack import HaystackTask, Hidden, haystack, sentences
from everlong.evaluation.retrieval import Bm25, Document, Encoder
from everlong.evaluation.runner import evaluate
from everlong.evaluation.task import Settings
from everlong.evaluation.tasks.memory import babilong, locomo_answers, locomo_evidence, needles
from tests.engine.tiny import tiny_llm, tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "books").mkdir()
    draw = random.Random(0)
    words = ["river", "stone", "quiet", "lamp", "under", "winter", "letter", "garden"]
    text = " ".join(" ".join(draw.choices(words, k=9)).capitalize() + "." for _ in range(600))
    (tmp_path / "books" / "one.txt").write_text(text)
    return tmp_path


def test_the_text_has_its_length_and_the_sentences_in_order(folder: Path) -> None:
    books = sentences(Data(folder))
    hidden = ("First a.", "Then b.", "Last c.")
    text = haystack(books, hidden, tokenizer(), 2000, "seed")
    assert 1200 <= len(tokenizer().encode(text)) <= 2000
    places = [text.index(sentence) for sentence in hidden]
    assert places == sorted(places)
    assert haystack(books, hidden, tokenizer(), 2000, "seed") == text
    assert haystack(books, hidden, tokenizer(), 2000, "other") != text


def test_many_questions_read_one_text_once(folder: Path) -> None:
    def read(data: Data, seed: int) -> list[Hidden]:
        return [
            Hidden(str(n), "", "text", ("The key is 7.",), f"What is key {n}?", ("7",))
            for n in range(5)
        ]

    task = HaystackTask("little", 1, 900, read, lambda asked, text: 1.0, "Read.", 8)
    with tiny_llm() as llm:
        whole = evaluate(llm, task, Data(folder), kept=folder / "a")
        records = [sample.record for sample in whole.samples]
        assert all(r["prompt_tokens"] + 8 <= 900 for r in records)
        assert records[0]["cached_tokens"] == 0
        assert all(r["cached_tokens"] > 0.9 * r["prompt_tokens"] - 20 for r in records[1:])
        # A run that was broken off asks the rest about the same text.
        evaluate(llm, task, Data(folder), kept=folder / "b", limit=2)
        rest = evaluate(llm, task, Data(folder), kept=folder / "b")
        assert rest.answered == 3
        assert [s.record["prompt_tokens"] for s in rest.samples] == [
            r["prompt_tokens"] for r in records
        ]
    long = HaystackTask("long", 1, 4096, read, lambda asked, text: 1.0, "Read.", 8)
    with tiny_llm() as llm, pytest.raises(ConfigError, match="needs a window of 4,096 tokens"):
        evaluate(llm, long, Data(folder), kept=folder / "c")


def test_needles_are_all_in_the_text_and_listing_does_not_pay(folder: Path) -> None:
    examples = needles.TASKS[0].examples(Data(folder), Settings())
    assert {e.group for e in examples} == {
        "single",
        "several keys",
        "several values",
        "variables",
        "frequent words",
    }
    assert min(Counter(e.group for e in examples).values()) >= 100
    assert len({e.text for e in examples}) >= 8
    assert len({e.group for e in examples[:5]}) == 5
    for example in examples:
        every = " ".join(example.sentences)
        assert all(word in every for word in example.target)
        assert needles.judge(example, f" {', '.join(example.target)}.") == 1
        assert needles.judge(example, "") == 0
        assert needles.judge(example, every) < 0.5
    longer = needles.TASKS[4].examples(Data(folder), Settings())
    assert Counter(e.text for e in longer) == {f"needles 0.{n}": 65 for n in range(8)}
    chain = next(e for e in examples if e.group == "variables")
    every = " ".join(chain.sentences)
    places = [every.index(f"VAR {name} =") for name in chain.target]
    assert places == sorted(places), "a variable has a value before another gets it"
    other = needles.TASKS[0].examples(Data(folder), Settings(seed=1))
    assert other[0].target != examples[0].target


def test_stories_are_hidden_whole(folder: Path) -> None:
    (folder / "babi/en").mkdir(parents=True)
    story = "1 Ann went home.\n2 Where is Ann?\thome\t1\n3 Ann went out.\n4 Where is Ann?\tout\t3\n"
    second = "1 Bo is home.\n2 Where is Bo?\thome\t1\n"
    for number in range(1, 6):
        (folder / f"babi/en/qa{number}_x_test.txt").write_text(story + second)
    examples = babilong.TASKS[0].examples(Data(folder), Settings())
    assert [e.group for e in examples[:6]] == ["qa1", "qa2", "qa3", "qa4", "qa5", "qa1"]
    first = examples[0]
    assert (first.sentences, first.target) == (("Ann went home.", "Ann went out."), ("out",))
    assert first.allowed == ("home", "out")
    assert babilong.judge(first, " Out.") == 1
    assert babilong.judge(first, " home or out") == 0
    assert babilong.judge(first, " about") == 0


def talk(folder: Path) -> None:
    turns = [
        {"speaker": "Ann", "dia_id": "D1:1", "text": "I bought a red bicycle."},
        {"speaker": "Bo", "dia_id": "D1:2", "text": "Lovely weather, is it not?"},
        {"speaker": "Ann", "dia_id": "D1:3", "text": "My sister lives in Lisbon."},
    ]
    qa: list[dict[str, Any]] = [
        {"question": "What did Ann buy, a bicycle?", "evidence": ["D1:1"], "category": 4},
        {"question": 'Where does the "sister" live?', "evidence": ["D1:3; D9:9"], "category": 1},
        {"question": "Nothing?", "evidence": [], "category": 5},
    ]
    content = [{"sample_id": "c", "conversation": {"session_1": turns}, "qa": qa}]
    (folder / "locomo").mkdir()
    (folder / "locomo/locomo10.json").write_text(json.dumps(content))


def test_evidence_is_found_by_words(tmp_path: Path) -> None:
    talk(tmp_path)
    with tiny_llm() as llm:
        result = evaluate(llm, locomo_evidence.BY_WORDS, Data(tmp_path), kept=tmp_path / "kept")
        assert result.metrics["recall@1"].mean == 1
        assert set(result.groups) == {"single-hop", "multi-hop"}
        states = evaluate(llm, locomo_evidence.BY_STATES, Data(tmp_path), kept=tmp_path / "kept")
        assert states.metrics["recall@5"].mean == 1, "all three are among the first five"


def test_answers_are_compared_by_their_words(tmp_path: Path) -> None:
    def score(kind: str, answer: str, target: str) -> float:
        return locomo_answers.judge(Question("", kind, "", target), answer)["f1"]

    assert score("single-hop", " The red bicycle.\nQuestion:", "a red bicycle") == 1
    assert score("single-hop", "red", "red bicycle") == pytest.approx(2 / 3)
    assert score("single-hop", "", "red") == 0
    assert score("multi-hop", "Rome, Lisbon", "Lisbon, Oslo") == 0.5
    assert score("adversarial", "It is not mentioned.", "not mentioned") == 1
    assert score("adversarial", "red", "not mentioned") == 0
    talk(tmp_path)
    content = json.loads((tmp_path / "locomo/locomo10.json").read_text())
    for asked, answer in zip(content[0]["qa"], ("a bicycle", "Lisbon", None), strict=True):
        if answer:
            asked["answer"] = answer
    (tmp_path / "locomo/locomo10.json").write_text(json.dumps(content))
    examples = locomo_answers.TASK.examples(Data(tmp_path), Settings())
    assert [e.target for e in examples] == ["a bicycle", "Lisbon", "not mentioned"]
    assert "Ann (): My sister lives in Lisbon." in examples[1].prompt
    assert "weather" not in examples[1].prompt


def test_rankers_find_what_is_there() -> None:
    documents = [Document(str(n), f"word{n} and some text") for n in range(30)]
    with tiny_llm() as llm:
        words = Bm25(documents)
        assert words.search("where is word7?", 3)[0] == "7"
        assert words.search('"; drop table t --', 3) == []
        assert words.search("???", 3) == []
        assert len(words.search("some text", 40)) == 30
        states = Encoder(llm, documents)
        assert states.search(documents[4].text, 1) == ["4"]
