"""Routed attention: dense where it may read all, blind to later tokens, sparing where it can be."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from everlong.errors import ConfigError
from everlong.model.attention import SequenceAttention
from everlong.model.cache import BLOCK, PIECE, PIECES
from everlong.model.calibration import calibrate
from everlong.model.routed_sequence import RoutedAttention, attend_chosen
from everlong.model.routing import (
    Budget,
    Choosers,
    by_piece,
    choose,
    sampled,
)
from everlong.model.routing_index import Projection, packed, unpacked
from tests.engine.tiny import model

ALL = Budget(1 << 14, 1 << 14, 0, 1 << 14, 1 << 14, 1 << 14, dense=0)
KV_HEADS, GROUP, SIZE = 2, 3, 32


def heads(tokens: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of one sequence, with a batch of one."""
    generator = torch.Generator().manual_seed(seed)
    shapes = (KV_HEADS * GROUP, KV_HEADS, KV_HEADS)
    q, k, v = (torch.randn(1, tokens, n, SIZE, generator=generator) for n in shapes)
    return q, k, v


def projection(keys: Tensor, directions: int = SIZE) -> Projection:
    """Of random directions, for one layer; exact but for the codes' steps where there are all."""
    generator = torch.Generator().manual_seed(5)
    basis = torch.linalg.qr(torch.randn(KV_HEADS, SIZE, SIZE, generator=generator))[0]
    found = basis[..., :directions]
    centre = keys[0].mean(0)
    reach = torch.einsum("tkd,kdr->ktr", keys[0] - centre, found).abs().amax(1)
    step = reach[:, None] / 7
    return Projection(centre[None], (found / step)[None], (found * step)[None], step[None, :, 0])


@pytest.mark.parametrize("tokens", [1, 63, 64, 65, 700, 1024])
def test_with_an_unlimited_budget_it_is_dense(tokens: int) -> None:
    q, k, v = heads(tokens)
    dense = SequenceAttention()(0, q, k, v, None)
    routed = RoutedAttention(projection(k), ALL)(0, q, k, v, None)
    torch.testing.assert_close(routed, dense, rtol=1e-4, atol=1e-5)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.integers(1, 1100), st.integers(1, 5))
def test_no_query_reads_a_later_token(seed: int, after: int, pieces: int) -> None:
    q, k, v = heads(1100, seed % 3)
    other = heads(1100, seed + 7)
    budget = Budget(1, 2, 0.1, 3, pieces, last=2, dense=0)
    routed = RoutedAttention(projection(k), budget)
    before = routed(0, q, k, v, None)[:, :after]
    changed = [
        torch.cat((a[:, :after], b[:, after:]), 1) for a, b in zip((q, k, v), other, strict=True)
    ]
    found = routed(0, changed[0], changed[1], changed[2], None)[:, :after]
    # The last block of queries is another one when it ends earlier: others choose for it.
    whole = after // BLOCK * BLOCK
    torch.testing.assert_close(found[:, :whole], before[:, :whole], rtol=0, atol=0)


