"""Shares of a training run."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from everlong.config import format_config, parse_config
from everlong.curation.document import Document
from everlong.curation.mixture import (
    Mixture,
    Part,
    Quality,
    bands_of,
    mixed,
    name_of,
    part_finder,
)
from everlong.curation.recipe import Curation, Tokens
from everlong.curation.run import curate
from everlong.curation.tasks import Source
from everlong.data.corpora import Corpus
from everlong.data.streams import Source as Shards
from everlong.data.streams import Streams
from everlong.data.token_shards import TokenShards
from everlong.errors import ConfigError
from everlong.tokenizer import Tokenizer, train_tokenizer
from tests.curation.test_pipeline import InThisProcess


def shares(mixture: Mixture, **letters: int) -> dict[str, float]:
    return {part.name: part.share for part in mixed(mixture, letters)}


def test_as_much_as_there_is() -> None:
    parts = mixed(Mixture(), {"a": 300, "b": 100, "none": 0})
    assert [(part.name, part.share, part.epochs) for part in parts] == [
        ("a", 0.75, 1),
        ("b", 0.25, 1),
    ]


def test_a_temperature_helps_what_is_small() -> None:
    found = shares(Mixture(temperature=2, letters=1_000), a=10_000, b=100)
    assert found["b"] == pytest.approx(10 / 110)


def test_weights() -> None:
    assert shares(Mixture(weights={"a": 3}), a=100, b=100) == {"a": 0.75, "b": 0.25}
    assert shares(Mixture(weights={"a": 0}), a=100, b=100) == {"b": 1, "a": 0}
    found = shares(Mixture(weights={"b": 3, "c": 3}), a=100, b=100, c=0)
    assert found == {"b": 0.75, "a": 0.25}, "of what nothing is kept nothing can be read"
    with pytest.raises(ConfigError, match="leaves nothing"):
        shares(Mixture(weights={"a": 0, "b": 0}), a=100, b=100)


def test_the_least_temperature_leaves_all_to_the_largest() -> None:
    parts = mixed(Mixture(temperature=0.1), {"a": 10**18, "b": 10**17, "c": 1})
    assert [part.share for part in parts] == pytest.approx([1, 1e-10, 0])
    assert all(part.share > 0 for part in parts)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("eng", "names eng, which is no language; here it is called en; give codes"),
        ("Thai", "names Thai, which is no language; give codes such as en and yue, or unknown"),
    ],
)
def test_languages_that_are_none_are_refused_before_the_work(name: str, why: str) -> None:
    sources = (Source("a", (Path("a"),)),)
    with pytest.raises(ConfigError, match=why):
        Curation(Path("run"), sources, mixture=Mixture("language", weights={"en": 1, name: 2}))
    # Whether there is any of it is seen later.
    Curation(Path("run"), sources, mixture=Mixture("language", weights={"yue": 1, "unknown": 2}))


def test_nothing_is_read_too_often() -> None:
    mixture = Mixture(temperature=1000, letters=2_000, most_epochs=4)
    found = {part.name: part for part in mixed(mixture, {"a": 1_000, "b": 100, "c": 50})}
    assert found["b"].epochs == 4
    assert found["c"].epochs == 4
    assert found["a"].epochs == pytest.approx(1.4), "what the small ones cannot give"
    all_of_it = mixed(Mixture(letters=10_000, most_epochs=2), {"a": 300, "b": 100})
    assert [part.epochs for part in all_of_it] == [2, 2], "more there is not"


@given(
    st.dictionaries(st.text("abc", min_size=1, max_size=2), st.integers(1, 10**9), min_size=1),
    st.floats(0.5, 20),
    st.floats(0.1, 10),
    st.one_of(st.none(), st.integers(1, 10**10)),
)
def test_shares_sum_to_one_and_keep_to_the_limit(
    letters: dict[str, int], temperature: float, most: float, total: int | None
) -> None:
    mixture = Mixture(temperature=temperature, most_epochs=most, letters=total)
    parts = mixed(mixture, letters)
    assert sum(part.share for part in parts) == pytest.approx(1)
    assert all(0 <= part.epochs <= most * (1 + 1e-9) for part in parts)
    assert {part.name for part in parts} == set(letters)


def test_names_of_parts() -> None:
    assert name_of(Mixture(), "web", "en") == "web"
    assert name_of(Mixture(by="language"), "web", "en") == "en"
    assert name_of(Mixture(by="language"), "web", None) == "unknown"


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": 0},
        {"temperature": 0.02},
        {"temperature": float("nan")},
        {"most_epochs": 0},
        {"weights": {"a": -1}},
        {"letters": 0},
        {"quality": Quality("quality", (1, 2, 5))},
        {"quality": Quality("quality"), "most_epochs": 3},
    ],
)
def test_what_cannot_be(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        Mixture(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "repeats", "why"),
    [
        ("", (1, 2), "field is empty"),
        ("quality", (1,), "has 1 numbers; give 2 to 20"),
        ("quality", (1,) * 21, "has 21 numbers"),
        ("quality", (1, -1), "0 or more"),
        ("quality", (0, 0), "one is above 0"),
        ("quality", (1, float("nan")), "0 or more"),
    ],
)
def test_bands_that_cannot_be(field: str, repeats: tuple[float, ...], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        Quality(field, repeats)


def scored(scores: Sequence[Any], source: str = "web", letters: int = 10) -> list[Document]:
    """Documents with these scores; None: without one."""
    return [
        Document(
            f"{source}/{number}",
            "x" * letters,
            source,
            metadata={} if score is None else {"quality": score},
        )
        for number, score in enumerate(scores)
    ]


def letters_of(documents: Sequence[Document], mixture: Mixture) -> dict[str, int]:
    letters: Counter[str] = Counter()
    for document in documents:
        letters[name_of(mixture, document.source, document.language)] += len(document.text)
    return letters


def parts_of(mixture: Mixture, documents: Sequence[Document]) -> dict[str, Part]:
    bands = bands_of(mixture, documents)
    return {part.name: part for part in mixed(mixture, letters_of(documents, mixture), bands)}


def epochs_of(mixture: Mixture, documents: Sequence[Document]) -> dict[str, float]:
    return {name: part.epochs for name, part in parts_of(mixture, documents).items()}


def graded(*repeats: float, **more: Any) -> Mixture:
    return Mixture(quality=Quality("quality", repeats), **more)


THIRDS = [score / 100 for score in range(90)]


def test_bands_are_read_as_often_as_they_say() -> None:
    parts = parts_of(graded(1, 2, 4), scored(THIRDS))
    assert {name: (part.letters, part.least, part.epochs) for name, part in parts.items()} == {
        "web/1": (300, 0.0, 1),
        "web/2": (300, 0.3, 2),
        "web/3": (300, 0.6, 4),
    }
    assert [part.share for part in parts.values()] == pytest.approx([1 / 7, 2 / 7, 4 / 7])
    assert {part.of for part in parts.values()} == {"web"}
    falling = epochs_of(graded(4, 2, 1), scored(THIRDS))
    assert falling == {"web/1": 4, "web/2": 2, "web/3": 1}, "where low scores are the good ones"


def test_next_to_one_another_if_a_length_is_given() -> None:
    documents = scored(THIRDS)
    found = epochs_of(graded(1, 2, 4, letters=1050), documents)
    assert found == pytest.approx({"web/1": 0.5, "web/2": 1, "web/3": 2})
    found = epochs_of(graded(1, 2, 4, letters=2700), documents)
    assert found["web/3"] == 4, "the limit"
    assert found == pytest.approx({"web/1": 5 / 3, "web/2": 10 / 3, "web/3": 4})
    assert epochs_of(graded(1, 2, 4, letters=10**6), documents) == dict.fromkeys(found, 4)


def test_a_band_that_is_left_out() -> None:
    documents = scored(THIRDS)
    assert epochs_of(graded(0, 0, 3), documents) == {"web/1": 0, "web/2": 0, "web/3": 3}
    found = epochs_of(graded(0, 1, 1, letters=10**6), documents)
    assert found == {"web/1": 0, "web/2": 4, "web/3": 4}, "there is not more than that"
    both = [*documents, *scored(THIRDS, "books")]
    parts = parts_of(graded(0, 0, 3, weights={"web": 10}, letters=2_000), both)
    assert parts["web/3"].epochs == 4
    assert parts["books/3"].epochs == pytest.approx(800 / 300), "others give what is left"
    assert sum(part.share for part in parts.values()) == pytest.approx(1)


def test_parts_keep_their_shares() -> None:
    documents = [*scored(THIRDS), *scored([2, 1], "books", 450)]
    parts = parts_of(graded(1, 3, weights={"books": 2}, letters=900), documents)
    by_part: defaultdict[str, float] = defaultdict(float)
    for part in parts.values():
        by_part[part.of] += part.share
    assert by_part == pytest.approx({"web": 1 / 3, "books": 2 / 3})
    assert parts["books/2"].epochs == pytest.approx(3 * parts["books/1"].epochs)
    assert [part.of for part in parts.values()] == ["books"] * 2 + ["web"] * 2


def test_what_a_band_cannot_give_its_part_gives() -> None:
    documents = [*scored(THIRDS), *scored(THIRDS, "books")]
    parts = parts_of(graded(1, 1, 4, letters=1_800, weights={"web": 3}), documents)
    # Three quarters are of web: 1,350 of 900 letters; its best third alone would give 900 of them.
    assert parts["web/3"].epochs == pytest.approx(3)
    parts = parts_of(graded(1, 1, 4, letters=1_800, weights={"web": 3}, most_epochs=4), documents)
    assert sum(p.share for p in parts.values() if p.of == "web") == pytest.approx(3 / 4)
    parts = parts_of(graded(1, 1, 4, letters=2_800, weights={"web": 3}), documents)
    web = [parts[f"web/{number}"].epochs for number in (1, 2, 3)]
    assert web == pytest.approx([1.5, 1.5, 4])
    assert sum(p.share for p in parts.values() if p.of == "web") == pytest.approx(3 / 4)


def test_documents_without_a_score_are_read_as_on_average() -> None:
    documents = [*scored(THIRDS), *scored([None] * 7), *scored([None, "good", True], "books")]
    found = epochs_of(graded(1, 2, 3), documents)
    assert found == pytest.approx(
        {"web/1": 1, "web/2": 2, "web/3": 3, "web/unscored": 2, "books/unscored": 2}
    )


def test_the_same_score_is_the_same_band() -> None:
    assert epochs_of(graded(1, 2, 4), scored([0.5] * 9)) == {"web/2": 2}
    found = parts_of(graded(1, 2, 4), scored([0, *[0.5] * 98, 1]))
    assert {name: part.letters for name, part in found.items()} == {
        "web/1": 10,
        "web/2": 980,
        "web/3": 10,
    }


def test_a_field_that_no_document_has() -> None:
    documents = scored([None, "good", float("nan"), True])
    documents[0].metadata |= {"perplexity": 3.5, "title": "A", "words": 10**400}
    with pytest.raises(
        ConfigError, match=r"'quality', and no .*; there are numbers in: perplexity$"
    ):
        bands_of(graded(1, 2), documents)
    with pytest.raises(ConfigError, match="numbers in: no field"):
        bands_of(graded(1, 2), [])
    assert bands_of(Mixture(), documents) == {}


def test_documents_are_found_in_their_bands() -> None:
    documents = [*scored(THIRDS), *scored([None]), *scored([3, 1, 2], "books")]
    mixture = graded(1, 2, 4)
    parts = parts_of(mixture, documents)
    find = part_finder(mixture, [*reversed(parts.values())])
    there = letters_of(documents, mixture)
    found: Counter[str | None] = Counter()
    for document in documents:
        found[find(document)] += len(document.text)
    assert found == {name: part.letters for name, part in parts.items()}
    assert sum(found.values()) == sum(there.values())
    assert find(scored([0.299])[0]) == "web/1"
    assert find(scored([0.3])[0]) == "web/2"
    assert find(scored([-5])[0]) == "web/1", "below all that were there"
    assert find(scored([None], "books")[0]) is None
    assert part_finder(Mixture(), mixed(Mixture(), there))(documents[0]) == "web"
    assert part_finder(Mixture(), mixed(Mixture(), there))(Document("a", "", "empty")) is None


@given(
    st.dictionaries(
        st.sampled_from("abc"),
        st.lists(
            st.tuples(
                st.one_of(st.none(), st.floats(allow_nan=True), st.integers(0, 3)),
                st.integers(1, 10**6),
            ),
            min_size=1,
            max_size=30,
        ),
        min_size=1,
    ),
    st.lists(st.floats(0, 4), min_size=2, max_size=20).filter(any),
    st.floats(0.5, 20),
    st.one_of(st.none(), st.integers(1, 10**9)),
)
def test_bands_sum_to_one_and_keep_to_the_limit(
    corpus: dict[str, list[tuple[Any, int]]],
    repeats: list[float],
    temperature: float,
    total: int | None,
) -> None:
    mixture = graded(*repeats, temperature=temperature, letters=total)
    documents = []
    for source, some in corpus.items():
        for score, size in some:
            (one,) = scored([score], source, size % 97 + 1)
            documents.append(one)
    try:
        parts = parts_of(mixture, documents)
    except ConfigError:  # no document has a score, or all are in bands that are left out
        assume(False)
    assert sum(part.share for part in parts.values()) == pytest.approx(1)
    assert all(0 <= part.epochs <= 4 * (1 + 1e-9) for part in parts.values())
    assert {name: part.letters for name, part in parts.items()} == _by_part(
        mixture, parts, documents
    )
    if total is None and temperature == 1:
        said = {str(number): one for number, one in enumerate(repeats, 1)}
        said["unscored"] = sum(repeats) / len(repeats)
        for part in parts.values():
            assert part.epochs == pytest.approx(said[part.name.partition("/")[2]])
    assert parts == parts_of(mixture, [*reversed(documents)]), "whatever their order"


def _by_part(
    mixture: Mixture, parts: Mapping[str, Part], documents: Sequence[Document]
) -> dict[str | None, int]:
    find = part_finder(mixture, [*parts.values()])
    letters: Counter[str | None] = Counter()
    for document in documents:
        letters[find(document)] += len(document.text)
    return letters


WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"]


def tokenizer() -> Tokenizer:
    return train_tokenizer([" ".join(WORDS)] * 3, 300)


def test_a_training_run_reads_each_document_as_often_as_its_band_says(tmp_path: Path) -> None:
    """From documents to what the streams of a run read of the shards."""
    tokenizer().save(tmp_path)
    lines = []
    for number in range(9_000):
        # A letter of the last ones is more tokens, so that shares of letters would be wrong.
        text = f"{number} " + " ".join([WORDS[number % 10] if number < 5_500 else f"{number}"] * 12)
        lines.append(json.dumps({"text": text, "quality": number / 9_000}))
    (tmp_path / "web.jsonl").write_text("\n".join(lines))
    recipe = Curation(
        tmp_path / "run",
        (Source("web", (tmp_path / "web.jsonl",)),),
        mixture=graded(0, 4, 2),
        tokens=Tokens(str(tmp_path)),
    )
    assert parse_config(Curation, format_config(recipe)) == recipe
    outcome = curate(recipe, InThisProcess())
    assert [part.name for part in outcome.parts] == ["web/1", "web/2", "web/3"]
    assert [part.epochs for part in outcome.parts] == [0, 4, 2]
    card = outcome.card.read_text()
    heads = "| part | quality from | letters | tokens | epochs | share of the run's letters |"
    assert heads in card
    assert "| web/3 | 0.6" in card
    assert "how often each is to be read, next to the others: 0, 4, 2." in card

    told = yaml.safe_load((tmp_path / "run" / "tokens" / "training.yaml").read_text())
    sources = [Shards(one["name"], TokenShards(Path(one["paths"][0]))) for one in told["corpora"]]
    assert sum(told["weights"].values()) == pytest.approx(1, abs=1e-5)
    weights = [told["weights"][source.name] for source in sources]
    tokens = {source.name: source.shards.tokens - source.shards.documents for source in sources}
    for one in told["corpora"]:  # as a training recipe has them
        Corpus(one["name"], (Path(one["paths"][0]),), kind="shards")
    planned = 4 * tokens["web:2"] + 2 * tokens["web:3"]
    streams, read = Streams(sources, seed=0), Counter[str]()
    # Four times as long: what streams look ahead is some percent of so short a run.
    for packed in streams.take(4 * planned // 256, 256, weights):
        for piece in packed.pieces:
            read[sources[piece.source].name] += len(piece)
    epochs = {name: read[name] / tokens[name] / 4 for name in tokens}
    assert epochs == pytest.approx({"web:1": 0, "web:2": 4, "web:3": 2}, rel=0.01)


def test_without_quality_shards_are_those_of_the_parts(tmp_path: Path) -> None:
    tokenizer().save(tmp_path)
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text(" ".join(WORDS * (20 if name == "a" else 10)))
    sources = tuple(Source(name, (tmp_path / f"{name}.txt",)) for name in ("a", "b"))
    recipe = Curation(tmp_path / "run", sources, tokens=Tokens(str(tmp_path)))
    outcome = curate(recipe, InThisProcess())
    told = yaml.safe_load((tmp_path / "run" / "tokens" / "training.yaml").read_text())
    assert [*told["weights"]] == [part.name for part in outcome.parts] == ["a", "b"]
    assert "| part | letters | tokens | epochs | share of the run's " in outcome.card.read_text()


def test_parts_are_read_as_often_as_the_card_says_whatever_their_tokens(tmp_path: Path) -> None:
    """Letters of a token differ between languages, and one part is a millionth of the corpus."""
    tokenizer().save(tmp_path)
    texts = {
        "en": [" ".join([WORDS[number % 10]] * 12) for number in range(3_000)],
        "th": [f"{number}" * 4 for number in range(600)],
        "few": ["zeta eta"],
    }
    for name, some in texts.items():
        lines = [json.dumps({"text": text}) for text in some]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    sources = tuple(Source(name, (tmp_path / f"{name}.jsonl",)) for name in texts)
    mixture = Mixture(temperature=100, weights={"few": 1e-7})
    recipe = Curation(tmp_path / "run", sources, mixture=mixture, tokens=Tokens(str(tmp_path)))
    outcome = curate(recipe, InThisProcess())
    card = {part.name: part.epochs for part in outcome.parts}
    assert card["th"] == 4

    path = tmp_path / "run" / "tokens" / "training.yaml"
    told = yaml.safe_load(path.read_text())
    shards = {one["name"]: TokenShards(Path(one["paths"][0])) for one in told["corpora"]}
    readable = {name: one.tokens - one.documents for name, one in shards.items()}
    planned = sum(card[name] * readable[name] for name in card)
    assert f"A run of {planned:,.0f} tokens reads" in path.read_text()
    assert 0 < told["weights"]["few"] < 5e-7, "not rounded to nothing"
    assert sum(told["weights"].values()) == pytest.approx(1, abs=1e-5)
    found = {name: told["weights"][name] * planned / readable[name] for name in card}
    assert found == pytest.approx(card, rel=1e-5)
    letters = {part.name: part.share for part in outcome.parts}
    assert told["weights"]["th"] > 1.3 * letters["th"], "more than its letters tell"
    both = f"| 4.00 | {letters['th']:.1%} | {told['weights']['th']:.1%} |"
    assert both in outcome.card.read_text()


def test_a_field_that_is_not_there_ends_the_run(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("some words")
    recipe = Curation(tmp_path / "run", (Source("a", (tmp_path / "a.txt",)),), mixture=graded(1, 2))
    with pytest.raises(ConfigError, match=r"mixture\.quality\.field is 'quality', and no document"):
        curate(recipe, InThisProcess())
