"""Judging what a model wrote: words after normalising, numbers in any script's digits."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

_NUMBER = re.compile(r"-?\d[\d,٬]*(?:[.٫]\d+)?")


def normalised(text: str) -> str:
    """Lower case, without punctuation at the ends and with single spaces."""
    words = " ".join(text.lower().split())
    return words.strip(" .,;:!?\"'()[]")


def first_line(text: str) -> str:
    """An answer up to its first line feed; leading ones do not count."""
    return text.strip().split("\n", 1)[0]


def number(text: str) -> str | None:
    """A number in plain digits, without separators of thousands and zeros after the point.

    Digits of every script are read: ``"১,২৫০"`` is ``"1250"``.
    """
    found = _NUMBER.fullmatch(text.strip().rstrip("."))
    return _plain(found[0]) if found else None


def last_number(text: str) -> str | None:
    """The last number in a text, as :func:`number` writes it."""
    found = _NUMBER.findall(text)
    return _plain(found[-1]) if found else None


def _plain(written: str) -> str:
    digits = "".join(
        str(unicodedata.digit(c)) if c.isdigit() else {"٫": ".", "٬": ","}.get(c, c)
        for c in written
    ).replace(",", "")
    if "." in digits:
        digits = digits.rstrip("0").rstrip(".")
    return digits


def word_f1(answer: str, target: str) -> float:
    """Harmonic mean of precision and recall of the words, as often as they come.

    Capitals, punctuation and articles do not count (SQuAD, Rajpurkar et al. 2016, section 6.1).
    """
    said, wanted = Counter(_words(answer)), Counter(_words(target))
    shared = (said & wanted).total()
    if not shared:
        return float(not said and not wanted)
    return 2 * shared / (said.total() + wanted.total())


def says(answer: str, target: str) -> bool:
    """Whether the words of the target stand in the answer, one after the other.

    Capitals, punctuation and articles do not count.
    """
    said, wanted = _words(answer), _words(target)
    return bool(wanted) and f" {' '.join(wanted)} " in f" {' '.join(said)} "


def _words(text: str) -> list[str]:
    words = re.findall(r"\w+", text.lower())
    return [word for word in words if word not in {"a", "an", "the"}]
