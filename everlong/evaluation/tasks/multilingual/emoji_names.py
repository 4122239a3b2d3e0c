"""Names of emoji (Unicode CLDR) in more than 100 locales: which English name a name stands for.

For every locale with at least 1,200 names 50 emoji are asked, drawn by their hash; the three wrong
names are of emoji of the same category. Chance is 25 %.
"""

from __future__ import annotations

import hashlib
import random
from typing import Any

from everlong.evaluation.data import Data
from everlong.evaluation.likelihood import Choice, LikelihoodTask, choice

_NAMES_WANTED = 1200
_ASKED = 50


def _row(row: Any) -> tuple[str, str, dict[str, str]]:
    return str(row["unified"]), str(row["category"]), dict(row["names"])


def _read(data: Data) -> list[Choice]:
    emoji = [e for e in data.rows("emoji/emoji_names.jsonl", _row) if e[2].get("en")]
    # A smaller file than the published one asks for as large a share.
    wanted = min(_NAMES_WANTED, 0.6 * len(emoji))
    counts: dict[str, int] = {}
    for _, _, names in emoji:
        for locale in names:
            counts[locale] = counts.get(locale, 0) + 1
    found = []
    for locale in sorted(x for x, n in counts.items() if n >= wanted and x.split("_")[0] != "en"):
        named = [e for e in emoji if e[2].get(locale)]
        for code, category, names in sorted(named, key=lambda e: _hash(locale + e[0]))[:_ASKED]:
            right = names["en"]
            others = sorted({e[2]["en"] for e in emoji if e[1] == category} - {right})
            if len(others) < 3:
                continue
            draw = random.Random(_hash(f"{locale} {code}"))
            texts = [right, *draw.sample(others, 3)]
            draw.shuffle(texts)
            asked = f"{names[locale]}\nIn English:"
            options = [(asked, f" {text}") for text in texts]
            found.append(choice(f"{locale}:{code}", options, texts.index(right), locale))
    return found


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


TASK = LikelihoodTask("emoji_names", 1, _read)
