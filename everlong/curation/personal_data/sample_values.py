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
import string
import uuid
from collections.abc import Callable, Sequence
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
