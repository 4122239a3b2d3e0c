"""Sentences with made-up personal data, and with what only looks like it, all of it marked.

With these it is measured how much of the data is found, and how much of what is found is data.
Texts and values are drawn at random, the same for the same seed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from everlong.curation.personal_data import sample_values as values
from everlong.curation.personal_data.masking import Found, PersonalDataKind
from everlong.curation.personal_data.sample_ids import NATIONAL_IDS, wrong_us_ssn
from everlong.curation.personal_data.sample_lookalikes import LOOKALIKES
from everlong.curation.personal_data.sample_templates import TEMPLATES

_COUNTRIES = {
    "en": ("US", "GB", "IN"),
    "de": ("DE",),
    "fr": ("FR",),
    "es": ("ES",),
    "it": ("IT",),
    "nl": ("NL",),
    "pt": ("BR",),
    "pl": ("PL",),
}
_ABROAD = ("SE", "JP", "AU", "CH", "AT", "CA", "ZA", "TR", "KR", "MX", "BE", "NG", "UA", "PT", "AE")

_SLOT = re.compile("«([a-z0-9_:]+)»")


@dataclass(frozen=True)
class Marked:
    """A text, and the personal data that is in it."""

    text: str
    spans: tuple[Found, ...]
    """All that is to be found, in the order of the text."""
    register: str
    """What kind of text it is: a key of :data:`TEMPLATES`."""
    values: tuple[str, ...]
    """What was filled in, such as ``id:de`` or ``isbn_13``: it explains what was found in vain."""


def samples(count: int, seed: int) -> Iterator[Marked]:
    """Marked texts; the same for the same seed.

    Args:
        count: how many.
        seed: of what is drawn.

    Raises:
        MissingExtraError: phonenumbers is not installed.
    """
    random = Random(seed)
    templates = [
        (register, language, template)
        for register, languages in TEMPLATES.items()
        for language, each in languages.items()
        for template in each
    ]
    for _ in range(count):
        register, language, template = random.choice(templates)
        yield _filled(random, register, language, template)


def _filled(random: Random, register: str, language: str, template: str) -> Marked:
    parts: list[str] = []
    spans: list[Found] = []
    slots: list[str] = []
    length = end = 0
    region = random.choice(_COUNTRIES.get(language, _ABROAD))
    for slot in _SLOT.finditer(template):
        parts.append(template[end : slot.start()])
        length += len(parts[-1])
        kind, value = _value(random, slot[1], region)
        if kind is not None:
            spans.append(Found(kind, length, length + len(value)))
        parts.append(value)
        slots.append(slot[1])
        length += len(value)
        end = slot.end()
    return Marked("".join((*parts, template[end:])), tuple(spans), register, tuple(slots))


def _value(random: Random, slot: str, region: str) -> tuple[PersonalDataKind | None, str]:
    """What fills a slot, and what kind of personal data it is."""
    if slot in LOOKALIKES:
        return None, LOOKALIKES[slot](random)
    if slot.startswith("id:"):
        return "national_id", NATIONAL_IDS[slot[3:]](random)
    if slot == "extended_phone":
        extension = f"{random.choice((' ext. ', ' x', ' ext '))}{random.randrange(10, 9999)}"
        return "phone", values.phone_number(random, region, international=False) + extension
    if slot in ("phone", "international"):
        abroad = slot == "international"
        region = random.choice((region, *_ABROAD)) if abroad else region
        return "phone", values.phone_number(random, region, international=abroad)
    if slot == "compact_phone":
        compact = values.phone_number(random, random.choice(_ABROAD), international=True)
        return "phone", "+" + re.sub("[^0-9]", "", compact).removeprefix("00")
    if slot in _PERSONAL:
        kind, make = _PERSONAL[slot]
        return kind, make(random)
    return None, _OTHERS[slot](random)


_PERSONAL: dict[str, tuple[PersonalDataKind, values.Make]] = {
    "email": ("email", values.email),
    "spelt_out_email": ("email", values.spelt_out_email),
    "card": ("card", values.card),
    "iban": ("iban", values.iban),
    "ip": ("ip", values.ip_address),
    "ip4": ("ip", values.ip_v4_address),
    "aws": ("secret", values.ISSUED_SECRETS[0]),
    "secret": ("secret", lambda random: random.choice(values.ISSUED_SECRETS)(random)),
    "random_secret": ("secret", lambda random: random.choice(values.RANDOM_SECRETS)(random)),
    "private_key": ("secret", values.private_key),
    "iban_lower": ("iban", lambda random: values.iban(random).lower()),
    "storage_key": ("secret", values.storage_key),
    "long_hex": ("secret", values.long_hex),
    "password": ("secret", values.RANDOM_SECRETS[2]),
}
_OTHERS: dict[str, values.Make] = {
    "first": lambda random: random.choice(values.FIRST_NAMES).title(),
    "last": lambda random: random.choice(values.LAST_NAMES).title(),
    "wrong_card": values.wrong_card,
    "wrong_ssn": wrong_us_ssn,
    "wrong_iban": lambda random: values.iban(random, right=False),
    "private_ip": values.private_ip_address,
    "short_order": lambda random: values.digits(random, 8),
    "card_tail": lambda random: values.digits(random, 4),
    "port": lambda random: str(random.randrange(1024, 65536)),
}
