from __future__ import annotations

import gzip
import json
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlong.config import format_config, parse_config
from everlong.curation.classifier.text_classifier import TextClassifier
from everlong.curation.document import Document
from everlong.curation.quality import evaluation, junk_phrases, training
from everlong.curation.quality.classifier import WEIGHTS, QualityClassifier, classifier, quality
from everlong.curation.quality.evaluation import file_lists, measure
from everlong.curation.quality.form import form
from everlong.curation.quality.junk import BLIND_KINDS, KINDS, OTHER_KINDS, Maker, junk
from everlong.curation.quality.training import (
    main,
    messages,
    paragraphs,
    pieces,
    samples,
    some_pieces,
    train,
)
from everlong.curation.step import PreparedStep
from everlong.errors import CheckpointError, ConfigError, MissingDataError
from everlong.evaluation.data import Data
from tests.evaluation.public_data import public_data

PROSE = (
    "The committee met on Thursday to discuss how the new railway would change the valley, and "
    "whether the farmers who live along the river should be paid for the land that they lose. "
)
MANUAL = (
    "Return the items of the mapping, the oldest first.\n\nIf `limit` is given, there are so many "
    "at most. A ValueError is raised if it is below zero, since that would be a mistake.\n\n"
)
MENU = "Home\nShop\nNew In\nWomen\nMen\nSale\nAbout us\nOur story\nStores\nContact\nBasket (0)\n"
KEYWORDS = "cheap shoes online, best shoes 2019, buy shoes, shoes sale, running shoes review, "
DUMP = "9f86d081884c7d65 9a2feaa0c55ad015 a3bf4f1b2b0b822c d15d6c15b0f00a08 2c26b46b68ffc68f\n"


def english(text: str) -> Document:
    return Document("id", text, "source", "en")


@pytest.mark.parametrize("text", [PROSE, MANUAL, PROSE * 20, MANUAL * 20, PROSE + MANUAL])
def test_prose_is_kept(text: str) -> None:
    document = english(text)
    assert QualityClassifier()(document) is None
    assert document.metadata == {"quality": round(quality(text), 4)}
    assert quality(text) > 0.7
    assert document.text == text
    assert not document.history


@pytest.mark.parametrize("text", [MENU * 3, KEYWORDS * 5, DUMP * 5])
def test_junk_is_dropped(text: str) -> None:
    document = english(text)
    dropped = QualityClassifier()(document)
    assert dropped is not None
    assert dropped.rule == "quality"
    assert dropped.detail == f"{quality(text):.2f}, at least 0.3 is wanted"
    assert document.metadata["quality"] == round(quality(text), 4)


def test_the_score_is_how_much_of_a_text_is_good() -> None:
    good, junk_text = quality(PROSE * 20), quality(MENU * 40)
    half = quality(PROSE * 20 + MENU * 40)
    assert junk_text < 0.1 < 0.9 < good
    assert half == pytest.approx((good + junk_text) / 2, abs=0.15)


def test_a_threshold_matters() -> None:
    score = quality(MENU)
    assert QualityClassifier(threshold=score / 2)(english(MENU)) is None
    assert QualityClassifier(threshold=min(1, score * 2))(english(MENU)) is not None
    assert QualityClassifier(threshold=0)(english(DUMP * 9)) is None


def test_all_may_be_kept_and_only_scored() -> None:
    document = english(MENU * 3)
    assert QualityClassifier(action="annotate")(document) is None
    assert isinstance(document.metadata["quality"], float)
    assert document.metadata["quality"] < 0.3


@pytest.mark.parametrize("language", [None, "nl", "zh"])
def test_languages_that_it_does_not_know_pass(language: str | None) -> None:
    document = Document("id", MENU * 3, "source", language)
    assert QualityClassifier()(document) is None
    assert document.metadata["quality"] is None
    assert QualityClassifier(languages=())(document) is not None
    kept = QualityClassifier(languages=("en", "nl"))(document)
    assert (kept is None) == (language != "nl")


