"""A million tokens in a memory: what a token costs behind them, and what is still found.

A text with sentences planted in it (``haystacks.py``) is taken apart in its middle, and other books
are put between both halves; so of two equal halves one was told long ago, the other just now. The
engine reads it all in turns, routed, with a memory. Another process then goes on: it answers
questions about both halves, and its tokens are timed beside those behind 8,000 tokens.
"""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.contender import ask_once
from benchmarks.haystacks import Question, haystack, read_book
from benchmarks.report import Measured
from benchmarks.routing_retrieval import opening_of
from everlong.checkpoint import open_checkpoint
from everlong.errors import ConfigError
from everlong.tokenizer import Tokenizer

CLAIMS = ("decode_1m_vs_8k_stored", "needle_1m_after_restart_vs_8k")
TOKENS = 1_000_000
NEAR = 8_000
"""Tokens in which the later half was told, and behind which tokens are timed for comparison."""
_TASKS = ("single", "keys", "facts")
"""Whose answers are in one sentence each: needles."""
_TURN = 16_384
_ROUNDS = 5
_TIMED = 48
_ANSWER = 24
_BYTES = 14_000
"""Of a token of Qwen2.5-0.5B on disk, with some to spare."""


@dataclass(frozen=True)
class _Long:
    """A text, and what is asked about its beginning and its end."""

    ids: list[int]
    far: list[Question]
    near: list[Question]
    turn: str


def measure(
    model: Path,
    books: Sequence[Path],
    tokens: int,
    folder: Path,
    seed: int,
    say: Callable[[str], None],
) -> tuple[dict[str, Measured], dict[str, Any]]:
    """Both claims, and the single figures behind them.

    Args:
        model: a GGUF file with a chat template, whose weights are used as int4.
        books: the first one has the planted sentences; all of them lie between.
        tokens: of the whole text.
        folder: of the memory; what was read in a run before is not read again.
        seed: of what is planted, and where.
        say: told how far it is.

    Raises:
        ConfigError: the text is too short for what is planted, or the disk too full for it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kept = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    if (left := shutil.disk_usage(folder).free + kept) < _BYTES * tokens:
        raise ConfigError(
            f"{folder} has room for {left / 1e9:.0f} GB, and {tokens:,} tokens take "
            f"{_BYTES * tokens / 1e9:.0f}; name another folder with --million-folder"
        )
    tokenizer = open_checkpoint(model).tokenizer()
    long = _long(tokenizer, books, tokens, seed)
    asked = [*long.far, *long.near]
    questions = [tokenizer.encode(q.part(long.turn, []).text, bos=False) for q in asked]
    common = {"model": str(model), "weights": "int4", "memory": str(folder), "text": long.ids}

    def once(**more: Any) -> dict[str, Any]:
        return ask_once("benchmarks.long_once", given=json.dumps(common | more), shown=True)

    read = once(turns=_TURN)
    say(f"{tokens:,} tokens: read in {read['read_seconds']:.0f} s")
    answered = once(questions=questions, answer=_ANSWER)
    assert min(answered["cached"]) >= tokens - 64, "the memory has the text"
    scores = [q.score(answer) for q, answer in zip(asked, answered["answers"], strict=True)]
    far, near = scores[: len(long.far)], scores[len(long.far) :]
    right = [f"{sum(of):.0f} of {len(of)}" for of in (far, near)]
    say(f"right about the beginning {right[0]}, about the end {right[1]}")
    timed = once(near=NEAR, rounds=_ROUNDS + 1, tokens=_TIMED)["rounds"][1:]
    ratios = sorted(100 * one["near"]["each"] / one["all"]["each"] for one in timed)
    each = {n: 1000 * median(one[n]["each"] for one in timed) for n in ("near", "all")}
    first = median(one["all"]["first"] for one in timed)
    rates = [sum(of) / max(1, len(of)) for of in (far, near)]
    samples = {
        "tokens": len(long.ids),
        "read_seconds": read["read_seconds"],
        "answer_seconds": answered["answer_seconds"],
        "far": far,
        "near": near,
        "rounds": timed,
    }
    return {
        CLAIMS[0]: Measured(
            median(ratios),
            f"{each['all']:.1f} ms a token behind {len(long.ids):,} tokens, {each['near']:.1f} "
            f"behind {NEAR:,}, median of {len(ratios)} rounds in turn ({ratios[0]:.0f} to "
            f"{ratios[-1]:.0f} %); first token behind all of it after {first:.1f} s",
        ),
        CLAIMS[1]: Measured(
            100 * rates[0] / rates[1] if rates[1] else None,
            f"after a restart {right[0]} right about the first {NEAR:,} of {len(long.ids):,} "
            f"tokens, {right[1]} about the last",
        ),
    }, samples


def _long(tokenizer: Tokenizer, books: Sequence[Path], tokens: int, seed: int) -> _Long:
    def encode(text: str) -> list[int]:
        return tokenizer.encode(text, bos=False)

    before, turn = opening_of(tokenizer)
    hay = haystack(
        read_book(books[0]),
        2 * NEAR - 2 * len(encode(before)),
        lambda sentence: len(encode(f" {sentence}")),
        f"{seed} million {books[0].name}",
    )
    middle = hay.text.index(" ", len(hay.text) // 2)
    first, last = encode(before + hay.text[:middle]), encode(hay.text[middle:] + "\n\n")
    between = tokens - len(first) - len(last)
    if between < 0:
        raise ConfigError(f"{tokens:,} tokens are too few; ask for {len(first) + len(last):,}")
    told = itertools.cycle(token for book in books for token in encode(read_book(book)))
    ids = first + list(itertools.islice(told, between)) + last
    needles = [q for q in hay.questions if q.task in _TASKS]
    # Planted sentences lie unevenly around the middle; those that are near it are not asked for.
    far = [q for q in needles if max(q.depths) < 0.48]
    near = [q for q in needles if min(q.depths) > 0.52]
    return _Long(ids, far, near, turn)
