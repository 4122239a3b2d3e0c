"""Vectors of texts from the model's states."""

from __future__ import annotations

from itertools import chain, pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from everlong.engine.pooling import in_steps
from everlong.errors import RequestError
from tests.engine.tiny import tiny_llm


def test_vectors_have_unit_length_and_their_own_direction() -> None:
    with tiny_llm(deterministic=True) as llm:
        for pooling in ("last", "mean"):
            texts = ["a small model", "words of its own", "a small model"]
            vectors = llm.encode(texts, pooling)  # type: ignore[arg-type]
            assert vectors.shape == (3, 64)
            assert torch.allclose(vectors.norm(dim=1), torch.ones(3), atol=1e-5)
            assert torch.equal(vectors[0], vectors[2])
            assert vectors[0] @ vectors[1] < 0.999
        assert not torch.equal(llm.encode(["a small"], "mean"), llm.encode(["a small"], "last"))
        with pytest.raises(RequestError, match="pooling 'max' is unknown"):
            llm.encode(["a"], "max")  # type: ignore[arg-type]


@given(
    prompts=st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=9), max_size=12),
    most=st.integers(1, 20),
)
def test_groups_fill_steps_in_order(prompts: list[list[int]], most: int) -> None:
    groups = list(in_steps(prompts, most))
    assert list(chain.from_iterable(groups)) == prompts
    for group in groups:
        assert len(group) == 1 or sum(map(len, group)) <= most
    for group, after in pairwise(groups):
        assert sum(map(len, group)) + len(after[0]) > most
