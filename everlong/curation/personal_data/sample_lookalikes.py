"""Numbers and words that look like personal data and are none."""

from __future__ import annotations

import base64
import uuid
from datetime import datetime, timedelta
from random import Random

from everlong.curation.personal_data.sample_values import (
    FIRST_NAMES,
    LAST_NAMES,
    Make,
    characters,
    digits,
    grouped,
)

_HEX = "0123456789abcdef"
_CAPITALS = "ABCDEFGHJKLMNPQRSTUVWXYZ"


def _isbn_13(random: Random) -> str:
    number = random.choice(("978", "979")) + digits(random, 9)
    total = sum(int(one) * (1, 3)[place % 2] for place, one in enumerate(number))
    written = number + str(-total % 10)
    return random.choice((written, grouped(written, (3, 1, 2, 6), "-")))


def _isbn_10(random: Random) -> str:
    number = random.choice("013") + digits(random, 8)
    total = sum(int(one) * (10 - place) for place, one in enumerate(number))
    return grouped(number + "0123456789X"[-total % 11], (1, 3, 5), "-")


def _time(random: Random) -> datetime:
    return datetime(2005, 1, 1) + timedelta(seconds=random.randrange(600_000_000))


def _coordinates(random: Random) -> str:
    return f"{random.uniform(-90, 90):.6f}, {random.uniform(-180, 180):.6f}"


def _version(random: Random) -> str:
    parts = (random.randrange(1, 120), random.randrange(20), random.randrange(9000))
    return ".".join(map(str, (*parts, random.randrange(200))))


def _row(random: Random) -> str:
    return " ".join(str(random.randrange(1, 10 ** random.randrange(2, 6))) for _ in range(8))


def _years(random: Random) -> str:
    first = random.randrange(1500, 2000)
    return f"{first}{random.choice('-–')}{first + random.randrange(1, 40)}"


def _formula(random: Random) -> str:
    one, two = random.randrange(100, 10**6), random.randrange(100, 10**6)
    sign, value = random.choice((("+", one + two), ("-", one - two), ("*", one * two)))
    return f"{one} {sign} {two} = {value}"


def _made_login(random: Random) -> str:
    return random.choice(
        (
            *(
                "user@host",
                "root@localhost",
                "admin@server:/var/www",
                "git@github.com:acme/tools.git",
            ),
            *("support@example.com", "you@example.org", "name@domain.example"),
        )
    )


def _made_key(random: Random) -> str:
    return random.choice(
        (
            *("YOUR_API_KEY_GOES_HERE", "<your-access-token>", "${SECRET_TOKEN_FROM_VAULT}"),
            *("xxxxxxxxxxxxxxxxxxxxxxxx", "AKIAIOSFODNN7EXAMPLE", "os.environ['API_TOKEN']"),
            *("process.env.STRIPE_SECRET_KEY", "changeme-changeme-changeme", "{{ vault_token }}"),
        )
    )


LOOKALIKES: dict[str, Make] = {
    "isbn_13": _isbn_13,
    "isbn_10": _isbn_10,
    "doi": lambda random: (
        f"10.{random.randrange(1000, 9999)}/j.{characters(random, _HEX, 4)}."
        f"{random.randrange(1990, 2024)}.{digits(random, 8)}"
    ),
    "arxiv": lambda random: (
        f"{random.randrange(10, 25)}{random.randrange(1, 13):02}.{digits(random, 5)}"
    ),
    "version": _version,
    "date_time": lambda random: _time(random).isoformat(" ", timespec="milliseconds"),
    "stamp": lambda random: f"{_time(random):%Y%m%d-%H%M%S}",
    "short_stamp": lambda random: f"{_time(random):%y%m%d-%H%M}",
    "date": lambda random: f"{_time(random):%d.%m.%Y}",
    "years": _years,
    "unix_time": lambda random: str(int(_time(random).timestamp())),
    "milliseconds": lambda random: str(int(_time(random).timestamp() * 1000)),
    "order": lambda random: digits(random, random.choice((7, 9, 10, 11, 12, 16))),
    "long_order": lambda random: f"{digits(random, 3)}-{digits(random, 7)}-{digits(random, 7)}",
    "invoice": lambda random: f"RE-{random.randrange(2015, 2025)}-{digits(random, 6)}",
    "parcel": lambda random: (
        f"1Z{characters(random, _CAPITALS, 3)}{digits(random, 3)}0{digits(random, 9)}"
    ),
    "part": lambda random: f"{digits(random, 3)}-{digits(random, 3)}-{digits(random, 2)}",
    "ean": lambda random: random.choice("45") + digits(random, 12),
    "imei": lambda random: f"35{digits(random, 13)}",
    "licence_key": lambda random: "-".join(characters(random, _CAPITALS, 5) for _ in range(5)),
    "uuid": lambda random: str(uuid.UUID(int=random.getrandbits(128), version=4)),
    "commit": lambda random: characters(random, _HEX, 40),
    "checksum": lambda random: characters(random, _HEX, 64),
    "base64": lambda random: base64.b64encode(random.randbytes(45)).decode(),
    "coordinates": _coordinates,
    "price": lambda random: f"{random.randrange(1, 999)},{digits(random, 3)}.{digits(random, 2)}",
    "number": lambda random: grouped(
        str(random.randrange(1, 9)) + digits(random, 9), (1, 3, 3), ","
    ),
    "fraction": lambda random: f"0.{digits(random, 10)}",
    "formula": _formula,
    "row": _row,
    "mac": lambda random: ":".join(characters(random, _HEX, 2) for _ in range(6)),
    "package": lambda random: (
        f"{random.choice(('lodash', 'react-dom', '@babel/core'))}@"
        f"{random.randrange(20)}.{random.randrange(30)}.{random.randrange(30)}"
    ),
    "handle": lambda random: f"@{random.choice(FIRST_NAMES)}_{random.choice(LAST_NAMES)}",
    "image": lambda random: f"{random.choice(('logo', 'icon', 'hero'))}@{random.choice('23')}x.png",
    "zip": lambda random: f"{digits(random, 5)}-{digits(random, 4)}",
    "issn": lambda random: f"{digits(random, 4)}-{digits(random, 4)}",
    "section": lambda random: ".".join(str(random.randrange(1, 12)) for _ in range(4)),
    "network": lambda random: random.choice(("10.0.0.0/8", "172.16.0.0/12", "0.0.0.0/0")),
    "made_login": _made_login,
    "made_key": _made_key,
    "score": lambda random: (
        f"{random.randrange(7)}-{random.randrange(7)}, {random.randrange(7)}-{random.randrange(7)}"
    ),
    "plate": lambda random: (
        f"{characters(random, _CAPITALS, 2)}{digits(random, 2)} {characters(random, _CAPITALS, 3)}"
    ),
    "vat": lambda random: f"DE{digits(random, 9)}",
}
"""By what they are."""
