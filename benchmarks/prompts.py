"""Prompts that every contender reads as the same token ids."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

_WORDS = tuple(
    """
the a of and to in is was for on that with as at by from it this are be an or which have has not
were but they their one all can had more when other into some than its time people may new also
first two these way over only see use work no most made between year world water day part small
large place where after well life many through long house old under night city river sea land
mountain road field winter summer morning light dark stone wood iron fire wind rain snow garden
tree bird horse ship train bridge market school book letter paper music story question answer
number word name family mother father child friend doctor king soldier farmer teacher captain
history science nature language country village island north south east west early late open
close strong quiet bright deep high low young great good little white black green red blue
""".split()  # noqa: SIM905 (readable)
)


def sentences(seed: str, count: int) -> str:
    """Sentences of common English words in random order; another seed, another text."""
    draw = random.Random(seed)
    made = []
    for _ in range(count):
        words = draw.choices(_WORDS, k=draw.randint(6, 14))
        made.append(" ".join(words).capitalize() + draw.choice((".", ".", ".", "?", "!")))
    return " ".join(made)


class Prompts:
    """Prompts of an exact length in tokens, another one for each key.

    No two begin alike, so that nothing can be answered from a prefix that was computed before.

    Args:
        seed: of the run.
        encode: text to token ids; all contenders of one race share a tokenizer, so that each is
            given ids.
    """

    def __init__(self, seed: int, encode: Callable[[str], Sequence[int]]) -> None:
        self._seed, self._encode = seed, encode

    def make(self, key: str, count: int, tokens: int) -> list[list[int]]:
        """``count`` prompts of ``tokens`` ids each; the same key gives the same prompts."""
        prompts = []
        for i in range(count):
            # A sentence has at least seven tokens.
            text = sentences(f"{self._seed} {key} {i}", tokens // 7 + 1)
            ids = list(self._encode(text))[:tokens]
            assert len(ids) == tokens, f"{len(ids)} tokens instead of {tokens}"
            prompts.append(ids)
        return prompts
