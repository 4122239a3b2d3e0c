"""Made-up personal data for samples, as it looks in the world; and what only looks like it.

Values are drawn anew from what their standards allow: E.164 by way of the examples of
libphonenumber, ISO/IEC 7812 and ISO 13616 with their check digits, the forms of keys in their
issuers' manuals. Check digits are computed here, by other formulas than those that check them, so
that a mistake in one shows. Nothing is taken from a person; a number may be somebody's by chance.
"""

from __future__ import annotations

import base64
import functools
import json
import re
import string
import uuid
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from random import Random
from types import ModuleType

from everlong.errors import MissingExtraError

Make = Callable[[Random], str]
_BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_BASE62 = string.ascii_letters + string.digits
_URL_SAFE = _BASE62 + "-_"
_HEX = "0123456789abcdef"

FIRST_NAMES = (
    *(
        "anna",
        "ben",
        "carla",
        "david",
        "elif",
        "femke",
        "giulia",
        "hans",
        "ines",
        "jan",
        "katarzyna",
    ),
    *("liam", "maria", "noah", "olga", "pedro", "quentin", "rosa", "sven", "tomas", "uma", "vera"),
    *("william", "xavier", "yusuf", "zoe", "priya", "rahul", "chloe", "marek"),
)
LAST_NAMES = (
    *("smith", "mueller", "rossi", "garcia", "dubois", "kowalski", "jansen", "silva", "patel"),
    *("johnson", "becker", "ferrari", "lopez", "moreau", "nowak", "devries", "costa", "sharma"),
    *("o'neill", "svensson", "nguyen", "brown", "schmidt", "martin", "andersson", "lee", "wilson"),
)
_DOMAINS = (
    *("gmail.com", "yahoo.co.uk", "outlook.com", "gmx.de", "web.de", "orange.fr", "libero.it"),
    *("hotmail.es", "uol.com.br", "wp.pl", "ziggo.nl", "proton.me", "icloud.com", "rediffmail.com"),
    *("mail.cs.uni-bonn.de", "acme-tools.com", "northwind.io", "stadtwerke-ulm.de", "cam.ac.uk"),
    *("health.nsw.gov.au", "studio7.design", "t-online.de", "bakery.shop", "lumen.museum"),
)


def digits(random: Random, count: int) -> str:
    return "".join(random.choices(string.digits, k=count))


def characters(random: Random, alphabet: str, count: int) -> str:
    return "".join(random.choices(alphabet, k=count))


def grouped(number: str, sizes: Sequence[int], separator: str) -> str:
    """A number in groups of some sizes; what is left over is the last group."""
    parts, start = [], 0
    for size in sizes:
        parts.append(number[start : start + size])
        start += size
    parts.append(number[start:])
    return separator.join(part for part in parts if part)


def email(random: Random) -> str:
    first, last = random.choice(FIRST_NAMES), random.choice(LAST_NAMES)
    local = random.choice(
        (
            f"{first}.{last}",
            f"{first[0]}{last}",
            f"{first}{random.randrange(60, 100)}",
            f"{first}_{last}",
            f"{last}-{first}",
            f"{first}+{random.choice(('news', 'shop', 'github'))}",
            f"{first[0]}.{last}.{random.randrange(1, 9)}",
            first,
        )
    )
    if "'" in local and random.random() < 0.5:
        local = local.replace("'", "")
    written = f"{local}@{random.choice(_DOMAINS)}"
    change = random.random()
    return written.title() if change < 0.05 else written.upper() if change < 0.08 else written


def spelt_out_email(random: Random) -> str:
    first, last = random.choice(FIRST_NAMES), random.choice(("smith", "rossi", "nowak", "lee"))
    name, _, top = random.choice(("gmail.com", "acme-tools.com", "gmx.de", "cam.org")).partition(
        "."
    )
    return random.choice(
        (
            f"{first}.{last} at {name} dot {top}",
            f"{first} dot {last} at {name} dot {top}",
            f"{first}{random.randrange(10, 99)} [at] {name} [dot] {top}",
            f"{first}.{last}(at){name}.{top}",
            f"{first}_{last} AT {name} DOT {top}",
            f"{first}[at]{name}[dot]{top}",
            f"{first} (at) {name} (dot) {top}",
        )
    )


def luhn_digit(number: str) -> str:
    """The digit that makes a number right."""
    total = 0
    for place, one in enumerate(reversed(number)):
        doubled = int(one) * (2 if place % 2 == 0 else 1)
        total += doubled // 10 + doubled % 10
    return str((10 - total % 10) % 10)