def test_a_damaged_file_is_told_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "damaged").write_bytes(b"damaged")
    monkeypatch.setattr("everlong.curation.quality.classifier.WEIGHTS", tmp_path / "damaged")
    classifier.cache_clear()
    step = QualityClassifier()
    assert isinstance(step, PreparedStep)
    with pytest.raises(CheckpointError, match="damaged cannot be read"):
        step.prepare()


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"threshold is 1\.5; give 0 to 1"):
        QualityClassifier(threshold=1.5)
    with pytest.raises(ConfigError, match="threshold is nan"):
        QualityClassifier(threshold=float("nan"))
    with pytest.raises(ConfigError, match="action is 'remove'"):
        QualityClassifier(action="remove")  # type: ignore[arg-type]
    step = QualityClassifier(threshold=0.5, languages=("en", "sco"))
    assert parse_config(QualityClassifier, format_config(step)) == step
    assert pickle.loads(pickle.dumps(step)) == step


def test_the_weights_are_small_and_say_where_they_are_from() -> None:
    assert WEIGHTS.stat().st_size < 100_000
    assert "gsm8k (MIT)" in classifier().description["data"]
    assert "NC" not in classifier().description["data"]


def test_it_is_fast() -> None:
    texts = [f"{number} {PROSE}{MANUAL}" * 8 for number in range(100)]  # 3 kB each
    step = QualityClassifier()
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        for text in texts:
            step(english(text))
        best = min(best, time.perf_counter() - start)
    assert len(texts) / best > 500  # 2,700 a second were measured on books


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "...", " " * 300_000, "\n \n" * 100_000, "a" * 300_000, "(" * 300_000),
        *("()" * 100_000, "\x00\ud800" * 9_000, "\u0301" * 50_000, "http://" * 40_000),
        *("文" * 100_000, "²" * 1_000),
    ],
    ids=lambda text: repr(text[:3]),
)
def test_hostile_text_is_scored_soon(text: str) -> None:
    start = time.perf_counter()
    assert 0 <= quality(text) <= 1
    assert time.perf_counter() - start < 3


def test_a_form_does_not_tell_the_subject() -> None:
    assert form("The cats saw a mouse.") == form("The dogs saw a horse.")
    assert form("The cats saw a mouse.") != form("The cats saw the mouse.")
    assert form("Go home") != form("go home") != form("GO HOME")
    assert form("in 1984") == form("in 2024") != form("in 84")
    assert form("it ends.\nIt") != form("it ends. It") != form("it ends.\n\nIt")
    assert form("wait...") == form("wait.....") != form("wait.")
    assert form("see https://example.org/a?b=c now") == form("see www.example.com now")


def test_spellings_of_dialects_are_the_words_they_stand_for() -> None:
    assert form("They gonna do dat wit nothin") == form("They going do that with nothing")
    assert form("Dis ain't it") == form("This isn't it")


@given(st.text())
def test_a_form_is_of_its_own_characters(text: str) -> None:
    found = form(text)
    assert all(character == " " or "\u4e00" <= character < "\u5800" for character in found)
    assert all(len(token) == 1 for token in found.split(" ") if found)
    assert form(text) == found  # pieces that are remembered are as they were


@given(st.lists(st.text(st.characters(categories=["L"], max_codepoint=0x17F), min_size=1)))
def test_blanks_do_not_matter(words: list[str]) -> None:
    assert form(" ".join(words)) == form("  \t ".join(words) + "  ")


def maker(*, held_out: bool = False, seed: int = 0) -> Maker:
    texts = [f"{PROSE}Number {number} of the letters came. " * 3 for number in range(30)]
    said = [f"omg number {number} is so nice" for number in range(30)]
    return Maker(texts, said, held_out=held_out, seed=seed)


