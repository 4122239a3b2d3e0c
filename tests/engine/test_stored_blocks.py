"""The engine over a store: what was computed once is found after a restart, and is the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from everlong.engine.config import EngineConfig
from everlong.engine.llm import LLM
from everlong.engine.request import SamplingParams
from everlong.engine.stored_blocks import Int8
from everlong.errors import ConfigError, StoreError
from everlong.memory.memory import Memory
from everlong.model.cache import BLOCK
from tests.engine.tiny import tiny_llm

GREEDY = SamplingParams(temperature=0, max_tokens=80, ignore_eos=True)
SIZE = 64 << 20


def prompt(length: int, seed: int = 0) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(10, 300, (length,), generator=generator).tolist()


def remembering(memory: Memory, **options: object) -> LLM:
    return tiny_llm(memory=memory, **options)


@pytest.mark.parametrize("weights", ["bf16", "float32", "int8"])
def test_a_restart_changes_nothing_and_computes_only_the_end(tmp_path: Path, weights: str) -> None:
    asked = prompt(300)
    with tiny_llm(weights, deterministic=True) as llm:
        whole = llm.generate([asked], GREEDY)[0]
    with (
        Memory(tmp_path, SIZE) as memory,
        tiny_llm(weights, deterministic=True, memory=memory) as a,
    ):
        first = a.generate([asked], GREEDY, max_tokens=40)[0]
        assert first.token_ids == whole.token_ids[:40]
    with (
        Memory(tmp_path, SIZE) as memory,
        tiny_llm(weights, deterministic=True, memory=memory) as b,
    ):
        resumed = b.generate([[*asked, *first.token_ids]], GREEDY, max_tokens=40)[0]
        assert resumed.usage.cached_tokens == 340 // BLOCK * BLOCK
        assert resumed.token_ids == whole.token_ids[40:]


def test_a_block_that_is_damaged_is_computed_again(tmp_path: Path) -> None:
    asked = prompt(300)
    with Memory(tmp_path, SIZE) as memory, remembering(memory, deterministic=True) as llm:
        before = llm.generate([asked], GREEDY)[0]
    (segment,) = (tmp_path / "blocks").glob("*.segment")
    content = bytearray(segment.read_bytes())
    at = content.index(b"EVLBLOCK", content.index(b"EVLBLOCK") + 1) + 4096 + 100  # in the second
    content[at] ^= 1
    segment.write_bytes(content)
    with Memory(tmp_path, SIZE) as memory, remembering(memory, deterministic=True) as llm:
        after = llm.generate([asked], GREEDY)[0]
        assert after.usage.cached_tokens == BLOCK
        assert after.token_ids == before.token_ids
        assert memory.blocks.stats().damaged == 1


def test_other_weights_and_other_namespaces_find_nothing(tmp_path: Path) -> None:
    asked = prompt(200)
    with Memory(tmp_path, SIZE) as memory:
        with remembering(memory) as llm:
            llm.generate([asked], GREEDY)
            assert llm.generate([asked], GREEDY, namespace="b")[0].usage.cached_tokens == 0
            assert llm.generate([asked], GREEDY, adapter="one")[0].usage.cached_tokens == 0
        for options in ({"weights": "int8"}, {"deterministic": True}):
            with tiny_llm(memory=memory, **options) as llm:  # type: ignore[arg-type]
                assert llm.generate([asked], GREEDY)[0].usage.cached_tokens == 0
        with remembering(memory) as llm:
            for _ in range(2):  # mapped, then let go of, then mapped again
                found = llm.generate([asked], GREEDY, namespace="b")[0]
                assert found.usage.cached_tokens == 192


def test_many_requests_read_the_same_mapped_blocks(tmp_path: Path) -> None:
    shared = prompt(256)
    asked = [[*shared, *prompt(20, seed)] for seed in range(1, 17)]
    with tiny_llm(deterministic=True) as llm:
        expected = [done.token_ids for done in llm.generate(asked, GREEDY)]
    with Memory(tmp_path, SIZE) as memory, remembering(memory, deterministic=True) as llm:
        llm.generate([shared], GREEDY)
    with (
        Memory(tmp_path, SIZE) as memory,
        remembering(memory, deterministic=True, blocks=48, max_model_len=448) as llm,
    ):
        done = llm.generate(asked, GREEDY)
        assert [d.token_ids for d in done] == expected
        assert all(d.usage.cached_tokens >= 192 for d in done)


def test_a_store_that_refuses_stops_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("everlong.memory.disk.Disk.write", full)
    with Memory(tmp_path, SIZE) as memory, remembering(memory) as llm:
        done = llm.generate([prompt(300)], GREEDY)[0]
        memory.blocks.flush()
        assert len(done.token_ids) == 80
        stats = memory.blocks.stats()
        assert stats.left_out == 5
        assert "No space left" in stats.trouble


def test_a_folder_has_one_owner(tmp_path: Path) -> None:
    with (
        Memory(tmp_path, SIZE),
        pytest.raises(StoreError, match=r"is held by process .* another folder with --memory"),
    ):
        Memory(tmp_path, SIZE)


@pytest.mark.parametrize("size", [32, 64, 128])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_int8_rounds_keys_by_channel_and_values_by_token(size: int, dtype: torch.dtype) -> None:
    shape = (2, 3, 2, BLOCK, size)
    generator = torch.Generator().manual_seed(size)
    block = torch.randn(shape, generator=generator)
    block[:, :, 0, :, 5] *= 300  # a channel of keys that is large in every token
    block[:, :, 1, 7] *= 0.001  # a token whose values are small
    block[1, 2, 0, :, 9] = 0
    block = block.to(dtype)
    form = Int8(shape, dtype)
    payload = form.encode(block)
    assert len(payload) == 2 * 3 * 2 * form.slice_bytes
    assert form.slice_bytes < 0.6 * BLOCK * size * 2
    found = form.decode(memoryview(payload))
    assert (found.shape, found.dtype) == (shape, dtype)
    exact, rounded = block.double(), found.double()
    half_step = torch.stack(
        (
            exact[:, :, 0].abs().amax(-2, keepdim=True).expand(2, 3, BLOCK, size) / 254,
            exact[:, :, 1].abs().amax(-1, keepdim=True).expand(2, 3, BLOCK, size) / 254,
        ),
        dim=2,
    )
    precision = exact.abs() * torch.finfo(dtype).eps
    assert bool(((exact - rounded).abs() <= half_step * 1.0001 + precision).all())
    assert bool((rounded[1, 2, 0, :, 9] == 0).all())


def test_int8_takes_half_of_the_bytes_and_says_nearly_the_same(tmp_path: Path) -> None:
    asked = prompt(300)
    scored = [(asked, 290)]
    sizes = {}
    with tiny_llm() as llm:
        expected = next(llm.score(scored))
    for form in ("auto", "int8"):
        with (
            Memory(tmp_path / form, SIZE) as memory,
            remembering(memory, memory_kv_dtype=form) as llm,
        ):
            llm.generate([asked], GREEDY)
            memory.blocks.flush()
            sizes[form] = memory.blocks.stats().bytes
    assert sizes["int8"] < 0.75 * sizes["auto"]  # blocks of the tiny model have much of a head
    with (
        Memory(tmp_path / "int8", SIZE) as memory,
        remembering(memory, memory_kv_dtype="int8") as llm,
    ):
        found = next(llm.score(scored))
        assert llm.engine.stats().cached_tokens == 256
        differences = [abs(a.logprob - b.logprob) for a, b in zip(found, expected, strict=True)]
        assert 0 < max(differences) < 0.1
    # Rounded and exact blocks are not taken for one another.
    with Memory(tmp_path / "int8", SIZE) as memory, remembering(memory) as llm:
        assert llm.generate([asked], GREEDY)[0].usage.cached_tokens == 0


def test_many_requests_read_the_same_rounded_blocks_from_a_small_pool(tmp_path: Path) -> None:
    shared = prompt(256)
    asked = [[*shared, *prompt(20, seed)] for seed in range(1, 17)]
    with Memory(tmp_path, SIZE) as memory, remembering(memory, memory_kv_dtype="int8") as llm:
        llm.generate([shared], GREEDY)
    with (
        Memory(tmp_path, SIZE) as memory,
        remembering(memory, memory_kv_dtype="int8", blocks=24, max_model_len=448) as llm,
    ):
        done = llm.generate(asked, GREEDY)
        assert all(len(d.token_ids) == 80 for d in done)
        assert all(d.usage.cached_tokens >= 192 for d in done)


def test_int8_and_deterministic_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="memory_kv_dtype"):
        EngineConfig(deterministic=True, memory_kv_dtype="int8")
    with pytest.raises(ConfigError, match=r"fp4; allowed are auto, int8"):
        EngineConfig(memory_kv_dtype="fp4")  # type: ignore[arg-type]
