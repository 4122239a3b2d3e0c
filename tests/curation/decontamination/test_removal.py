from __future__ import annotations

import gzip
import json
import pickle
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from everlong.config import format_config, parse_config
from everlong.curation.decontamination import index
from everlong.curation.decontamination.evaluation_texts import Item
from everlong.curation.decontamination.index import (
    ContaminationIndex,
    Sets,
    build,
    names_of,
    opened,
)
from everlong.curation.decontamination.removal import Decontamination, _opened
from everlong.curation.decontamination.word_ngrams import words_of
from everlong.curation.document import Document, Dropped
from everlong.curation.step import CorpusStep, Hashes, Sketches
from everlong.errors import ConfigError, MissingDataError
from tests.evaluation.public_data import public_data

LONG = (
    "A train leaves the harbour at nine with forty passengers, and at each of the seven stops "
    "three of them get off while five new ones get on; how many are there at the end?"
)
SHORT = "Which of the four moons is the largest?"
LEAKED = (
    "Every morning the keeper of the lighthouse counts the gulls on the rail, writes their number "
    "into a book, and multiplies it by the number of ships that passed during the night before. "
)
WORDS = [f"filler{n}" for n in range(300)]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EVERLONG_HOME", str(tmp_path / "home"))
    _opened.cache_clear()
    return tmp_path / "home"


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    path = tmp_path / "test.jsonl"
    path.write_text("".join(json.dumps({"q": q}) + "\n" for q in (LONG, SHORT, LEAKED, "Why?")))
    return path


def filler(letters: int, seed: int = 0) -> str:
    drawn = random.Random(seed)
    text = ""
    while len(text) < letters:
        text += drawn.choice(WORDS) + " "
    return text.strip()


def decided(
    step: Decontamination, texts: Sequence[str], folder: Path, kept: Sequence[bool] = ()
) -> list[tuple[Document, Dropped | None, Hashes]]:
    """What becomes of some texts."""
    documents = [Document(str(n), text, "source") for n, text in enumerate(texts)]
    sketches = [step.sketch(document) for document in documents]
    path = folder / "sketches"
    np.concatenate(sketches).astype("<u8").tofile(path)
    starts = np.concatenate(([0], np.cumsum([len(one) for one in sketches]))).astype(np.int64)
    mask = np.array(kept if len(kept) else [True] * len(texts))
    findings = step.decide(Sketches(path, starts), mask, folder, ())
    ends = []
    for number, document in enumerate(documents):
        found, other = findings.of(number)
        assert other is None
        why = step.apply(document, found, None) if len(found) else None
        ends.append((document, why, found))
    return ends


@pytest.mark.parametrize(
    "copy",
    [
        LONG,
        LONG.upper().replace(",", ""),
        LONG.replace(" ", "\n  ").replace(";", " --"),
        LONG.replace("e", "é"),
        " ".join(LONG.split()[3:20]),
        SHORT,
        "which of the FOUR moons, is the largest",
    ],
)
def test_copies_are_found(sets: Path, tmp_path: Path, copy: str) -> None:
    step = Decontamination(files=(sets,), action="drop")
    clean, dirty = filler(2000), f"{filler(900, 1)} {copy} {filler(900, 2)}"
    (_, none, nothing), (_, why, _) = decided(step, [clean, dirty], tmp_path)
    assert none is None
    assert len(nothing) == 0
    assert why is not None
    assert why.rule == "contaminated"
    assert "test.jsonl " in why.detail


@pytest.mark.parametrize(
    "text",
    [
        " ".join(LONG.split()[:12]),
        " ".join(SHORT.split()[:-1]),
        " ".join(LONG.split()[:12]) + " other " + " ".join(LONG.split()[12:24]),
        "Why?",
        "",
    ],
)
def test_less_is_no_copy(sets: Path, tmp_path: Path, text: str) -> None:
    step = Decontamination(files=(sets,), action="drop")
    assert decided(step, [f"x {text} y"], tmp_path)[0][1] is None


