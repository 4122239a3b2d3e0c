"""Steps over routed blocks: the kernels, their plain twin, and dense attention."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from everlong.model.assemble import assemble
from everlong.model.cache import (
    BLOCK,
    EVERYWHERE,
    PIECES,
    Batch,
    BlockTable,
    Span,
    block_shape,
    frames,
    moved,
    run,
)
from everlong.model.calibration import calibrate
from everlong.model.config import ModelConfig
from everlong.model.native import library as native
from everlong.model.native.step import NativeStep
from everlong.model.routing import Budget, Routing
from everlong.model.routing_index import index_shape, unpacked
from everlong.model.transformer import Transformer
from tests.model.random_models import random_weights

KERNELS = pytest.mark.skipif(
    native.library() is None, reason="no AVX-512 bfloat16 or no C++ compiler on this machine"
)
CONFIG = ModelConfig(
    vocab_size=97,
    hidden_size=96,
    intermediate_size=160,
    num_layers=2,
    num_heads=6,
    num_kv_heads=2,
    head_dim=64,
    max_position=1 << 20,
    tied_head=True,
)
SPARING = Budget(4, 12, 0.01, 56, 40, 50, last=2, dense=0, rows=16, queries=4)
ALL = Budget(1 << 14, 1 << 14, 0, 1 << 14, 1 << 14, 1 << 14, dense=0)


def tokens(count: int, seed: int = 0) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 97, (count,), generator=generator).tolist()


@pytest.fixture(scope="module")
def model() -> Transformer:
    values = random_weights(CONFIG)
    return assemble(CONFIG, values.__getitem__, "bf16")


def routed(model: Transformer, budget: Budget, directions: int = 32) -> Routing:
    return Routing(calibrate(model, tokens(1024, 9), directions), budget)


def table(capacity: int, config: ModelConfig = CONFIG) -> BlockTable:
    """Blocks full of NaN and of codes that are none, so that what was never written shows."""
    made = BlockTable()
    while made.capacity < capacity:
        made.append(
            torch.full(block_shape(config), float("nan"), dtype=torch.bfloat16),
            torch.full(index_shape(config), 255, dtype=torch.uint8),
        )
    return made


def copied(of: BlockTable) -> BlockTable:
    made = BlockTable()
    for block, codes in zip(of.blocks, of.codes, strict=True):
        made.append(block.clone(), codes.clone())
    return made


def runs(model: Transformer, routing: Routing | None):
    """The ways of computing a step."""
    ways = {"torch": lambda batch: model.step(batch, routing=routing)}
    if native.library() is not None:
        ways["native"] = NativeStep(model, routing=routing, deterministic=True)
    return ways


@pytest.mark.parametrize("way", ["torch", pytest.param("native", marks=KERNELS)])
@pytest.mark.parametrize("count", [1, 63, 64, 65, 700])
def test_with_an_unlimited_budget_it_is_dense(model: Transformer, way: str, count: int) -> None:
    routing = routed(model, ALL)
    batch = Batch([Span(tokens(count), table(count), logits="all")])
    with torch.inference_mode():
        dense = runs(model, None)[way](Batch([Span(tokens(count), table(count), logits="all")]))
        found = runs(model, routing)[way](batch)
    assert batch.skipped.tolist() == [0]
    if way == "native":
        assert torch.equal(found, dense)  # the same blocks in the same order
    else:
        assert (found - dense).abs().max() < 0.02 * dense.abs().max()


@pytest.mark.parametrize("reach", [0, 5, 15, 127, 511, EVERYWHERE])
def test_what_is_moved_lies_within_reach(reach: int) -> None:
    """Its neighbours keep their distance, and what is near stays."""
    size = run(reach)
    assert (reach + 1) % size == 0
    for own in (reach // 2, reach, reach + 1, reach + size, 3 * reach + 7, 5000):
        if own > 1 << 20:
            continue
        moves = [moved(own, number, reach) for number in range(own + 1)]
        lie = [own - number - move for number, move in enumerate(moves)]
        assert all(0 <= distance <= reach for distance in lie)
        assert all(move % size == 0 for move in moves)
        assert all(moves[at] == moves[at - at % size] for at in range(own + 1))
        assert not any(moves[max(0, own - reach + size) :])
        assert len({move + frames(n, reach) for n, move in enumerate(moves)}) <= reach // size + 4


@KERNELS
@pytest.mark.parametrize("reach", [EVERYWHERE, 1])
def test_the_index_is_that_of_the_twin(model: Transformer, reach: int) -> None:
    routing = routed(model, SPARING)
    step = NativeStep(model, routing=routing)
    done = table(4 * BLOCK)
    step(Batch([Span(tokens(4 * BLOCK), done)], reach))
    for number, (block, codes) in enumerate(zip(done.blocks, done.codes, strict=True)):
        assert torch.equal(step.index(block, number, reach), codes)  # wherever it is made
        expected = routing.projection.index(block, number, model.rope, reach)
        for found, wanted in zip(codes, expected, strict=True):
            differ = (unpacked(found, 32).int() - unpacked(wanted, 32).int()).abs()
            assert differ.max() <= 1
            assert (differ > 0).float().mean() < 0.001  # on the edge between two codes


@KERNELS
@pytest.mark.parametrize("reach", [EVERYWHERE, 5, 63])
@pytest.mark.parametrize("before", [30 * BLOCK + 7, 600 * BLOCK + 1])
def test_kernels_choose_and_read_as_the_twin_does(before: int, reach: int) -> None:
    """Past 128 blocks the threads share the search."""
    values = random_weights(CONFIG)
    for name, weight in values.items():
        if "q_proj.weight" in name:
            weight *= 3  # attention that is concentrated, so that few blocks are nearly equal
    model = assemble(CONFIG, values.__getitem__, "bf16")
    routing = routed(model, SPARING)
    filled = table(before + 40)
    fill = NativeStep(model, routing=routing)
    for start in range(0, before, 4096):
        fill(Batch([Span(tokens(before)[start : start + 4096], filled, start)], reach))
    same = total = 0
    for count in (1, 40):
        for seed in range(4):
            found: list[tuple[Tensor, int]] = []
            for way in runs(model, routing).values():
                span = Span(tokens(count, seed), copied(filled), before, logits="all")
                batch = Batch([span], reach)
                with torch.inference_mode():
                    found.append((way(batch), int(batch.skipped)))
            (twin, read), (kernels, alike) = found
            assert 0 < read == pytest.approx(alike, rel=0.02)
            close = (twin - kernels).abs().amax(1) < 0.03 * twin.abs().max()
            same += int(close.sum())
            total += count
    assert same >= 0.6 * total  # rounding decides between blocks that are nearly equal
    dense = runs(model, None)["native"]
    whole = dense(Batch([Span(tokens(40, 3), copied(filled), before, logits="all")], reach))
    assert (whole - kernels).abs().max() > 0.1 * whole.abs().max()  # it does matter


@KERNELS
@pytest.mark.parametrize("reach", [EVERYWHERE, 31])
def test_a_search_in_two_levels_is_that_of_the_twin(reach: int) -> None:
    values = random_weights(CONFIG)
    for name, weight in values.items():
        if "q_proj.weight" in name:
            weight *= 3
    model = assemble(CONFIG, values.__getitem__, "bf16")
    budget = replace(SPARING, flat=20, searched=16, rows=64, queries=16)
    routing = routed(model, budget)
    before = 70 * BLOCK + 9
    filled = table(before + 300)
    fill = NativeStep(model, routing=routing)
    fill(Batch([Span(tokens(before), filled)], reach))
    assert filled.outline is None  # nothing was there when the step began
    # A prompt of which 128 tokens search everything.
    prompts = {name: copied(filled) for name in runs(model, routing)}
    read: list[int] = []
    for name, step in runs(model, routing).items():
        batch = Batch([Span(tokens(200), prompts[name], before, logits="all")], reach)
        with torch.inference_mode():
            step(batch)
        read.append(int(batch.skipped))
    assert 0 < read[0] == pytest.approx(read[1], rel=0.02)
    assert lately(prompts["torch"], prompts["native"]) >= 0.8
    # Tokens behind it, which search some blocks.
    same = 0
    at = before + 200
    for seed in range(20):
        tables = {name: copied(prompts["native"]) for name in prompts}
        found: list[Tensor] = []
        for name, step in runs(model, routing).items():
            tables[name].outline = deepcopy(prompts["native"].outline)
            with torch.inference_mode():
                found.append(step(Batch([Span(tokens(1, seed), tables[name], at)], reach)))
        assert lately(*tables.values()) >= 0.9
        same += float((found[0] - found[1]).abs().max()) < 0.05 * float(found[0].abs().max())
    assert same >= 14  # rounding decides between blocks that are nearly equal
    outline = tables["native"].outline
    assert outline is not None
    assert outline.blocks == at // BLOCK


@KERNELS
def test_a_search_in_two_levels_of_all_blocks_is_one_of_all(model: Transformer) -> None:
    before = 50 * BLOCK
    found = []
    for flat in (12, 1000):
        routing = routed(model, replace(SPARING, flat=flat, searched=900))
        step, filled = NativeStep(model, routing=routing), table(before + 200)
        step(Batch([Span(tokens(before), filled)], 31))
        parts = [step(Batch([Span(tokens(130, 1), filled, before)], 31))]
        for at in range(before + 130, before + 150):
            parts.append(step(Batch([Span(tokens(1, at), filled, at)], 31)))
        assert (filled.outline is None) == (flat == 1000)
        found.append(torch.cat(parts))
    assert torch.equal(*found)


def lately(one: BlockTable, other: BlockTable) -> float:
    """How many of the blocks that had attention are the same, in the first layer."""
    assert one.outline is not None
    assert other.outline is not None
    kept = [set(of.outline.lately[0, 0].tolist()) for of in (one, other) if of.outline]
    return len(kept[0] & kept[1]) / len(kept[0])


@pytest.mark.parametrize("way", ["torch", pytest.param("native", marks=KERNELS)])
def test_later_tokens_and_other_sequences_change_nothing(model: Transformer, way: str) -> None:
    step = runs(model, routed(model, SPARING))[way]
    ids = tokens(14 * BLOCK)
    whole = Batch([Span(ids, table(len(ids)), logits="all")])
    beside = [
        Span(tokens(70, 5), table(70), logits="all"),
        Span(ids[: 10 * BLOCK] + tokens(4 * BLOCK, 8), table(len(ids)), logits="all"),
        Span(tokens(300, 6), table(300), logits="all"),
    ]
    with torch.inference_mode():
        alone, together = step(whole), step(Batch(beside))
    # The other sequence parts from the first after 10 blocks.
    same, after = together[70 : 70 + 10 * BLOCK], together[70 + 10 * BLOCK : 70 + len(ids)]
    tolerance = 0 if way == "native" else 0.05 * alone.abs().max()
    assert (same - alone[: 10 * BLOCK]).abs().max() <= tolerance
    assert (after - alone[10 * BLOCK :]).abs().max() > 0.1 * alone.abs().max()


@KERNELS
def test_many_streams_choose_each_for_itself(model: Transformer) -> None:
    step = NativeStep(model, routing=routed(model, SPARING), deterministic=True)
    lengths = [5, 700, 1400, 9 * BLOCK, 900]
    filled = [table(n + 1) for n in lengths]
    for n, one in zip(lengths, filled, strict=True):
        step(Batch([Span(tokens(n, n), one)]))
    alone = [step(Batch([Span([7], copied(t), n)])) for n, t in zip(lengths, filled, strict=True)]
    batch = Batch([Span([7], t, n) for n, t in zip(lengths, filled, strict=True)])
    assert torch.equal(step(batch), torch.cat(alone))
    assert (batch.skipped > 0).tolist() == [False, True, True, True, True]


@KERNELS
def test_layers_with_a_window_are_not_routed() -> None:
    config = replace(CONFIG, windows=(70, None))
    model = assemble(config, random_weights(config).__getitem__, "bf16")
    step = NativeStep(model, routing=routed(model, SPARING))
    batch = Batch([Span(tokens(20 * BLOCK), table(20 * BLOCK, config))])
    step(batch)
    rows = range(3, 20)  # the own block and before it
    most = sum(n + 1 - 3 for n in rows) * PIECES * BLOCK * 2  # of one layer
    assert 0 < int(batch.skipped) <= most
