"""Personal data that has a form: found, and masked.

Addresses, phone numbers, cards, accounts, national ids and keys are found by their shape, and then
checked as far as they can be: check digits, lengths and prefixes that were given out, ranges of
addresses, and, where these hold by chance too often, the words beside them. Names and postal
addresses have no form and are not found.

What is masked can be put back with a table of what was there; the step throws it away.

Sources: datatrove, ``pipeline/formatters/pii.py`` (email and public IP addresses are masked, as for
FineWeb); Soldaini et al., "Dolma" (2024), on the web's text (those and phone numbers are masked; a
document with many of them is dropped). The kinds of numbers, their checks and the words beside them
are described where they are found.
"""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from everlong.curation.augmentation.made import MADE_FROM
from everlong.curation.document import Changed, Document, Dropped
from everlong.curation.personal_data.addresses import emails, ip_addresses
from everlong.curation.personal_data.national_ids import national_ids
from everlong.curation.personal_data.numbers import Span, digit_runs, letters_before_digits
from everlong.curation.personal_data.payment import cards, ibans
from everlong.curation.personal_data.phones import REGIONS, phone_numbers
from everlong.curation.personal_data.secrets import secrets
from everlong.errors import ConfigError

PersonalDataKind = Literal["secret", "iban", "card", "national_id", "ip", "email", "phone"]
KINDS: tuple[PersonalDataKind, ...] = get_args(PersonalDataKind)
"""The more a form says, the earlier: of two readings of the same characters the first is right."""

Replacement = Literal["placeholder", "pseudonym"]
REPLACEMENTS: tuple[Replacement, ...] = get_args(Replacement)


@dataclass(frozen=True)
class Found:
    """Where personal data stands in a text."""

    kind: PersonalDataKind
    start: int
    end: int


def find(
    text: str,
    kinds: Sequence[PersonalDataKind] = KINDS,
    regions: Sequence[str] = REGIONS,
    spelt_out: bool = True,
) -> list[Found]:
    """Personal data in a text.

    Args:
        text: where.
        kinds: what to look for.
        regions: ISO 3166 codes of the countries where phone numbers without a country code may be
            from.
        spelt_out: whether ``name at host dot com`` is an email address.

    Returns:
        In the order of the text; none overlaps another. Where two do, the longer one is there; of
        two equally long ones that whose form says more.

    Raises:
        MissingExtraError: phone numbers are looked for, and phonenumbers is not installed.
    """
    found = list(_candidates(text, kinds, regions, spelt_out))
    if len(found) > 1:
        found.sort(key=lambda one: (one.start, -one.end, KINDS.index(one.kind)))
        found = list(_without_overlaps(found))
    return found


def _candidates(
    text: str, kinds: Sequence[PersonalDataKind], regions: Sequence[str], spelt_out: bool
) -> Iterator[Found]:
    runs = digit_runs(text) if {"card", "iban", "national_id", "phone"} & set(kinds) else []
    lettered = letters_before_digits(text) if {"iban", "national_id"} & set(kinds) else []
    for kind in kinds:
        spans: Iterable[Span]
        if kind == "secret":
            spans = secrets(text)
        elif kind == "iban":
            spans = ibans(text, runs, lettered)
        elif kind == "card":
            spans = cards(text, runs)
        elif kind == "national_id":
            spans = national_ids(text, runs, lettered)
        elif kind == "ip":
            spans = ip_addresses(text)
        elif kind == "email":
            spans = emails(text, spelt_out)
        else:
            spans = phone_numbers(text, runs, regions)
        for start, end in spans:
            yield Found(kind, start, end)


def _without_overlaps(found: Sequence[Found]) -> Iterator[Found]:
    """Of each chain of findings that overlap, the longest one, and what it leaves.

    Args:
        found: sorted by their start.
    """
    chain: list[Found] = []
    end = 0
    for one in found:
        if chain and one.start >= end:
            yield from _best(chain)
            chain = []
        chain.append(one)
        end = max(end, one.end)
    yield from _best(chain)


def _best(chain: list[Found]) -> list[Found]:
    if len(chain) == 1:
        return chain
    chosen: list[Found] = []
    starts: list[int] = []
    for one in sorted(chain, key=lambda one: (one.start - one.end, KINDS.index(one.kind))):
        place = bisect.bisect(starts, one.start)
        free = place == 0 or chosen[place - 1].end <= one.start
        if free and (place == len(starts) or one.end <= starts[place]):
            starts.insert(place, one.start)
            chosen.insert(place, one)
    return chosen


@dataclass(frozen=True)
class Replaced:
    """Something that was masked."""

    start: int
    """Of what stands for it, in the masked text."""
    length: int
    """Of what stands for it."""
    original: str


@dataclass(frozen=True)
class Masked:
    """What a text lost, with which :func:`unmask` puts it back."""

    replaced: tuple[Replaced, ...]


