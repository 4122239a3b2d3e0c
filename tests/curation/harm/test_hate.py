from __future__ import annotations

import pickle
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlong.config import format_config, parse_config
from everlong.curation.document import Document, Dropped
from everlong.curation.harm.hate import Hate
from everlong.curation.harm.hate_phrases import PHRASES
from everlong.curation.harm.slurs import SLURS
from everlong.curation.step import PreparedStep, ReadingStep
from everlong.errors import ConfigError, MissingDataError
from everlong.evaluation.data import Data
from everlong.files import sha256_file
from tests.evaluation.public_data import public_data


def document(text: str, language: str | None) -> Document:
    return Document("id", text, "source", language)


def terms(listed: str) -> list[str]:
    return [" ".join(term.split()) for term in listed.split(",")]


def slurs(text: str, language: str) -> int:
    return Hate().count(text, language)[0]


def phrases(text: str, language: str) -> int:
    return Hate().count(text, language)[1]


@pytest.mark.parametrize("language", SLURS)
def test_every_listed_word_is_found_once(language: str) -> None:
    for term in terms(SLURS[language]):
        word = term.rstrip("*")
        for text in (word, f"({word.upper()})!", f"so {word}, so", word.replace(" ", "\n ")):
            assert slurs(text, language) == 1, text
        if term.endswith("*"):
            assert slurs(f"{word}ne", language) == 1, term


@pytest.mark.parametrize("language", sorted(set(SLURS) - {"zh", "ja"}))
def test_a_word_inside_another_is_none(language: str) -> None:
    for term in terms(SLURS[language]):
        if " " not in term:
            assert slurs(f"xq{term.rstrip('*')}", language) == 0, term
        if not term.endswith("*"):
            assert slurs(f"{term}xq", language) == 0, term


def test_accents_vowels_and_prefixes_do_not_matter() -> None:
    assert slurs("Cabron! MARICÓN", "es") == 2
    assert slurs("Scheissjuden und Arschloecher", "de") == 1
    assert slurs("والشَّرْمُوطَة", "ar") == 1
    assert slurs("这个傻逼说", "zh") == 1
    assert slurs("रंडियों", "hi") == 1  # a longer listed word, not a shorter one with an end


@pytest.mark.parametrize("language", PHRASES)
def test_groups_are_found_with_all_that_is_said_of_them(language: str) -> None:
    of = PHRASES[language]
    gap = "" if language == "zh" else " "
    group, harm, verdict = (terms(kind)[0] for kind in (of.groups, of.harms, of.verdicts))
    said = [
        *(f"{one}{gap}{verdict}" for one in terms(of.groups)),
        *(f"{group}{gap}{one}" for one in terms(of.verdicts)),
        *(f"{one}{gap}{group}" for one in terms(of.feelings) if one),
    ]
    hated = terms(of.feelings)[0]
    said += [f"{hated}{gap}{one}" for one in terms(of.objects) if one]
    are, insult = terms(of.are)[0], terms(of.insults)[0]
    if language == "hi":
        said += [f"{group} {one} {are}" for one in terms(of.insults)]
        said += [f"{one} {group} {harm}" for one in terms(of.calls)]
        said += [f"{terms(of.calls)[0]} {group} {one}" for one in terms(of.harms)]
    else:
        said += [f"{group}{gap}{are}{gap}{one}" for one in terms(of.insults)]
        said += [f"{group}{gap}{one}{gap}{insult}" for one in terms(of.are)]
        said += [f"{one}{gap}{harm}{gap}{group}" for one in terms(of.calls)]
    said += [f"{one}{gap}{group}" for one in terms(of.orders) if one]
    for text in said:
        plain = text.replace("*", "")
        assert phrases(plain, language) >= 1, plain
        assert phrases(f"x. {plain}!", language) >= 1, plain
        assert phrases(f"„{plain}“", language) == 0, plain
    for one in terms(of.reported):
        assert phrases(f"{one.replace('*', '')}{gap}{group}{gap}{verdict}", language) == 0, one
    for one in filter(None, terms(of.beside)):
        assert phrases(f"{one}{gap}{group}{gap}{verdict}", language) == 0, one
    for one in terms(of.groups):
        assert phrases(f"{one}, {one}", language) == 0, one


@pytest.mark.parametrize(
    ("language", "text", "found"),
    [
        ("en", "I really hate all those fucking immigrants.", 1),
        ("en", "WE SHOULD kill\nall the Jews", 1),
        ("en", "Nice day. Kill all muslims!", 1),
        ("en", "The women kill all muslims in that novel", 0),
        ("en", "I don't hate women", 0),
        ("en", "Not all Muslims are terrorists", 0),
        ("en", "He said that women are vermin. Women are vermin.", 1),
        ("en", "They yelled: 'Women are vermin', and she \"all Jews, all women are vermin\"", 0),
        ("en", '"Go away." Women are vermin', 1),
        ("en", 'He wrote:"Women are vermin" and "Women are vermin"', 0),
        ("en", 'Women are "vermin" to him', 0),
        ("en", "I hate women's shoes", 0),
        ("en", "I hate, women know, all that", 0),
        ("en", "Those I hate. Women were there", 0),
        ("es", "Matar a los moros era su oficio", 0),
        ("es", "¡Quemen a todos los judíos!", 1),
        ("zh", "他写：“黑人都是垃圾”。", 0),
        ("zh", "够了！杀光这些穆斯林！", 1),
        ("en", "Attacks on women are disgusting", 0),
        ("en", "A lot of women are disgusting", 1),
        ("en", "Hate against disabled people makes me sick", 0),
        ("en", "Women deserve no less than equal pay", 0),
        ("en", "You beat up whites of eggs", 0),
        ("de", "Wir müssen all diese Ausländer endlich abschieben", 0),  # a word between them
        ("de", "Wir müssen alle diese Ausländer abschieben", 1),
        ("de", "Wir sollten Ausländer nicht abschieben", 0),
        ("it", "I diritti dei gay sono una minaccia", 0),
        ("it", "Morte ai gay", 1),
        ("fr", "Mort aux juifs !", 1),
        ("nl", "Homo's zijn vieze beesten", 1),
        ("ar", "الموت لليهود", 1),
        ("zh", "他说黑人都是垃圾", 0),
        ("zh", "黑人都是垃圾", 1),
        ("hi", "सभी मुसलमान आतंकवादी होते हैं", 1),
        ("hi", "औरतें जानवर पालती हैं", 0),
        ("ja", "女性は虫けらだ", 0),  # there are slurs alone
    ],
)
def test_who_is_meant_and_who_says_it(language: str, text: str, found: int) -> None:
    assert phrases(text, language) == found
    assert Hate(phrases=False).count(text, language) == (0, 0)


