"""Sizes of the engine: what cannot be is refused, with what it would take."""

from __future__ import annotations

import pytest
import torch

from everlong.engine.config import EngineConfig
from everlong.errors import ConfigError
from tests.engine.tiny import WINDOW, block_bytes, config, tiny_llm


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_num_seqs": 0}, "max_num_seqs must be at least 1"),
        ({"max_num_seqs": 600}, "max_num_batched_tokens .512. must be at least"),
        ({"max_waiting": -1}, "max_waiting"),
        ({"max_model_len": 1}, "max_model_len must be at least 2"),
    ],
)
def test_sizes_that_cannot_be_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EngineConfig(**options)


def test_a_pool_too_small_for_the_window_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"holds 2 blocks.*1,?024 tokens needs 16"):
        tiny_llm(blocks=2, max_model_len=1024)
    with pytest.raises(ConfigError, match="trained for 1024 tokens"):
        tiny_llm(max_model_len=4096)


@pytest.mark.parametrize(("blocks", "window"), [(3, 192), (1000, WINDOW)])
def test_the_window_is_as_long_as_the_pool_and_the_model_allow(blocks: int, window: int) -> None:
    engine = EngineConfig(kv_cache_memory=blocks * block_bytes())
    assert engine.sizes(config(), torch.bfloat16) == (blocks, window)
    assert engine.sizes(config(), torch.float32)[0] == blocks // 2
