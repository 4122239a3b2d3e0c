"""Vectors of texts from a language model's states."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from everlong.engine.runner import Runner

Pooling = Literal["last", "mean"]
"""How the states of a text become one vector: of its last token (causal), or their mean
(bidirectional)."""


def pooled(runner: Runner, prompts: Sequence[Sequence[int]], pooling: Pooling) -> Tensor:
    """Vectors of token sequences, computed together: float32 [n, hidden], of unit length."""
    if pooling == "last":
        vectors = [states[-1] for states in runner.states(prompts, "causal")]
    else:
        vectors = [states.mean(0) for states in runner.states(prompts, "bidirectional")]
    return normalize(torch.stack(vectors), dim=-1)


def in_steps(prompts: Sequence[Sequence[int]], max_tokens: int) -> Iterator[list[Sequence[int]]]:
    """Prompts in groups of at most ``max_tokens`` tokens; what is longer is alone."""
    few: list[Sequence[int]] = []
    for ids in prompts:
        if few and sum(map(len, few)) + len(ids) > max_tokens:
            yield few
            few = []
        few.append(ids)
    if few:
        yield few
