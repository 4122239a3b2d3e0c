"""Texts to the windows of token ids that a sentence encoder reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from everlong.errors import CheckpointError
from everlong.tokenizer.huggingface import read_backend


class SentenceTokenizer:
    """The tokenizer of an encoder; what marks the beginning and end of a text is added.

    Args:
        path: a ``tokenizer.json``.
        window: most tokens of a window, its marks included.

    Raises:
        CheckpointError: the file is missing or damaged, or the window has no room for a word.
    """

    def __init__(self, path: Path, window: int) -> None:
        if not path.is_file():
            raise CheckpointError(f"there is no {path}; a vocab.txt alone is not read")
        self._backend = read_backend(path)
        self._backend.no_padding()
        # Text such as "[SEP]" is text.
        self._backend.encode_special_tokens = True
        marks = self._backend.num_special_tokens_to_add(False)
        if window <= marks:
            raise CheckpointError(f"{path} adds {marks} tokens to a text, and {window} are allowed")
        self._backend.enable_truncation(window)

    @property
    def vocab_size(self) -> int:
        """One more than the highest id."""
        return 1 + max(self._backend.get_vocab(with_added_tokens=True).values(), default=-1)

    def windows(self, texts: Sequence[str]) -> list[list[list[int]]]:
        """Token ids of each text, in as many windows as it takes, at least one."""
        # Lone surrogates, which no token can spell, become question marks.
        clean = [text.encode("utf-8", "replace").decode() for text in texts]
        return [
            [encoding.ids, *(more.ids for more in encoding.overflowing)]
            for encoding in self._backend.encode_batch(clean)
        ]
