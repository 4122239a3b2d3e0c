"""Which numbers a telephone network has: the numbering plans of all countries.

Google's libphonenumber knows them; its package phonenumbers brings a pattern of the valid numbers
of each kind and country. They are asked directly, all of a country at once, which is some ten times
faster than parsing a number and then asking what kind it is.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING

from everlong.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from phonenumbers.phonemetadata import PhoneMetadata, PhoneNumberDesc


def is_international(digits: str) -> bool:
    """Whether a country's code and a valid number of it follow one another."""
    if digits[:1] in ("", "0"):
        return False
    for length in (1, 2, 3):
        code = int(digits[:length])
        if code in _library().COUNTRY_CODE_TO_REGION_CODE:
            return _is_valid(digits[length:], code)
    return False


def is_national(digits: str, regions: tuple[str, ...]) -> bool:
    """Whether a number is valid as it is dialled inside one of some regions.

    Raises:
        MissingExtraError: phonenumbers is not installed.
        ConfigError: there is no such region.
    """
    for region in regions:
        code, trunk = _region(region)
        if _is_valid(digits, code):
            return True
        prefix = None if trunk is None else trunk.match(digits)
        if prefix is not None and prefix.end() and _is_valid(digits[prefix.end() :], code):
            return True
    return False


def has_trunk_code(region: str) -> bool:
    """Whether a zero is dialled before numbers inside a region, or something like it."""
    return _region(region)[1] is not None and country_code(region) != 1


def country_code(region: str) -> int:
    """What is dialled to reach a region from abroad."""
    return _region(region)[0]


def _is_valid(digits: str, code: int) -> bool:
    plan = _plan(code).get(len(digits))
    return plan is not None and plan.fullmatch(digits) is not None


@functools.cache
def _library() -> ModuleType:
    try:
        import phonenumbers
    except ImportError:
        raise MissingExtraError("phonenumbers", "curate") from None
    return phonenumbers


@functools.cache
def _region(region: str) -> tuple[int, re.Pattern[str] | None]:
    """Country code of a region, and what is dialled before a number inside it."""
    metadata = _library().PhoneMetadata.metadata_for_region(region)
    if metadata is None:
        known = ", ".join(sorted(_library().SUPPORTED_REGIONS))
        raise ConfigError(f"regions has {region!r}; there are {known}")
    trunk = metadata.national_prefix_for_parsing
    return int(metadata.country_code), None if trunk is None else re.compile(trunk)


@functools.cache
def _plan(code: int) -> Mapping[int, re.Pattern[str]]:
    """The valid numbers of all regions that share a country code, by how many digits they have."""
    library = _library()
    patterns: dict[int, list[str]] = {}
    for region in library.COUNTRY_CODE_TO_REGION_CODE[code]:
        metadata = library.PhoneMetadata.metadata_for_region_or_calling_code(code, region)
        for kind, lengths in _kinds(metadata):
            for length in lengths:
                patterns.setdefault(length, []).append(kind)
    # No pattern has groups that are referred to, so they can stand side by side.
    return {length: re.compile("|".join(each)) for length, each in patterns.items()}


def _kinds(metadata: PhoneMetadata) -> list[tuple[str, tuple[int, ...]]]:
    """Patterns of each kind of number, and the lengths that it has."""
    general = metadata.general_desc
    assert general is not None, "every region says what its numbers have in common"
    kinds: tuple[PhoneNumberDesc | None, ...] = (
        *(metadata.fixed_line, metadata.mobile, metadata.toll_free, metadata.premium_rate),
        *(metadata.shared_cost, metadata.personal_number, metadata.voip, metadata.pager),
        *(metadata.uan, metadata.voicemail),
    )
    return [
        (kind.national_number_pattern, kind.possible_length or general.possible_length)
        for kind in kinds
        if kind is not None and kind.national_number_pattern is not None
    ]
