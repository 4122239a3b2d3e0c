from __future__ import annotations

import json
import pickle
import random
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from everlong.curation.classifier.hashed_ngrams import MOST_CHARACTERS, Ngrams, ngrams
from everlong.curation.classifier.logistic_regression import _exp, _logistic_loss
from everlong.curation.classifier.text_classifier import TextClassifier
from everlong.errors import CheckpointError, ConfigError

KIND = Ngrams(bits=12)
SUBJECTS = "river mountain letter window garden bridge table morning"
PRAISE, BLAME = "lovely kind splendid gentle", "rotten filthy wretched vile"


def examples(count: int, seed: int = 0) -> tuple[list[str], list[bool]]:
    draw = random.Random(seed)
    texts, labels = [], []
    for number in range(count):
        bad = bool(number % 2)
        word = draw.choice((BLAME if bad else PRAISE).split())
        texts.append(f"the {draw.choice(SUBJECTS.split())} number {number} is {word} today")
        labels.append(bad)
    return texts, labels


@pytest.fixture(scope="module")
def classifier() -> TextClassifier:
    return TextClassifier.train(*examples(200), ngrams=KIND, description={"data": "made up"})


def runs_of(text: str) -> list[str]:
    """The n-grams of text in lower case with single blanks, told one by one."""
    padded, words = f" {text} ", text.split()
    found = [
        padded[start : start + length]
        for length in (4, 5)
        for start in range(len(padded) - length + 1)
        if " " not in padded[start + 1 : start + length - 1]
    ]
    return found + words + [" ".join(pair) for pair in pairwise(words)]


@given(st.lists(st.text("abcé", min_size=1, max_size=7), max_size=8))
def test_there_are_as_many_ngrams_as_told_one_by_one(words: list[str]) -> None:
    text = " ".join("".join(a for a, b in pairwise(word + "\0") if a != b) for word in words)
    numbers = ngrams(text, Ngrams(bits=24)).numbers()
    told = runs_of(text)
    assert len(numbers) == len(told)
    # The same word is the same number, and the words are told first of what comes last.
    assert len(set(numbers.tolist())) <= len(set(told)) + len(set(text.split()))
    assert numbers.min(initial=0) >= 0
    assert numbers.max(initial=0) < 1 << 24


def test_equal_ngrams_have_equal_numbers_wherever_they_stand() -> None:
    kind = Ngrams(bits=24)
    alone = set(ngrams("gentle river", kind).numbers().tolist())
    longer = set(ngrams(f"{'word ' * 300}gentle river and more", kind).numbers().tolist())
    assert alone < longer
    assert len(alone) == len(runs_of("gentle river"))
    assert not alone & set(ngrams("splendid mountain", kind).numbers().tolist())


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("You ROTTEN thing", "you rotten thing"),
        ("you, rotten -- thing!!!", "you rotten thing"),
        ("you roooootten thing", "you rootten thing"),
        ("you @somebody rotten https://a.example/b thing", "you rotten thing"),
        ("you\nrotten\tthing", "you rotten thing"),
    ],
)
def test_what_makes_no_difference(text: str, same: str) -> None:
    found, expected = (np.sort(ngrams(one, KIND).numbers()) for one in (text, same))
    assert found.tolist() == expected.tolist()


def test_it_learns_what_tells_classes_apart(classifier: TextClassifier) -> None:
    texts, labels = examples(100, seed=1)
    assert [classifier.score(text) > 0.5 for text in texts] == labels
    assert classifier.score("a rotten day") > 0.9
    assert classifier.score("a lovely day") < 0.1


def test_probabilities_are_calibrated() -> None:
    # A word that is in three of four texts of the class, and in one of four of the others.
    draw = random.Random(0)
    texts, labels = [], []
    for number in range(2000):
        bad = bool(number % 2)
        word = "vile" if draw.random() < (0.75 if bad else 0.25) else "kind"
        texts.append(f"{word} {draw.choice(SUBJECTS.split())}")
        labels.append(bad)
    trained = TextClassifier.train(texts, labels, ngrams=KIND, penalty=1e-3)
    assert trained.score("vile river") == pytest.approx(0.75, abs=0.05)
    assert trained.score("kind river") == pytest.approx(0.25, abs=0.05)


def test_weights_of_texts_matter() -> None:
    texts, labels = ["vile day"] * 20, [True] * 10 + [False] * 10
    often = TextClassifier.train(texts, labels, weights=[3.0] * 10 + [1.0] * 10, ngrams=KIND)
    assert often.score("vile day") == pytest.approx(0.75, abs=0.01)


def test_training_is_the_same_to_the_bit(tmp_path: Path) -> None:
    texts, labels = examples(60)
    for name in ("a", "b"):
        TextClassifier.train(texts, labels, ngrams=KIND, seed=5).save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    other = TextClassifier.train(texts, labels, ngrams=KIND, seed=6)
    assert other.slope != TextClassifier.load(tmp_path / "a").slope


def test_the_logistic_loss_is_that_of_the_definition() -> None:
    values = np.concatenate([np.linspace(-800, 800, 4001), np.linspace(-1, 1, 501)])
    truth = values > 3
    value, slopes = _logistic_loss(values, truth, np.ones(len(values)))
    sign = np.where(truth, -1.0, 1.0)
    losses = np.logaddexp(0, sign * values)
    expected = sign * np.exp(sign * values - losses)
    assert value == pytest.approx(losses.mean(), rel=1e-14)
    assert np.abs(slopes * len(values) - expected).max() < 1e-14
    exponents = -np.logspace(-12, 2.8, 2000)
    assert np.abs(_exp(exponents) / np.exp(exponents) - 1).max() < 4e-16


