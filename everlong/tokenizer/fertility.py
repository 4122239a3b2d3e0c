"""How many tokens a tokenizer takes for texts (Rust et al., 2021, section 3.2: fertility)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from everlong.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class Fertility:
    """Counts over some texts."""

    texts: int
    words: int
    """Between spaces; languages that write none have few."""
    letters: int
    size: int
    """UTF-8 bytes."""
    tokens: int

    @property
    def per_word(self) -> float:
        """Tokens a word, the measure that is called fertility."""
        return self.tokens / max(1, self.words)

    @property
    def per_letter(self) -> float:
        """Tokens a letter, which compares languages that write no spaces."""
        return self.tokens / max(1, self.letters)

    @property
    def bytes_each(self) -> float:
        """Bytes a token."""
        return self.size / max(1, self.tokens)


def fertility_of(tokenizer: Tokenizer, texts: Iterable[str]) -> Fertility:
    """Count what a tokenizer makes of texts; no token is added to them."""
    count = words = letters = size = tokens = 0
    for text in texts:
        count += 1
        words += len(text.split())
        letters += len(text)
        size += len(text.encode("utf-8", "replace"))
        tokens += len(tokenizer.encode(text, special=False, bos=False))
    return Fertility(count, words, letters, size, tokens)
