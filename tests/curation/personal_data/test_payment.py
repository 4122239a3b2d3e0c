from __future__ import annotations

import pytest

from everlong.curation.personal_data.numbers import digit_runs, letters_before_digits
from everlong.curation.personal_data.payment import cards, ibans


def numbers(text: str) -> list[str]:
    return [text[start:end] for start, end in cards(text, digit_runs(text))]


def accounts(text: str) -> list[str]:
    spans = ibans(text, digit_runs(text), letters_before_digits(text))
    return [text[start:end] for start, end in spans]


# Numbers for tests that the issuers publish.
ISSUED = (
    *("4111111111111111", "4012888888881881", "5555555555554444", "2223003122003222"),
    *("378282246310005", "371449635398431", "6011111111111117", "3530111333300000"),
    *("6200000000000005", "4242 4242 4242 4242", "3782-822463-10005", "5105-1051-0510-5100"),
)


@pytest.mark.parametrize("number", ISSUED)
def test_cards_of_each_issuer(number: str) -> None:
    for around in ("{}", "my card {} is lost", '"{}"', "pay with {}, exp. 12/27", "{}\t04/27"):
        assert numbers(around.format(number)) == [number]
    digit = "1" if number[-1] != "1" else "2"
    assert numbers(f"my card {number[:-1]}{digit} is lost") == []


def test_rare_lengths_have_to_be_called_a_card() -> None:
    assert numbers("4222222222222") == []
    assert numbers("Visa 4222222222222") == ["4222222222222"]
    assert numbers("36227206271667 04/27") == ["36227206271667"]


@pytest.mark.parametrize(
    "text",
    [
        *("order 4111111111111111", "tracking number 4111111111111111", "x4111111111111111"),
        *(
            "4111111111111111.5",
            "0.4111111111111111",
            "4111 1111 1111 1111 1111",
            "9111111111111111",
        ),
        *("1111 4111 1111 1111 1111", "41 11 11 11 11 11 11 11", "4111-1111 1111-1111"),
    ],
)
def test_other_numbers_are_no_cards(text: str) -> None:
    assert numbers(text) == []


def test_the_code_on_the_back_is_not_of_the_number() -> None:
    assert numbers("4111 1111 1111 1111 123") == ["4111 1111 1111 1111"]


# The examples of SWIFT's registry of IBANs.
EXAMPLES = (
    *("AL47 2121 1009 0000 0002 3569 8741", "BE68 5390 0754 7034", "NO93 8601 1117 947"),
    *("GB29 NWBK 6016 1331 9268 19", "FR14 2004 1010 0505 0001 3M02 606", "DE89370400440532013000"),
    *("MT84MALT011000012345MTLCAST001S", "CH93 0076 2011 6238 5295 7", "NL91ABNA0417164300"),
    *("BR18 0036 0305 0000 1000 9795 493C 1", "PL61-1090-1014-0000-0712-1981-2874"),
)


@pytest.mark.parametrize("number", EXAMPLES)
def test_accounts_of_the_registry(number: str) -> None:
    for around in ("{}", "IBAN:{}.", "to {} EUR 500", '"{}"', "({})"):
        assert accounts(around.format(number)) == [number]
    wrong = number[:2] + str(98 - int(number[2:4])).zfill(2) + number[4:]
    assert accounts(wrong) == []
    assert accounts(f"X{number}") == accounts(f"{number}7") == []


def test_small_letters() -> None:
    for number in ("de89 3704 0044 0532 0130 00", "gb29nwbk60161331926819"):
        assert accounts(f"rent to {number} please") == [number]
    assert accounts("ZZ89 3704 0044 0532 0130 00") == []