def test_an_insult_is_found_anywhere_in_a_long_text(classifier: TextClassifier) -> None:
    kind = "the lovely river is kind and gentle today and so is the splendid garden\n"
    prose = kind * 1000
    assert len(prose) > 4 * MOST_CHARACTERS
    assert classifier.score(prose) < 0.1
    for place in range(0, len(prose), 7919):
        start = prose.rfind("\n", 0, place) + 1
        hit = f"{prose[:start]}{'rotten filthy wretched vile ' * 4}\n{prose[start:]}"
        assert classifier.score(hit) > 0.9


def test_windows_cover_the_text_and_overlap(classifier: TextClassifier) -> None:
    assert len(classifier.window_scores("kind")) == 1
    assert len(classifier.window_scores("kind " * 40)) == 4  # 201 letters: 0, 50, 100, 101
    assert len(classifier.window_scores("x" * 100)) == 1  # xx: the same letter comes twice
    scores = classifier.window_scores("kind " * 60 + "vile " * 60)
    assert scores[0] < 0.1
    assert scores[-1] > 0.9
    assert classifier.score("kind " * 60 + "vile " * 60) == scores.max()


@settings(deadline=None)
@given(st.text())
def test_any_text_has_a_probability(text: str) -> None:
    assert 0 <= any_classifier().score(text) <= 1


def any_classifier() -> TextClassifier:
    weights = np.arange(-128, 128, dtype=np.int8).repeat(16)
    return TextClassifier(weights, 10.0, 1.0, 5.0, 0.0, KIND)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\ud800\udfff \ud83d",
        "\0" * 100_000,
        "İ" * 50_000,
        "a" * 100_000,
        "&" * 100_000,
        "🙂" * 50_000,
        "@" * 100_000,
        "http://" * 20_000,
        "ab " * 40_000,
        "\u0301" * 50_000,
    ],
    ids=lambda text: ascii(text[:6]),
)
def test_hostile_texts_take_no_longer(text: str) -> None:
    start = time.perf_counter()
    assert 0 <= any_classifier().score(text) <= 1
    assert time.perf_counter() - start < 2


def test_it_is_saved_whole(classifier: TextClassifier, tmp_path: Path) -> None:
    path = tmp_path / "some.safetensors"
    classifier.save(path)
    read = TextClassifier.load(path)
    assert read.description == {"data": "made up"}
    assert read.ngrams == KIND
    for text in examples(20)[0]:
        assert read.score(text) == classifier.score(text)
    assert pickle.loads(pickle.dumps(read)).score("vile") == read.score("vile")
    assert path.stat().st_size < (1 << KIND.bits) + 1000


def test_files_that_are_none_are_refused(classifier: TextClassifier, tmp_path: Path) -> None:
    path = tmp_path / "some.safetensors"
    with pytest.raises(CheckpointError, match="cannot be read"):
        TextClassifier.load(path)
    path.write_bytes(b"no tensors")
    with pytest.raises(CheckpointError, match="cannot be read"):
        TextClassifier.load(path)
    save_file({"weights": np.zeros(4, np.int8)}, path)
    with pytest.raises(CheckpointError, match="no text classifier"):
        TextClassifier.load(path)
    classifier.save(path)
    weights = load_file(path)["weights"]
    header = json.loads(header_of(path))
    for changed in (
        {"ngrams": {"bits": 13}},
        {"ngrams": {"bits": 12, "more": 1}},
        {"scale": None},
        {"scale": "1"},
        {"slope": 1e999},
        {"window": 0},
        {"description": 1},
    ):
        save_file({"weights": weights}, path, {FORMAT: json.dumps(header | changed)})
        with pytest.raises(CheckpointError, match=r"some\.safetensors"):
            TextClassifier.load(path)
    save_file({"weights": weights.astype(np.int16)}, path, {FORMAT: json.dumps(header)})
    with pytest.raises(CheckpointError, match="int16"):
        TextClassifier.load(path)


FORMAT = "everlong-text-classifier-1"


def header_of(path: Path) -> str:
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    found: str = json.loads(content[8 : 8 + length])["__metadata__"][FORMAT]
    return found


def test_what_cannot_be_is_refused(classifier: TextClassifier) -> None:
    texts, labels = examples(10)
    with pytest.raises(ConfigError, match="smaller class has 2 texts; give 2 to 2"):
        TextClassifier.train(texts[:5], labels[:5], ngrams=KIND)
    with pytest.raises(ConfigError, match="10 texts, 9 labels"):
        TextClassifier.train(texts, labels[1:], ngrams=KIND)
    with pytest.raises(ConfigError, match="penalty is 0"):
        TextClassifier.train(texts, labels, ngrams=KIND, penalty=0)
    with pytest.raises(ConfigError, match="weights has a number that is not above 0"):
        TextClassifier.train(texts, labels, weights=[0.0] * 10, ngrams=KIND)
    with pytest.raises(ConfigError, match="window is 10"):
        replace(classifier, window=10)
    with pytest.raises(ConfigError, match="bits is 40"):
        Ngrams(bits=40)
    with pytest.raises(ConfigError, match="longest is 3; give 4 to 8"):
        Ngrams(longest=3)