def test_a_long_text_may_have_some() -> None:
    step = Hate()
    word = "Hurensohn "
    short = document("Sie sagte: " + word, "de")
    dropped = step(short)
    assert dropped is not None
    assert dropped == Dropped("slurs", "slurs: 1, phrases: 0, in 21 letters of de")
    assert short.metadata["hate"] == 1
    for count, letters, kept in ((1, 3999, False), (1, 4000, True), (2, 7999, False)):
        one = document((word * count).ljust(letters, "."), "de")
        assert (step(one) is None) == kept
        assert one.metadata["hate"] == count
    assert Hate(letters=None)(document(word.ljust(10**5, "."), "de")) is not None
    assert Hate(letters=None)(document("Guten Tag", "de")) is None
    said = Hate()(document("Juden sind Ungeziefer, raus mit den Juden", "de"))
    assert said == Dropped("phrases", "slurs: 0, phrases: 2, in 41 letters of de")


@pytest.mark.parametrize("language", [None, "sw", "en"])
def test_other_languages_pass(language: str | None) -> None:
    kept = document("Hurensohn", language)
    assert Hate()(kept) is None
    assert kept.metadata["hate"] == (0 if language == "en" else None)
    left_out = document("Hurensohn", "de")
    assert Hate(languages=("en", "fr"))(left_out) is None
    assert left_out.metadata["hate"] is None


def test_own_lists_take_the_place_of_ours(tmp_path: Path) -> None:
    own = tmp_path / "words.txt"
    own.write_text("\ufeffRübe*\n\nalte  Schachtel\n", encoding="utf-8")
    step = Hate(slurs={"de": own, "sw": own})
    assert isinstance(step, PreparedStep)
    assert isinstance(step, ReadingStep)
    step.prepare()
    assert step.reads() == {"de": sha256_file(own), "sw": sha256_file(own)}
    for language in ("de", "sw"):
        assert step.count("Rüben! RUBE, Alte Schachtel, Hurensohn", language) == (3, 0)
    assert step.count("Rübe", "en") == (0, 0)
    assert parse_config(Hate, format_config(step)) == step
    assert pickle.loads(pickle.dumps(step)) == step


def test_what_cannot_be_read_is_told_before_the_run(tmp_path: Path) -> None:
    gone, binary, empty, large = (tmp_path / name for name in ("gone", "binary", "empty", "large"))
    binary.write_bytes(b"\xff\xfe\xfa")
    empty.write_text("\n *\n")
    large.write_bytes(b"word\n" * 300_000)
    with pytest.raises(MissingDataError, match="gone is not there; change the slurs of hate"):
        Hate(slurs={"de": gone}).reads()
    for path, told in ((gone, "gone"), (binary, "UTF-8"), (empty, "no word"), (large, "at most")):
        with pytest.raises((ConfigError, MissingDataError), match=told):
            Hate(slurs={"de": path}).prepare()


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match="letters is 0; give 1 or more, or null"):
        Hate(letters=0)
    with pytest.raises(ConfigError, match="'deu', which is no language; here it is called de"):
        Hate(languages=("deu",))
    with pytest.raises(ConfigError, match="'klingon', which is no language; give such as de"):
        Hate(slurs={"klingon": Path("words")})
    with pytest.raises(ConfigError, match="languages has sw, without a list; give one in slurs"):
        Hate(languages=("de", "sw"))


@given(st.text(), st.sampled_from(sorted(SLURS)))
def test_any_text_can_be_looked_at(text: str, language: str) -> None:
    assert min(Hate().count(text, language)) >= 0


def test_a_hostile_text_takes_no_minutes() -> None:
    step = Hate()
    step.prepare()
    start = time.process_time()
    for language, text in (
        ("en", "sand \n" * 100_000),
        ("en", "we should all the " * 30_000),
        ("en", "women are" + " all" * 100_000 + "!" * 100_000),
        ("zh", "我们应该所有的" * 50_000),
    ):
        step.count(text, language)
    step.count("ابن " * 100_000, "ar")
    assert time.process_time() - start < 20  # quadratic, it would be hours


def test_harmless_text_of_the_languages_stays() -> None:
    step = Hate()
    rows = Data(public_data()).rows("sib200/test.tsv", lambda row: (row["lang"], row["text"]))
    looked_at = 0
    for code, text in rows:
        if (language := {"deu_Latn": "de", "spa_Latn": "es", "hin_Deva": "hi"}.get(code)) is None:
            continue
        assert step(document(text, language)) is None
        looked_at += 1
    assert looked_at == 3 * 204