def test_what_is_around_is_cut(sets: Path, tmp_path: Path) -> None:
    before, behind = filler(2000, 1), filler(2000, 2)
    step = Decontamination(files=(sets,))
    document, why, _ = decided(step, [f"{before} {LONG} {behind}"], tmp_path)[0]
    assert why is None
    first, second = document.text.split("\n\n")
    assert before.startswith(first)
    assert 0 <= len(before) - len(first) - 200 <= 20
    assert behind.endswith(second)
    assert {*first.split(), *second.split()} <= {*WORDS}, "no word is cut"
    assert [(one.rule, one.count) for one in document.history] == [("cut", 1)]
    assert document.metadata["contamination"] == "test.jsonl 1: 100% of the first"
    # What is left is clean, so a second time changes nothing.
    assert len(step.sketch(document)) == 0


def test_pieces_that_are_too_short_go(sets: Path, tmp_path: Path) -> None:
    step = Decontamination(files=(sets,))
    one = f"{filler(380)} {LONG} {filler(2000)}"
    nothing = f"{filler(380)} {LONG} {filler(300)}"
    (document, kept, _), (_, why, _) = decided(step, [one, nothing], tmp_path)
    assert kept is None
    assert "\n\n" not in document.text
    assert why is not None
    assert why.rule == "contaminated"
    assert "nothing else is left" in why.detail


def test_documents_in_many_pieces_go(sets: Path, tmp_path: Path) -> None:
    text = f" {LONG} ".join(filler(1000, n) for n in range(11))
    why = decided(Decontamination(files=(sets,)), [text], tmp_path)[0][1]
    assert why is not None
    assert why.rule == "pieces"
    assert "11 pieces, at most 10" in why.detail
    more = Decontamination(files=(sets,), most_pieces=11)
    document, none, _ = decided(more, [text], tmp_path)[0]
    assert none is None
    assert document.history[0].count == 10


def test_scripts_without_spaces_are_cut_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "zh.txt"
    item = "火车九点离开港口时有四十名乘客每站下三人上五人问终点站有多少人"
    path.write_text(item)
    step = Decontamination(files=(path,))
    text = "山" * 500 + item + "水" * 500
    document, why, _ = decided(step, [text], tmp_path)[0]
    assert why is None
    assert document.text == "山" * 300 + "\n\n" + "水" * 300


def test_common_phrases_stay(sets: Path, tmp_path: Path) -> None:
    phrase = " ".join(LONG.split()[3:18])
    step = Decontamination(files=(sets,), action="drop", most_documents=3)
    texts = [f"{filler(300, n)} {phrase}" for n in range(4)]
    assert [why is None for _, why, _ in decided(step, texts, tmp_path)] == [True] * 4
    assert [why is None for _, why, _ in decided(step, texts[:3], tmp_path)] == [False] * 3
    # What a step before has dropped is as if it were not there.
    kept = [True, True, True, False]
    assert [why is None for _, why, _ in decided(step, texts, tmp_path, kept)] == [False] * 3 + [
        True
    ]
    # Often in one document is not in many.
    assert decided(step, [f" {filler(50)} {phrase} ".join("abcdefg")], tmp_path)[0][1] is not None


def test_whole_items_are_no_phrases(sets: Path, tmp_path: Path) -> None:
    step = Decontamination(files=(sets,), action="drop", most_documents=3)
    texts = [f"{filler(300, n)} {LEAKED}" for n in range(6)]
    assert [why is None for _, why, _ in decided(step, texts, tmp_path)] == [False] * 6
    # A short one is: it may be a question that everyone asks.
    texts = [f"{filler(300, n)} {SHORT}" for n in range(6)]
    assert [why is None for _, why, _ in decided(step, texts, tmp_path)] == [True] * 6


def spoken(name: str, count: int) -> str:
    return " ".join(f"{name}{n}" for n in range(count))


def copies(texts: Sequence[str], step: Decontamination, folder: Path) -> list[bool]:
    """Whether each text is found in six documents, which are more than may have a phrase."""
    ends = decided(step, [f"{filler(300, n)} {one}" for one in texts for n in range(6)], folder)
    found = [why is not None for _, why, _ in ends]
    assert all(found[n : n + 6] in ([True] * 6, [False] * 6) for n in range(0, len(found), 6))
    return found[::6]


def test_whole_items_of_plain_text_are_no_phrases(tmp_path: Path) -> None:
    lines = [spoken(name, 15) for name in ("first", "second")]
    path = tmp_path / "asked.txt"
    path.write_text("\n".join(lines) + "\n\n" + spoken("other", 25))
    step = Decontamination(files=(path,), action="drop", most_documents=3)
    assert copies([*lines, " ".join(lines), spoken("other", 25)], step, tmp_path) == [
        *(False, False),
        *(True, True),
    ]
    whole = Decontamination(files=(path,), action="drop", least_overlap=1)
    assert copies([" ".join(lines), spoken("other", 25)], whole, tmp_path) == [True, True]


