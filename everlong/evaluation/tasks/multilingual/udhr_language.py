"""Which language a paragraph of the Universal Declaration of Human Rights is written in.

More than 400 languages; the nine wrong names are those of other languages of the set, drawn with a
fixed seed. Chance is 10 %. Paragraphs that name their language are not asked.
"""

from __future__ import annotations

import random
from typing import Any

from everlong.evaluation.data import Data
from everlong.evaluation.likelihood import Choice, LikelihoodTask, choice

_SHORTEST, _LONGEST = 40, 240
_OTHERS = 9
_ASKED = 2


def _row(row: Any) -> tuple[str, str, list[str]]:
    return str(row["code"]), str(row["name"]), [str(p) for p in row["paragraphs"]]


def _read(data: Data) -> list[Choice]:
    texts = data.rows("udhr/udhr.jsonl", _row)
    # "Norwegian" is the right answer for "Norwegian, Bokmål" too: plain names only, once each.
    plain = {_plain(name) for _, name, _ in texts} - {""}
    found = []
    for code, name, paragraphs in texts:
        own = _plain(name)
        good = [p for p in paragraphs if len(p) >= _SHORTEST and own.lower() not in p.lower()]
        draw = random.Random(code)
        others = sorted(plain - {own})
        if not own or len(others) < _OTHERS:
            continue
        for n, paragraph in enumerate(draw.sample(good, min(_ASKED, len(good)))):
            names = [own, *draw.sample(others, _OTHERS)]
            draw.shuffle(names)
            asked = f"{paragraph[:_LONGEST]}\nThe text above is written in the language"
            options = [(asked, f" {text}") for text in names]
            found.append(choice(f"{code}:{n}", options, names.index(own)))
    return found


def _plain(name: str) -> str:
    return name.split("(")[0].split(",")[0].strip()


TASK = LikelihoodTask("udhr_language", 1, _read)