@pytest.mark.parametrize("kind", [*KINDS, *OTHER_KINDS, *BLIND_KINDS])
def test_junk_is_the_same_for_a_seed(kind: str) -> None:
    first, again, other = (junk(kind, maker(seed=seed), 5) for seed in (1, 1, 2))
    assert first == again != other
    assert all(first)
    assert not any(gap in text for text in first for gap in ("{number}", "{words}", "{price}"))


POOLS = [
    pool for name, pool in vars(junk_phrases).items() if name.isupper() and name != "SEPARATORS"
]


@pytest.mark.parametrize("pool", POOLS, ids=lambda pool: str(pool[0])[:12])
def test_held_out_phrases_are_not_learned_from(pool: tuple[str, ...]) -> None:
    assert len(set(pool)) == len(pool)
    learned, held_out = (set(maker(held_out=one).own(pool)) for one in (False, True))
    assert learned | held_out == set(pool)
    assert not learned & held_out
    assert held_out


@given(st.text("ab \n", max_size=2000), st.integers(0, 5))
def test_pieces_are_the_text(text: str, seed: int) -> None:
    found = pieces(text, (20, 60), Random(seed))
    place = 0
    for piece in found:
        place = text.index(piece, place) + len(piece)
        assert 10 <= len(piece) <= 60
    assert len("".join("".join(found).split())) >= len("".join(text.split())) - 10 * (
        len(text) // 10 + 1
    )


def test_some_pieces_are_from_all_texts() -> None:
    texts = [f"{number:02} " * 100 for number in range(20)]
    found = some_pieces(texts, 40, (20, 40), Random(0))
    assert len(found) == 40
    assert {piece[:2] for piece in found} == {f"{number:02}" for number in range(20)}


def test_an_encyclopedia_is_written_as_people_do() -> None:
    text = (
        " = Lobster = \n \n The lobster ( red @-@ ish ) has 1 @,@ 500 eggs , it 's said . It is a "
        '<unk> . " Good , " he said . \n'
    )
    assert paragraphs(text) == [
        'The lobster (red-ish) has 1,500 eggs, it\'s said. "Good," he said.'
    ]


def small_data(folder: Path) -> Path:
    """A data folder with a little of everything that training reads."""

    def write(name: str, *lines: str) -> None:
        path = folder / f"{name}.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress("\n".join(lines).encode()))

    tweets = [f"{n},0,0,0,{n % 3},RT @somebody: omg number {n} so nice" for n in range(300)]
    write("hate_offensive/labeled_data.csv", "count,a,b,c,class,tweet", *tweets)
    for number in range(20):
        write(f"books/{number}.txt", f"Book {number} tells of a dog{number} and a man. {PROSE}" * 9)
    write("books/twain_adventures_of_huckleberry_finn.txt", "Never read in training. " * 99)
    for name in ("valid", "test"):
        write(
            f"wikitext2/{name}.txt", *[f" The {n} of {name} is there . {PROSE}" for n in range(9)]
        )
    for split in ("train", "test"):
        rows = [f"eng_Latn\t{n}\tx\tSentence {n} of {split}. {PROSE}" for n in range(9)]
        write(f"sib200/{split}.tsv", "lang\tindex_id\tcategory\ttext", *rows)
        sums = [json.dumps({"question": f"How many {split} are {n}? {PROSE}"}) for n in range(9)]
        write(f"gsm8k/{split}.jsonl", *sums)
    pages = [
        {"lang": "en", "name": f"tool{n}", "text": f"# tool{n}\n\n> Shows {n}.\n\n{PROSE}"}
        for n in range(30)
    ]
    write("tldr/tldr.jsonl", *map(json.dumps, [*pages, {"lang": "ko", "name": "x", "text": "y"}]))
    return folder


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(training, "_OF_EACH", 60)
    short_manual(monkeypatch)
    return small_data(tmp_path / "data")


