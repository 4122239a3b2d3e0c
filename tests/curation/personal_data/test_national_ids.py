from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlong.curation.personal_data.id_forms import FORMS
from everlong.curation.personal_data.national_ids import national_ids
from everlong.curation.personal_data.numbers import digit_runs, letters_before_digits


def ids(text: str) -> list[str]:
    spans = national_ids(text, digit_runs(text), letters_before_digits(text))
    return [text[start:end] for start, end in sorted(set(spans))]


# Examples of the offices, or of articles and manuals on the numbers.
ALONE = (
    *("536-22-1234", "AB 12 34 56 C", "2 95 10 99 126 111 93", "295109912611193"),
    *("253072B07300470", "2 53 07 2B 073 004 70", "12345678Z", "12.345.678-Z", "X1234567L"),
    *("RCCMNL83S18D969H", "85.07.30-033.28", "756.9217.0769.85", "710319/2745", "131052-308T"),
    *("131052A308T", "15108695088", "390.533.447-05"),
    *(
        "BOXW310820HNERXN09",
        "12.531.909-2",
        "20-05536168-2",
        "11010519491231002X",
        "971013-9019902",
    ),
)
NAMED = (
    *(("SSN", "536221234"), ("social security no.", "536 22 1234"), ("NI number", "AB123456C")),
    *(("NHS", "943 476 5919"), ("Steuer-ID", "36574261809"), ("IdNr.", "36 574 261 809")),
    *(
        ("BSN", "111222333"),
        ("NIF", "501964843"),
        ("PESEL", "44051401359"),
        ("CNP", "1630615123457"),
    ),
    *(("personnummer", "880320-0016"), ("CPR-nummer", "211062-5629"), ("CPF", "39053344705")),
    *(("fødselsnummer", "151086 95088"), ("Aadhaar", "2341 2341 2346"), ("PAN", "ACUPA7085R")),
    *(("S.I.N.", "123 456 782"), ("identity number", "7503305044089"), ("TFN", "123 456 782")),
    *(("TC Kimlik", "17291716060"), ("PPS no.", "6433435F"), ("PPSN", "6433435OA")),
    *(("NRIC", "S1234567D"), ("RUT", "12531909-2"), ("マイナンバー", "1234 5678 9018")),
    *(("Henkilötunnus", "130179-3894"),),
)


def wrong(number: str) -> str:
    """With another last character."""
    last = number[-1]
    return number[:-1] + (
        chr((ord(last) - 65 + 1) % 26 + 65) if last.isalpha() else f"{9 - int(last)}"
    )


@pytest.mark.parametrize("number", [one for one in ALONE if one != "536-22-1234"])
def test_forms_that_need_no_word(number: str) -> None:
    for around in ("{}", "I am {}.", '"{}",', "({})", "{};x"):
        assert ids(around.format(number)) == [number]
    assert ids(f"x{number}") == ids(f"{number}7") == []


@pytest.mark.parametrize(
    "number", [one for one in ALONE if one not in ("536-22-1234", "AB 12 34 56 C")]
)
def test_wrong_check_digits_are_no_ids(number: str) -> None:
    assert ids(f"I am {wrong(number)}.") == []


@pytest.mark.parametrize(("name", "number"), NAMED)
def test_forms_that_need_a_word(name: str, number: str) -> None:
    assert ids(f"My {name}: {number}, thanks") == [number]
    assert ids(f'{{"{name.lower()}": "{number}"}}') == [number]
    assert ids(f"My parcel: {number}, thanks") == []


def test_social_security_numbers_that_are_not_given_out() -> None:
    assert ids("536-22-1234") == ["536-22-1234"]
    for number in ("000-12-3456", "666-12-3456", "900-12-3456", "536-00-1234", "536-22-0000"):
        assert ids(f"SSN {number}") == []
    assert ids("SSN 078-05-1120") == []


def test_prefixes_that_are_not_given_out() -> None:
    for prefix in ("DA", "QQ", "GB", "TN", "AO"):
        assert ids(f"{prefix} 12 34 56 C") == []


def test_a_column_is_read_downwards() -> None:
    rows = "\n".join(f"Jansen;{number};1980" for number in ("111222333", "123456782", "269321524"))
    assert ids(f"naam;bsn;jaar\n{rows}") == ["111222333", "123456782", "269321524"]
    assert ids(rows) == []


@pytest.mark.parametrize(
    "text",
    [
        *(
            "job 210409-1520 done",
            "20210409-1520",
            "978-0-306-40615-7",
            "555-12-34567",
            "12345678A",
        ),
        *(
            "call me, my SSN is secret: 0800-22-1234",
            "X1234567L8",
            "1.536-22-1234",
            "536-22-1234-9",
        ),
    ],
)
def test_other_numbers_are_no_ids(text: str) -> None:
    assert ids(text) == []


def test_what_is_called_a_phone_number_is_one() -> None:
    text = "my NHS number is 943 476 5919, and you can call me on 503 530 5988"
    assert ids(text) == ["943 476 5919"]


@given(st.randoms())
def test_checks_take_whatever_has_the_shape(draw: random.Random) -> None:
    letters = {"9": "0123456789", "A": "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
    for form in FORMS:
        for shape in (*form.alone, *form.named):
            ids("tax id: " + "".join(draw.choice(letters.get(one, one)) for one in shape))