def test_a_question_with_its_answer_is_an_item(tmp_path: Path) -> None:
    data = public_data()
    asked = "Which statement best explains why photosynthesis is the foundation of most food webs?"
    right = "Sunlight is the source of energy for nearly all ecosystems."
    for change in ({"most_documents": 3}, {"least_overlap": 0.5}):
        step = Decontamination(tasks=("arc_easy",), data=data, action="drop", **change)  # type: ignore[arg-type]
        assert copies([f"{asked} {right}", f"{asked} Nobody knows."], step, tmp_path) == [
            True,
            False,
        ]


def test_a_text_of_its_own_is_an_item(tmp_path: Path) -> None:
    rule = spoken("rule", 30)
    rows = [
        {"rule": rule, "q": spoken(f"asked{n}by", 30), "a": spoken(f"answer{n}by", 90), "b": "x"}
        for n in range(4)
    ]
    path = tmp_path / "asked.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    step = Decontamination(files=(path,), action="drop", most_documents=3)
    # What several items have is no item, and neither is a part of its own text.
    texts = [rows[0]["q"], rows[1]["a"], rule, " ".join(rows[2]["q"].split()[:20])]
    assert copies(texts, step, tmp_path) == [True, True, False, False]


def test_overlap(sets: Path, tmp_path: Path) -> None:
    part = " ".join(LONG.split()[:20])
    step = Decontamination(files=(sets,), action="drop", least_overlap=0.5)
    assert decided(step, [part], tmp_path)[0][1] is None
    assert decided(step, [LONG], tmp_path)[0][1] is not None
    # Cutting is for the items that count.
    both = f"{filler(900)} {part} {filler(900, 1)} {LEAKED} {filler(900, 2)}"
    cut = Decontamination(files=(sets,), least_overlap=0.5)
    document, why, _ = decided(cut, [both], tmp_path)[0]
    assert why is None
    assert part in document.text
    assert "lighthouse" not in document.text


def test_steps_before_may_have_cut_it_already(sets: Path) -> None:
    step = Decontamination(files=(sets,))
    found = step.sketch(Document("a", LONG, "s"))
    document = Document("a", filler(500), "s")
    assert step.apply(document, found, None) is None
    assert document.history == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"files": ()}, "needs tasks or files"),
        ({"tasks": ("boolq",)}, "data must name"),
        ({"shortest": 14}, "shortest is 14 and words 13"),
        ({"shortest": 0}, "shortest is 0"),
        ({"least_overlap": 1.1}, "0 to 1"),
        ({"most_documents": 0}, "1 or more"),
        ({"window": -1}, "0 or more"),
        ({"most_pieces": 0}, "1 or more"),
    ],
)
def test_settings_that_cannot_be(change: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Decontamination(**({"files": (Path("a.txt"),)} | change))  # type: ignore[arg-type]


def test_sets_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError):
        Decontamination(files=(tmp_path / "no.txt",)).sketch(Document("a", "text", "s"))
    (tmp_path / "short.txt").write_text("too short\n\nas well")
    with pytest.raises(ConfigError, match="none of the 2 evaluation items has 8 words"):
        Decontamination(files=(tmp_path / "short.txt",)).sketch(Document("a", "text", "s"))


def test_goes_into_recipes_and_other_processes(sets: Path) -> None:
    step = Decontamination(files=(sets,), tasks=("gsm8k",), data=Path("data"), window=100)
    assert parse_config(Decontamination, format_config(step)) == step
    assert pickle.loads(pickle.dumps(step)) == step
    assert isinstance(step, CorpusStep)


