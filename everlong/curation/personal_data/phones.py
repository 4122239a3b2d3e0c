"""Phone numbers: those with a country code, and those of some countries without.

A number has to be in the numbering plan of a country, and to look like a phone number: with a plus;
in the groups of North America; with a leading zero where a trunk code is dialled; or with a word
such as ``phone`` beside it. Digits without groups are a phone number only with such a word, since
numbers of orders, products and messages are as long. Numbers that can only be dialled inside one
town (555-0123) and words in place of digits (1-800-FLOWERS) are not found.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from everlong.curation.personal_data.numbers import (
    SEPARATORS,
    Alike,
    Span,
    after,
    digits_of,
    stands_alone,
)
from everlong.curation.personal_data.phone_plans import (
    country_code,
    has_trunk_code,
    is_international,
    is_national,
)
from everlong.curation.personal_data.phone_words import NEAR, is_called_a_phone

REGIONS = ("US", "GB", "DE", "FR", "ES", "IT", "NL", "PL", "BR", "IN")
"""Where a number without a country code may be from, unless something else is said."""

_SHORTEST, _LONGEST = 8, 15
"""Digits (E.164, 6.1; what is shorter has no area code, and is a number of anything)."""
_MOST_GROUPS = 7
_PLUS = re.compile(rf"\+\(?[0-9](?:[{SEPARATORS}]{{0,3}}+[0-9]){{5,17}}+")
_NORTH_AMERICAN = re.compile(
    r"(?<![0-9])(?:1[ .\-]?)?+(?:\([2-9][0-9]{2}\)[ \-.\u00a0]{0,2}|[2-9][0-9]{2}"
    r"[ .\-/\u00a0\u2011\u2013])"
    r"[2-9][0-9]{2}[ .\-\u00a0\u2011\u2013][0-9]{4}(?![0-9])"
)
_TELLING = re.compile(
    r"[0-9]{3}(?:([ .\-\u00a0])[0-9]{3}\1[0-9]{4}|([ \u00a0])[0-9]{2}\2[0-9]{2}\2[0-9]{2})"
    r"(?![0-9])"
)
"""Groups in which hardly anything but phone numbers is written: those of North America and Italy,
and of Spain. Groups of three are thousands."""
_ADDED = re.compile(r"[0-9] ?$")
_BREAK = re.compile(r"  |\t| [/\-–] ")
"""Between two numbers, where it is not behind an area code."""
_GROUPED = re.compile(r"\(?(?<![0-9])[0-9]+")
_GROUP_END = re.compile(r"[0-9](?![0-9])")
_TRUNK = re.compile(r"\(?0[1-9]|00[1-9]|\([1-9][0-9]\) ?[0-9]{4,5}[ \-]")
"""Dialled before a number inside a country, or before a country's code; or an area in brackets."""
_STAMP = re.compile(
    r"[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])[\-_](?:[01][0-9]|2[0-3])[0-5][0-9]"
    r"(?:[0-5][0-9])?(?![0-9])"
    r"|[0-2][0-9][0-5][0-9][\-–][0-2][0-9][0-5][0-9](?![0-9])"
)
"""Day and time in the name of a file, or from what time to what time."""
_YEARS = re.compile(r"(?:1[0-9]|20)[0-9]{2}[ ()/\-–]{1,3}(?:1[0-9]|20)[0-9]{2}")
_AMERICAN_ONLY = re.compile(r"\([0-9]{3}\) ?[0-9]{3}[\-.][0-9]{4}(?![0-9])")
_COUNTED = ("0123456789", "1234567890", "0987654321", "9876543210")
_FOLLOWS, _PRECEDES = re.compile(r"[0-9][ \t]{1,2}$"), re.compile(r"[ \t]{1,2}[0-9]")
"""Other numbers right beside one, as in a table."""
_DATE = re.compile(
    r"(?:(?:1[5-9]|20)[0-9]{2}[\-/. ](?:0?[1-9]|1[0-2])[\-/. ][0-3]?[0-9]"
    r"|[0-3]?[0-9][\-/. ](?:0?[1-9]|1[0-2])[\-/. ](?:1[5-9]|20)[0-9]{2}"
    r"|[01]?[0-9][\-/. ][0-3]?[0-9][\-/. ](?:1[5-9]|20)[0-9]{2}"
    r"|[0-3]?[0-9]\.[01]?[0-9]\.[\-–][0-3]?[0-9]\.[01]?[0-9]"
    r"|[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?!\.)|0\.[0-9]+)(?![0-9])"
)
"""Or an IP address, or a fraction."""
_EXTENSION = re.compile(
    r"(?:;ext=|[ ,]{0,2}(?:ext|extn|extension|x|poste|durchwahl|int|ramal)[.:]? ?)[0-9]{1,6}"
    r"(?![0-9A-Za-z])",
    re.IGNORECASE,
)

_BEHIND = re.compile(
    r"(?:mobile|cell|phone|home|work|office|fax|tel|mobil|handy|privat|whatsapp|sms|móvil|portable"
    r"|cellulare|celular|is (?:my|his|her|their|our) (?:new )?(?:number|phone|cell|mobile))"
    r"(?![a-z0-9])(?! ?[:.=])"
)