def card(random: Random) -> str:
    prefix, length = random.choice(
        (
            *(("4", 16), ("4", 16), ("4", 16), ("51", 16), ("53", 16), ("55", 16), ("2223", 16)),
            *(("34", 15), ("37", 15), ("6011", 16), ("65", 16), ("3530", 16), ("36", 14)),
            *(("62", 16), ("5018", 16), ("4", 19)),
        )
    )
    number = prefix + digits(random, length - len(prefix) - 1)
    number += luhn_digit(number)
    sizes = {15: (4, 6), 14: (4, 6)}.get(length, (4, 4, 4, 4))
    return random.choice((number, grouped(number, sizes, " "), grouped(number, sizes, "-")))


def wrong_card(random: Random) -> str:
    """One digit is wrong."""
    number = "4" + digits(random, 14)
    number += str((int(luhn_digit(number)) + random.randrange(1, 10)) % 10)
    return random.choice((number, grouped(number, (4, 4, 4), " ")))


_IBANS = {
    # Country and how its national part is built: letters a, digits n, both c.
    "DE": "n18",
    "FR": "n20c2n1",
    "ES": "n20",
    "NL": "a4n10",
    "GB": "a4n14",
    "IT": "a1n22",
    "PL": "n24",
    "BE": "n12",
    "AT": "n16",
    "CH": "n17",
    "PT": "n21",
    "SE": "n20",
    "NO": "n11",
    "BR": "n23a1c1",
    "IE": "a4n14",
    "MT": "a4n5c18",
    "FI": "n14",
    "TR": "n22",
}


def iban(random: Random, *, right: bool = True) -> str:
    country = random.choice(tuple(_IBANS))
    national, form = "", _IBANS[country]
    while form:
        kind, form = form[0], form[1:]
        count = "".join(one for one in form[:2] if one.isdigit())
        form = form[len(count) :]
        alphabet = {"n": string.digits, "a": string.ascii_uppercase}.get(
            kind, string.digits + string.ascii_uppercase
        )
        national += characters(random, alphabet, int(count))
    # ISO 13616: letters are numbers from 10 on, and the whole, check digits last, is 1 modulo 97.
    value = 0
    for one in national + country + "00":
        value = (value * (10 if one.isdigit() else 100) + int(one, 36)) % 97
    check = 98 - value
    if not right:
        check = 2 + (check - 2 + random.randrange(1, 97)) % 97
    written = f"{country}{check:02}{national}"
    return random.choice((written, grouped(written, (4,) * 9, " ")))


def ip_v4_address(random: Random) -> str:
    """Of blocks that are given out to providers."""
    first = random.choice((23, 31, 45, 62, 78, 81, 84, 91, 95, 104, 133, 151, 178, 185, 201, 212))
    return f"{first}.{random.randrange(1, 255)}.{random.randrange(256)}.{random.randrange(1, 255)}"


def ip_address(random: Random) -> str:
    """Of either version."""
    if random.random() < 0.75:
        return ip_v4_address(random)
    prefix = random.choice(("2a02:908", "2a00:1450", "2003:e5", "2604:a880", "2001:41d0"))
    middle = [f"{random.randrange(1, 1 << 16):x}" for _ in range(2)]
    if random.random() < 0.5:
        return f"{prefix}:{':'.join(middle)}::{random.randrange(1, 1 << 16):x}"
    rest = [f"{random.randrange(1 << 16):x}" for _ in range(4)]
    return ":".join((prefix, *middle, *rest))


