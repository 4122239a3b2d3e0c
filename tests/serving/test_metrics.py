"""/metrics, as Prometheus reads it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import openai
import pytest

from everlong.engine.request import Chunk, Usage
from everlong.engine.stats import EngineStats
from everlong.serving.metrics import Histogram, Metrics
from tests.serving.conftest import RunningServer

STATS = EngineStats(
    running=2,
    waiting=3,
    blocks_total=8,
    blocks_used=2,
    blocks_cached=1,
    prompt_tokens=100,
    cached_tokens=64,
    generation_tokens=50,
    requests_finished={"stop": 4, "length": 5},
    preemptions=6,
    steps=7,
)


def samples(text: str) -> dict[str, float]:
    """Values by name and labels, without model_name."""
    parser = pytest.importorskip("prometheus_client.parser", reason="prometheus-client is missing")
    found = {}
    for family in parser.text_string_to_metric_families(text):
        assert family.documentation
        assert family.type in ("counter", "gauge", "histogram")
        for sample in family.samples:
            labels = {k: v for k, v in sample.labels.items() if k != "model_name"}
            assert sample.labels["model_name"] == 'a "b"\\'
            found[f"{sample.name}{labels or ''}"] = sample.value
    return found


def exposition(metrics: Metrics) -> str:
    return metrics.exposition(STATS, 'a "b"\\')


def test_prometheus_reads_what_the_engine_counts() -> None:
    found = samples(exposition(Metrics()))
    assert found["everlong:num_requests_running"] == 2
    assert found["everlong:num_requests_waiting"] == 3
    assert found["everlong:kv_cache_usage_perc"] == 0.25
    assert found["everlong:prompt_tokens_total"] == 100
    assert found["everlong:generation_tokens_total"] == 50
    assert found["everlong:prefix_cache_hits_total"] == 64
    assert found["everlong:request_success_total{'finished_reason': 'stop'}"] == 4
    assert found["everlong:request_success_total{'finished_reason': 'length'}"] == 5
    assert found["everlong:num_preemptions_total"] == 6


def test_buckets_add_up() -> None:
    histogram = Histogram("h", "help", (1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 5.0):
        histogram.observe(value)
    histogram.observe(2.0, times=3)
    text = "\n".join(histogram.lines('m="x"')).splitlines()
    assert text[2:] == [
        'everlong:h_bucket{m="x",le="1.0"} 2',
        'everlong:h_bucket{m="x",le="2.0"} 6',
        'everlong:h_bucket{m="x",le="+Inf"} 7',
        'everlong:h_sum{m="x"} 14.0',
        'everlong:h_count{m="x"} 7',
    ]


def test_a_request_is_timed_and_its_source_closed() -> None:
    metrics = Metrics()
    closed = 0

    async def chunks(*counts: int) -> AsyncIterator[Chunk]:
        nonlocal closed
        try:
            done = 0
            for number, count in enumerate(counts):
                done += count
                reason = "stop" if number == len(counts) - 1 else None
                yield Chunk("", (5,) * count, None, reason, Usage(10, 0, done))
        finally:
            closed += 1

    async def read() -> None:
        assert len([chunk async for chunk in metrics.observed(chunks(1, 1, 2))]) == 3
        left = metrics.observed(chunks(1, 1, 1))
        await anext(left)
        await left.aclose()

    asyncio.run(read())
    found = samples(exposition(metrics))
    assert closed == 2
    assert found["everlong:time_to_first_token_seconds_count"] == 2
    assert found["everlong:inter_token_latency_seconds_count"] == 3
    assert found["everlong:e2e_request_latency_seconds_count"] == 1, "the other was not finished"
    assert found["everlong:request_time_per_output_token_seconds_count"] == 1
    assert found["everlong:request_prompt_tokens_sum"] == 10
    assert found["everlong:request_generation_tokens_sum"] == 4


def test_a_served_request_counts(client: openai.OpenAI, server: RunningServer) -> None:
    names = ("generation_tokens_total", "e2e_request_latency_seconds_count")
    before = [server.metric(name) for name in names]
    client.completions.create(model="noise", prompt="fox", max_tokens=9, n=2, seed=1)
    tokens, requests = (
        server.metric(name) - earlier for name, earlier in zip(names, before, strict=True)
    )
    assert requests == 2
    assert 2 <= tokens <= 18
    assert server.metric("request_success_total", finished_reason="length") > 0
