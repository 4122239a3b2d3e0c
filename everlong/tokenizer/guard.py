"""Keeps control tokens in untrusted text from being read as control tokens.

A message may contain the text ``<|im_end|>``. Rendered into a chat prompt and encoded with it, that
text would end the turn and let a user write the next one in the system's name. So a mark, a
character that Unicode reserves for internal use, is put inside each such text before rendering. It
survives the template, keeps the tokenizer from seeing the token, and is removed by the normaliser
that :class:`Tokenizer` uses for marked text, before words are cut. Text without control tokens is
left as it is, so that ordinary messages take no other path than in any other program.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

MARK = "\ufdd0"
"""The noncharacter U+FDD0. Guarded text loses it where it had one of its own."""


class ControlGuard:
    """Marks what reads like one of a tokenizer's control tokens.

    Args:
        control_tokens: their texts, e.g. ``<|im_start|>``.
    """

    def __init__(self, control_tokens: Iterable[str]) -> None:
        # A token of one character cannot be cut.
        tokens = sorted({token for token in control_tokens if len(token) > 1})
        branches = []
        for first in sorted({token[0] for token in tokens}):
            rests = [token[1:] for token in tokens if token[0] == first]
            # The beginning of a token at the end of a text counts as well: another text could
            # complete it, and a template may trim white space in between.
            starts = sorted({rest[:end] for rest in rests for end in range(len(rest))})
            whole, begun = ("|".join(map(re.escape, texts)) for texts in (rests, starts))
            branches.append(rf"{re.escape(first)}(?=(?:{whole})|(?:{begun})\s*\Z)")
        # Only the first character is consumed, so that overlapping tokens are all found.
        self._pattern = re.compile("|".join(branches) or "(?!)")

    def mark(self, value: Any) -> Any:
        """A copy of ``value`` (JSON data) in which no string can form a control token.

        Keys of objects are marked too. Returns ``value`` itself, not a copy, where there is
        nothing to mark.
        """
        if isinstance(value, str):
            marked, count = self._pattern.subn(rf"\g<0>{MARK}", value)
            return marked if count else value
        if isinstance(value, dict):
            items = [(self.mark(key), self.mark(item)) for key, item in value.items()]
            if all(k is key and v is value[key] for key, (k, v) in zip(value, items, strict=True)):
                return value
            return dict(items)
        if isinstance(value, (list, tuple)):
            marked_items = [self.mark(item) for item in value]
            if all(a is b for a, b in zip(value, marked_items, strict=True)):
                return value
            return marked_items
        return value
