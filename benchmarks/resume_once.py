"""One fresh process that loads a model with a memory, goes on with prompts and prints the times.

Usage: ``python -m benchmarks.resume_once < JSON``; see :func:`main` for its fields.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any


def main(
    model: str,
    weights: Any,
    memory: str | None,
    warm_up: list[int],
    prompts: list[list[int]],
    tokens: int,
    deterministic: bool = False,
) -> dict[str, Any]:
    """Load, then continue each prompt greedily.

    Args:
        model, weights, memory: as ``everlong.load`` takes them.
        warm_up: a prompt that is continued before anything is timed.
        prompts: token ids.
        tokens: to generate for each.
        deterministic: see ``EngineConfig``.

    Returns:
        For each prompt the seconds to its first token, its tokens, and how many tokens of the
        prompt were found.
    """
    from everlong import EngineConfig, load

    begin = time.perf_counter()
    llm = load(
        model, weights=weights, memory=memory, engine=EngineConfig(deterministic=deterministic)
    )
    loaded = time.perf_counter() - begin
    options: dict[str, Any] = {"temperature": 0.0, "ignore_eos": True}
    list(llm.stream(warm_up, max_tokens=4, **options))
    results = []
    for prompt in prompts:
        begin, first, generated = time.perf_counter(), None, []
        for chunk in llm.stream(prompt, max_tokens=tokens, **options):
            first = first or time.perf_counter()
            generated += chunk.token_ids
        assert first is not None
        found = chunk.usage.cached_tokens
        results.append({"seconds": first - begin, "tokens": generated, "found": found})
    if llm.memory is not None:
        llm.memory.blocks.flush()
    llm.close()
    return {"load_seconds": loaded, "results": results}


if __name__ == "__main__":
    print(json.dumps(main(**json.load(sys.stdin))))
