"""A memory under another model: nothing that was computed is used, all that was said is there."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from everlong import EngineConfig, load
from everlong.checkpoint.hf_config import config_to_json
from everlong.engine.embedders import ModelEmbedder
from everlong.engine.llm import LLM
from everlong.engine.request import Completion, Constraint, SamplingParams
from everlong.memory.forget import Selection
from everlong.memory.memory import Memory
from everlong.memory.operations import perform
from everlong.memory.record import BlockHead, decode
from everlong.model.config import ModelConfig, RopeConfig
from everlong.tokenizer import Tokenizer, train_tokenizer
from everlong.tokenizer.train import CHATML
from tests.engine.tiny import tokenizer
from tests.model.random_models import random_weights

SIZE = 64 << 20
# Letters: a random model would write halves of characters, which no text can say again.
GREEDY = SamplingParams(
    temperature=0, max_tokens=30, ignore_eos=True, constraint=Constraint(regex="[a-z ]{100}")
)
QUESTIONS = ("a small model writes words of its own, " * 6, "and then?")
CONFIG = ModelConfig(
    vocab_size=330,
    hidden_size=64,
    intermediate_size=96,
    num_layers=3,  # int4 narrows what is between the first and the last
    num_heads=4,
    num_kv_heads=2,
    head_dim=32,
    max_position=2048,
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache folder of the test's own, for the digests of its files."""
    monkeypatch.setenv("EVERLONG_HOME", str(tmp_path / "home"))


@cache
def another_tokenizer(chat_template: str = CHATML) -> Tokenizer:
    """With merges of its own, and as many ids."""
    return train_tokenizer(
        ["water the ferns and then the roses " * 9], 330, chat_template=chat_template
    )


def written(
    folder: Path,
    config: ModelConfig = CONFIG,
    *,
    seed: int = 0,
    spelling: Tokenizer | None = None,
) -> Path:
    """A model in the Hugging Face layout."""
    folder.mkdir()
    weights = {
        name if name.startswith("lm_head") else f"model.{name}": weight
        for name, weight in random_weights(config, seed).items()
    }
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config_to_json(config, "float32")))
    (spelling or tokenizer()).save(folder)
    return folder


def written_adapter(folder: Path, seed: int, alpha: int = 4) -> Path:
    """A change of a key projection, in PEFT's layout."""
    folder.mkdir()
    generator = torch.Generator().manual_seed(seed)
    layer = "base_model.model.model.layers.0.self_attn.k_proj"
    halves = {"A": (4, CONFIG.hidden_size), "B": (CONFIG.kv_size, 4)}
    save_file(
        {
            f"{layer}.lora_{half}.weight": torch.randn(shape, generator=generator)
            for half, shape in halves.items()
        },
        folder / "adapter_model.safetensors",
    )
    told = {"peft_type": "LORA", "r": 4, "lora_alpha": alpha}
    (folder / "adapter_config.json").write_text(json.dumps(told))
    return folder


@contextmanager
def opened(model: Path, memory: Path, **options: Any) -> Iterator[LLM]:
    with Memory(memory, SIZE) as kept:
        engine = EngineConfig(kv_cache_memory=8 << 20, deterministic=True)
        given: dict[str, Any] = {"weights": "bf16", "engine": engine} | options
        with load(model, memory=kept, **given) as llm:
            yield llm


def say(llm: LLM, text: str, **options: Any) -> Completion:
    return llm.chat([{"role": "user", "content": text}], GREEDY, session="s", **options)


def said(llm: LLM, name: str = "s") -> list[str]:
    """What the messages of the session say."""
    assert llm.memory is not None
    session = llm.memory.sessions.find(llm.memory.namespace().id, name)
    assert session is not None
    return [str(message.body["content"]) for message in llm.memory.sessions.messages(session)]


def whole_blocks(done: Completion) -> int:
    """Tokens of the blocks that were full when an answer was written."""
    return (done.usage.prompt_tokens + done.usage.completion_tokens - 1) // 64 * 64


def without_blocks(memory: Path, copy: Path) -> Path:
    """The same texts, and nothing that was computed from them."""
    shutil.copytree(memory, copy)
    shutil.rmtree(copy / "blocks")
    return copy


Changed = tuple[Path, dict[str, Any]]
"""A model, and how it is loaded."""


