"""Opens and reads mutated checkpoints in a process of its own; see test_mutations.py.

Usage: python -m tests.checkpoint.mutate KIND SEED COUNT FOLDER

KIND is "gguf", "safetensors" or "json"; FOLDER is empty. Prints a JSON object that counts what
became of the mutations. A checkpoint must load, or be refused with an EverlongError; anything else
ends the process with the number of the mutation, which is reproducible.
"""

from __future__ import annotations

import json
import random
import resource
import struct
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from everlong.checkpoint import open_checkpoint
from everlong.checkpoint.hf_config import config_to_json
from everlong.errors import EverlongError
from tests.checkpoint.samples import random_tensors, tiny_config, tiny_gguf, write_tokenizer

EXTRA_MEMORY = 256 << 20
"""Bytes of address space that all mutations of a run may take together."""

COUNTS = [0, 1, 2, 3, 31, 33, 255, 2**16, 2**31, 2**32 - 1, 2**32, 10**12, 2**63, 2**64 - 1]
SMALL = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_layers": 1,
    "num_heads": 2,
    "num_kv_heads": 1,
    "head_dim": 16,
}
ODD_VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 3, 10**12, 2**63, 10**400, 0.5, 1e308, "", "x", "F32", "BF16",
    "I64", "llama", [], [1], [[]], [2, 2], [0, 4], [-1], {}, {"a": 1}, "\ud7ff", "../../etc/passwd",
    [0, 10**18], [10**18, 10**18], ["full_attention"], "yarn", {"type": "yarn", "factor": 4},
]  # fmt: skip


def mutate_bytes(rng: random.Random, content: bytes, interesting: int) -> bytes:
    """One to three changes, most of them among the first ``interesting`` bytes."""
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        if not data:
            break
        end = len(data) if rng.random() < 0.15 else min(interesting, len(data))
        at = rng.randrange(end)
        kind = rng.randrange(9)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at] = rng.randrange(256)
        elif kind == 2:
            del data[at:]
        elif kind == 3:
            data[at:at] = rng.randbytes(rng.choice([1, 4, 8, 32, 1000]))
        elif kind == 4:
            del data[at : at + rng.choice([1, 4, 8, 32, 1000])]
        elif kind == 5:
            data[at : at + 8] = struct.pack("<Q", rng.choice(COUNTS))
        elif kind == 6:
            data[at : at + 4] = struct.pack("<I", rng.choice(COUNTS) & 0xFFFFFFFF)
        elif kind == 7:
            other = rng.randrange(end)
            data[at:at] = data[other : other + rng.choice([8, 64, 500])]
        else:
            other = rng.randrange(end)
            run = rng.choice([4, 8, 64])
            data[at : at + run], data[other : other + run] = (
                data[other : other + run],
                data[at : at + run],
            )
    return bytes(data)


