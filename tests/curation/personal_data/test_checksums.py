from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlong.curation.personal_data.checksums import (
    luhn,
    mod_11_2,
    mod_11_10,
    mod_97_10,
    verhoeff,
    weighted,
)


def test_published_examples() -> None:
    assert luhn("79927398713")
    assert luhn("4111111111111111")
    assert verhoeff("2363")
    assert verhoeff("234123412346")
    assert mod_97_10("370400440532013000DE89")
    assert mod_97_10("WEST12345698765432GB82")
    assert mod_11_10("36574261809")
    assert mod_11_2("11010519491231002X")
    assert weighted("123", (3, 2, 1)) == 10


@pytest.mark.parametrize(
    ("check", "digits"),
    [
        (luhn, "79927398713"),
        (verhoeff, "234123412346"),
        (mod_11_10, "36574261809"),
        (mod_97_10, "370400440532013000131489"),
    ],
)
def test_every_wrong_digit_is_found(check, digits: str) -> None:  # type: ignore[no-untyped-def]
    assert check(digits)
    for place, right in enumerate(digits):
        for wrong in "0123456789".replace(right, ""):
            assert not check(digits[:place] + wrong + digits[place + 1 :])


@given(st.text("0123456789", min_size=1, max_size=12), st.data())
def test_verhoeff_finds_swaps(digits: str, data: st.DataObject) -> None:
    right = next(digits + one for one in "0123456789" if verhoeff(digits + one))
    place = data.draw(st.integers(0, len(right) - 2))
    swapped = right[:place] + right[place + 1] + right[place] + right[place + 2 :]
    assert verhoeff(swapped) == (swapped == right)