def one_weight(folder: Path, first: Path) -> Changed:
    """In the same file, whose size and time of writing stay as they were."""
    path = first / "model.safetensors"
    before = path.stat()
    weights = load_file(path)
    weights["model.layers.0.self_attn.k_proj.weight"][0, 0] += 1
    save_file(weights, path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    return first, {}


def with_config(**changes: Any) -> Callable[[Path, Path], Changed]:
    return lambda folder, first: (written(folder, replace(CONFIG, **changes)), {})


def with_tokenizer(chat_template: str) -> Callable[[Path, Path], Changed]:
    return lambda folder, first: (written(folder, spelling=another_tokenizer(chat_template)), {})


def loaded_with(**options: Any) -> Callable[[Path, Path], Changed]:
    return lambda folder, first: (first, options)


CHANGES: dict[str, Callable[[Path, Path], Changed]] = {
    "other weights": lambda folder, first: (written(folder, seed=1), {}),
    "one weight in place": one_weight,
    "another tokenizer": with_tokenizer(CHATML),
    "another chat template": with_tokenizer("{{ messages[-1].content }}: "),
    "float32": loaded_with(weights="float32"),
    "int8": loaded_with(weights="int8"),
    "int4": loaded_with(weights="int4"),
    "another rope base": with_config(rope=RopeConfig(theta=9_000.0)),
    "stretched rope": with_config(rope=RopeConfig(scaling="linear", factor=2.0)),
    "a sliding window": with_config(windows=(40,) * 3),
    "another epsilon": with_config(norm_eps=1e-5),
    "fewer layers": with_config(num_layers=2),
    "another way to compute": loaded_with(engine=EngineConfig(kv_cache_memory=8 << 20)),
    "rounded in the memory": loaded_with(
        engine=EngineConfig(kv_cache_memory=8 << 20, memory_kv_dtype="int8")
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_another_model_computed_is_not_used(tmp_path: Path, change: str) -> None:
    first, memory = written(tmp_path / "first"), tmp_path / "memory"
    kept = shutil.copytree(first, tmp_path / "kept")
    with opened(first, memory) as llm:
        last = [say(llm, question) for question in QUESTIONS][-1]
        before = said(llm)
    assert whole_blocks(last) >= 128
    bare = without_blocks(memory, tmp_path / "bare")
    other, options = CHANGES[change](tmp_path / "other", first)
    with opened(other, memory, **options) as llm:
        done = say(llm, "water the ferns")
        assert done.usage.cached_tokens == llm.engine.stats().cached_tokens == 0
        assert said(llm) == [*before, "water the ferns", done.text]
    with opened(other, bare, **options) as llm:
        never = say(llm, "water the ferns")
        assert never.usage == done.usage
        if llm.engine.config.deterministic:
            assert never.token_ids == done.token_ids
    with opened(kept, memory) as llm:  # the first model, wherever it lies
        assert say(llm, "go on").usage.cached_tokens >= whole_blocks(last)


def test_another_tokenizer_reads_what_it_would_read_in_a_memory_of_its_own(tmp_path: Path) -> None:
    first, memory = written(tmp_path / "first"), tmp_path / "memory"
    with opened(first, memory) as llm:
        for question in QUESTIONS:
            say(llm, question)
        assert llm.memory is not None
        bundle = str(tmp_path / "texts.zip")
        perform(llm.memory, llm.memory.namespace(), "export", {"path": bundle})
    other = written(tmp_path / "other", spelling=another_tokenizer())
    with opened(other, memory) as llm:
        done = [say(llm, question) for question in ("water the ferns", "and the roses")]
    with opened(other, tmp_path / "fresh") as llm:
        assert llm.memory is not None
        perform(llm.memory, llm.memory.namespace(), "import", {"path": bundle})
        fresh = [say(llm, question) for question in ("water the ferns", "and the roses")]
    assert [d.token_ids for d in done] == [d.token_ids for d in fresh]
    assert [d.usage for d in done] == [d.usage for d in fresh]


def test_an_adapter_finds_what_it_computed_and_nothing_else(tmp_path: Path) -> None:
    first, memory = written(tmp_path / "first"), tmp_path / "memory"
    style = written_adapter(tmp_path / "style", seed=1)
    with opened(first, memory, adapters={"style": style}) as llm:
        last = [say(llm, question, adapter="style") for question in QUESTIONS][-1]
    bare = without_blocks(memory, tmp_path / "bare")
    others = {
        "other values": written_adapter(tmp_path / "values", seed=2),
        "another scale": written_adapter(tmp_path / "scale", seed=1, alpha=8),
    }
    for other in (*others.values(), None):
        # Under the same name, or without one.
        options = {} if other is None else {"adapters": {"style": other}}
        asked = {} if other is None else {"adapter": "style"}
        tried, fresh = (
            shutil.copytree(folder, tmp_path / "tried" / str(number) / str(other and other.name))
            for number, folder in enumerate((memory, bare))
        )
        with opened(first, tried, **options) as llm:
            done = say(llm, "go on", **asked)
            assert done.usage.cached_tokens == 0
        with opened(first, fresh, **options) as llm:
            assert say(llm, "go on", **asked).token_ids == done.token_ids
    with opened(first, memory, adapters={"renamed": style}) as llm:
        assert say(llm, "go on", adapter="renamed").usage.cached_tokens >= whole_blocks(last)


def test_vectors_are_the_loaded_models_own(tmp_path: Path) -> None:
    """Recall by meaning compares no vector with one that another model made."""
    models = [written(tmp_path / f"model {seed}", seed=seed) for seed in range(2)]
    texts = ("the ferns are watered on mondays", "zebras sleep at noon", "a model of its own")

    def found(model: Path, memory: Path) -> list[tuple[str, float]]:
        with Memory(memory, SIZE) as kept, load(model, weights="bf16") as llm:
            kept.recall.embedder = ModelEmbedder(llm)
            while kept.recall.embed_some():
                pass
            results = kept.recall.search(kept.namespace().id, "when are the zebras asleep")
            return [(one.episode.text, one.score) for one in results]

    def remembered(folder: Path) -> Path:
        with Memory(folder, SIZE) as memory:
            for text in texts:
                document = {"text": text, "source": "notes", "time": 1e9}
                perform(memory, memory.namespace(), "remember", document)
        return folder

    both = remembered(tmp_path / "both")
    one, other = (found(model, both) for model in models)
    assert other == found(models[1], remembered(tmp_path / "fresh"))
    assert one == found(models[0], both)
    assert one != other


def heads(memory: Path) -> list[BlockHead]:
    """Of every record that can be found in a segment, named by the ledger or not."""
    found = []
    for path in (memory / "blocks").glob("*.segment"):
        content = memoryview(path.read_bytes())
        at = bytes(content).find(b"EVLBLOCK")
        while at >= 0:
            found.append(decode(content[at:]).head)
            at = bytes(content).find(b"EVLBLOCK", at + 1)
    return found


def test_forgetting_reaches_blocks_of_models_that_are_not_loaded(tmp_path: Path) -> None:
    memory = tmp_path / "memory"
    spellings = (tokenizer(), another_tokenizer())
    models = [
        written(tmp_path / str(number), spelling=spelling, seed=number)
        for number, spelling in enumerate(spellings)
    ]
    secret = "the zebra hides under the quokka " * 8

    def ask(llm: LLM, text: str, session: str) -> Completion:
        return llm.chat([{"role": "user", "content": text}], GREEDY, session=session)

    for model in models:
        with opened(model, memory) as llm:
            assert llm.memory is not None
            # Nothing of the secret is recalled there, which would go with it.
            kept = llm.memory.sessions.open(llm.memory.namespace().id, "kept")
            llm.memory.sessions.pause(kept, True)
            ask(llm, secret, "told")
            ask(llm, QUESTIONS[0], "kept")
            ask(llm, "go on", "kept")

    def spelled() -> list[str]:
        return [spelling.decode(head.token_ids) for head in heads(memory) for spelling in spellings]

    assert len({head.fingerprint for head in heads(memory) if len(head.token_ids)}) == 2
    assert sum("quokka" in text for text in spelled()) >= 4
    with Memory(memory, SIZE) as bare:
        bare.forget(bare.namespace(), Selection(session="told"))
    assert not any("quokka" in text or "zebra" in text for text in spelled())
    assert len({head.fingerprint for head in heads(memory)}) == 2
    for model in models:
        with opened(model, memory) as llm:
            assert ask(llm, "and then?", "kept").usage.cached_tokens >= 128
            assert said(llm, "kept")[:1] == [QUESTIONS[0]]
