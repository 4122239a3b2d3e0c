"""The native kernels beside their plain PyTorch twins."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from everlong.device import cpu_features
from everlong.model import quantization
from everlong.model.assemble import assemble
from everlong.model.attention import turn_back
from everlong.model.cache import BLOCK, Batch, BlockTable, Span, block_shape
from everlong.model.config import ModelConfig, RopeConfig
from everlong.model.native import library as native
from everlong.model.native import step
from everlong.model.native.step import NativeStep, supports
from everlong.model.quantization import IntegerGroups, PackedLinear, quantize
from everlong.model.rope import Rope, rotate
from tests.model.random_models import random_weights

pytestmark = pytest.mark.skipif(
    native.library() is None, reason="no AVX-512 bfloat16 or no C++ compiler on this machine"
)


@pytest.fixture(scope="module", autouse=True)
def kernels_for_all_rows() -> Iterator[None]:
    """What is tested are the kernels, also where many rows would go to oneDNN's matrix units."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (quantization, step):
            patch.setattr(module, "native_rows", lambda: 1 << 30)
        yield


def small(**changes: object) -> ModelConfig:
    fields = {
        "vocab_size": 97,
        "hidden_size": 96,
        "intermediate_size": 160,
        "num_layers": 2,
        "num_heads": 6,
        "num_kv_heads": 2,
        "head_dim": 32,
        "max_position": 4096,
        "tied_head": True,
    }
    return ModelConfig(**{**fields, **changes})  # type: ignore[arg-type]


def table(config: ModelConfig, tokens: int) -> BlockTable:
    """Blocks full of NaN, so that reading what was never written shows."""
    made = BlockTable()
    while made.capacity < tokens:
        made.append(torch.full(block_shape(config), float("nan"), dtype=torch.bfloat16))
    return made


def tokens(count: int, seed: int = 0) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 97, (count,), generator=generator).tolist()


def model_of(config: ModelConfig, weights: str = "bf16"):
    values = random_weights(config)
    return assemble(config, values.__getitem__, weights)  # type: ignore[arg-type]


CONFIGS = {
    "llama": small(),
    "qwen2": small(qkv_bias=True, num_heads=7, num_kv_heads=1),
    "qwen3": small(qk_norm=True, head_dim=128, num_heads=2, num_kv_heads=1, tied_head=False),
    "window": small(windows=(None, 70)),
    "wide": small(head_dim=64, num_heads=9, num_kv_heads=3),
}


def deeper(config: ModelConfig) -> ModelConfig:
    """With a layer between the first and the last, which ``int4`` keeps in 8 bits."""
    windows = (*config.windows, None) if config.windows else config.windows
    return replace(config, num_layers=3, windows=windows)


