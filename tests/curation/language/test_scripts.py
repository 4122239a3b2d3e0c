from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlong.curation.language.scripts import LANGUAGES, SCRIPTS, letters, script_of

NAMES = {
    "LATIN": "Latn",
    "GREEK": "Grek",
    "CYRILLIC": "Cyrl",
    "ARMENIAN": "Armn",
    "HEBREW": "Hebr",
    "ARABIC": "Arab",
    "THAANA": "Thaa",
    "NKO": "Nkoo",
    "DEVANAGARI": "Deva",
    "BENGALI": "Beng",
    "GURMUKHI": "Guru",
    "GUJARATI": "Gujr",
    "ORIYA": "Orya",
    "TAMIL": "Taml",
    "TELUGU": "Telu",
    "KANNADA": "Knda",
    "MALAYALAM": "Mlym",
    "SINHALA": "Sinh",
    "THAI": "Thai",
    "LAO": "Laoo",
    "TIBETAN": "Tibt",
    "MYANMAR": "Mymr",
    "GEORGIAN": "Geor",
    "HANGUL": "Hang",
    "ETHIOPIC": "Ethi",
    "KHMER": "Khmr",
    "MONGOLIAN": "Mong",
    "OL": "Olck",
    "TIFINAGH": "Tfng",
    "CJK": "Hani",
    "HIRAGANA": "Hira",
    "KATAKANA": "Kana",
}
"""First word of a letter's name in Unicode, and its script."""


def test_letters_have_the_script_that_their_name_says() -> None:
    wrong, seen = [], set()
    for code in range(0x30000):
        sign = chr(code)
        word = unicodedata.name(sign, "").split(" ")[0].partition("-")[0]
        if unicodedata.category(sign) not in ("Lu", "Ll", "Lt", "Lo") or word not in NAMES:
            continue
        script = script_of(sign)
        if script is None and (code > 0xFFFF or 0x1D00 <= code < 0x1D80 or 0xAB60 <= code < 0xAB70):
            continue  # phonetic signs, and additions that no common text has
        seen.add(script)
        if script != NAMES[word]:
            wrong.append(f"{code:04X} {unicodedata.name(sign)} {script}")
    assert wrong == []
    assert seen == set(NAMES.values())


def test_every_script_with_languages_can_be_counted() -> None:
    assert {*LANGUAGES} <= {*NAMES.values()}
    assert all(SCRIPTS.values())
    assert SCRIPTS["sr"] == {"Cyrl", "Latn"}
    assert LANGUAGES["Thaa"] == {"dv"}


def test_what_is_counted() -> None:
    found = letters("Ab, да\u0301 — 12 {x}\n\u3000中文かなカナ हिन्दी")
    assert found.of == {"Latn": 3, "Cyrl": 2, "Hani": 2, "Hira": 2, "Kana": 2, "Deva": 6}
    assert found.signs == 2
    assert found.visible == 17 + 1 + 1 + 2 + 2
    assert letters("").visible == 0


@pytest.mark.parametrize("text", ["\ud800", "\udfff\x00", "\U0010ffff", "\u202e\u200b"])
def test_odd_signs_are_no_letters(text: str) -> None:
    assert letters(text).total == 0


@given(st.text())
def test_counts_add_up(text: str) -> None:
    found = letters(text)
    assert found.total + found.signs <= found.visible <= len(text)
    assert found.of == {
        script: sum(script_of(sign) == script for sign in text)
        for script in {script_of(sign) for sign in text} - {None}
    }
