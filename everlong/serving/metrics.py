"""What /metrics says, in Prometheus' text format with vLLM's names under ``everlong:``.

Counts and gauges are the engine's own (``EngineStats``); times are taken here, per engine
request, as a client could feel them.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import aclosing

from everlong.engine.request import Chunk
from everlong.engine.stats import EngineStats

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_FIRST_TOKEN = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0),
)
_PER_TOKEN = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5),
    *(0.75, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0),
)
_WHOLE_REQUEST = (
    *(0.05, 0.1, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0),
    *(40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0),
)
_TOKENS = tuple(float(2**power) for power in range(18))


class Histogram:
    """Observations counted in buckets.

    Args:
        name: without the prefix.
        help_text: one line.
        bounds: upper bounds of the buckets, ascending; one without a bound is added.
    """

    def __init__(self, name: str, help_text: str, bounds: Sequence[float]) -> None:
        self.name = name
        self.help_text = help_text
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Counts ``value``, as if it had been seen ``times`` times."""
        self._counts[bisect_left(self._bounds, value)] += times
        self._sum += value * times

    def lines(self, label: str) -> Iterable[str]:
        name = f"everlong:{self.name}"
        yield from _header(self.name, self.help_text, "histogram")
        total = 0
        for bound, count in zip((*self._bounds, "+Inf"), self._counts, strict=True):
            total += count
            yield f'{name}_bucket{{{label},le="{bound}"}} {total}'
        yield f"{name}_sum{{{label}}} {self._sum}"
        yield f"{name}_count{{{label}}} {total}"


class Metrics:
    """Times and sizes of the requests of one server, and their exposition."""

    def __init__(self) -> None:
        self.first_token = Histogram(
            "time_to_first_token_seconds", "From arrival to the first token.", _FIRST_TOKEN
        )
        self.inter_token = Histogram(
            "inter_token_latency_seconds", "Between two tokens of a request.", _PER_TOKEN
        )
        self.per_token = Histogram(
            "request_time_per_output_token_seconds",
            "Mean time between the tokens of a request.",
            _PER_TOKEN,
        )
        self.whole_request = Histogram(
            "e2e_request_latency_seconds", "From arrival to the last token.", _WHOLE_REQUEST
        )
        self.prompt_tokens = Histogram(
            "request_prompt_tokens", "Tokens of a request's prompt.", _TOKENS
        )
        self.generation_tokens = Histogram(
            "request_generation_tokens", "Tokens generated for a request.", _TOKENS
        )

    async def observed(self, chunks: AsyncIterator[Chunk]) -> AsyncGenerator[Chunk, None]:
        """Passes one engine request through and records it; cancelled ones only so far.

        Closing it closes ``chunks``.
        """
        start = last = time.perf_counter()
        first: float | None = None
        tokens = 0
        async with aclosing(chunks) as source:  # type: ignore[type-var]
            async for chunk in source:
                now = time.perf_counter()
                new = len(chunk.token_ids)
                if new and first is None:
                    first = now
                    self.first_token.observe(now - start)
                elif new:
                    self.inter_token.observe((now - last) / new, new)
                if new:
                    last = now
                    tokens += new
                if chunk.finish_reason is not None:
                    self.whole_request.observe(now - start)
                    self.prompt_tokens.observe(chunk.usage.prompt_tokens)
                    self.generation_tokens.observe(tokens)
                    if first is not None and tokens > 1:
                        self.per_token.observe((last - first) / (tokens - 1))
                yield chunk

    def exposition(self, stats: EngineStats, model: str) -> str:
        """All metrics as text, each with the label ``model_name``."""
        label = f'model_name="{_escaped(model)}"'
        lines: list[str] = []

        def add(kind: str, name: str, help_text: str, value: float) -> None:
            lines.extend(_header(name, help_text, kind))
            lines.append(f"everlong:{name}{{{label}}} {value}")

        add("gauge", "num_requests_running", "Requests in the batch.", stats.running)
        add("gauge", "num_requests_waiting", "Requests in the queue.", stats.waiting)
        used = stats.blocks_used / stats.blocks_total if stats.blocks_total else 0.0
        add("gauge", "kv_cache_usage_perc", "Blocks in use; 1 is all of them.", used)
        add("gauge", "kv_cache_blocks", "Blocks of 64 tokens there are.", stats.blocks_total)
        add("gauge", "kv_cache_blocks_used", "Blocks that requests hold.", stats.blocks_used)
        for name, help_text, value in (
            ("prompt_tokens_total", "Prompt tokens read.", stats.prompt_tokens),
            ("generation_tokens_total", "Tokens generated.", stats.generation_tokens),
            ("prefix_cache_queries_total", "Prompt tokens looked up.", stats.prompt_tokens),
            ("prefix_cache_hits_total", "Prompt tokens found.", stats.cached_tokens),
            ("num_preemptions_total", "Requests put back for want of blocks.", stats.preemptions),
            ("iterations_total", "Steps of the engine.", stats.steps),
            ("kv_pieces_read_total", "Pieces that routed tokens read.", stats.reads.read),
            ("kv_pieces_seen_total", "Pieces that they could have read.", stats.reads.seen),
        ):
            add("counter", name, help_text, value)
        lines.extend(_header("request_success_total", "Requests finished.", "counter"))
        for reason, count in sorted(stats.requests_finished.items()):
            lines.append(
                f"everlong:request_success_total{{{label},"
                f'finished_reason="{_escaped(reason)}"}} {count}'
            )
        for histogram in (
            self.first_token,
            self.inter_token,
            self.per_token,
            self.whole_request,
            self.prompt_tokens,
            self.generation_tokens,
        ):
            lines.extend(histogram.lines(label))
        return "\n".join(lines) + "\n"


def _header(name: str, help_text: str, kind: str) -> tuple[str, str]:
    return f"# HELP everlong:{name} {help_text}", f"# TYPE everlong:{name} {kind}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