def mutate_numbers(rng: random.Random, content: bytes, fields: list[int]) -> bytes:
    """Another number in one or two of the 64-bit ``fields``, given by their offsets."""
    data = bytearray(content)
    for at in rng.sample(fields, rng.choice([1, 2])):
        old = struct.unpack_from("<Q", data, at)[0]
        near = [old + 1, max(old - 1, 0), old * 2, old // 2, old + 32]
        struct.pack_into("<Q", data, at, rng.choice(COUNTS + near) & (2**64 - 1))
    return bytes(data)


def mutate_json(rng: random.Random, value: Any) -> Any:
    """Another value somewhere in a JSON document."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(sorted(value))
        choice = rng.random()
        changed = {k: v for k, v in value.items() if k != key}
        if choice < 0.1:
            return changed
        if choice < 0.2:
            return {**changed, key + "x": value[key]}
        return {**changed, key: mutate_json(rng, value[key])}
    if isinstance(value, list) and value and rng.random() < 0.7:
        at = rng.randrange(len(value))
        return [*value[:at], mutate_json(rng, value[at]), *value[at + 1 :]]
    return rng.choice(ODD_VALUES)


def gguf_mutations(folder: Path) -> Callable[[random.Random], Path]:
    originals = []
    for type_, family in (("Q4_0", "llama"), ("Q8_0", "qwen2"), ("F16", "qwen3")):
        path = tiny_gguf(folder / "original.gguf", tiny_config(family, **SMALL), type_)
        content = path.read_bytes()
        names = [content.index(name) for name in (b"blk.0.attn_q.weight", b"token_embd.weight")]
        # Behind a name: the number of dimensions, two sizes, the type, the offset.
        fields = [at + len(content[at:].split(b"weight")[0]) + 6 for at in names]
        fields = [at + step for at in fields for step in (0, 4, 12, 20, 24)]
        originals.append((content, max(fields) + 2000, [8, 16, *fields]))
    path.unlink()

    def write(rng: random.Random) -> Path:
        content, interesting, fields = rng.choice(originals)
        if rng.random() < 0.25:
            content = mutate_numbers(rng, content, fields)
        else:
            content = mutate_bytes(rng, content, interesting)
        (folder / "m.gguf").write_bytes(content)
        return folder / "m.gguf"

    return write


def write_folder(folder: Path) -> dict[str, Any]:
    """A model in two shards; returns its configuration."""
    config = tiny_config("qwen2", **SMALL)
    write_tokenizer(folder)
    weight_map = {}
    tensors = {k: torch.from_numpy(v).bfloat16() for k, v in random_tensors(config).items()}
    for number in (1, 2):
        shard = f"model-{number}.safetensors"
        part = {name: t for i, (name, t) in enumerate(tensors.items()) if i % 2 == number - 1}
        save_file(part, folder / shard)
        weight_map |= dict.fromkeys(part, shard)
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return config_to_json(config, "bfloat16")


def safetensors_mutations(folder: Path) -> Callable[[random.Random], Path]:
    values = write_folder(folder)
    (folder / "config.json").write_text(json.dumps(values))
    content = (folder / "model-1.safetensors").read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])

    def write(rng: random.Random) -> Path:
        if rng.random() < 0.5:
            changed = mutate_bytes(rng, content, start)
        else:
            text = json.dumps(mutate_json(rng, header)).encode()
            changed = len(text).to_bytes(8, "little") + text + content[start:]
        (folder / "model-1.safetensors").write_bytes(changed)
        return folder

    return write


def json_mutations(folder: Path) -> Callable[[random.Random], Path]:
    values = write_folder(folder)
    values["rope_scaling"] = {"type": "linear", "factor": 2.0}
    generation = {"temperature": 0.5, "top_k": 3, "eos_token_id": [260]}
    originals = {
        "config.json": values,
        "generation_config.json": generation,
        "model.safetensors.index.json": json.loads(
            (folder / "model.safetensors.index.json").read_text()
        ),
    }

    def write(rng: random.Random) -> Path:
        for name, original in originals.items():
            (folder / name).write_text(json.dumps(original))
        name = rng.choice(sorted(originals))
        if rng.random() < 0.3:
            text = mutate_bytes(rng, json.dumps(originals[name]).encode(), 10_000)
        else:
            text = json.dumps(mutate_json(rng, originals[name])).encode()
        (folder / name).write_bytes(text)
        return folder

    return write


KINDS = {"gguf": gguf_mutations, "safetensors": safetensors_mutations, "json": json_mutations}


def read_everything(path: Path) -> None:
    """Open a checkpoint and touch all that it holds."""
    checkpoint = open_checkpoint(path)
    for tensor in checkpoint.tensors.values():
        assert tensor.dense().shape == tensor.shape
        groups = tensor.groups()
        assert groups is None or groups.dense().shape == tensor.shape
    for key in checkpoint.metadata:
        checkpoint.metadata[key]
    checkpoint.tokenizer()


def outcome(path: Path) -> str:
    try:
        read_everything(path)
    except EverlongError as error:
        if len(str(error)) > 1000 or "\n" in str(error):
            raise AssertionError(f"not one line of sensible length: {str(error)[:2000]}") from error
        return "refused"
    return "loaded"


def limit_memory() -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + EXTRA_MEMORY,) * 2)


def main(kind: str, seed: int, count: int, folder: Path) -> int:
    write = KINDS[kind](folder)
    torch.set_num_threads(1)
    limit_memory()
    outcomes: Counter[str] = Counter()
    for number in range(count):
        path = write(random.Random(f"{kind} {seed} {number}"))
        try:
            outcomes[outcome(path)] += 1
        except BaseException:
            traceback.print_exc()
            print(f"mutation {number} of {kind} with seed {seed}", file=sys.stderr)
            return 1
    print(json.dumps(outcomes))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])))