def rounded(x: torch.Tensor) -> torch.Tensor:
    """Rows as products of integers take them: 8 bits, a scale for every 32 inputs."""
    grouped = x.reshape(len(x), -1, 32)
    scale = grouped.abs().amax(-1, keepdim=True) / 127
    codes = torch.where(scale > 0, grouped * (1 / scale), torch.zeros(())).round()
    return (codes.double() * scale).view(x.shape)


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 33, 64])
@pytest.mark.parametrize("kind", ["bf16", "q4", "q4_float", "q4_zero", "q8", "q8_min", "q8_by_16"])
@pytest.mark.parametrize("n", [45, 16, 7, 64])
def test_product_equals_dense_product(kind: str, rows: int, n: int) -> None:
    generator = torch.Generator().manual_seed(rows)
    k = 224
    x = torch.randn(rows, k, generator=generator)
    x[0, 32:64] = 0
    if kind == "bf16":
        layer = PackedLinear(torch.randn(n, k, generator=generator))
        given = x.bfloat16()
    else:
        bits, size = (4 if kind.startswith("q4") else 8), (16 if kind == "q8_by_16" else 32)
        low, high = (0, 16) if bits == 4 else (-128, 128)
        codes = torch.randint(low, high, (n, k), generator=generator)
        scale = torch.rand(n, k // size, generator=generator)
        minimum = torch.randn(n, k // size, generator=generator)
        if kind == "q4":
            scale, minimum = scale.half().float(), minimum.half().float()
        if kind == "q4_zero":
            minimum = -8 * scale
        kept = None if kind in ("q8", "q8_by_16") else minimum
        dtype = torch.uint8 if bits == 4 else torch.int8
        groups = IntegerGroups(bits, size, codes.to(dtype), scale, kept)
        layer = PackedLinear(groups, torch.randn(n, generator=generator))
        assert torch.allclose(layer.dense(), groups.dense(), rtol=1e-6, atol=1e-6)
        given = rounded(x)
    expected = given.double() @ layer.dense().double().T
    if layer._bias is not None:
        expected += layer._bias
    got = layer(x)
    # A code may fall to the other side of a half: the inverse of a scale is rounded.
    assert (got - expected).abs().max() < (1e-6 if kind == "bf16" else 1e-4) * expected.abs().max()
    assert torch.equal(torch.cat([layer(row[None]) for row in x]), got)


@pytest.fixture(params=["emulated", "hardware"])
def unit(request: pytest.FixtureRequest) -> Iterator[native.Unit]:
    """A matrix unit, and no unit afterwards; use ``without`` for what is computed without one."""
    wanted = native.Unit[request.param.upper()]
    library = native.library()
    assert library is not None
    if library.everlong_use_unit(wanted) != wanted:
        pytest.skip("no matrix unit for bytes (AMX) on this processor")
    yield wanted
    usual = native.Unit.HARDWARE if cpu_features().amx_int8 else native.Unit.NONE
    library.everlong_use_unit(usual)


@pytest.mark.parametrize("rows", [15, 16, 17, 24, 33, 100])
@pytest.mark.parametrize(
    ("bits", "form"), [(4, "plain"), (4, "minimum"), (8, "plain"), (8, "minimum"), (8, "by_16")]
)
def test_matrix_units_compute_the_same(unit: native.Unit, form: str, bits: int, rows: int) -> None:
    generator = torch.Generator().manual_seed(rows)
    n, k = 45, 224
    low, high = (0, 16) if bits == 4 else (-128, 128)
    codes = torch.randint(low, high, (n, k), generator=generator)
    codes = codes.to(torch.uint8 if bits == 4 else torch.int8)
    size = 16 if form == "by_16" else 32
    scale = torch.rand(n, k // size, generator=generator)
    minimum = torch.randn(scale.shape, generator=generator) if form == "minimum" else None
    if bits == 4 and minimum is None:
        minimum = -8 * scale
    bias = torch.randn(n, generator=generator)
    layer = PackedLinear(IntegerGroups(bits, size, codes, scale, minimum), bias)
    x = torch.randn(rows, k, generator=generator)
    with_unit = layer(x)
    layer._native.everlong_use_unit(native.Unit.NONE)
    assert torch.equal(layer(x), with_unit)


@pytest.mark.parametrize("weights", ["int8", "int4"])
@pytest.mark.parametrize("name", ["wide", "qwen2"])
def test_steps_with_matrix_units_are_the_same(unit: native.Unit, name: str, weights: str) -> None:
    config = deeper(CONFIGS[name])
    model = model_of(config, weights)

    def logits() -> torch.Tensor:
        spans = [
            Span(tokens(90), table(config, 90), logits="all"),
            Span([5], table(config, 1), logits="all"),
        ]
        return NativeStep(model)(Batch(spans))

    with_unit = logits()
    library = native.library()
    assert library is not None
    library.everlong_use_unit(native.Unit.NONE)
    assert torch.equal(logits(), with_unit)


def test_an_input_that_is_no_number_shows() -> None:
    layer = PackedLinear(quantize(torch.randn(32, 64), 4))
    x = torch.randn(3, 64)
    x[1, 40], x[2, 0] = float("nan"), float("inf")
    assert layer(x).isfinite().all(-1).tolist() == [True, False, False]


@pytest.mark.parametrize("bits", [4, 8])
def test_codes_survive_packing(bits: int) -> None:
    groups = quantize(torch.randn(40, 96), bits)  # type: ignore[arg-type]
    layer = PackedLinear(groups)
    assert torch.allclose(layer.dense(), groups.dense(), rtol=1e-6, atol=1e-7)
    index = torch.tensor([[39, 0], [7, 39]])
    assert torch.equal(layer.rows(index), layer.dense()[index])


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("sight", ["causal", "bidirectional", 40])
def test_step_equals_plain_step(name: str, sight: object) -> None:
    config = CONFIGS[name]
    model = model_of(config)
    ids = tokens(150)
    plain, fast = table(config, 150), table(config, 150)
    for blocks in plain.blocks:
        blocks.zero_()
    spans = [Span(ids, t, sight=sight, logits="all") for t in (plain, fast)]  # type: ignore[arg-type]
    expected = model.step(Batch(spans[:1]))
    got = NativeStep(model)(Batch(spans[1:]))
    assert (got - expected).abs().max() < 0.02 * expected.abs().max()
    states = NativeStep(model)(Batch(spans[1:]), states=True)
    assert torch.allclose(model.lm_head(states), got, atol=1e-4)


@pytest.mark.parametrize("weights", ["bf16", "int8", "int4"])
@pytest.mark.parametrize("rows", [47, 48, 61, 200])
def test_the_faster_order_of_additions_gives_nearly_the_same(rows: int, weights: str) -> None:
    config = deeper(small(vocab_size=117, intermediate_size=224))
    model = model_of(config, weights)
    exact, fast = (
        NativeStep(model, deterministic=d)(
            Batch([Span(tokens(rows), table(config, rows), logits="all")])
        )
        for d in (True, False)
    )
    assert torch.equal(exact, fast) == (rows < 48 or weights != "bf16")
    assert (exact - fast).abs().max() < 0.02 * exact.abs().max()


@pytest.mark.parametrize("weights", ["bf16", "int4"])
@pytest.mark.parametrize("name", CONFIGS)
def test_rows_do_not_depend_on_their_batch(name: str, weights: str) -> None:
    """Bit-equal logits however a sequence is cut and whatever runs beside it."""
    config = deeper(CONFIGS[name])
    model = model_of(config, weights)
    step = NativeStep(model, deterministic=True)
    ids = tokens(700)
    whole = step(Batch([Span(ids, table(config, 700), logits="all")]))
    pieces, mine, other = [], table(config, 700), table(config, 900)
    at = beside = 0
    for size in (1, 1, 62, 3, 130, 64, 5, 300, 100, 1, 1, 32):
        spans = [Span(ids[at : at + size], mine, at, logits="all")]
        if size != 64:
            spans.insert(size % 2, Span(tokens(7, seed=size), other, beside, logits="none"))
            beside += 7
        pieces.append(step(Batch(spans)))
        at += size
    assert at == 700
    assert torch.equal(torch.cat(pieces), whole)


def test_moved_blocks_equal_plain_attention() -> None:
    config = small(head_dim=64, num_heads=4, num_kv_heads=2)
    model = model_of(config)
    ids = tokens(500)
    native_step, found = NativeStep(model), []
    for run in (model.step, native_step):
        spans = Span(ids, table(config, 500), logits="all")
        for block in spans.table.blocks:
            block.zero_()
        found.append(run(Batch([spans], reach=2)))
    expected, got = found
    assert (got - expected).abs().max() < 0.02 * expected.abs().max()
    still = native_step(Batch([Span(ids, table(config, 500), logits="all")]))
    assert torch.equal(still[: 3 * BLOCK], got[: 3 * BLOCK])
    assert (still - got)[3 * BLOCK :].abs().max() > 0.05 * expected.abs().max()


def test_a_turned_query_sees_a_moved_block() -> None:
    """A block that is moved equals one whose keys were rotated so much later."""
    rope = Rope(RopeConfig(), 32, 4096)
    q, k = torch.randn(2, 3, 6, 32, generator=torch.Generator().manual_seed(1))
    turned = turn_back(rotate(q, rope(torch.full((3,), 1500))), rope, 7)
    there = rotate(k, rope(torch.full((3,), 200)))
    later = rotate(k, rope(torch.full((3,), 200 + 7 * BLOCK)))
    asked = rotate(q, rope(torch.full((3,), 1500)))
    assert torch.allclose((turned * there).sum(-1), (asked * later).sum(-1), atol=1e-4)


def test_many_sequences_in_one_step() -> None:
    config = CONFIGS["wide"]
    model = model_of(config)
    step = NativeStep(model, deterministic=True)
    lengths = [1, 63, 64, 65, 300, 9, 128]
    prompts = [tokens(n, seed=n) for n in lengths]
    alone = [step(Batch([Span(p, table(config, len(p)))])) for p in prompts]
    together = step(Batch([Span(p, table(config, len(p))) for p in prompts]))
    assert torch.equal(torch.cat(alone), together)


@pytest.mark.parametrize("weights", ["bf16", "int4"])
def test_rows_whose_logits_nobody_wants_change_nothing(weights: str) -> None:
    config = deeper(CONFIGS["wide"])
    model = model_of(config, weights)
    step = NativeStep(model, deterministic=True)
    lengths = [130, 1, 700, 40]
    prompts = [tokens(n, seed=n) for n in lengths]
    tables = [table(config, n + 1) for n in lengths]
    whole = step(Batch([Span(p, table(config, len(p)), logits="all") for p in prompts]))
    kinds = ["last", "none", "last", "all"]
    some = step(
        Batch([Span(p, t, logits=k) for p, t, k in zip(prompts, tables, kinds, strict=True)])  # type: ignore[arg-type]
    )
    ends = torch.tensor(lengths).cumsum(0)
    wanted = [ends[0] - 1, ends[2] - 1, *range(ends[2], ends[3])]
    assert torch.equal(some, whole[wanted])
    # Keys and values of the last layer are there for those too.
    again = step(Batch([Span([7], tables[2], 700)]))
    alone = step(Batch([Span([*prompts[2], 7], table(config, 701))]))
    assert torch.equal(again, alone)
    assert len(step(Batch([Span(prompts[0], table(config, 130), logits="none")]))) == 0


def test_unsupported_sizes_are_left_to_pytorch() -> None:
    assert supports(small())
    assert not supports(small(head_dim=48))
    assert not supports(small(hidden_size=80))


def test_structures_have_the_layout_of_the_kernels() -> None:
    assert ctypes.sizeof(native.Matrix) == 48
    assert ctypes.sizeof(native.Layer) == 7 * 48 + 4 * 8 + 8
    assert ctypes.sizeof(native.Routing) == 5 * 8 + 13 * 4 + 4
    assert ctypes.sizeof(native.Outline) == 5 * 8
    assert ctypes.sizeof(native.Batch) == 152
