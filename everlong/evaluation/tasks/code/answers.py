"""From what a model wrote to a program."""

from __future__ import annotations

import re

_FENCE = re.compile(r"```[ \t]*[\w+#-]*[ \t]*\n(.*?)(?:\n?```|\Z)", re.DOTALL)


def program(text: str) -> str:
    """The code of an answer: that of its first fence, or all of it where there is none."""
    fenced = _FENCE.search(text)
    return fenced[1] if fenced else text


def completed(prompt: str, text: str, entry_point: str) -> str:
    """The whole program where a function was begun in the prompt.

    An answer that writes the function itself, as chat models do, stands alone; else it goes on
    where the prompt ended.
    """
    own = program(text)
    if "```" in text and re.search(rf"\b{re.escape(entry_point)}\b", own):
        return own
    return prompt + own
