"""Paraphrases by a local model: what counts as one, and what becomes of a document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import pytest

from everlong.config import parse_config
from everlong.curation.augmentation.made import MADE_BY, MADE_FROM
from everlong.curation.augmentation.paraphrase import Paraphrase
from everlong.curation.document import Document
from everlong.curation.recipe import Curation
from everlong.errors import ConfigError

STEP = Paraphrase(model="smollm2-135m")
OLD = (
    "The bridge over the Avon was built in 1831 by Brunel, who was then 24 years old. It is 412 "
    "metres long, and its towers are made of local sandstone. Trains have never crossed it, but "
    "carriages did until the toll was raised, and today some 8,000 cars pass every day."
)
NEW = (
    "Brunel, at the age of 24, built the Avon bridge in 1831. Its length is 412 metres and local "
    "sandstone makes up both towers. While no trains ever crossed, carriages did so until somebody "
    "raised the toll; today about 8,000 cars pass over it every day."
)


@pytest.mark.parametrize(
    ("written", "why"),
    [
        (NEW, None),
        (OLD, "is a copy"),
        (NEW[:60], "has another length"),
        (NEW + NEW, "has another length"),
        ("Sure! " + NEW, "is about the task"),
        ("Here is the paragraph: " + NEW, "is about the task"),
        (NEW.replace("412", "421"), "has other numbers"),
        (NEW.replace(" 1831", ""), "has other numbers"),
        (NEW.replace("Avon", "Thames"), "has other names"),
        ("Nothing at all of what was asked comes here, 1831 24 412 8,000. " * 4, "has other words"),
    ],
)
def test_what_counts(written: str, why: str | None) -> None:
    assert STEP.why_not(OLD, written) == why


def test_a_text_about_sure_things_may_begin_so() -> None:
    assert STEP.why_not("Sure footing matters. " + OLD, "Sure feet matter. " + NEW) is None


class Writes(Paraphrase):
    """Answers from a list instead of a model."""

    asked: list[list[str]] = []  # noqa: RUF012
    answers: Sequence[str | None] = ()

    def _written(self, paragraphs: list[str], seed: int) -> list[str | None]:
        self.asked.append(paragraphs)
        return [*self.answers]


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> type[Writes]:
    monkeypatch.setattr(Writes, "asked", [])
    return Writes


def test_a_document_has_the_paragraphs_that_count(writes: type[Writes]) -> None:
    writes.answers = [NEW, OLD, None]
    text = f"# Bridges\n\n{OLD}\n\nshort\n\n{OLD}\n\n{OLD}"
    (made,) = writes(model="any").make(Document("id", text, "books", "en", "MIT"))
    assert writes.asked == [[OLD, OLD, OLD]]
    assert made.text == NEW
    assert (made.source, made.language, made.licence) == ("books", "en", "MIT")
    assert made.metadata[MADE_FROM] == "id"
    assert made.metadata[MADE_BY] == "paraphrase"
    assert made.metadata["paraphrased"] == pytest.approx(0.33, abs=0.01)


def test_nothing_is_made_where_nothing_counts(writes: type[Writes]) -> None:
    writes.answers = [OLD]
    document = Document("id", OLD, "books", "en")
    assert [*writes(model="any").make(document)] == []
    assert len(writes.asked) == 1


@pytest.mark.parametrize(
    ("step", "document"),
    [
        ({"sources": ("news",)}, Document("id", OLD, "books", "en")),
        ({}, Document("id", OLD, "books", "fr")),
        ({}, Document("id", OLD, "books", "en", None, {MADE_FROM: "other"})),
        ({}, Document("id", "too short", "books", "en")),
        ({"longest": 220, "shortest": 200}, Document("id", OLD, "books", "en")),
        ({}, Document("id", OLD.replace(".", ""), "books", "en")),
    ],
)
def test_some_documents_are_not_asked_about(
    writes: type[Writes], step: dict[str, tuple[str, ...]], document: Document
) -> None:
    writes.answers = [NEW]
    assert [*replace(writes(model="any"), **step).make(document)] == []  # type: ignore[arg-type]
    assert writes.asked == []


@pytest.mark.parametrize(
    ("field", "told"),
    [
        ("", "needs a model"),
        ("model: x, instructions: []", "say what the model shall do"),
        ("model: x, copies: 0", "give 1 or more"),
        ("model: x, shortest: 900, longest: 100", "1 <= shortest <= longest"),
        ("model: x, temperature: 3", "give 0 to 2"),
        ("model: x, temperature: 0, copies: 2", "all copies are the same"),
        ("model: x, most_copied: 1.5", "give 0 to 1"),
    ],
)
def test_absurd_settings_are_refused(field: str, told: str) -> None:
    step = f"{{kind: paraphrase, {field}}}"
    with pytest.raises(ConfigError, match=told):
        parse_config(Curation, f"{{run: r, sources: [{{name: a, paths: [b]}}], steps: [{step}]}}")


def test_a_model_that_is_not_there_stops_the_run() -> None:
    with pytest.raises(ConfigError, match="the model of the paraphrase step: there is no model"):
        Paraphrase(model="nowhere").prepare()


def test_a_paragraph_that_does_not_fit_the_window_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    most = STEP.longest // 2

    class Small:
        """A model with room for 100 tokens of a prompt, one for each letter."""

        max_model_len = 100 + most
        tokenizer = SimpleNamespace(encode_chat=lambda messages: [*messages[0]["content"]])

        def generate(self, prompts: list[list[str]], **params: object) -> list[SimpleNamespace]:
            assert params["max_tokens"] == most
            assert all(len(prompt) <= 100 for prompt in prompts)
            return [SimpleNamespace(text="written", finish_reason="stop") for _ in prompts]

    monkeypatch.setattr(Paraphrase, "_loaded", lambda step: Small())
    step = replace(STEP, instructions=("Rewrite this.",))
    assert step._written(["a" * 200, "a" * 50], 0) == [None, "written"]
    assert step._written(["a" * 200], 0) == [None]


def test_a_real_model_writes_the_same_every_time() -> None:
    """Alone and beside another paragraph; an instruction works on the answer before it."""
    try:
        STEP.prepare()
    except ConfigError as missing:
        pytest.skip(str(missing))
    step = replace(STEP, longest=400)
    (alone,) = step._written([OLD], 7)
    beside, _ = step._written([OLD, NEW], 7)
    assert alone == beside
    assert alone != step._written([OLD], 8)[0]
    twice = replace(step, instructions=(*step.instructions, "Answer with the word yes only."))
    assert twice._written([OLD], 7)[0] != alone
