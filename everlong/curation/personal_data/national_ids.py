"""National ids in a text: what has the shape of one, whose check holds, and, where that says too
little, what is called one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from everlong.curation.personal_data.id_forms import ANY_NAME, FORMS
from everlong.curation.personal_data.numbers import (
    Alike,
    Span,
    after,
    before,
    shape,
    stands_alone,
    words,
)
from everlong.curation.personal_data.phone_words import is_called_a_phone


@dataclass(frozen=True)
class _Rule:
    valid: Callable[[str], bool]
    name: re.Pattern[str] | None


def _rules() -> dict[str, list[_Rule]]:
    """Of each shape."""
    found: dict[str, list[_Rule]] = {}
    for form in FORMS:
        name = words(*form.names, *(ANY_NAME if form.checked else ()))
        for each in form.alone:
            found.setdefault(each, []).append(_Rule(form.valid, None))
        for each in form.named:
            found.setdefault(each, []).append(_Rule(form.valid, name))
    return found


_RULES = _rules()
_SAME = re.compile(r"9+|A+|.")
_CLASS = {"9": "[0-9]", "A": "[A-Z]", " ": "[ \u00a0]"}


def _pattern(shapes: Sequence[tuple[str, ...]]) -> str:
    """Matches the longest of some shapes, each in parts of one kind of character.

    Shapes share their beginnings, so that where a number starts little is tried.
    """
    rest: dict[str, list[tuple[str, ...]]] = {}
    for one in shapes:
        if one:
            rest.setdefault(one[0], []).append(one[1:])
    each = []
    for part, ends in rest.items():
        like = _CLASS.get(part[0], re.escape(part[0]))
        alone = f"(?!{like})" if part[0] in "9A" else ""
        each.append(f"{like}{{{len(part)}}}{alone}{_pattern(ends)}")
    if () in shapes:
        each.append("(?![0-9A-Za-z_])")
    return f"(?:{'|'.join(each)})"


def _compiled(digit_first: bool) -> re.Pattern[str]:
    parts = [tuple(_SAME.findall(each)) for each in _RULES if (each[0] == "9") == digit_first]
    return re.compile(rf"(?<![0-9A-Za-z_]){_pattern(parts)}")


_DIGIT_FIRST, _LETTER_FIRST = _compiled(True), _compiled(False)
_A_LETTER = re.compile(r"[^\W\d_]")
_LONGEST_HEAD = 6
"""Letters with which a number begins."""
_CAPITALS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def national_ids(text: str, runs: Sequence[Span], lettered: Sequence[int]) -> Iterator[Span]:
    """Numbers of people, of some thirty countries.

    Args:
        text: where.
        runs: of digits, in the text.
        lettered: places of capital letters before two digits.
    """
    alike = Alike(90)
    for first, last in runs:
        end = min(len(text), last + 3)  # letters at the end
        place = first
        while (match := _DIGIT_FIRST.search(text, place, end)) is not None:
            found = match.start() < last and _is_known(text, *match.span(), alike)
            if found:
                yield match.span()
            place = match.end() if found else match.start() + 1
    alike = Alike(90)
    for place in lettered:
        for match in _around_a_letter(text, place):
            if match is not None and _is_known(text, *match.span(), alike):
                yield match.span()


def _around_a_letter(text: str, place: int) -> Iterator[re.Match[str] | None]:
    """What could be a number with a capital letter at a place, and digits behind it."""
    if place and text[place - 1].isdigit():
        # The century in Finland, or Corsica in France; there with spaces or without.
        for width in (6, 9):
            match = _DIGIT_FIRST.match(text, max(0, place - width))
            yield match if match is not None and match.end() > place else None
    else:
        head = text[max(0, place + 1 - _LONGEST_HEAD) : place + 1]
        yield _LETTER_FIRST.match(text, place + 1 - len(head) + len(head.rstrip(_CAPITALS)))


def _is_known(text: str, start: int, end: int, alike: Alike) -> bool:
    if not stands_alone(text, start, end):
        return False
    written = text[start:end]
    number = "".join(filter(str.isalnum, written))
    rules = [one for one in _RULES[shape(written)] if one.valid(number)]
    known = any(rule.name is None for rule in rules)
    if rules and not known and not is_called_a_phone(text, start):
        beside = f"{before(text, start, 60)} {after(text, end, 25)}"
        beside += " " + beside.replace(".", "")  # S.S.N. is SSN
        known = alike.to_the_last(text, start) or (
            _A_LETTER.search(beside) is not None
            and any(rule.name is not None and rule.name.search(beside) for rule in rules)
        )
    if known:
        alike.keep(text, start, end)
    return known