def short_manual(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's own takes seconds to write."""

    def manual(part: str) -> list[str]:
        return [f"{part} {n}\n\n{MANUAL * 5}" for n in range(20)]

    monkeypatch.setattr(training, "python_manual", manual)


def test_training_is_the_same_to_the_bit(small: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        main([str(small), "--out", str(tmp_path / name), "--seed", str(seed)])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").read_bytes() != (tmp_path / "c").read_bytes()


def test_kinds_may_be_left_out(small: Path) -> None:
    learned = train(small)
    assert quality(PROSE * 3, learned) > 0.5 > quality(MENU * 3, learned)
    for kind in ("novels", "menus"):
        assert not np.array_equal(train(small, without=(kind,)).weights, learned.weights)


def test_parts_share_nothing(small: Path) -> None:
    data = Data(small)
    learned, held_out = (
        {text for texts in training.good(data, part).values() for text in texts}.union(
            messages(data, part)
        )
        for part in ("training", "held_out")
    )
    assert learned
    assert held_out
    assert not learned & held_out
    assert not any("Never read" in text for text in learned | held_out)
    assert not any("Sentence 1 of test" in text for text in learned)


def test_junk_of_a_kind_is_made_of_that_kind() -> None:
    texts = {"cats": ["cats purr softly " * 60], "dogs": ["dogs bark loudly " * 60]}
    found = list(samples(texts, ["hi there"] * 4, ["shuffled words"], "training", 0, 20, (40, 90)))
    assert {one.subject for one in found} == {"cats", "dogs"}
    for one in found:
        assert ("purr" in one.text) == (one.subject == "cats")
        assert one.good == (one.kind == one.subject)


def test_missing_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"books"):
        train(tmp_path)


def test_texts_of_a_group_are_left_out_together() -> None:
    texts = [f"{word} {n}" for word in ("rotten", "lovely") for n in range(20)]
    labels = [True] * 20 + [False] * 20
    mixed = ["ab"[n % 2] for n in range(40)]
    by_group = TextClassifier.train(texts, labels, folds=2, groups=mixed)
    by_chance = TextClassifier.train(texts, labels, folds=2)
    assert np.array_equal(by_group.weights, by_chance.weights)
    assert (by_group.slope, by_group.offset) != (by_chance.slope, by_chance.offset)
    with pytest.raises(ConfigError, match="folds is 3, and there are 2 groups; give 2 to 2"):
        TextClassifier.train(texts, labels, folds=3, groups=mixed)
    with pytest.raises(ConfigError, match="all texts of a class"):
        TextClassifier.train(texts, labels, folds=2, groups=["a"] * 20 + ["b"] * 20)
    with pytest.raises(ConfigError, match="40 texts, 2 groups"):
        TextClassifier.train(texts, labels, folds=2, groups=["a", "b"])


def test_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = public_data()
    short_manual(monkeypatch)
    no_pages: Callable[[Path], dict[str, int]] = lambda folder: {}  # noqa: E731
    monkeypatch.setattr(evaluation, "write_system_texts", no_pages)
    monkeypatch.setattr(evaluation, "_OF_EACH", 30)
    found = measure(folder, QualityClassifier())
    assert found.auc["known"] > 0.98
    assert found.auc["other good"] > 0.95
    assert found.auc["other junk"] > 0.9
    assert all(one.kept > 90 for one in (*found.good.values(), *found.other_good.values()))
    assert found.other_junk["products"].kept < 20
    assert found.blind["sentences in any order"].kept > 90  # it is said that it sees nothing there
    assert "manual pages" not in found.other_good
    assert found.lengths["30 to 80"].auc is not None
    assert found.neither["Python programs"].auc is None
    kinds = [*found.other_junk.values(), *found.junk.values()]
    assert all(one.auc is not None and 0 < one.auc <= 1 for one in kinds)
    stricter = measure(folder, QualityClassifier(threshold=0.9))
    assert stricter.auc == found.auc
    assert stricter.good["novels"].kept < found.good["novels"].kept


def test_lists_of_files_are_there() -> None:
    assert any(".dist-info/RECORD" in one for one in file_lists())