def test_what_a_query_asks_for_is_read() -> None:
    tokens, told = 40 * BLOCK, 17 * BLOCK + 5
    q, k, v = heads(tokens)
    k, q = 0.1 * k, 0.1 * q
    wanted = torch.ones(SIZE)
    k[:, told] += 3 * wanted
    q[:, -BLOCK:] += 3 * wanted  # asked at the end
    v[:, told] = 100.0
    read: list[Tensor] = []
    budget = Budget(prompt=20, dense=0)
    routed = RoutedAttention(
        projection(k), budget, lambda layer, places, chosen: read.append(chosen)
    )
    out = routed(0, q, k, v, None)
    assert (out[0, -5:] > 90).all()
    assert read[-1][:, told // PIECE].all()
    assert read[-1].sum() == read[30].sum()
    assert read[30].sum() == KV_HEADS * (PIECES * (1 + 2) + 20)


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_the_best_are_chosen(data: st.DataObject) -> None:
    blocks = data.draw(st.integers(1, 60))
    weights = data.draw(
        st.lists(st.integers(0, 1000), min_size=PIECES * blocks, max_size=PIECES * blocks)
    )
    worth = torch.tensor([weights], dtype=torch.float64) / 1000
    numbers = sorted(data.draw(st.lists(st.integers(0, 300), min_size=3, max_size=3)))
    budget = Budget(
        *(numbers[0], numbers[1], data.draw(st.floats(0, 1)), numbers[2]),
        prompt=numbers[2],
        asked=numbers[1],
        first=data.draw(st.integers(0, 3)),
        last=data.draw(st.integers(1, 4)),
        dense=0,
    )
    always = torch.zeros(PIECES * blocks, dtype=torch.bool)
    always[: PIECES * budget.first] = True
    always[PIECES * max(0, blocks - budget.last) :] = True
    others = int((~always).sum())
    ways: tuple[Choosers, ...] = ("alone", "together", "asked")
    for who in ways:
        chosen = choose(worth, blocks, budget, who)[0]
        assert chosen[always].all()
        taken, left = worth[0][chosen & ~always], worth[0][~chosen]
        if len(left) and len(taken):
            assert taken.min() >= left.max()
        if who == "alone":
            outstanding = int((worth[0][~always] >= budget.share).sum())
            # A sixteenth, and what stands out.
            least = min(max(blocks, budget.least), budget.least_of_long)
            assert len(taken) == min(others, max(least, min(outstanding, budget.most)))
        elif who == "together":
            assert len(taken) == min(others, budget.prompt)
        else:
            assert len(taken) == min(others, budget.asked)


def test_codes_estimate_scores() -> None:
    q, k, _ = heads(500)
    exact = torch.einsum("nkgd,tkd->kgnt", q[0].unflatten(1, (KV_HEADS, GROUP)), k[0])
    found = projection(k)
    codes = found.codes(0, k[0])
    assert (codes.dtype, codes.min(), codes.max()) == (torch.int8, -7, 7)
    estimated = found.scores(0, q[0], codes)
    assert estimated.shape == exact.shape
    correlation = torch.corrcoef(torch.stack((estimated.flatten(), exact.flatten())))[0, 1]
    assert correlation > 0.98  # random keys are as wide in every direction: the hardest case


def test_a_whole_model_is_dense_where_it_may_read_all() -> None:
    tiny = model("float32")
    text = torch.randint(10, 300, (1024,), generator=torch.Generator().manual_seed(2))
    found = calibrate(tiny, text.tolist(), 16)
    with torch.inference_mode():
        dense = tiny.states(text[None])
        routed = tiny.states(text[None], attend=RoutedAttention(found, ALL))
        sparing = tiny.states(
            text[None],
            attend=RoutedAttention(found, replace(ALL, prompt=1, last=1)),
        )
    torch.testing.assert_close(routed, dense, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(sparing, dense, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("directions", [32, 16])
def test_codes_survive_packing(directions: int) -> None:
    generator = torch.Generator().manual_seed(directions)
    codes = torch.randint(-8, 8, (64, 3, directions), generator=generator, dtype=torch.int8)
    assert packed(codes).shape == (3, 1024)
    assert torch.equal(unpacked(packed(codes), directions), codes)


def test_pieces() -> None:
    assert sampled(64, 8).tolist() == [7, 15, 23, 31, 39, 47, 55, 63]
    assert sampled(1, 8).tolist() == [0]
    assert sampled(10, 4).tolist() == [0, 3, 6, 9]
    assert by_piece(torch.ones(2, 130), 3).sum(-1).tolist() == [[4] * 32 + [2] + [0] * 15] * 2
    q, k, v = heads(130)
    chosen = torch.tensor([[True, False, True]] * KV_HEADS).repeat_interleave(PIECES, dim=1)
    out = attend_chosen(q[0, -2:], k[0], v[0], chosen)
    seen = torch.tensor([*range(64), *range(128, 130)])
    expected = SequenceAttention()(0, q[:, seen], k[:, seen], v[:, seen], None)[0, -2:]
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)
    wrongs = (
        {"share": -1},
        {"asked": -1},
        {"prompt": -1},
        {"least": 17, "most": 16},
        {"last": 0},
        {"queries": 0},
    )
    for wrong in (*wrongs, {"most": 70000}, {"first": 63}, {"dense": -1}, {"rows": 48}):
        with pytest.raises(ConfigError):
            Budget(**wrong)  # type: ignore[arg-type]
