"""One fresh process that goes on with a long text, routed, from a memory, and prints what came out.

Usage: ``python -m benchmarks.long_once < JSON``; see :func:`main` for its fields.
"""

from __future__ import annotations

import json
import sys
import time
from math import prod
from pathlib import Path
from typing import Any

_SPARE = 256
"""Tokens of a question and its answer."""


def main(
    model: str,
    weights: Any,
    memory: str,
    text: list[int],
    turns: int = 0,
    questions: list[list[int]] | None = None,
    answer: int = 0,
    near: int = 0,
    rounds: int = 0,
    tokens: int = 0,
) -> dict[str, Any]:
    """Read a text in turns, answer questions behind it, or time tokens behind all and some of it.

    Args:
        model, weights, memory: as ``everlong.load`` takes them.
        text: token ids.
        turns: tokens of the text that are read at a time; what the memory has is not read again.
            0: nothing is read ahead.
        questions: what is asked behind the text; each is answered greedily by itself.
        answer: tokens of an answer at most.
        near: so many tokens of the text's end are the shorter text beside which tokens are timed.
        rounds: of timing, in turn.
        tokens: that are timed in each.
    """
    from everlong import EngineConfig, load
    from everlong.model.cache import BLOCK, block_shape
    from everlong.model.routing_index import index_shape

    begin = time.perf_counter()
    blocks = -(-(len(text) + _SPARE) // BLOCK) + (16 * _SPARE + near) // BLOCK
    config = _config(model)
    size = 2 * prod(block_shape(config)) + prod(index_shape(config))
    engine = EngineConfig(
        attention="routed",
        max_model_len=len(text) + _SPARE,
        kv_cache_memory=blocks * size,
    )
    llm = load(model, weights=weights, memory=memory, engine=engine)
    options: dict[str, Any] = {"temperature": 0.0}
    found: dict[str, Any] = {"load_seconds": time.perf_counter() - begin}
    began = time.perf_counter()
    for end in range(turns, len(text) + turns, turns) if turns else ():
        part = text[: min(end, len(text))]
        llm.generate([part], max_tokens=1, **options)
        print(
            f"{len(part):,} of {len(text):,} tokens, {time.perf_counter() - began:.0f} s",
            file=sys.stderr,
            flush=True,
        )
    found["read_seconds"] = time.perf_counter() - began
    if questions:
        began = time.perf_counter()
        answers = llm.generate(
            [text + asked for asked in questions],
            max_tokens=answer,
            stop=["\n"],
            **options,
        )
        found["answers"] = [one.text for one in answers]
        found["cached"] = [one.usage.cached_tokens for one in answers]
        found["answer_seconds"] = time.perf_counter() - began
    found["rounds"] = [
        {
            name: _timed(llm, part, tokens, options)
            for name, part in (("near", text[-near:]), ("all", text))
        }
        for _ in range(rounds)
    ]
    if llm.memory is not None:
        llm.memory.blocks.flush()
    llm.close()
    return found


def _timed(llm: Any, text: list[int], tokens: int, options: dict[str, Any]) -> dict[str, float]:
    """Seconds to the first token, and of each of the later ones."""
    began, times = time.perf_counter(), []
    for _ in llm.stream(text, max_tokens=tokens, ignore_eos=True, **options):
        times.append(time.perf_counter())
    return {"first": times[0] - began, "each": (times[-1] - times[0]) / (tokens - 1)}


def _config(model: str) -> Any:
    from everlong.checkpoint import open_checkpoint

    return open_checkpoint(Path(model)).config


if __name__ == "__main__":
    print(json.dumps(main(**json.load(sys.stdin))))
