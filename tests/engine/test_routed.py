"""Routed attention in the engine: what is read is told, stays the same from disk, and goes on past
the window that a model was trained for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from everlong.engine.config import EngineConfig
from everlong.errors import ConfigError
from everlong.memory.memory import Memory
from everlong.model.cache import BLOCK, PIECES
from everlong.model.routing import Budget
from tests.engine.tiny import WINDOW, all_blocks_free, config, model, tiny_llm, tokenizer

SPARING = Budget(4, 12, 0.01, 32, 24, 32, last=2, dense=0)
ALL = Budget(1 << 14, 1 << 14, 0, 1 << 14, 1 << 14, 1 << 14, dense=0)
ROUTED = {"attention": "routed", "budget": SPARING}


def prompt(count: int, seed: int = 0) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(10, tokenizer().vocab_size, (count,), generator=generator).tolist()


@pytest.mark.parametrize("weights", ["bf16", "float32"])
def test_with_an_unlimited_budget_answers_are_those_of_dense_attention(weights: str) -> None:
    prompts = [prompt(700), prompt(130, 1)]
    with tiny_llm(weights) as dense, tiny_llm(weights, attention="routed", budget=ALL) as routed:  # type: ignore[arg-type]
        expected = dense.generate(prompts, temperature=0, max_tokens=20)
        found = routed.generate(prompts, temperature=0, max_tokens=20)
    for one, other in zip(expected, found, strict=True):
        assert one.token_ids == other.token_ids
        assert one.usage.reads.share is None
        assert other.usage.reads.share == 1


@pytest.mark.parametrize("weights", ["bf16", "float32"])
def test_what_is_read_is_counted(weights: str) -> None:
    with tiny_llm(weights, **ROUTED) as llm:  # type: ignore[arg-type]
        short = llm.generate([prompt(100)], temperature=0, max_tokens=2)[0].usage.reads
        assert short.read == short.seen > 0  # the first and the last ones are all
        answer = llm.generate([prompt(15 * BLOCK, 1)], temperature=0, max_tokens=9)[0]
        long = answer.usage.reads
        computed = 15 * BLOCK + answer.usage.completion_tokens - 1
        seen = sum(place // BLOCK + 1 for place in range(computed)) * PIECES * 2 * 2
        assert long.seen == seen
        rows = [min(n // BLOCK + 1, 1 + 2 + 2) for n in range(computed)]
        assert seen * 0.3 < long.read <= sum(rows) * PIECES * 2 * 2
        assert all_blocks_free(llm)
        total = llm.engine.stats().reads
        assert (total.read, total.seen) == (short.read + long.read, short.seen + long.seen)


def test_adapters_are_routed_too() -> None:
    with tiny_llm(**ROUTED) as llm:
        plain, adapted = (
            llm.generate([prompt(800)], temperature=0, max_tokens=9, adapter=name)[0]
            for name in (None, "one")
        )
        assert plain.token_ids != adapted.token_ids
        assert 0 < adapted.usage.reads.share < 0.9  # type: ignore[operator]


@pytest.mark.parametrize("weights", ["bf16", "float32"])
def test_blocks_on_disk_are_routed_as_those_in_memory(tmp_path: Path, weights: str) -> None:
    # All but the last token are found, wherever they are: tokens that are computed together choose
    # together, so what is computed again would have to be cut alike.
    ids = prompt(15 * BLOCK + 1)
    with tiny_llm(weights, **ROUTED) as llm:  # type: ignore[arg-type]
        expected = llm.generate([ids], temperature=0, max_tokens=30)[0]
        again = llm.generate([ids], temperature=0, max_tokens=30)[0]
    with Memory(tmp_path) as memory, tiny_llm(weights, memory=memory, **ROUTED) as llm:  # type: ignore[arg-type]
        first = llm.generate([ids], temperature=0, max_tokens=30)[0]
    with Memory(tmp_path) as memory, tiny_llm(weights, memory=memory, **ROUTED) as llm:  # type: ignore[arg-type]
        resumed = llm.generate([ids], temperature=0, max_tokens=30)[0]
    assert first.token_ids == expected.token_ids
    assert resumed.usage.cached_tokens == 15 * BLOCK
    assert resumed.token_ids == again.token_ids
    assert resumed.usage.reads == again.usage.reads


def test_dense_and_routed_blocks_are_not_exchanged(tmp_path: Path) -> None:
    ids = prompt(15 * BLOCK)
    with Memory(tmp_path) as memory:
        with tiny_llm(memory=memory) as llm:
            llm.generate([ids], max_tokens=1)
        with tiny_llm(memory=memory, **ROUTED) as llm:
            assert llm.generate([ids], max_tokens=1)[0].usage.cached_tokens == 0
        with tiny_llm(memory=memory) as llm:
            assert llm.generate([ids], max_tokens=1)[0].usage.cached_tokens > 0


@pytest.mark.parametrize("weights", ["bf16", "float32"])
def test_a_window_may_be_longer_than_the_trained_one(tmp_path: Path, weights: str) -> None:
    ids = prompt(3 * WINDOW + 1)
    options = {"blocks": 80, "max_model_len": 4 * WINDOW, **ROUTED}
    with Memory(tmp_path) as memory, tiny_llm(weights, memory=memory, **options) as llm:  # type: ignore[arg-type]
        assert llm.max_model_len == 4 * WINDOW
        found = llm.generate([ids], temperature=0, max_tokens=9)[0]
        assert found.usage.reads.share < 0.5  # type: ignore[operator]
        again = llm.generate([ids], temperature=0, max_tokens=9)[0]
    with Memory(tmp_path) as memory, tiny_llm(weights, memory=memory, **options) as llm:  # type: ignore[arg-type]
        resumed = llm.generate([ids], temperature=0, max_tokens=9)[0]
    assert resumed.usage.cached_tokens == 3 * WINDOW
    assert resumed.token_ids == again.token_ids


def test_what_cannot_be() -> None:
    with pytest.raises(ConfigError, match="deterministic and attention routed exclude"):
        EngineConfig(deterministic=True, attention="routed")
    with pytest.raises(ConfigError, match="allowed are dense, routed"):
        EngineConfig(attention="sparse")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="or let attention be routed"):
        EngineConfig(max_model_len=4 * WINDOW).sizes(config(), torch.bfloat16)
    assert model("bf16").config.max_position == WINDOW
