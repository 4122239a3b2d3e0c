"""Perplexity: the model's own, the same whatever is around a document, and within its bounds."""

from __future__ import annotations

import gzip
import json
import math
import pickle
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from everlong.checkpoint.catalog import resolve
from everlong.checkpoint.export import export_trained
from everlong.checkpoint.loading import open_model
from everlong.config import format_config, parse_config
from everlong.curation.document import Document
from everlong.curation.lock import outputs_of
from everlong.curation.pipeline import Pipeline
from everlong.curation.quality.perplexity import Perplexity, surprise_of
from everlong.curation.workers import LocalExecutor, WorkerLimits
from everlong.engine.llm import LLM
from everlong.errors import CheckpointError, ConfigError
from tests.curation.test_pipeline import InThisProcess, kept, recipe
from tests.engine import tiny
from tests.evaluation.public_data import public_data
from tests.model.random_models import random_weights

TEXT = "a small model writes words of its own, and nobody knows the words before it has. "


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a small random model."""
    folder = tmp_path_factory.mktemp("model") / "small"
    export_trained(tiny.config(), random_weights(tiny.config()), tiny.tokenizer(), folder)
    return str(folder)


def bounded(model: str, lowest: float | None, highest: float | None) -> Perplexity:
    return Perplexity(model=model, least_tokens=1, lowest=lowest, highest=highest)


def english(text: str) -> Document:
    return Document("id", text, "source", "en")


def test_it_is_what_the_engine_says(model: str) -> None:
    opened = open_model(model)
    ids = opened.tokenizer.encode(TEXT * 4, special=False, bos=False)[:150]
    begins = min(opened.tokenizer.eos_token_ids)
    with LLM(opened.model, opened.tokenizer, name="small", fingerprint=b"small") as llm:
        (answers,) = llm.score([([begins, *ids], 1)])
    nats = -sum(answer.logprob for answer in answers)
    found = surprise_of(TEXT * 4, model, 150)
    assert found is not None
    assert found.tokens == len(answers) == 150
    assert (TEXT * 4).startswith(opened.tokenizer.decode(ids))
    assert found.letters == len(opened.tokenizer.decode(ids)) < len(TEXT * 4)
    assert found.nats == pytest.approx(nats, rel=0.01)
    assert found.perplexity == pytest.approx(math.exp(nats / 150), rel=0.05)
    assert found.bits_per_letter == pytest.approx(nats / math.log(2) / found.letters, rel=0.01)


def test_a_document_is_told_how_surprising_it_is(model: str) -> None:
    document = english(TEXT)
    assert Perplexity(model=model)(document) is None
    found = surprise_of(TEXT, model, 512)
    assert found is not None
    assert found.letters == len(TEXT)
    assert document.metadata == {
        "perplexity": round(found.perplexity, 2),
        "bits_per_letter": round(found.bits_per_letter, 4),
    }
    assert document.text == TEXT
    assert not document.history


def test_both_bounds_are_kept(model: str) -> None:
    document = english(TEXT)
    Perplexity(model=model)(document)
    found = document.metadata["perplexity"]
    assert isinstance(found, float)
    below, above = round(found - 0.01, 2), round(found + 0.01, 2)
    for lowest, highest in ((found, found), (below, above), (None, found), (found, None)):
        assert bounded(model, lowest, highest)(english(TEXT)) is None
    easy = bounded(model, above, None)(english(TEXT))
    hard = bounded(model, None, below)(english(TEXT))
    assert easy is not None
    assert hard is not None
    assert (easy.rule, easy.detail) == (
        "too_easy",
        f"perplexity {found:g}, at least {above:g}",
    )
    assert (hard.rule, hard.detail) == ("too_hard", f"perplexity {found:g}, at most {below:g}")
    scored = english(TEXT)
    assert replace(bounded(model, above, None), action="annotate")(scored) is None
    assert scored.metadata["perplexity"] == found


def test_of_little_text_the_score_says_little(model: str) -> None:
    short = surprise_of(TEXT, model, 512)
    assert short is not None
    step = bounded(model, None, 1)
    assert replace(step, least_tokens=short.tokens)(english(TEXT)) is not None
    document = english(TEXT)
    assert replace(step, least_tokens=short.tokens + 1)(document) is None
    assert document.metadata["perplexity"] == round(short.perplexity, 2)


def test_only_the_beginning_is_read(model: str) -> None:
    short = surprise_of(TEXT, model, 20)
    assert short is not None
    assert short.tokens == 20
    assert short == surprise_of(TEXT + "x" * 10**6, model, 20)
    assert short != surprise_of(TEXT, model, 21)


@pytest.mark.parametrize("language", [None, "nl", "zh"])
def test_languages_that_the_model_does_not_know_pass(model: str, language: str | None) -> None:
    document = Document("id", TEXT, "source", language)
    step = bounded(model, None, 1)
    assert step(document) is None
    assert document.metadata == {"perplexity": None, "bits_per_letter": None}
    assert replace(step, languages=())(document) is not None
    assert document.metadata["perplexity"] is not None


def test_of_nothing_nothing_is_said(model: str) -> None:
    document = english("")
    assert bounded(model, 10**6, None)(document) is None
    assert document.metadata == {"perplexity": None, "bits_per_letter": None}


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
def test_a_score_depends_on_nothing_else(model: str) -> None:
    texts = [TEXT * n + str(n) for n in range(1, 8)]
    alone = [surprise_of(text, model, 200) for text in texts]
    for number in (3, 1):
        torch.set_num_threads(number)
        assert [surprise_of(text, model, 200) for text in reversed(texts)] == alone[::-1]
        assert torch.get_num_threads() == number, "others compute as they did"


def test_the_same_bytes_for_any_number_of_processes(model: str, tmp_path: Path) -> None:
    step = replace(bounded(model, None, None), languages=())
    Pipeline(recipe(tmp_path, step, run="one"), InThisProcess()).run()
    Pipeline(recipe(tmp_path, step, run="many"), LocalExecutor(2, WorkerLimits())).run()
    assert outputs_of(tmp_path / "one") == outputs_of(tmp_path / "many") != {}
    assert all(line["metadata"]["perplexity"] > 1 for line in kept(tmp_path / "one"))


def test_a_model_that_is_not_there_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERLONG_HOME", str(tmp_path / "home"))
    step = Perplexity(languages=())
    with pytest.raises(ConfigError, match=r"perplexity step: .* everlong pull smollm2-135m"):
        Pipeline(recipe(tmp_path, step), InThisProcess()).run()
    with pytest.raises(ConfigError, match="there is no model 'nowhere'"):
        Perplexity(model="nowhere").prepare()


def test_a_window_that_is_too_small(model: str) -> None:
    assert surprise_of(TEXT, model, tiny.WINDOW - 1) is not None
    with pytest.raises(ConfigError, match=rf"tokens is {tiny.WINDOW}, .* give 1023 at most"):
        surprise_of(TEXT, model, tiny.WINDOW)
    Perplexity(model=model).prepare()
    with pytest.raises(ConfigError, match="give 1023 at most"):
        Perplexity(model=model, tokens=tiny.WINDOW).prepare()


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"model": ""}, "model is empty"),
        ({"tokens": 0}, "least_tokens is 100 and tokens 0; give 1 <= least_tokens <= tokens"),
        ({"least_tokens": 0}, "least_tokens is 0 and tokens 512"),
        ({"lowest": 0.5}, "lowest is a perplexity of 1 or more, or null, not 0.5"),
        ({"highest": float("nan")}, "highest is a perplexity of 1 or more, or null, not nan"),
        ({"lowest": 30, "highest": 20}, "lowest is 30, more than highest, which is 20"),
        ({"action": "remove"}, "action is 'remove'"),
    ],
)
def test_settings_are_checked(wrong: dict[str, object], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        Perplexity(**wrong)  # type: ignore[arg-type]


def test_it_is_what_a_recipe_says() -> None:
    step = Perplexity(model="./model", tokens=128, lowest=None, languages=("en", "sco"))
    assert parse_config(Perplexity, format_config(step)) == step
    assert pickle.loads(pickle.dumps(step)) == step


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.text(st.characters(codec=None), max_size=80), st.integers(1, 12))
def test_any_text_has_a_score(model: str, text: str, tokens: int) -> None:
    found = surprise_of(text, model, tokens)
    assert (found is None) == (not text)
    if found is not None:
        assert 1 <= found.tokens <= tokens
        assert 1 <= found.perplexity < math.inf
        assert 0 <= found.bits_per_letter < math.inf
        assert found.letters >= 1
        if found.tokens < tokens and len(text) < 16 * tokens:
            assert found.letters == len(text), "all of it was read"


def test_public_texts_lie_between_boilerplate_and_noise() -> None:
    try:
        resolve("smollm2-135m")
    except CheckpointError as missing:
        pytest.skip(str(missing))
    step, chance, folder = Perplexity(tokens=256), random.Random(1), public_data()
    book = gzip.decompress((folder / "books" / "alcott_little_women.txt.gz").read_bytes()).decode()
    prose = book[20_000:21_000]
    words = prose.split()
    chance.shuffle(words)
    with gzip.open(folder / "medquad" / "medquad.jsonl.gz", "rt", encoding="utf-8") as lines:
        answer = json.loads(next(lines))["answer"]
    assert [step(english(text)) for text in (prose, answer)] == [None, None]
    notices = "We use cookies. Accept | Decline | Settings\n" * 20
    easy, hard = step(english(notices)), step(english(" ".join(words)))
    assert easy is not None
    assert hard is not None
    assert (easy.rule, hard.rule) == ("too_easy", "too_hard")
