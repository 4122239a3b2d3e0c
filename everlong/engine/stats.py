"""Counters and gauges of the engine, as one consistent snapshot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from everlong.engine.request import NOTHING_READ, Reads


@dataclass(frozen=True)
class EngineStats:
    """What the engine does now, and has done since it started."""

    running: int
    """Requests being computed."""
    waiting: int
    """Requests accepted and not yet begun, or preempted."""
    blocks_total: int
    blocks_used: int
    """Blocks held by requests; blocks kept only to be found again are not counted."""
    blocks_cached: int
    """Blocks that no request holds and that would be found again."""
    prompt_tokens: int
    cached_tokens: int
    """Prompt tokens whose blocks were found instead of computed."""
    generation_tokens: int
    requests_finished: Mapping[str, int]
    """By finish reason: stop, length, cancelled, error."""
    preemptions: int
    """Times a request gave its blocks back, to be computed again later."""
    steps: int
    reads: Reads = NOTHING_READ
    """What the tokens of finished requests read, where attention is routed."""
