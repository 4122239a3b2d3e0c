from __future__ import annotations

import gzip
import json
import pickle
import time
from pathlib import Path

import numpy as np
import pytest

from everlong.config import format_config, parse_config
from everlong.curation.document import Document
from everlong.curation.harm import toxicity_training
from everlong.curation.harm.toxicity import WEIGHTS, Toxicity, classifier
from everlong.curation.harm.toxicity_evaluation import TEMPLATES, auc, measure, sentences
from everlong.curation.harm.toxicity_training import (
    PLURAL,
    harmless,
    passages_of,
    spread,
    train,
    tweets_of,
    with_groups,
)
from everlong.curation.step import PreparedStep
from everlong.errors import CheckpointError, ConfigError, MissingDataError
from everlong.evaluation.data import Data
from tests.evaluation.public_data import public_data

PROSE = (
    "The committee met on Thursday to discuss how the new railway would change the valley, and "
    "whether the farmers who live along the river should be paid for the land that they lose. "
)
MEDICINE = (
    "Breast cancer is diagnosed by a biopsy. Sexual intercourse, anal fissures, vaginal bleeding "
    "and infections of the penis should be talked about with a doctor. "
)
INSULT = "shut up you stupid ugly bitch, nobody wants you here. "


def english(text: str) -> Document:
    return Document("id", text, "source", "en")


def test_insults_are_dropped_and_prose_is_kept() -> None:
    step = Toxicity()
    for text in (PROSE, MEDICINE, PROSE * 20, "", "..."):
        kept = english(text)
        assert step(kept) is None
        assert kept.metadata["toxicity"] == round(step.score(text), 4)
        assert step.score(text) < 0.5
    found = english(PROSE + INSULT + PROSE)
    dropped = step(found)
    assert dropped is not None
    assert dropped.rule == "toxicity"
    assert dropped.detail == "1.00, less than 0.9 is allowed"
    assert found.text == PROSE + INSULT + PROSE
    assert not found.history


def test_a_novel_may_have_an_insult() -> None:
    novel = PROSE * 40 + INSULT + PROSE * 40
    assert Toxicity()(english(novel)) is None
    assert Toxicity(share=0)(english(novel)) is not None
    assert Toxicity()(english(PROSE * 2 + INSULT * 10 + PROSE * 2)) is not None
    # All passages of a document may be toxic, and then its mildest decides.
    assert Toxicity(share=1).score(PROSE * 4 + INSULT * 4) == pytest.approx(
        classifier().window_scores(PROSE * 4 + INSULT * 4).min()
    )


def test_a_threshold_matters() -> None:
    score = Toxicity().score(PROSE)
    assert 0 < score < 0.5
    assert Toxicity(threshold=score / 2)(english(PROSE)) is not None
    assert Toxicity(threshold=score * 2)(english(PROSE)) is None


def test_all_may_be_kept_and_only_scored() -> None:
    kept = english(INSULT)
    assert Toxicity(action="annotate")(kept) is None
    assert kept.metadata["toxicity"] == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("language", [None, "nl", "zh"])
def test_languages_that_it_does_not_know_pass(language: str | None) -> None:
    kept = Document("id", INSULT, "source", language)
    assert Toxicity()(kept) is None
    assert kept.metadata["toxicity"] is None
    assert Toxicity(languages=())(kept) is not None
    assert Toxicity(languages=("en", "nl"))(kept) is None or language == "nl"


def test_a_damaged_file_is_told_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "damaged").write_bytes(b"damaged")
    monkeypatch.setattr("everlong.curation.harm.toxicity.WEIGHTS", tmp_path / "damaged")
    classifier.cache_clear()
    step = Toxicity()
    assert isinstance(step, PreparedStep)
    with pytest.raises(CheckpointError, match="damaged cannot be read"):
        step.prepare()


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"threshold is 1\.5; give 0 to 1"):
        Toxicity(threshold=1.5)
    with pytest.raises(ConfigError, match=r"share is -1; give 0 to 1"):
        Toxicity(share=-1)
    with pytest.raises(ConfigError, match="action is 'remove'"):
        Toxicity(action="remove")  # type: ignore[arg-type]
    step = Toxicity(threshold=0.7, languages=("en", "sco"))
    assert parse_config(Toxicity, format_config(step)) == step
    assert pickle.loads(pickle.dumps(step)) == step


def test_the_weights_are_small_and_say_where_they_are_from() -> None:
    assert WEIGHTS.stat().st_size < 300_000
    assert "hate_offensive (MIT)" in classifier().description["data"]
    assert "NC" not in classifier().description["data"]


def test_it_is_fast() -> None:
    texts = [f"{number} {PROSE}"[:90] for number in range(1000)]
    step = Toxicity()
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        for text in texts:
            step.score(text)
        best = min(best, time.perf_counter() - start)
    assert len(texts) / best > 2000  # 9,000 a second were measured where nothing else ran


def test_area_under_the_curve() -> None:
    truth = np.array([True, True, False, False])
    assert auc(np.array([4.0, 3.0, 2.0, 1.0]), truth) == 1
    assert auc(np.array([4.0, 1.0, 2.0, 3.0]), truth) == 0.5
    assert auc(np.array([1.0, 1.0, 1.0, 1.0]), truth) == 0.5


def test_sentences_name_their_group() -> None:
    found = list(sentences())
    assert {one.function for one in found} == set(TEMPLATES)
    assert all("{" not in one.text for one in found)
    assert len({one.text for one in found}) == len(found)
    assert {one.named_in_training for one in found} == {True, False}