def phone_numbers(text: str, runs: Sequence[Span], regions: Sequence[str]) -> Iterator[Span]:
    """Phone numbers that could be dialled, with their extension.

    Args:
        text: where.
        runs: of digits, in the text.
        regions: ISO 3166 codes of the countries of numbers that have no country code.

    Raises:
        MissingExtraError: phonenumbers is not installed.
        ConfigError: there is no such region.
    """
    abroad: dict[int, int] = {}
    done = 0
    for match in _PLUS.finditer(text):
        start = match.start()
        if (
            start < done
            or (start and text[start - 1].isalnum())
            or _ADDED.search(text, max(0, start - 3), start)
        ):
            continue
        end = _longest_valid(text, start, match.end(), is_international)
        if end is not None:
            done = abroad[start] = _with_extension(text, end)
            yield start, done
    alike = Alike(90)
    for first, last in runs:
        if _YEARS.fullmatch(text, first, last):
            continue
        # A plus, or a bracket that opens before the first digit.
        before_it = first - (first > 0 and text[first - 1] == "(")
        first = abroad.get(before_it - 1, before_it)
        if first < last:
            yield from _national(text, first, last, regions, alike)


def _national(
    text: str, first: int, last: int, regions: Sequence[str], alike: Alike
) -> Iterator[Span]:
    """Of one run; there are no words in it, so what stands before it holds for all of it."""
    group = _GROUPED.match(text, first, last)
    if group is not None and group.end() == last and not _stands(text, first, last):
        return
    named = is_called_a_phone(text, first)
    place = first
    while (match := _GROUPED.search(text, place, last)) is not None:
        start = match.start()
        near = named if start - first < NEAR else None
        near = near or alike.to_the_last(text, start) or near
        found = _beginning_at(text, start, last, regions, near)
        if found is None and text[start] == "(":  # around the whole number, or more
            start += 1
            found = _beginning_at(text, start, last, regions, near)
        if found is None:
            place = match.end()
        else:
            alike.keep(text, start, found)
            place = _with_extension(text, found)
            yield start, place


def _beginning_at(
    text: str, start: int, last: int, regions: Sequence[str], named: bool | None
) -> int | None:
    """Where a number ends that begins here."""
    found = _north_american(text, start, last, regions, named)
    return _dialled(text, start, last, regions, named) if found is None else found


def _north_american(
    text: str, start: int, last: int, regions: Sequence[str], named: bool | None
) -> int | None:
    """Where a number in the groups 3-3-4 ends, if one begins here."""
    match = _NORTH_AMERICAN.match(text, start, last)
    if match is None or not _stands(text, start, match.end()):
        return None
    calling = tuple(region for region in regions if country_code(region) == 1)
    if not is_national(digits_of(match[0]).removeprefix("1"), calling):
        return None
    if " " in match[0] and "(" not in match[0] and not named:
        table = _FOLLOWS.search(text, max(0, start - 3), start) or _PRECEDES.match(
            text, match.end()
        )
        if named is False or table:
            return None
    return match.end()


def _dialled(
    text: str, start: int, last: int, regions: Sequence[str], named: bool | None
) -> int | None:
    """Where a number ends that begins here: with a zero and in groups, or called a phone number."""
    end = min(last, start + 28)
    trunk = _TRUNK.match(text, start, end) is not None
    if named is None and not trunk and _BEHIND.match(after(text, last, 24).lstrip(" (,-–:")):
        named = True
    telling = None if named or trunk else _TELLING.match(text, start, end)
    if named is False or not (named or trunk or telling) or _DATE.match(text, start, last):
        return None
    if named is None and _FOLLOWS.search(text, max(0, start - 3), start):
        return None
    if (named is None and _STAMP.match(text, start, last)) or _AMERICAN_ONLY.match(text, start):
        return None

    plans = tuple(regions)
    if telling is not None:
        end = telling.end()
        plans = tuple(region for region in regions if not has_trunk_code(region))

    def valid(digits: str) -> bool:
        if digits.startswith("00"):
            return is_international(digits[2:])
        return is_national(digits, plans) or (
            named is True and not trunk and is_international(digits)
        )

    found = _longest_valid(text, start, end, valid)
    if found is None or named:
        return found
    alone = _PRECEDES.match(text, found) is None
    return found if alone and _is_grouped(text[start:found]) else None


def _is_grouped(number: str) -> bool:
    """Whether the groups of a number are those of somebody who writes down a phone number."""
    groups = re.findall(r"[0-9]+", number.removeprefix("00"))
    if number.startswith("00"):
        return len(groups) > 1
    kinds = set(re.sub(r"[0-9()]+", "", number))
    return len(groups) > 1 and len(groups[0]) > 1 and min(map(len, groups)) > 1 and len(kinds) <= 2


def _longest_valid(text: str, start: int, end: int, valid: Callable[[str], bool]) -> int | None:
    """The last end of a group of digits up to which a number is valid and stands alone."""
    ends: list[int] = []
    for group in _GROUP_END.finditer(text, start, end):
        ends.append(group.end())
        if len(ends) == _MOST_GROUPS or (len(ends) > 1 and _BREAK.match(text, group.end())):
            break
    for place in reversed(ends):
        number = text[start:place]
        digits = digits_of(number.replace("(0)", ""))
        if len(digits) < _SHORTEST or digits in _COUNTED:
            return None
        balanced = number.count("(") == number.count(")")
        if len(digits) <= _LONGEST + 2 and balanced and valid(digits):
            return place if _stands(text, start, place) else None
    return None


def _stands(text: str, start: int, end: int) -> bool:
    """See :func:`stands_alone`; and it is no amount of money, share, or part of an address."""
    if not stands_alone(text, start, end):
        return False
    sign = text[start - 1] if start else ""
    return sign not in ("$", "€", "£", "#", "%", "&", "@", "\\", "+") and text[
        end : end + 1
    ] not in ("%", "$", "€", "£", "°")


def _with_extension(text: str, end: int) -> int:
    match = _EXTENSION.match(text, end)
    return end if match is None else match.end()
