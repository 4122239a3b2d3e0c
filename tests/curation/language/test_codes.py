from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlong.curation.language.codes import ALIASES, ISO_639_1, canonical, is_canonical
from everlong.curation.language.scripts import SCRIPTS
from everlong.data.languages import by_language
from tests.evaluation.public_data import public_data


@pytest.mark.parametrize(
    ("code", "language"),
    [
        ("eng_Latn", "en"),
        ("eng", "en"),
        ("en", "en"),
        ("pt-BR", "pt"),
        ("zh_Hant", "zh"),
        ("zho_Hans", "zh"),
        ("yue_Hant", "yue"),
        ("arb_Arab", "ar"),
        ("arz_Arab", "arz"),
        ("nob_Latn", "no"),
        ("nb", "no"),
        ("nno_Latn", "nn"),
        ("fil", "tl"),
        ("gug", "gn"),
        ("als_Latn", "sq"),
        ("iw", "he"),
        ("GAZ", "om"),
        ("qaa", "qaa"),
    ],
)
def test_a_language_has_one_code(code: str, language: str) -> None:
    assert canonical(code) == language


def test_codes_that_a_language_can_have() -> None:
    assert all(is_canonical(code) for code in [*SCRIPTS, "qaa", "sux"])
    for code in ("eng", "nb", "EN", "English", "en_US", "xx", "", "e n", "12", "äöü"):
        assert not is_canonical(code)


def test_tables_lead_to_codes_that_stay() -> None:
    for code in [*ISO_639_1, *ISO_639_1.values(), *ALIASES, *ALIASES.values()]:
        once = canonical(code)
        assert canonical(once) == once
        assert once not in ALIASES
    two_letters = list(ISO_639_1.values())
    assert len(set(two_letters)) == len(two_letters), "two languages would be one"
    assert all(len(three) == 3 and len(two) == 2 for three, two in ISO_639_1.items())


@given(st.text(max_size=20))
def test_any_text_has_a_code_that_stays(code: str) -> None:
    assert canonical(canonical(code)) == canonical(code)


def test_agrees_with_a_published_table() -> None:
    rows = (public_data() / "linguameta" / "linguameta.tsv").read_text("utf-8").splitlines()
    short = {}
    for row in rows[1:]:
        two, three = row.split("\t")[:2]
        if len(two) == 2:
            short[three] = two
    different = {three: two for three, two in short.items() if canonical(three) != two}
    assert different == {"nob": "nb"}, "called no here"


def test_languages_of_flores_do_not_fall_together_unless_they_are_one() -> None:
    codes = by_language([public_data() / "sib200" / "dev.tsv.gz"])
    by_code: dict[str, set[str]] = {}
    for code in codes:
        by_code.setdefault(canonical(code), set()).add(code.partition("_")[0])
    assert {one: many for one, many in by_code.items() if len(many) > 1} == {}
