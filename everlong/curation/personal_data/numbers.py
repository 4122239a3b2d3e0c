"""Where a text has long numbers, and what stands beside them.

Phone numbers, cards and national ids all are at least seven digits with little between them. One
scan finds such runs; a text without any, which is most prose, is done with. What a run is, often
only the words beside it tell.
"""

from __future__ import annotations

import re

Span = tuple[int, int]
"""Where something begins in a text, and where it ends."""

SEPARATORS = r" ().\-/\u00a0\u2009\u202f\u2010-\u2013"
"""For a character class: what people put between groups of digits."""

_RUN = re.compile(rf"[0-9](?:[{SEPARATORS}]{{0,3}}+[0-9]){{6,}}+")
_STAND_IN = re.compile(r"<[A-Z_]{2,12}(?:_[0-9]+)?>(?!$)")
"""At the end of what is before a number, it is an element of a document that has the number."""
_NOT_A_DIGIT = re.compile(r"[^0-9]+")


def digit_runs(text: str) -> list[Span]:
    """Digits, seven at least, between which there are three separators at most.

    Each begins and ends with a digit; one may hold several numbers.
    """
    return [match.span() for match in _RUN.finditer(text)]


_LETTER = re.compile(r"[A-Z][ -]?[0-9][0-9]")


def letters_before_digits(text: str) -> list[int]:
    """Places of capital letters that have two digits behind them, as numbers with letters have."""
    return [match.start() for match in _LETTER.finditer(text)]


def digits_of(number: str) -> str:
    """A number without what is between its digits."""
    return _NOT_A_DIGIT.sub("", number)


def words(*alternatives: str) -> re.Pattern[str]:
    """Finds any of some words in lower-case text, as they stand between anything but letters.

    ``\\b`` would miss ``ssn`` in ``user_ssn2``, and scripts without spaces have no word ends.
    """
    return re.compile(rf"(?<![a-z])(?:{'|'.join(alternatives)})(?![a-z])")


def word_set(listed: str) -> frozenset[str]:
    """What is listed with spaces between."""
    return frozenset(listed.split())


def before(text: str, start: int, length: int) -> str:
    """Up to so many characters before a place, in lower case; whole words."""
    begin = max(0, start - length)
    if begin and text[begin - 1].isalnum():
        while begin < start and text[begin].isalnum():
            begin += 1
    return _without_stand_ins(text[begin:start])


def after(text: str, end: int, length: int) -> str:
    """Up to so many characters from a place on, in lower case; whole words."""
    last = min(len(text), end + length)
    if last < len(text) and text[last].isalnum():
        while last > end and text[last - 1].isalnum():
            last -= 1
    return _without_stand_ins(text[end:last])


def _without_stand_ins(window: str) -> str:
    """In lower case, and without what stands for masked data: it says nothing of another number."""
    return (_STAND_IN.sub(" ", window) if "<" in window else window).lower()


def stands_alone(text: str, start: int, end: int) -> bool:
    """Whether something is no part of a longer word, number, or decimal fraction."""
    if start and (text[start - 1].isalnum() or text[start - 1] == "_"):
        return False
    if start > 1 and text[start - 1] in ".,-/:" and text[start - 2].isdigit():
        return False
    follows = text[end : end + 2]
    if follows[:1].isalnum() or follows[:1] == "_":
        return False
    if len(follows) < 2:
        return True
    return not (follows[0] in ".,/:" and follows[1].isdigit()) and not (
        follows[0] == "-" and follows[1].isalnum()
    )


_SHAPE = str.maketrans("012345678\u00a0", "999999999 ")
_CAPITALS = str.maketrans(dict.fromkeys("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "A"))


def shape(number: str) -> str:
    """A number with 9 for every digit and A for every capital letter."""
    return number.translate(_SHAPE).translate(_CAPITALS)


class Alike:
    """Tells numbers that look like the one before: those of a list, or of a column of a table.

    Only the first of them has a word beside it that says what it is.

    Args:
        near: characters from the end of one to the beginning of the next.
    """

    def __init__(self, near: int) -> None:
        self._near = near
        self._shape, self._end = "", -near - 1

    def keep(self, text: str, start: int, end: int) -> None:
        """A number was found."""
        self._shape, self._end = shape(text[start:end]), end

    def to_the_last(self, text: str, start: int) -> bool:
        """Whether a number begins that looks like the one that was found last."""
        if start - self._end > self._near:
            return False
        end = start + len(self._shape)
        return shape(text[start:end]) == self._shape and not text[end : end + 1].isalnum()
