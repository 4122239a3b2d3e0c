"""Made-up national ids for samples.

Their check digits are computed here by other formulas than those that check them, so that a mistake
in one shows.
"""

from __future__ import annotations

import re
import string
from datetime import date, timedelta
from random import Random

from everlong.curation.personal_data.sample_values import (
    Make,
    characters,
    digits,
    grouped,
    luhn_digit,
)


def _birth(random: Random) -> date:
    return date(1940, 1, 1) + timedelta(days=random.randrange(23_000))


def us_ssn(random: Random) -> str:
    area = random.choice([one for one in range(1, 900) if one != 666])
    return f"{area:03}-{random.randrange(1, 100):02}-{random.randrange(1, 10_000):04}"


def wrong_us_ssn(random: Random) -> str:
    area = random.choice((0, 666, *range(900, 950)))
    return f"{area:03}-{random.randrange(1, 50):02}-{random.randrange(1, 10_000):04}"


def gb_nino(random: Random) -> str:
    prefix = random.choice(("AB", "CE", "HJ", "JG", "LM", "NP", "PW", "SR", "TY", "YZ", "WK"))
    written = f"{prefix}{digits(random, 6)}{random.choice('ABCD')}"
    return random.choice((written, grouped(written, (2, 2, 2, 2), " ")))


def de_tax_id(random: Random) -> str:
    order = random.sample(string.digits[1:], 9)
    order.insert(random.randrange(1, 9), random.choice(order))
    product = 10
    for one in order:
        total = (int(one) + product) % 10 or 10
        product = total * 2 % 11
    number = "".join(order) + str((11 - product) % 10)
    return random.choice((number, grouped(number, (2, 3, 3), " ")))


def fr_nir(random: Random) -> str:
    born = _birth(random)
    place = f"{random.randrange(1, 96):02}{random.randrange(1, 600):03}"
    body = f"{random.choice('12')}{born:%y%m}{place.replace('20', '21', 1)}{digits(random, 3)}"
    number = f"{body}{97 - int(body) % 97:02}"
    return random.choice((number, grouped(number, (1, 2, 2, 2, 3, 3), " ")))


def es_dni(random: Random) -> str:
    number = random.randrange(1_000_000, 99_999_999)
    letter = "TRWAGMYFPDXBNJZSQVHLCKE"[number % 23]
    return random.choice((f"{number:08}{letter}", f"{number:08}-{letter}"))


def es_nie(random: Random) -> str:
    series, number = random.randrange(3), random.randrange(10_000_000)
    letter = "TRWAGMYFPDXBNJZSQVHLCKE"[(series * 10_000_000 + number) % 23]
    return f"{'XYZ'[series]}{number:07}{letter}"


def it_code(random: Random) -> str:
    born = _birth(random)
    name = characters(random, "BCDFGLMNPRSTV", 6)
    day = born.day + random.choice((0, 40))
    place = f"{random.choice('ABCDEFGHIL')}{random.randrange(1, 999):03}"
    code = f"{name}{born:%y}{'ABCDEHLMPRST'[born.month - 1]}{day:02}{place}"
    odd = "BAKPLCQDREVOSFTGUHMINJWZYX"  # the order of letters by their value in odd places
    total = sum(
        odd.index("ABCDEFGHIJ"[int(one)] if one.isdigit() else one)
        if place % 2 == 0
        else (int(one) if one.isdigit() else ord(one) - 65)
        for place, one in enumerate(code)
    )
    return code + string.ascii_uppercase[total % 26]


def nl_bsn(random: Random) -> str:
    while True:
        number = str(random.randrange(100_000_000, 300_000_000))
        total = sum((9 - place) * int(one) for place, one in enumerate(number[:8]))
        if (total - int(number[8])) % 11 == 0:
            return number


_DIHEDRAL = (
    *("0123456789", "1234067895", "2340178956", "3401289567", "4012395678"),
    *("5987604321", "6598710432", "7659821043", "8765932104", "9876543210"),
)
_VERHOEFF = ("0123456789", "1576283094", "5803796142", "8916043527")
_VERHOEFF_MORE = ("9453126870", "4286573901", "2793806415", "7046913258")


