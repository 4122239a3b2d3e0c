"""What routed attention costs in loss on books, and how much it reads.

The whole text is read by routed steps, as the engine reads a prompt. The last 1,024 tokens before
each length are computed as in decoding: each chooses for itself, as tokens that choose together see
one another's needs, and a text's next token would be one of them. Their losses are compared with
those of dense attention all along.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from benchmarks.report import Measured
from benchmarks.routing_model import CHUNK, Steps
from everlong.model.cache import pieces_seen
from everlong.model.native.step import NativeStep

CLAIMS = ("loss_increase_16k", "loss_increase_32k", "kv_read_share", "index_bytes_share")
_SCORED = 1024


def measure(
    model: Path, books: list[Path], longest: int, say: Callable[[str], None]
) -> tuple[dict[str, Measured], dict[str, Any]]:
    """The claims, and each book's figures.

    Args:
        model: a GGUF file; its own weights are used.
        books: each is read once densely and once routed.
        longest: tokens that are read of each.
        say: told how far it is.
    """
    steps = Steps(model, "auto")
    ends = [end for end in (16384, 32768) if end <= longest]
    samples: dict[str, Any] = {}
    for book in books:
        ids = steps.tokens(book)[: ends[-1] + 1]
        if len(ids) <= ends[-1]:
            say(f"{book.name} has {len(ids)} tokens only")
            continue
        dense, _ = _losses(steps, ids, ends, steps.dense, steps.dense)
        routed, shares = _losses(steps, ids, ends, steps.routed, steps.alone)
        samples[book.name] = {
            end: {
                "loss_dense": float(dense[end].mean()),
                "increase": float((routed[end] - dense[end]).mean()),
                "share_read": shares[end],
            }
            for end in ends
        }
        told = ", ".join(
            f"{end}: {one['increase']:+.4f} at {100 * one['share_read']:.1f} %"
            for end, one in samples[book.name].items()
        )
        say(f"{book.name}: {told}")
    found: dict[str, Measured] = {}
    shares_by_end = []
    for end in ends:
        increases = [of[end]["increase"] for of in samples.values()]
        shares_by_end.append(mean(of[end]["share_read"] for of in samples.values()))
        spread = stdev(increases) if len(increases) > 1 else 0.0
        detail = (
            f"mean of {len(increases)} books, last {_SCORED} of {end:,} tokens, each choosing for "
            f"itself after a routed prompt; spread {spread:.4f}; "
            f"{100 * shares_by_end[-1]:.1f} % of keys and values read by them"
        )
        found[f"loss_increase_{end // 1024}k"] = Measured(mean(increases), detail)
    found["kv_read_share"] = Measured(
        100 * max(shares_by_end), "the larger of both lengths, of the tokens whose loss is compared"
    )
    block, codes = steps.table(1).blocks[0], steps.table(1).codes[0]
    found["index_bytes_share"] = Measured(
        100 * codes.nbytes / block.nbytes, f"{codes.nbytes:,} of {block.nbytes:,} bytes a block"
    )
    return found, samples


def _losses(
    steps: Steps, ids: list[int], ends: list[int], prompt: NativeStep, scored: NativeStep
) -> tuple[dict[int, torch.Tensor], dict[int, float]]:
    """Losses of the last tokens before each end, and the share of keys and values they read."""
    table = steps.table(ends[-1])
    losses: dict[int, torch.Tensor] = {}
    shares: dict[int, float] = {}
    at = 0
    for end in ends:
        while at < end - _SCORED:
            size = min(CHUNK, end - _SCORED - at)
            prompt(steps.batch(ids[at : at + size], table, at, "none"))
            at += size
        parts, skipped = [], 0
        while at < end:
            batch = steps.batch(ids[at : at + CHUNK], table, at, "all")
            wanted = torch.tensor(ids[at + 1 : at + CHUNK + 1])
            parts.append(cross_entropy(scored(batch), wanted, reduction="none"))
            skipped += int(batch.skipped)
            at += CHUNK
        losses[end] = torch.cat(parts)
        shares[end] = 1 - skipped / pieces_seen(steps.config, range(end - _SCORED, end))
    return losses, shares
