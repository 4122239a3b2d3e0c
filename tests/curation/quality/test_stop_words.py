from __future__ import annotations

from collections.abc import Iterable, Iterator

from everlong.curation.document import Document
from everlong.curation.language.codes import canonical, is_canonical
from everlong.curation.quality.gopher import GopherQuality
from everlong.curation.quality.stop_words import STOP_WORDS
from everlong.curation.quality.words import words_of
from everlong.evaluation.data import Data
from tests.evaluation.public_data import public_data


def passages(texts: Iterable[str]) -> Iterator[str]:
    """Of 50 words or a little more."""
    passage = ""
    for text in texts:
        passage = f"{passage} {text}"
        if words_of(passage).without_symbols >= 50:
            yield passage
            passage = ""


def dropped(passage: str, language: str) -> bool:
    found = GopherQuality()(Document("id", passage, "source", language))
    return found is not None and found.rule == "few_stop_words"


def test_lists_are_of_languages_and_have_different_words() -> None:
    assert len(STOP_WORDS) == 107
    for language, words in STOP_WORDS.items():
        assert is_canonical(language)
        assert len(set(words)) == len(words) >= 8


def test_held_out_running_text_has_two_and_lists_of_names_have_not() -> None:
    data = Data(public_data())
    sentences: dict[str, list[str]] = {language: [] for language in STOP_WORDS}
    names: dict[str, list[str]] = {language: [] for language in STOP_WORDS}
    for code, text in data.rows("sib200/test.tsv", lambda row: (row["lang"], row["text"])):
        if (language := canonical(code)) in sentences:
            sentences[language].append(text)
    for every in data.rows("emoji/emoji_names.jsonl", lambda row: dict(row["names"])):
        for code, name in every.items():
            if (language := canonical(code)) in names:
                names[language].append(name)
    running = [(one, language) for language in STOP_WORDS for one in passages(sentences[language])]
    listed = [(one, language) for language in STOP_WORDS for one in passages(names[language])]
    assert len(running) > 7_000
    assert not any(dropped(*one) for one in running)
    assert sum(dropped(*one) for one in listed) / len(listed) > 0.3
