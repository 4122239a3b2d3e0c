"""Output that must have a form: a JSON schema, a regular expression or a grammar (llguidance).

A grammar comes from a request, so it is compiled in a process that may be killed before it is
compiled in this one (:mod:`everlong.engine.constraint_worker`). That takes about 0.1 s for a
constraint that was not seen lately, and about 1 ms for others. Masks then take 5 to 200 us a
token, and at most some 50 ms before a grammar that was made to be slow reaches its limits.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import OrderedDict
from functools import cached_property
from typing import Any

import numpy as np
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper, regex_to_lark
from numpy.typing import NDArray

from everlong.engine import constraint_worker
from everlong.engine.request import Constraint
from everlong.errors import RequestError
from everlong.tokenizer.tokenizer import Tokenizer

MAX_CHARS = 1 << 18
"""Longest text of a constraint."""
MAX_SECONDS = 5.0
"""Longest time that compiling may take."""
_MEMORY_BYTES = 1 << 29
_TRIAL_STACK_BYTES = 8 << 20
_STACK_BYTES = 2 * _TRIAL_STACK_BYTES
_KEPT = 64
_MAX_MESSAGE_CHARS = 500

# JSON may have white space almost anywhere, and a small model that is free to write some is quick
# to write nothing else. This is enough for the indentation of deeply nested values.
_WHITE_SPACE = r"[\x20\x0A\x0D\x09]{1,64}"


class ConstraintState:
    """How far one output has come in its constraint. Used by one thread at a time.

    Made by :meth:`ConstraintCompiler.compile`.
    """

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher
        self._mask: NDArray[np.bool_] | None = None

    def mask(self) -> NDArray[np.bool_]:
        """Which token ids may come next.

        An end-of-sequence id is among them exactly when the output is complete as it stands. The
        result is kept until the next :meth:`accept`, and the work is done without Python's lock,
        so it can be asked for early, while the model runs.

        Returns:
            [V] of the tokenizer, or longer by some ids that are False.

        Raises:
            RequestError: the constraint has become too complex to go on.
        """
        if self._mask is None:
            bits = self._matcher.compute_bitmask()
            self._check()
            packed = np.frombuffer(bits, dtype=np.uint8)
            self._mask = np.unpackbits(packed, bitorder="little").view(np.bool_)
        return self._mask

    def accept(self, token_id: int) -> None:
        """Go on to the state after ``token_id``.

        Raises:
            RequestError: the token is not allowed here, or the constraint became too complex.
        """
        self._mask = None
        self._matcher.consume_token(token_id)
        self._check()

    @property
    def finished(self) -> bool:
        """Whether the output is complete and nothing but the end may follow."""
        return self._matcher.is_stopped()

    @property
    def complete(self) -> bool:
        """Whether the output satisfies the constraint as it stands."""
        return self._matcher.is_accepting()

    def _check(self) -> None:
        if self._matcher.is_error():
            raise RequestError(
                f"the output cannot be constrained any further: {_message(self._matcher)}"
            )


class ConstraintCompiler:
    """Compiles constraints for one tokenizer; safe to use from several threads.

    The first constraint costs 0.2 to 0.5 s more, for the index of the vocabulary.

    Args:
        tokenizer: whose tokens the outputs consist of.
        max_seconds: longest time that compiling one constraint may take.
    """

    def __init__(self, tokenizer: Tokenizer, *, max_seconds: float = MAX_SECONDS) -> None:
        self._tokenizer = tokenizer
        self._max_seconds = max_seconds
        # Without an end-of-sequence token, outputs end where the grammar allows nothing more.
        # llguidance wants to know one: an id after the last.
        self._eos = sorted(tokenizer.eos_token_ids) or [tokenizer.vocab_size]
        self._size = max(tokenizer.vocab_size, self._eos[-1] + 1)
        self._index: LLTokenizer | None = None
        self._tried: OrderedDict[tuple[str, Constraint], None] = OrderedDict()
        self._lock = threading.Lock()

    def compile(self, constraint: Constraint, namespace: str = "") -> ConstraintState:
        """The state of an output of which nothing is written yet.

        Takes up to twice ``max_seconds``: not for the engine's thread, nor for an event loop.

        In regular expressions ``\\d`` and ``\\w`` are ASCII, the whole output must match, and
        ``^`` and ``$`` at the ends change nothing.

        Args:
            constraint: the form of the output.
            namespace: whose request it is of; how long this takes tells nobody else of it.

        Raises:
            RequestError: the constraint is malformed, uses what llguidance does not implement,
                allows no output at all, or is too large.
        """
        kind, grammar = _grammar(constraint)
        with self._lock:
            if (namespace, constraint) in self._tried:
                self._tried.move_to_end((namespace, constraint))
            else:
                self._try(kind, grammar)
                self._tried[namespace, constraint] = None
                if len(self._tried) > _KEPT:
                    self._tried.popitem(last=False)
            index = self._index = self._index or self._build_index()
            # Not copied from one that is kept: copies share an automaton, and what one request
            # makes it grow would count against the limits of another.
            begun: list[LLMatcher] = []
            constraint_worker.on_deep_stack(
                lambda: begun.append(constraint_worker.begin(index, grammar)), _STACK_BYTES
            )
        assert begun, "what a small process can compile, this one can"
        if begun[0].is_error():
            raise RequestError(f"{kind} cannot be used: {_message(begun[0])}")
        return ConstraintState(begun[0])

    @cached_property
    def _special(self) -> dict[int, str]:
        """Special tokens by id; read when the first constraint comes, not while a model loads."""
        special = {
            i: name
            for i in range(self._tokenizer.vocab_size)
            if self._tokenizer.is_special(i) and (name := self._tokenizer.token_text(i))
        }
        special.setdefault(self._eos[0], "<|end of sequence|>")
        return special

    def _try(self, kind: str, grammar: str) -> None:
        """Compile in a process that may fail, with half the stack that there will be."""
        request = {
            "grammar": grammar,
            "size": self._size,
            "eos": self._eos,
            "special": self._special,
            "stack_bytes": _TRIAL_STACK_BYTES,
            "memory_bytes": _MEMORY_BYTES,
        }
        try:
            ended = subprocess.run(
                [sys.executable, "-P", constraint_worker.__file__],
                input=json.dumps(request).encode(),
                capture_output=True,
                timeout=self._max_seconds,
                # It must find the same llguidance, however that was put on the path.
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                start_new_session=True,
            )
        except subprocess.TimeoutExpired:
            raise RequestError(
                f"{kind} takes more than {self._max_seconds:g} s to compile; simplify it"
            ) from None
        assert ended.returncode not in (1, 2), ended.stderr.decode(errors="replace")
        if ended.returncode != 0:
            raise RequestError(
                f"{kind} is nested too deeply, or takes more than {_MEMORY_BYTES >> 20} MiB to "
                "compile; simplify it"
            )

    def _build_index(self) -> LLTokenizer:
        vocabulary = _Vocabulary(self._tokenizer, self._size, self._eos[0], self._special)
        return LLTokenizer(TokenizerWrapper(vocabulary), eos_token=self._eos)


class _Vocabulary:
    """A tokenizer as llguidance wants to see it."""

    def __init__(
        self, tokenizer: Tokenizer, size: int, eos_token_id: int, special: dict[int, str]
    ) -> None:
        self._tokenizer = tokenizer
        self.eos_token_id = eos_token_id
        self.bos_token_id = tokenizer.bos_token_id
        self.special_token_ids = list(special)
        self.tokens = [
            special[i].encode() if i in special else tokenizer.token_bytes(i) for i in range(size)
        ]

    def __call__(self, text: bytes | str) -> list[int]:
        if isinstance(text, bytes):
            text = text.decode(errors="replace")
        return self._tokenizer.encode(text, special=False, bos=False)


def _grammar(constraint: Constraint) -> tuple[str, str]:
    """What to call the constraint in messages, and its text for llguidance.

    Raises:
        RequestError: it is too long, or the schema is not JSON.
    """
    kind, text = next(
        (kind, text)
        for kind, text in (
            ("the JSON schema", constraint.json_schema),
            ("the regular expression", constraint.regex),
            ("the grammar", constraint.lark),
        )
        if text is not None
    )
    if len(text) > MAX_CHARS:
        raise RequestError(
            f"{kind} has {len(text):,} characters; at most {MAX_CHARS:,} are allowed"
        )
    try:
        text.encode()
        if constraint.json_schema is not None:
            schema = _schema(text)
            return kind, LLMatcher.grammar_from_json_schema(
                json.dumps(schema), defaults={"whitespace_pattern": _WHITE_SPACE}
            )
        if constraint.regex is not None:
            return kind, LLMatcher.grammar_from_lark(f"start: /{regex_to_lark(text, 'dw')}/")
        return kind, LLMatcher.grammar_from_lark(text)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{kind} cannot be used: {error}"[:_MAX_MESSAGE_CHARS]) from None


def _schema(text: str) -> Any:
    schema = json.loads(text)
    if schema is True:
        return {}
    if not isinstance(schema, dict):
        raise ValueError(f"it must be a JSON object, not {text[:40]}")
    return schema


def _message(matcher: LLMatcher) -> str:
    message = matcher.get_error().replace("<non-verbose/>", "").strip()
    if len(message) > _MAX_MESSAGE_CHARS:
        message = message[:_MAX_MESSAGE_CHARS] + "..."
    return message
