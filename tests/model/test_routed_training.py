"""Routed attention in training: gradients are those of attention to what was chosen, and the index
learns from the attention that it estimates."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from everlong.model.attention import SequenceAttention
from everlong.model.cache import BLOCK, PIECE
from everlong.model.calibration import calibrate
from everlong.model.routed_sequence import RoutedAttention, index_loss
from everlong.model.routing import Budget
from everlong.model.routing_index import Projection
from tests.engine.tiny import model

ALL = Budget(1 << 14, 1 << 14, 0, 1 << 14, 1 << 14, 1 << 14, dense=0)
SPARING = Budget(prompt=12, first=1, last=1, dense=0)
KV_HEADS, GROUP, SIZE = 2, 3, 32


def heads(tokens: int, sequences: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = (KV_HEADS * GROUP, KV_HEADS, KV_HEADS)
    made = [torch.randn(sequences, tokens, n, SIZE, generator=generator) for n in shapes]
    return [one.requires_grad_() for one in made]


def projection(directions: int = 8) -> Projection:
    generator = torch.Generator().manual_seed(5)
    basis = torch.linalg.qr(torch.randn(1, KV_HEADS, SIZE, SIZE, generator=generator))[0]
    found = basis[..., :directions]
    step = torch.full((1, KV_HEADS, directions), 0.5)
    centre = torch.zeros(1, KV_HEADS, SIZE)
    return Projection(centre, found / step[:, :, None], found * step[:, :, None], step)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(2)


def gradients(out: Tensor, of: list[Tensor]) -> list[Tensor]:
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(9))
    return list(torch.autograd.grad((out * weights).sum(), of))


@pytest.mark.parametrize("tokens", [65, 700])
def test_with_an_unlimited_budget_gradients_are_those_of_dense_attention(tokens: int) -> None:
    qkv = heads(tokens)
    dense = gradients(SequenceAttention()(0, *qkv, None), qkv)
    routed = gradients(RoutedAttention(projection(), ALL)(0, *qkv, None), qkv)
    for one, other in zip(routed, dense, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_gradients_are_those_of_attention_to_what_was_chosen() -> None:
    tokens = 10 * BLOCK
    qkv = heads(tokens, 1)
    seen = torch.zeros(KV_HEADS, tokens, tokens, dtype=torch.bool)

    def observe(layer: int, places: range, chosen: Tensor) -> None:
        end = chosen.shape[1] * PIECE
        seen[:, places.start : places.stop, :end] = chosen.repeat_interleave(PIECE, 1)[:, None]

    found = RoutedAttention(projection(), SPARING, observe)(0, *qkv, None)
    seen &= torch.ones(tokens, tokens, dtype=torch.bool).tril()
    assert 0.2 < seen.sum() / (KV_HEADS * tokens * (tokens + 1) / 2) < 0.9
    q, k, v = (one.transpose(1, 2) for one in qkv)
    mask = seen.repeat_interleave(GROUP, 0)[None]
    read = scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True).transpose(1, 2)
    # What is not read has the mean value; how much of it there is has no gradient.
    mean = torch.zeros_like(read)
    for block in range(tokens // BLOCK):
        among = 1 << block.bit_length() >> 1
        if among > 1:
            values = qkv[2][:, BLOCK : among * BLOCK].mean(1).repeat_interleave(GROUP, 1)
            mean = mean.index_add(
                1,
                torch.arange(block * BLOCK, (block + 1) * BLOCK),
                values[:, None].expand(-1, BLOCK, -1, -1),
            )
    with torch.no_grad():
        apart = mean - read
        left = ((found - read) * apart).sum(-1, keepdim=True) / apart.square().sum(-1, keepdim=True)
    assert (left > -1e-4).all()
    assert (left < 0.8).all()
    assert left.max() > 0.02
    expected = torch.lerp(read, mean, left)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    for one, other in zip(gradients(found, qkv), gradients(expected, qkv), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_the_loss_of_the_index_is_the_divergence_from_dense_attention() -> None:
    q, k, _ = (one[0] for one in heads(300))
    start = projection()
    learnt = replace(
        start,
        encoder=start.encoder.clone().requires_grad_(),
        decoder=start.decoder.clone().requires_grad_(),
    )
    at = torch.tensor([150, 299])
    asking = q[at] * SIZE**-0.5
    loss = index_loss(learnt, 0, asking, k, at, BLOCK)
    apart = []
    for query, place in zip(asking, at.tolist(), strict=True):
        for head in range(KV_HEADS * GROUP):
            keys = k[BLOCK : place + 1, head // GROUP]
            wanted = (keys @ query[head]).softmax(0)
            codes = start.codes(0, k[BLOCK : place + 1])
            scores = start.scores(0, query[None], codes).flatten(0, 1)[head, 0]
            apart.append((wanted * (wanted.log() - scores.log_softmax(0))).sum())
    torch.testing.assert_close(loss, torch.stack(apart).mean(), rtol=1e-4, atol=1e-5)
    # Keys and queries learn nothing from it.
    of = [learnt.encoder, learnt.decoder, q, k]
    found = torch.autograd.grad(loss, of, allow_unused=True)
    assert found[0] is not None
    assert found[1] is not None
    assert found[2] is found[3] is None
    # In the decoder the loss is smooth but for the rounding of queries, which passes it straight.
    with torch.no_grad():
        downhill = replace(learnt, decoder=learnt.decoder - 0.05 * found[1] / found[1].norm())
        lower = index_loss(downhill, 0, asking, k, at, BLOCK)
    assert float(lower) < float(loss.detach()) - 0.02 * float(found[1].norm())


def test_an_index_that_is_taught_estimates_better() -> None:
    tiny = model("float32")
    text = torch.randint(10, 300, (2, 1024), generator=seeded())
    # Directions that were found in another model's keys, so to say.
    found = calibrate(tiny, text.flatten().tolist(), 8)
    other = torch.linalg.qr(torch.randn(found.encoder.shape, generator=seeded()))[0]
    size = found.encoder.norm(dim=-2, keepdim=True)
    start = replace(found, encoder=other * size, decoder=other / size)
    learnt = {
        name: getattr(start, name).clone().requires_grad_() for name in ("encoder", "decoder")
    }
    budget = SPARING
    attend = RoutedAttention(replace(start, **learnt), budget, teach=True)
    rates = (
        {"params": [one], "lr": 0.05 * float(one.detach().abs().mean())} for one in learnt.values()
    )
    optimizer = torch.optim.Adam(list(rates))
    losses = []
    for _ in range(40):
        tiny.states(text, attend=attend)
        loss = attend.take_loss()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]

    def held_out(found: Projection) -> float:
        other = torch.randint(10, 300, (1, 1024), generator=torch.Generator().manual_seed(7))
        attend = RoutedAttention(found, budget, teach=True)
        with torch.no_grad():
            tiny.states(other, attend=attend)
        return float(attend.take_loss())

    taught = replace(start, **{name: one.detach() for name, one in learnt.items()})
    assert held_out(taught) < 0.95 * held_out(start)
