"""The exact bytes that a token stands for, whatever alphabet its vocabulary is spelled in."""

from __future__ import annotations

import json
import re
from typing import Any

from tokenizers import Tokenizer, pre_tokenizers

from everlong.errors import UnsupportedError

_WORD_MARK = "▁"  # how SentencePiece spells a space
_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def _byte_alphabet() -> dict[int, int]:
    """Code point -> byte of the 256 printable characters that spell bytes (GPT-2)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    alphabet = {byte: byte for byte in printable}
    alphabet |= {0x100 + index: byte for index, byte in enumerate(others)}
    assert {chr(c) for c in alphabet} == set(pre_tokenizers.ByteLevel.alphabet())
    return alphabet


_BYTE_OF = _byte_alphabet()


class Spelling:
    """How the tokens of one vocabulary spell bytes.

    Args:
        byte_level: tokens are written in GPT-2's alphabet of 256 characters, one a byte;
            otherwise in SentencePiece's: plain text, ``▁`` for a space, ``<0x0A>`` for a byte.
        strips_space: one space at the very start of a decoded text is dropped, because
            encoding put one there (SentencePiece).
    """

    def __init__(self, *, byte_level: bool, strips_space: bool = False) -> None:
        self.byte_level = byte_level
        self.strips_space = strips_space

    def to_bytes(self, token: str) -> bytes:
        """The bytes of an ordinary token of the vocabulary (not of an added one)."""
        if self.byte_level:
            try:
                return bytes([_BYTE_OF[ord(character)] for character in token])
            except KeyError:
                return token.encode()  # not in the alphabet: the token is plain text
        if byte := _BYTE_TOKEN.fullmatch(token):
            return bytes([int(byte[1], 16)])
        return token.replace(_WORD_MARK, " ").encode()


def spelling_of(backend: Tokenizer) -> Spelling:
    """Read from a tokenizer's decoder how its vocabulary spells bytes.

    Raises:
        UnsupportedError: the decoder is of another kind (WordPiece, CTC, none).
    """
    decoder = backend.decoder
    parts: list[dict[str, Any]] = [] if decoder is None else [json.loads(decoder.__getstate__())]
    if parts and parts[0]["type"] == "Sequence":
        parts = parts[0]["decoders"]
    kinds = {part["type"]: part for part in parts}
    if "ByteLevel" in kinds:
        return Spelling(byte_level=True)
    if "Metaspace" in kinds:
        return Spelling(
            byte_level=False, strips_space=kinds["Metaspace"].get("prepend_scheme") != "never"
        )
    if any(p["type"] == "Replace" and p["pattern"] == {"String": _WORD_MARK} for p in parts):
        return Spelling(byte_level=False, strips_space="Strip" in kinds)
    raise UnsupportedError(
        f"the tokenizer's decoder is {' + '.join(kinds) or 'missing'}; "
        "supported: ByteLevel (GPT-2, Qwen, Llama 3), Metaspace or Replace ▁ (SentencePiece)"
    )
