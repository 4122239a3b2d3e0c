from __future__ import annotations

import pickle
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlong.config import format_config, parse_config
from everlong.curation.document import Document
from everlong.curation.harm.bad_word_lists import WORDS
from everlong.curation.harm.bad_words import BadWords
from everlong.curation.step import PreparedStep, ReadingStep
from everlong.errors import ConfigError, MissingDataError
from everlong.evaluation.data import Data
from everlong.files import sha256_file
from tests.evaluation.public_data import public_data


def document(text: str, language: str | None) -> Document:
    return Document("id", text, "source", language)


def terms(language: str) -> list[str]:
    return [" ".join(term.split()) for term in WORDS[language].split(",")]


@pytest.mark.parametrize("language", WORDS)
def test_every_listed_word_is_found_once(language: str) -> None:
    step = BadWords()
    for term in terms(language):
        word = term.rstrip("*")
        for text in (word, f"({word.upper()})!", f"so {word}, so", word.replace(" ", "\n ")):
            assert step.count(text, language) == 1, text
        if term.endswith("*"):
            assert step.count(f"{word}ne", language) == 1, term


@pytest.mark.parametrize("language", sorted(set(WORDS) - {"zh", "ja"}))
def test_a_word_inside_another_is_none(language: str) -> None:
    step = BadWords()
    for term in terms(language):
        if " " not in term:
            assert step.count(f"xq{term.rstrip('*')}", language) == 0, term
        if not term.endswith("*"):
            assert step.count(f"{term}xq", language) == 0, term


def test_accents_vowels_and_prefixes_do_not_matter() -> None:
    step = BadWords()
    assert step.count("Cabron! MARICÓN", "es") == 2
    assert step.count("Scheissjuden und Arschloecher", "de") == 1
    assert step.count("والشَّرْمُوطَة", "ar") == 1
    assert step.count("这个傻逼说", "zh") == 1
    assert step.count("रंडियों", "hi") == 1  # a longer listed word, not a shorter one with an end


def test_a_long_text_may_have_some() -> None:
    step = BadWords()
    word = "Hurensohn "
    short = document("Sie sagte: " + word, "de")
    dropped = step(short)
    assert dropped is not None
    assert (dropped.rule, dropped.detail) == ("bad_words", "1 in 21 letters, by the list of de")
    assert short.metadata["bad_words"] == 1
    for count, letters, kept in ((1, 3999, False), (1, 4000, True), (2, 7999, False)):
        one = document((word * count).ljust(letters, "."), "de")
        assert (step(one) is None) == kept
        assert one.metadata["bad_words"] == count
    assert BadWords(letters=None)(document(word.ljust(10**5, "."), "de")) is not None
    assert BadWords(letters=None)(document("Guten Tag", "de")) is None


@pytest.mark.parametrize("language", [None, "sw", "en"])
def test_other_languages_pass(language: str | None) -> None:
    kept = document("Hurensohn", language)
    assert BadWords()(kept) is None
    assert kept.metadata["bad_words"] == (0 if language == "en" else None)
    left_out = document("Hurensohn", "de")
    assert BadWords(languages=("en", "fr"))(left_out) is None
    assert left_out.metadata["bad_words"] is None


def test_own_lists_take_the_place_of_ours(tmp_path: Path) -> None:
    own = tmp_path / "words.txt"
    own.write_text("\ufeffRübe*\n\nalte  Schachtel\n", encoding="utf-8")
    step = BadWords(files={"de": own, "sw": own})
    assert isinstance(step, PreparedStep)
    assert isinstance(step, ReadingStep)
    step.prepare()
    assert step.reads() == {"de": sha256_file(own), "sw": sha256_file(own)}
    for language in ("de", "sw"):
        assert step.count("Rüben! RUBE, Alte Schachtel, Hurensohn", language) == 3
    assert step.count("Rübe", "en") == 0
    assert parse_config(BadWords, format_config(step)) == step
    assert pickle.loads(pickle.dumps(step)) == step


def test_what_cannot_be_read_is_told_before_the_run(tmp_path: Path) -> None:
    gone, binary, empty, large = (tmp_path / name for name in ("gone", "binary", "empty", "large"))
    binary.write_bytes(b"\xff\xfe\xfa")
    empty.write_text("\n *\n")
    large.write_bytes(b"word\n" * 300_000)
    with pytest.raises(MissingDataError, match="gone is not there; change the files of bad_words"):
        BadWords(files={"de": gone}).reads()
    for path, told in ((gone, "gone"), (binary, "UTF-8"), (empty, "no word"), (large, "at most")):
        with pytest.raises((ConfigError, MissingDataError), match=told):
            BadWords(files={"de": path}).prepare()


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match="letters is 0; give 1 or more, or null"):
        BadWords(letters=0)
    with pytest.raises(ConfigError, match="'deu', which is no language; here it is called de"):
        BadWords(languages=("deu",))
    with pytest.raises(ConfigError, match="'klingon', which is no language; give such as de"):
        BadWords(files={"klingon": Path("words")})
    with pytest.raises(ConfigError, match="languages has sw, without a list; give one in files"):
        BadWords(languages=("de", "sw"))


@given(st.text(), st.sampled_from(sorted(WORDS)))
def test_any_text_can_be_looked_at(text: str, language: str) -> None:
    assert BadWords().count(text, language) >= 0


def test_a_hostile_text_takes_no_minutes() -> None:
    step = BadWords()
    step.prepare()
    start = time.process_time()
    for language, text in (("en", "sand \n" * 100_000), ("en", "fuck you " * 50_000)):
        step.count(text, language)
    step.count("ابن " * 100_000, "ar")
    assert time.process_time() - start < 20  # quadratic, it would be hours


def test_harmless_text_of_the_languages_stays() -> None:
    step = BadWords()
    rows = Data(public_data()).rows("sib200/test.tsv", lambda row: (row["lang"], row["text"]))
    looked_at = 0
    for code, text in rows:
        if (language := {"deu_Latn": "de", "spa_Latn": "es", "hin_Deva": "hi"}.get(code)) is None:
            continue
        assert step(document(text, language)) is None
        looked_at += 1
    assert looked_at == 3 * 204