def mask(
    text: str, found: Sequence[Found], replacement: Replacement = "placeholder"
) -> tuple[str, Masked]:
    """Put something else where personal data is.

    Args:
        text: with the data.
        found: where; in the order of the text, without overlaps.
        replacement: ``placeholder``: ``<EMAIL>``. ``pseudonym``: ``<EMAIL_2>``, the same for what
            is the same in the text, so that it can be told who is meant.

    Returns:
        The text without them, and what stood there.
    """
    parts: list[str] = []
    replaced: list[Replaced] = []
    numbers: dict[tuple[str, str], int] = {}
    counts: Counter[str] = Counter()
    length = end = 0
    for one in found:
        assert end <= one.start < one.end, "findings are in order and do not overlap"
        original, name = text[one.start : one.end], one.kind.upper()
        if replacement == "pseudonym":
            key = (one.kind, _without_spelling(original))
            if key not in numbers:
                counts[one.kind] += 1
                numbers[key] = counts[one.kind]
            name = f"{name}_{numbers[key]}"
        stand_in = f"<{name}>"
        length += one.start - end
        parts += (text[end : one.start], stand_in)
        replaced.append(Replaced(length, len(stand_in), original))
        length += len(stand_in)
        end = one.end
    return "".join((*parts, text[end:])), Masked(tuple(replaced))


def _without_spelling(original: str) -> str:
    """The same for the same number however it is grouped, and the same address."""
    return "".join(filter(str.isalnum, original)).casefold() or original


def unmask(text: str, masked: Masked) -> str:
    """The inverse of :func:`mask`.

    Args:
        text: as ``mask`` returned it.
        masked: what came with it.
    """
    parts: list[str] = []
    end = 0
    for one in masked.replaced:
        parts += (text[end : one.start], one.original)
        end = one.start + one.length
    return "".join((*parts, text[end:]))


@dataclass(frozen=True)
class PersonalData:
    """Masks personal data in texts and in metadata, such as titles and licences; drops documents
    that have a lot of it in their text. Ids, which name files, stay as they are."""

    kind: Literal["personal_data"] = "personal_data"
    kinds: tuple[PersonalDataKind, ...] = KINDS
    """What is masked."""
    replacement: Replacement = "placeholder"
    """``placeholder``: ``<EMAIL>`` stands for every address. ``pseudonym``: ``<EMAIL_2>`` stands
    for the second address of a document wherever it comes again; each field of the metadata counts
    for itself."""
    regions: tuple[str, ...] = REGIONS
    """ISO 3166 codes of the countries whose phone numbers are found without a country code."""
    spelt_out: bool = True
    """Whether ``name at host dot com`` is an email address as well."""
    most: int | None = None
    """A document with more findings is dropped: a list of addresses is not worth reading. None: no
    document is."""

    def __post_init__(self) -> None:
        unknown = [one for one in self.kinds if one not in KINDS]
        if unknown or not self.kinds or len(set(self.kinds)) < len(self.kinds):
            raise ConfigError(f"kinds is {self.kinds}; some of {', '.join(KINDS)}, each once")
        if self.replacement not in REPLACEMENTS:
            raise ConfigError(f"replacement is {self.replacement!r}; {' or '.join(REPLACEMENTS)}")
        if not all(
            len(region) == 2 and region.isascii() and region.isupper() for region in self.regions
        ):
            raise ConfigError(f"regions is {self.regions}; two capital letters each, such as US")
        if self.most is not None and self.most < 0:
            raise ConfigError(f"most is {self.most}; 0 or more, or null")

    def __call__(self, document: Document) -> Dropped | None:
        """Mask what is found, and tell ``history`` how many of each kind there were."""
        found = find(document.text, self.kinds, self.regions, self.spelt_out)
        if self.most is not None and len(found) > self.most:
            return Dropped("personal_data", f"{len(found)} findings, at most {self.most}")
        document.text, _ = mask(document.text, found, self.replacement)
        self._note(document, "", found)
        # Titles become text in what is made of a document, and the rest is passed on with it.
        more: list[Found] = []
        for name, value in document.metadata.items():
            if isinstance(value, str) and name != MADE_FROM:
                found = find(value, self.kinds, self.regions, self.spelt_out)
                document.metadata[name], _ = mask(value, found, self.replacement)
                more += found
        if document.licence is not None:  # which may be what an author wrote: "ask ..."
            found = find(document.licence, self.kinds, self.regions, self.spelt_out)
            document.licence, _ = mask(document.licence, found, self.replacement)
            more += found
        self._note(document, " in metadata", more)
        return None

    def _note(self, document: Document, where: str, found: Sequence[Found]) -> None:
        counts = Counter(one.kind for one in found)
        for kind in KINDS:
            if counts[kind]:
                document.history.append(Changed(self.kind, f"{kind}{where}", counts[kind]))
