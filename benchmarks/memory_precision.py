"""What int8 keys and values in the memory save, and what they cost in perplexity."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.memory_store import emptied
from benchmarks.perplexity import Losses, increase
from benchmarks.report import Measured
from everlong import LLM, load
from everlong.checkpoint import open_checkpoint
from everlong.engine.config import EngineConfig
from everlong.memory.memory import Memory

CLAIMS = ("int8_memory_perplexity_increase", "int8_memory_bytes")

_WINDOW = 2048
"""Tokens: the first half comes from the memory, the second half is predicted."""
_SIZE = 4 << 30


def measure(
    models: Sequence[tuple[str, Path, str]],
    text: Path,
    folder: Path,
    windows: int,
    say: Callable[[str], None],
) -> tuple[dict[str, Measured], dict[str, Any]]:
    """The claims, of the model on which int8 costs most; and the losses behind them.

    Args:
        models: name, file and weights of each.
        text: a file of text that none of them was chosen on.
        folder: an empty one; what is made in it is removed again.
        windows: most windows of the text, which follow each other without overlap.
        say: told how far it is.
    """
    samples: dict[str, Any] = {}
    found: dict[str, tuple[float, float, str]] = {}
    for name, path, weights in models:
        ids = open_checkpoint(path).tokenizer().encode(text.read_text(encoding="utf-8"))
        parts = [ids[at : at + _WINDOW] for at in range(0, len(ids) - _WINDOW + 1, _WINDOW)]
        losses: dict[str, Losses] = {}
        size: dict[str, float] = {}
        for kept in ("auto", "int8"):
            place = folder / f"memory-{kept}"
            with emptied(place), Memory(place, _SIZE) as memory:
                engine = EngineConfig(max_model_len=_WINDOW + 64, memory_kv_dtype=kept)
                with load(path, weights=weights, engine=engine, memory=memory) as llm:
                    losses[kept] = _losses(llm, memory, parts[:windows])
                stats = memory.blocks.stats()
                size[kept] = stats.bytes / stats.blocks
            say(f"{name}, {kept} memory: perplexity {losses[kept].perplexity:.4f}")
        more = increase(losses["int8"], losses["auto"])
        found[name] = (
            more,
            size["int8"] / size["auto"],
            (
                f"{name} (weights={weights}): {losses['auto'].perplexity:.4f} to "
                f"{losses['int8'].perplexity:.4f} ({more:+.3g} %)"
            ),
        )
        samples[name] = {kept: asdict(of) for kept, of in losses.items()}
    count = len(parts[:windows])
    worst = max(found, key=lambda name: found[name][0])
    detail = "; ".join(told for _, _, told in found.values())
    return {
        CLAIMS[0]: Measured(
            found[worst][0],
            f"{text.parent.name}/{text.name}, {count} windows of {_WINDOW} tokens, the first half "
            f"of which was read from the memory: {detail}",
        ),
        CLAIMS[1]: Measured(
            max(share for _, share, _ in found.values()), "bytes of a block on disk, int8 to auto"
        ),
    }, samples


def _losses(llm: LLM, memory: Memory, parts: Sequence[Sequence[int]]) -> Losses:
    sums, counts = [], []
    for ids in parts:
        half = len(ids) // 2
        llm.generate([ids[:half]], max_tokens=1, ignore_eos=True)
        memory.blocks.flush()
        llm.engine.forget_cached()
        before = llm.engine.stats().cached_tokens
        (scored,) = llm.score([(ids, half)])
        read = llm.engine.stats().cached_tokens - before
        assert read == (half - 1) // 64 * 64, f"{read} tokens came from the memory"
        sums.append(-math.fsum(one.logprob for one in scored))
        counts.append(len(scored))
    return Losses(tuple(sums), tuple(counts))
