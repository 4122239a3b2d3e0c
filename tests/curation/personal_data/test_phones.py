from __future__ import annotations

import random

import pytest

from everlong.curation.personal_data.numbers import digit_runs
from everlong.curation.personal_data.phone_plans import is_international, is_national
from everlong.curation.personal_data.phones import REGIONS, phone_numbers
from everlong.errors import ConfigError

phonenumbers = pytest.importorskip("phonenumbers")


def phones(text: str, regions: tuple[str, ...] = REGIONS) -> list[str]:
    return [text[start:end] for start, end in phone_numbers(text, digit_runs(text), regions)]


@pytest.mark.parametrize(
    "number",
    [
        *(
            "+1 212-555-0123",
            "+12125550123",
            "+44 (0)20 7946 0958",
            "+49 30 901820",
            "+49 (30) 901820",
        ),
        *(
            "+33 1 42 68 53 00",
            "+91 98765 43210",
            "+61 2 9102 2828",
            "+254 709 716000",
            "+81-3-1234-5678",
        ),
        *("(212) 555-0123", "212-555-0123", "212.555.0123", "212 555 0123", "1-800-232-4636"),
        *("1 (888) 998-6325", "01 42 68 53 00", "01.42.68.53.00", "020 7946 0958", "030/901820"),
        *("(030) 901820", "0171 2345678", "612 34 56 78", "(11) 96123-4567", "0044 20 7946 0958"),
        *("(212) 555-0123 ext. 204", "212-555-0123 x12", "212\u2011555\u20110123"),
    ],
)
def test_numbers_as_they_are_written(number: str) -> None:
    for around in ("{}", "Office: {}.", '"{}"', "[{}]", "<td>{}</td>", "{}\n", "Jo | {} | x"):
        assert phones(around.format(number)) == [number]


@pytest.mark.parametrize(
    "text",
    [
        *("Phone: {}", "call me on {}", '"mobile_number": "{}"', "my number is {}", "Tel.: {}"),
        *(
            "Handynummer {}",
            "Appelez le {}",
            "llámame al {}",
            "电话：{}",
            "text me {}",
            "{} is my cell",
        ),
    ],
)
def test_a_word_beside_it_makes_a_number_a_phone_number(text: str) -> None:
    assert phones(text.format("2125550123")) == ["2125550123"]
    assert phones("2125550123") == phones("order 2125550123") == []


@pytest.mark.parametrize(
    "text",
    [
        *(
            "2021-05-13",
            "13.05.2021 12:30",
            "2021-05-13 10 11",
            "1749-1753",
            "1995 ( 1996",
            "1 234 567 890",
        ),
        *(
            "978-0-306-40615-7",
            "ISBN 0-306-40615-2",
            "call ISBN 0306406152",
            "$212 555 0123",
            "10.1000/182",
        ),
        *(
            "192.168.178.2",
            "phone 192.168.178.2",
            "0.2125550123",
            "cell 0.1949461956",
            "100-50-30-15",
        ),
        *("phone book: order 2125550123", "12 345 678", "0900-1730", "210409-1520", "090409-1520"),
        *(
            "212 555 0123 4567 8901",
            "123-456-7890",
            "(123) 456-7890",
            "call (555) 555-5555",
            "555-0123",
        ),
        *(
            "27da724b-0334-4292-a9ef-cb97",
            "1-800-FLOWERS",
            "37.774929, -122.419416",
            "f(2125550123)",
        ),
        *("5 +14386 - 138098", "x+12125550123", "phone 0123456789", "call number 494-509-35"),
        *("PATEL 12-3456-7890", "MD 20892-3655  Phone:", "https://x.org/2125550123", "#2125550123"),
    ],
)
def test_other_numbers_are_no_phone_numbers(text: str) -> None:
    assert phones(text) == []


def test_numbers_side_by_side() -> None:
    text = "1-800-FOR-YOU (1-800-633-4227) 1-877-486-2048, Bethesda, MD 20892-3655  301-496-5248"
    assert phones(text) == ["1-800-633-4227", "1-877-486-2048", "301-496-5248"]
    assert phones("030 901820 / 030 901821") == ["030 901820", "030 901821"]
    assert phones("name|mobile\nA|9812345670|1.2.2000\nB|9812345671|2.2.2000") == [
        *("9812345670", "9812345671")
    ]


def test_a_word_that_is_cut_off_is_none() -> None:
    # "tel" is the end of Patel, where the letters that are looked at begin.
    text = "Patel" + " abcdefg" * 5 + " x: "
    assert all(phones(text + "y" * more + " 2018366262") == [] for more in range(12))


def test_regions_decide_what_needs_no_country_code() -> None:
    assert phones("0171 2345678", ("US",)) == []
    assert phones("0171 2345678", ("DE",)) == ["0171 2345678"]
    assert phones("212-555-0123", ("DE",)) == []
    assert phones("+49 171 2345678", ("US",)) == ["+49 171 2345678"]
    with pytest.raises(ConfigError, match="'XX'"):
        phones("0171 2345678", ("XX",))


def test_plans_say_what_the_library_says() -> None:
    draw = random.Random(3)
    agreed = valid = 0
    for _ in range(3000):
        code = draw.choice((1, 7, 33, 34, 39, 44, 49, 55, 81, 86, 91, 254, 351, 800, 999))
        digits = f"{code}{draw.randrange(10 ** draw.randrange(6, 12))}"
        try:
            theirs = phonenumbers.is_valid_number(phonenumbers.parse(f"+{digits}"))
        except phonenumbers.NumberParseException:
            theirs = False
        agreed += theirs == is_international(digits)
        valid += theirs
    # Parsing takes off a zero that is dialled inside a country; here it is part of the number.
    assert agreed > 2950
    assert valid > 300


def test_trunk_codes_are_taken_off() -> None:
    assert is_national("01712345678", ("DE",))
    assert is_national("1712345678", ("DE",))
    assert is_national("0612345678", ("IT", "FR"))
    assert not is_national("01712345678", ("US",))
    assert not is_national("", ("US",))