def in_aadhaar(random: Random) -> str:
    number = random.choice("23456789") + digits(random, 10)
    check = 0
    for place, one in enumerate(reversed(number), start=1):
        turned = (*_VERHOEFF, *_VERHOEFF_MORE)[place % 8][int(one)]
        check = int(_DIHEDRAL[check][int(turned)])
    number += next(one for one in string.digits if _DIHEDRAL[check][int(one)] == "0")
    return random.choice((number, grouped(number, (4, 4), " ")))


def br_cpf(random: Random) -> str:
    number = digits(random, 9)
    for _ in range(2):
        total = sum(int(one) * weight for weight, one in enumerate(reversed(number), start=2))
        number += str(total * 10 % 11 % 10)
    written = f"{number[:3]}.{number[3:6]}.{number[6:9]}-{number[9:]}"
    return written if random.random() < 0.75 else number


def pl_pesel(random: Random) -> str:
    born = _birth(random)
    month = born.month + (20 if born.year >= 2000 else 0)
    number = f"{born:%y}{month:02}{born:%d}{digits(random, 4)}"
    total = sum(int(one) * (1, 3, 7, 9)[place % 4] for place, one in enumerate(number))
    return number + str((10 - total % 10) % 10)


def se_personnummer(random: Random) -> str:
    born = _birth(random)
    number = f"{born:%y%m%d}{digits(random, 3)}"
    written = f"{number[:6]}-{number[6:]}{luhn_digit(number)}"
    return random.choice((written, f"{born.year // 100}{written}"))


def fi_hetu(random: Random) -> str:
    born = _birth(random)
    serial = random.randrange(2, 900)
    check = "0123456789ABCDEFHJKLMNPRSTUVWXY"[int(f"{born:%d%m%y}{serial:03}") % 31]
    return f"{born:%d%m%y}{'A' if born.year >= 2000 else '-'}{serial:03}{check}"


def be_national_number(random: Random) -> str:
    born = _birth(random)
    body = f"{born:%y%m%d}{random.randrange(1, 998):03}"
    check = 97 - int(("2" if born.year >= 2000 else "") + body) % 97
    return f"{born:%y.%m.%d}-{body[6:]}.{check:02}"


def ca_sin(random: Random) -> str:
    number = random.choice("1234567") + digits(random, 7)
    number += luhn_digit(number)
    return grouped(number, (3, 3), random.choice((" ", "-")))


def ch_ahv(random: Random) -> str:
    number = "756" + digits(random, 9)
    total = sum(int(one) * (1 if place % 2 == 0 else 3) for place, one in enumerate(number))
    return grouped(number + str(-total % 10), (3, 4, 4), ".")


def gb_nhs(random: Random) -> str:
    while True:
        number = digits(random, 9)
        check = 11 - sum(int(one) * (10 - place) for place, one in enumerate(number)) % 11
        if check != 10:
            return grouped(f"{number}{check % 11}", (3, 3), " ")


NATIONAL_IDS: dict[str, Make] = {
    "us": us_ssn,
    "us_plain": lambda random: us_ssn(random).replace("-", ""),
    "us_spaced": lambda random: us_ssn(random).replace("-", " "),
    "br_plain": lambda random: re.sub("[.-]", "", br_cpf(random)),
    "se_plain": lambda random: re.sub("-", "", se_personnummer(random)),
    "gb": gb_nino,
    "nhs": gb_nhs,
    "de": de_tax_id,
    "fr": fr_nir,
    "dni": es_dni,
    "nie": es_nie,
    "it": it_code,
    "nl": nl_bsn,
    "in": in_aadhaar,
    "br": br_cpf,
    "pl": pl_pesel,
    "se": se_personnummer,
    "fi": fi_hetu,
    "be": be_national_number,
    "ca": ca_sin,
    "ch": ch_ahv,
}