def test_people_get_a_group() -> None:
    passages = ["Many people came.", "She saw a man there.", "No one."]
    found = with_groups(passages, 50, seed=1)
    assert len(found) == 50
    assert {one.split(" came")[0] for one in found if "came" in one} <= {
        f"Many {p}" for p in PLURAL
    }
    assert not any(one == "Many people came." or "a man there" in one for one in found)
    assert found == with_groups(passages, 50, seed=1) != with_groups(passages, 50, seed=2)
    assert with_groups(["No one."], 50, seed=1) == []


def test_passages_are_the_text() -> None:
    text = " ".join(f"word{number}" for number in range(500))
    found = passages_of(text, 60)
    assert " ".join(found) == text
    assert all(60 <= len(one) + 1 < 70 for one in found[:-1])
    assert passages_of("  \n ") == []
    assert spread(found, 3) == [found[0], found[len(found) // 3], found[2 * len(found) // 3]]
    assert spread(found, 10_000) == found


def small_data(folder: Path) -> Path:
    """A data folder with a little of everything that training reads."""

    def write(name: str, *lines: str) -> None:
        path = folder / f"{name}.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress("\n".join(lines).encode()))

    tweets = []
    for number in range(400):
        kind = number % 3
        word = ("rotten", "filthy", "lovely")[kind]
        tweets.append(f"{number},0,0,0,{kind},RT @somebody: number {number} is a {word} day")
    write("hate_offensive/labeled_data.csv", "count,a,b,c,class,tweet", *tweets)
    for number in range(20):
        write(f"books/{number}.txt", f"Book {number} tells of people, a man and dog{number}. " * 20)
    write("books/twain_adventures_of_huckleberry_finn.txt", "Never read in training.")
    for name in ("valid", "test"):
        write(
            f"wikitext2/{name}.txt",
            *[f"Article {n} on {name} <unk> and people." for n in range(50)],
        )
    for split in ("train", "dev", "test"):
        numbered = [f"{number}\tx\tSentence {number} of {split}." for number in range(9)]
        rows = [f"{language}\t{row}" for language in ("eng_Latn", "fra_Latn") for row in numbered]
        write(f"sib200/{split}.tsv", "lang\tindex_id\tcategory\ttext", *rows)
        for name in ("banking", "clinc", "snips"):
            requests = [f"{name} {split} {number}\tx" for number in range(9)]
            write(f"intents/{name}_{split}.tsv", "text\tlabel", *requests)
    pages = [{"lang": "en", "text": f"page {number} of a manual"} for number in range(30)]
    write("tldr/tldr.jsonl", *map(json.dumps, [*pages, {"lang": "ko", "text": "page"}]))
    write(
        "medquad/medquad.jsonl",
        *[
            json.dumps({"question": f"What is {n}?", "answer": f"A disease {n}."})
            for n in range(30)
        ],
    )
    return folder


def test_training_is_the_same_to_the_bit(tmp_path: Path) -> None:
    folder = small_data(tmp_path / "data")
    for name in ("a", "b"):
        train(folder, 3).save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    train(folder, 4).save(tmp_path / "c")
    assert (tmp_path / "a").read_bytes() != (tmp_path / "c").read_bytes()


def test_what_training_may_be_told(tmp_path: Path) -> None:
    folder = small_data(tmp_path / "data")
    learned = train(folder)
    for other in (train(folder, parts=("training",)), train(folder, swapped=0)):
        assert not np.array_equal(other.weights, learned.weights)
    assert learned.score("number 999 is a rotten day") > 0.5 > learned.score("a lovely day")


def test_parts_share_nothing(tmp_path: Path) -> None:
    data = Data(small_data(tmp_path / "data"))
    parts: tuple[toxicity_training.Part, ...] = ("training", "validation", "held_out")
    assert all(tweets_of(data, part) for part in parts)
    found = [
        {tweet.text for tweet in tweets_of(data, part)}.union(*harmless(data, part).values())
        for part in parts
    ]
    assert sum(map(len, found)) == len(set.union(*found))
    assert not any("Never read" in text for one in found for text in one)


def test_nothing_held_out_is_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def some(data: Data, part: toxicity_training.Part) -> object:
        asked.append(part)
        return tweets_of(data, part)

    monkeypatch.setattr(toxicity_training, "tweets_of", some)
    train(small_data(tmp_path / "data"))
    assert asked == ["training", "validation"]


def test_missing_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"hate_offensive/labeled_data\.csv"):
        train(tmp_path)


def test_toxic_tweets_that_are_held_out_are_told_apart() -> None:
    tweets = tweets_of(Data(public_data()), "held_out")
    chosen = tweets[::2]
    scores = np.array([classifier().score(tweet.text) for tweet in chosen])
    toxic = np.array([tweet.group != "neither" for tweet in chosen])
    assert auc(scores, toxic) > 0.97
    assert (scores[toxic] >= 0.9).mean() > 0.85
    assert (scores[~toxic] >= 0.9).mean() < 0.04


def test_sentences_about_groups_pass() -> None:
    step = Toxicity()
    passed = [one for one in sentences() if one.function != "hateful"]
    assert [one.text for one in passed if step.score(one.text) >= step.threshold] == []


def test_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = public_data()
    monkeypatch.setattr("everlong.curation.harm.toxicity_evaluation._OF_EACH", 50)
    monkeypatch.setattr("everlong.curation.harm.toxicity_evaluation._DOCUMENT", 50_000)
    monkeypatch.setattr(
        "everlong.curation.harm.toxicity_evaluation._by_language",
        lambda data: {"deu": ["Guten Tag."]},
    )
    found = measure(folder, Toxicity())
    assert found.toxic_auc > 0.95
    assert found.tweets["offensive"].percent > 85
    assert found.tweets["neither"].texts == found.dialect.texts + found.no_dialect.texts
    assert all(one.percent <= 2 for one in found.harmless.values())
    assert found.languages["deu"].flagged == 0