def private_ip_address(random: Random) -> str:
    low, high = random.randrange(256), random.randrange(1, 255)
    return random.choice(
        (
            *(f"10.{low}.{high}.{high}", f"192.168.{low}.{high}", f"172.16.{low}.{high}"),
            *("127.0.0.1", "0.0.0.0", f"192.0.2.{high}", f"198.51.100.{high}", f"203.0.113.{high}"),
            *("255.255.255.0", "::1", "fe80::1", f"2001:db8::{high:x}", f"fd12:3456:789a::{low:x}"),
        )
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


def _private_key(random: Random) -> str:
    name = random.choice(("RSA ", "EC ", "OPENSSH ", ""))
    body = base64.b64encode(random.randbytes(random.choice((180, 400)))).decode()
    lines = [body[start : start + 64] for start in range(0, len(body), 64)]
    return "\n".join(
        (f"-----BEGIN {name}PRIVATE KEY-----", *lines, f"-----END {name}PRIVATE KEY-----")
    )


def _web_token(random: Random) -> str:
    def part(content: bytes) -> str:
        return base64.urlsafe_b64encode(content).decode().rstrip("=")

    header = json.dumps({"alg": random.choice(("HS256", "RS256")), "typ": "JWT"}).encode()
    claims = {"sub": digits(random, 8), "name": random.choice(FIRST_NAMES), "iat": 1516239022}
    return ".".join((part(header), part(json.dumps(claims).encode()), part(random.randbytes(32))))


ISSUED_SECRETS: tuple[Make, ...] = (
    lambda random: random.choice(("AKIA", "ASIA")) + characters(random, _BASE32, 16),
    lambda random: f"gh{random.choice('pos')}_{characters(random, _BASE62, 36)}",
    lambda random: (
        f"github_pat_{characters(random, _BASE62, 22)}_{characters(random, _BASE62, 59)}"
    ),
    lambda random: f"glpat-{characters(random, _URL_SAFE[:-2], 20)}",
    lambda random: (
        f"xoxb-{digits(random, 12)}-{digits(random, 13)}-{characters(random, _BASE62, 24)}"
    ),
    lambda random: f"sk_live_{characters(random, _BASE62, 24)}",
    lambda random: f"AIza{characters(random, _URL_SAFE, 34)}{random.choice(_BASE62)}",
    lambda random: f"npm_{characters(random, _BASE62, 36)}",
    _web_token,
)
"""Keys that tell by themselves what they are."""
RANDOM_SECRETS: tuple[Make, ...] = (
    lambda random: characters(random, _HEX, 32),
    lambda random: characters(random, _HEX, 40),
    lambda random: characters(random, _BASE62, 24),
    lambda random: base64.urlsafe_b64encode(random.randbytes(32)).decode().rstrip("="),
    lambda random: base64.b64encode(random.randbytes(30)).decode(),
    lambda random: str(uuid.UUID(int=random.getrandbits(128), version=4)),
)
"""Keys that only their name tells."""
private_key: Make = _private_key


def storage_key(random: Random) -> str:
    return base64.b64encode(random.randbytes(64)).decode()


def long_hex(random: Random) -> str:
    return characters(random, _HEX, 128)


@functools.cache
def _phones() -> ModuleType:
    try:
        import phonenumbers
    except ImportError:
        raise MissingExtraError("phonenumbers", "curate") from None
    return phonenumbers


_AREAS = (
    *("201", "206", "212", "213", "305", "312", "404", "415", "503", "512", "602", "617", "646"),
    *("702", "713", "718", "770", "801", "818", "847", "905", "916", "919", "949", "972"),
)


def phone_number(random: Random, region: str, *, international: bool) -> str:
    """Of a region, in one of the ways in which people write them."""
    library = _phones()
    kinds = library.PhoneNumberType
    kind = random.choice((kinds.FIXED_LINE, kinds.MOBILE, kinds.MOBILE))
    example = library.example_number_for_type(region, kind) or library.example_number(region)
    number = str(example.national_number)
    while True:
        changed = number[:-6] + digits(random, min(6, len(number)))
        if region == "US":
            changed = random.choice(_AREAS) + changed[3:]
        drawn = library.PhoneNumber(
            country_code=example.country_code,
            national_number=int(changed),
            italian_leading_zero=example.italian_leading_zero,
        )
        if library.is_valid_number(drawn):
            break
    formats = library.PhoneNumberFormat
    if international:
        written = library.format_number(drawn, formats.INTERNATIONAL)
        compact = library.format_number(drawn, formats.E164)
        dotted = written.replace(" ", ".").replace("-", ".")
        zeros = "00" + written[1:]
        return str(random.choice((written, written, compact, dotted, zeros)))
    written = library.format_number(drawn, formats.NATIONAL)
    if region == "US":
        plain = grouped(changed, (3, 3), random.choice(("-", ".", " ")))
        return str(random.choice((written, plain, plain, f"1-{plain.replace(' ', '-')}")))
    if region == "DE":
        area, _, rest = written.partition(" ")
        return str(random.choice((written, f"{area}/{rest}", f"{area}-{rest}", f"({area}) {rest}")))
    if region == "FR":
        return str(random.choice((written, written.replace(" ", "."))))
    return str(written)