def test_the_index_is_built_once(
    sets: Path, home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    some = Sets((), None, (sets,), 13, 8)
    first = opened(some)
    assert len(list((home / "contamination").glob("*.npz"))) == 1
    monkeypatch.setattr(index, "build", None)
    again = opened(some)
    assert again.names == first.names == ("test.jsonl 1", "test.jsonl 2", "test.jsonl 3")
    assert again.too_short == 1
    assert again.hits(LONG).hashes.tolist() == first.hits(LONG).hashes.tolist()
    monkeypatch.undo()
    monkeypatch.setenv("EVERLONG_HOME", str(home))
    # Other settings and other files are another index.
    assert opened(Sets((), None, (sets,), 10, 8)).lengths.tolist() == [8, 10]
    sets.write_text(json.dumps({"q": LEAKED}))
    assert opened(some).names == ("test.jsonl 1",)
    assert names_of(first, [0, 1, 2]) == "test.jsonl 1, test.jsonl 2, test.jsonl 3"
    assert names_of(first, [2, 1, 0], most=1) == "test.jsonl 3 and 2 more"


def test_other_programs_of_tasks_are_another_index(
    sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "_TASKS", tmp_path / "evaluation")
    program = tmp_path / "evaluation" / "tasks" / "arc.py"
    program.parent.mkdir(parents=True)

    def fingerprints(text: str) -> tuple[str, str]:
        program.write_text(text)
        index._programs.cache_clear()
        return (
            Sets(("arc_easy",), tmp_path / "data", (sets,), 13, 8).fingerprint(),
            Sets((), None, (sets,), 13, 8).fingerprint(),
        )

    asked, files = fingerprints("asks this")
    assert fingerprints("asks that") != (asked, files)
    assert fingerprints("asks this") == (asked, files)
    assert fingerprints("asks that")[1] == files, "which no task has to do with"
    index._programs.cache_clear()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=12), min_size=1, max_size=5),
    st.lists(st.integers(0, 3), max_size=40),
)
def test_finds_what_a_plain_search_finds(items: list[list[int]], numbers: list[int]) -> None:
    words, shortest = 5, 3

    def spoken(some: Sequence[int]) -> str:
        return " ".join(f"w{n}" for n in some)

    wanted: set[tuple[int, ...]] = set()
    for item in items:
        length = min(len(item), words)
        if length >= shortest:
            wanted |= {tuple(item[i : i + length]) for i in range(len(item) - length + 1)}
    made = [Item(str(n), (words_of(spoken(one)).hashes,)) for n, one in enumerate(items)]
    if not wanted:
        with pytest.raises(ConfigError):
            build(made, words, shortest)
        return
    index = ContaminationIndex.from_bytes(build(made, words, shortest).to_bytes())
    text = spoken(numbers)
    hits = index.hits(text)
    found = sorted(text[a:b] for a, b in zip(hits.starts, hits.ends, strict=True))
    expected = sorted(
        spoken(numbers[i : i + n])
        for n in {len(one) for one in wanted}
        for i in range(len(numbers) - n + 1)
        if tuple(numbers[i : i + n]) in wanted
    )
    assert found == expected
    of, wholes = index.wholes_of(hits.hashes)
    for place, item in zip(of.tolist(), index.items[wholes].tolist(), strict=True):
        start, end = hits.starts[place], hits.ends[place]
        name = int(index.names[item])
        assert text[start:end] in spoken(items[name])


def test_items_that_share_everything_are_some_of_them() -> None:
    words = words_of(LONG).hashes
    index = build([Item(str(n), (words,)) for n in range(50)], 13, 8)
    of, _ = index.wholes_of(index.hits(LONG).hashes)
    assert np.bincount(of).tolist() == [8] * (len(words) - 12)


def test_real_sets_in_real_books(tmp_path: Path) -> None:
    data = public_data()
    step = Decontamination(tasks=("gsm8k", "copa"), data=data, action="drop")
    lines = (data / "gsm8k" / "test.jsonl").read_text("utf-8").splitlines()[:40]
    questions = [json.loads(line)["question"] for line in lines]
    path = sorted((data / "books").glob("*.txt.gz"))[3]
    book = gzip.decompress(path.read_bytes()).decode()[:400_000]
    pages = [book[n : n + 5000] for n in range(0, len(book), 5000)][: len(questions)]
    dirty = [
        f"{page[:2500]}\nQ: {one}\nA: ...\n{page[2500:]}"
        for page, one in zip(pages, questions, strict=True)
    ]
    ends = decided(step, [*pages, *dirty], tmp_path)
    assert [why is None for _, why, _ in ends] == [True] * 40 + [False] * 40
    for number, (_, why, _) in enumerate(ends[40:]):
        assert why is not None
        assert why.detail.startswith(f"gsm8k test:{number}:")
