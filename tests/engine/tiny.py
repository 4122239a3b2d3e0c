"""A tiny random model with its tokenizer, for tests of the engine."""

from __future__ import annotations

from functools import cache
from math import prod
from typing import Any

import torch

from everlong.engine.config import EngineConfig
from everlong.engine.llm import LLM
from everlong.model.adapters import Adapter, LowRank
from everlong.model.assemble import WeightsOption, assemble
from everlong.model.cache import block_shape
from everlong.model.calibration import calibrate
from everlong.model.config import ModelConfig
from everlong.model.routing_index import Projection, index_shape
from everlong.model.transformer import Transformer
from everlong.tokenizer import Tokenizer, train_tokenizer
from tests.model.random_models import random_weights

WINDOW = 1024


@cache
def tokenizer() -> Tokenizer:
    return train_tokenizer(
        ["a small model writes words of its own, 0123456789; äöü 今日は 🦊 " * 3], 330
    )


@cache
def config() -> ModelConfig:
    return ModelConfig(
        vocab_size=tokenizer().vocab_size,
        hidden_size=64,
        intermediate_size=96,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        head_dim=32,
        max_position=WINDOW,
    )


@cache
def model(weights: WeightsOption) -> Transformer:
    return assemble(config(), random_weights(config()).__getitem__, weights)


@cache
def calibrated(weights: WeightsOption) -> Projection:
    generator = torch.Generator().manual_seed(3)
    text = torch.randint(10, config().vocab_size, (1024,), generator=generator).tolist()
    return calibrate(model(weights), text)


def block_bytes(weights: WeightsOption = "bf16") -> int:
    size = 4 if weights == "float32" else 2
    for n in block_shape(config()):
        size *= n
    return size


def adapter(seed: int) -> Adapter:
    generator = torch.Generator().manual_seed(seed)
    change = LowRank(
        torch.randn(4, 64, generator=generator), torch.randn(128, 4, generator=generator), 0.5
    )
    return Adapter({"layers.1.self_attn.q_proj": change}, seed.to_bytes(4, "little"))


def tiny_llm(weights: WeightsOption = "bf16", blocks: int = 64, **options: Any) -> LLM:
    """A fresh engine over the shared model, with a pool of ``blocks`` blocks."""
    memory = options.pop("memory", None)
    window = options.pop("max_model_len", min(WINDOW, blocks * 64))
    projection = None
    size = block_bytes(weights)
    if options.get("attention") == "routed":
        projection = calibrated(weights)
        size += prod(index_shape(config()))
    return LLM(
        model(weights),
        tokenizer(),
        name="tiny",
        fingerprint=b"tiny" + weights.encode(),
        engine=EngineConfig(kv_cache_memory=blocks * size, max_model_len=window, **options),
        adapters={"one": adapter(1), "two": adapter(2)},
        memory=memory,
        projection=projection,
    )


def all_blocks_free(llm: LLM) -> bool:
    # A job runs after everything that was posted before it.
    llm.engine.call(lambda runner: None).result()
    return llm.engine.stats().blocks_used == 0
