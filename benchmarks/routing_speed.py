"""How much faster routed attention reads and writes, beside the dense path of the same kernels.

Reading 4,096 tokens is timed whole. Of longer texts the steps of 512 tokens are timed at nine
depths, both ways in turn over the same keys, and summed up by the trapezoid rule: a dense step's
time grows in proportion to its depth. Weights are int4, keys and values bfloat16 on both sides.

llama.cpp reads and goes on with the same tokens in a process of its own, from the same file; it is
no part of the ratios, and shows that what they compare with is no slow baseline.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.contender import Contender
from benchmarks.peers import llamacpp
from benchmarks.report import Measured
from benchmarks.routing_model import CHUNK, Steps
from everlong.model.cache import BLOCK, BlockTable, reach_of
from everlong.model.native.step import NativeStep

CLAIMS = (
    "prefill_32k_vs_dense",
    "prefill_128k_vs_dense",
    "decode_128k_vs_dense",
    "prefill_4k_vs_dense",
)
_DEPTHS = 8
_ROUNDS_SHORT = 7
_ROUNDS_DECODE = 9
_DECODED = 8
_PEER_LENGTHS = (4096, 32768)
_PEER_DECODED = 9


def measure(
    model: Path,
    books: list[Path],
    longest: int,
    peer: str | None,
    say: Callable[[str], None],
) -> tuple[dict[str, Measured], dict[str, Any]]:
    """The claims, and the single times in seconds.

    Args:
        model: a GGUF file.
        books: their texts follow each other, again and again.
        longest: tokens that are read at most.
        peer: an interpreter that has llama.cpp; None: there is none.
        say: told how far it is.
    """
    steps = Steps(model, "int4")
    steps.reach = reach_of(steps.config.max_position)
    text = itertools.cycle(token for book in books for token in steps.tokens(book))
    ids = list(itertools.islice(text, longest))
    table = steps.table(longest)
    samples: dict[str, Any] = {"short": _short(steps, ids, table)}
    if peer is not None:
        samples["llama.cpp"] = _peer(model, ids, peer, say)
    found = {"prefill_4k_vs_dense": _ratio(samples["short"], "4,096 tokens whole")}
    say(f"4,096 tokens: {found['prefill_4k_vs_dense'].value:.3f} x")
    at = 0
    for length, name in ((32768, "32k"), (131072, "128k")):
        if length > longest:
            continue
        depths = [length * i // _DEPTHS for i in range(_DEPTHS)] + [length - CHUNK]
        times: dict[str, list[float]] = {"dense": [], "routed": []}
        for depth in depths:
            while at < depth:
                steps.routed(steps.batch(ids[at : at + CHUNK], table, at, "none"))
                at += CHUNK
            part = ids[depth : depth + CHUNK]
            for way, step in (("dense", steps.dense), ("routed", steps.routed)):
                times[way].append(_time(step, steps, part, table, depth))
            say(f"at {depth:,}: {times['dense'][-1]:.2f} s dense, {times['routed'][-1]:.2f} routed")
        at = max(at, depths[-1] + CHUNK)
        samples[name] = {"depths": depths} | times
        whole = {way: _integral(depths, of) / CHUNK for way, of in times.items()}
        found[f"prefill_{name}_vs_dense"] = Measured(
            whole["dense"] / whole["routed"],
            f"{whole['dense']:.0f} s dense, {whole['routed']:.0f} s routed, by steps of {CHUNK} at "
            f"{len(depths)} depths",
        )
        if name == "128k":
            samples["decode"] = _decode(steps, ids, table, length)
            found["decode_128k_vs_dense"] = _ratio(
                samples["decode"], f"{_DECODED} tokens after {length - _DECODED:,}"
            )
    return found, samples


def _peer(
    model: Path, ids: list[int], python: str, say: Callable[[str], None]
) -> dict[int, dict[str, float]]:
    """Seconds in which llama.cpp reads so many tokens, and those of a token behind them."""
    found = {}
    lengths = [length for length in _PEER_LENGTHS if length <= len(ids)]
    with Contender(
        "llama.cpp", llamacpp.__name__, python=python, threads=torch.get_num_threads()
    ) as worker:
        options = {"slots": 1, "context": max(lengths) + BLOCK}
        worker.ask("load", path=str(model), threads=torch.get_num_threads(), options=options)
        for length in lengths:
            prompt = ids[: length - _PEER_DECODED]
            ran = worker.ask("run", timeout=3600, prompts=[prompt], tokens=_PEER_DECODED)
            found[length] = {
                "read": ran["seconds"] - ran["decode_seconds"],
                "each": ran["decode_seconds"] / (_PEER_DECODED - 1),
            }
            say(
                f"llama.cpp: {length:,} tokens in {found[length]['read']:.1f} s, then "
                f"{1000 * found[length]['each']:.1f} ms a token"
            )
    return found


def _short(steps: Steps, ids: list[int], table: BlockTable) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {"dense": [], "routed": []}
    for _ in range(_ROUNDS_SHORT + 1):
        for way, step in (("dense", steps.dense), ("routed", steps.routed)):
            seconds = sum(
                _time(step, steps, ids[at : at + CHUNK], table, at) for at in range(0, 4096, CHUNK)
            )
            times[way].append(seconds)
    return {way: of[1:] for way, of in times.items()}  # the first round warms up


def _decode(steps: Steps, ids: list[int], table: BlockTable, length: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {"dense": [], "routed": []}
    for _ in range(_ROUNDS_DECODE + 1):
        for way, step in (("dense", steps.dense), ("routed", steps.routed)):
            seconds = sum(
                _time(step, steps, ids[at : at + 1], table, at, "last")
                for at in range(length - _DECODED, length)
            )
            times[way].append(seconds)
    return {way: of[1:] for way, of in times.items()}


def _time(
    step: NativeStep,
    steps: Steps,
    part: list[int],
    table: BlockTable,
    start: int,
    logits: str = "none",
) -> float:
    batch = steps.batch(part, table, start, logits)
    began = time.perf_counter()
    step(batch)
    return time.perf_counter() - began


def _integral(depths: list[int], seconds: list[float]) -> float:
    """Of the seconds of a step over the depths, and over the last step's own tokens."""
    area = sum(
        (b - a) * (x + y) / 2
        for (a, b), (x, y) in zip(
            itertools.pairwise(depths), itertools.pairwise(seconds), strict=True
        )
    )
    return area + CHUNK * seconds[-1]


def _ratio(times: dict[str, list[float]], what: str) -> Measured:
    ratios = sorted(a / b for a, b in zip(times["dense"], times["routed"], strict=True))
    dense, routed = (1000 * median(times[way]) for way in ("dense", "routed"))
    return Measured(
        median(ratios),
        f"{what}: {dense:.0f} ms dense, {routed:.0f} ms routed, median of {len(ratios)} rounds in "
        f"turn ({ratios[0]:.2f} to {ratios[-1]:.2f} x)",
    )
