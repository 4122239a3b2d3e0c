"""Compiles one grammar in a process of its own, to see whether that ends.

llguidance bounds the work of a step, but not all the work of compiling. Measured with 1.9: an
intersection of forty patterns (``allOf`` in a schema) runs for minutes, a chain of a thousand
references overflows the stack and takes the process with it, 40 kB of ``a*b?`` need 600 MB. So a
grammar from a stranger is first compiled here, where time and memory have limits and a crash is
only an exit code.

Run as a script by :mod:`everlong.engine.constraint`; it imports nothing of Everlong, so that it
starts in a twentieth of a second. The exit code is 0 when the grammar was compiled or refused by
llguidance in an orderly way, ``BROKE`` when it could not be dealt with, and the system's when the
process had to be ended.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from collections.abc import Callable
from typing import Any

from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

BROKE = 86
MAX_STATES = 50_000
"""States of a regular expression's automaton; they were measured at 350 bytes each."""


def begin(tokenizer: LLTokenizer, grammar: str) -> LLMatcher:
    """Compile ``grammar`` and find its first tokens; the result may be in an error state."""
    limits = LLParserLimits(max_lexer_states=MAX_STATES, verbose_errors=False)
    matcher = LLMatcher(tokenizer, grammar, log_level=0, limits=limits)
    if not matcher.is_error():
        matcher.compute_bitmask()
    return matcher


def on_deep_stack(task: Callable[[], None], stack_bytes: int) -> None:
    """Run ``task`` in a thread with a stack of ``stack_bytes`` and wait for it.

    Compiling recurses along references; 9 kB were measured for each. (Masks do not recurse.)
    """
    thread = threading.Thread(target=task, name="constraint")
    before = threading.stack_size(stack_bytes)
    try:
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()


class _Vocabulary:
    """The real special tokens, and one token for each byte where there is room."""

    def __init__(self, request: dict[str, Any]) -> None:
        special = {int(token_id): name for token_id, name in request["special"].items()}
        self.special_token_ids = list(special)
        self.eos_token_id: int = request["eos"][0]
        self.bos_token_id = None
        self.tokens = [b""] * request["size"]
        for token_id, name in special.items():
            self.tokens[token_id] = name.encode()
        free = (i for i in range(request["size"]) if i not in special)
        for token_id, byte in zip(free, range(256), strict=False):
            self.tokens[token_id] = bytes([byte])

    def __call__(self, text: bytes) -> list[int]:
        return [self.tokens.index(bytes([byte])) for byte in text]


def _limit_memory(most: int) -> None:
    try:
        import resource
    except ImportError:
        return  # Windows: only time is bounded there
    for kind, value in ((resource.RLIMIT_AS, most), (resource.RLIMIT_CORE, 0)):
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(kind, (value, value))


def main() -> int:
    """Compile the grammar described on the standard input."""
    request = json.load(sys.stdin.buffer)
    tokenizer = LLTokenizer(TokenizerWrapper(_Vocabulary(request)), eos_token=request["eos"])
    _limit_memory(request["memory_bytes"])
    ended: list[bool] = []

    def compile_it() -> None:
        with contextlib.suppress(BaseException):  # a panic or no memory: reported by the code
            begin(tokenizer, request["grammar"])
            ended.append(True)

    on_deep_stack(compile_it, request["stack_bytes"])
    return 0 if ended else BROKE


if __name__ == "__main__":
    sys.exit(main())
