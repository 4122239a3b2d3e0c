"""How much different texts need: prose, code, a table, a page again and again.

Each is read routed as the engine reads a prompt; its last tokens then choose one by one, as in
decoding, and their next-token distributions are compared with those of dense attention behind the
same keys and values. Beside it: the same mean number of pieces for every text.
"""

from __future__ import annotations

import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from benchmarks.haystacks import read_book
from benchmarks.routing_model import CHUNK, Steps
from everlong.errors import ConfigError
from everlong.model.cache import BLOCK, PIECES, BlockTable, pieces_seen
from everlong.model.native.step import NativeStep
from everlong.model.routing import Routing

_SCORED = 512
_PAGE = 1024
_MOST_DRAWN = 400_000


def measure(
    model: Path, book: Path, table: Path, tokens: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Of each kind of text what its last tokens read and lose, with its own budget and a fixed one.

    Args:
        model: a GGUF file; its own weights are used.
        book: prose.
        table: a file of tab-separated values.
        tokens: that are read of each.
        say: told how far it is.
    """
    steps = Steps(model, "auto")
    texts = {
        "prose": read_book(book),
        "code": "\n\n".join(_sources()),
        "table": table.read_text(encoding="utf-8"),
    }
    kinds = {name: _some(steps, text, tokens, name) for name, text in texts.items()}
    page = kinds["prose"][:_PAGE]
    kinds["repeated page"] = (page * (tokens // _PAGE + 1))[:tokens]
    tables: dict[str, BlockTable] = {}
    wanted: dict[str, Tensor] = {}
    found: dict[str, dict[str, Any]] = {}
    for name, ids in kinds.items():
        tables[name] = steps.table(tokens)
        for at in range(0, tokens - _SCORED, CHUNK):
            steps.routed(steps.batch(ids[at : at + CHUNK], tables[name], at, "none"))
        wanted[name], _ = _last(steps, steps.dense, ids, tables[name])
        found[name] = {"own": _compared(steps, steps.alone, ids, tables[name], wanted[name])}
        say(f"{name}: {_told(found[name]['own'])}")
    fixed = round(sum(of["own"]["chosen"] for of in found.values()) / len(found))
    budget = replace(
        steps.budget, rows=1, queries=1, share=1.0, least=fixed, least_of_long=fixed, most=fixed
    )
    step = NativeStep(steps.model, routing=Routing(steps.routing.projection, budget))
    for name, ids in kinds.items():
        found[name]["fixed"] = _compared(steps, step, ids, tables[name], wanted[name])
        say(f"{name}, {fixed} pieces: {_told(found[name]['fixed'])}")
    return {"tokens": tokens, "fixed": fixed, "kinds": found}


def _told(of: dict[str, float]) -> str:
    return (
        f"{of['chosen']:.0f} pieces chosen, {100 * of['share_read']:.1f} % read, "
        f"{of['divergence']:.4f} nats from dense"
    )


def _compared(
    steps: Steps, step: NativeStep, ids: list[int], table: BlockTable, wanted: Tensor
) -> dict[str, float]:
    logits, skipped = _last(steps, step, ids, table)
    places = range(len(ids) - _SCORED, len(ids))
    seen = pieces_seen(steps.config, places)
    of_each = _SCORED * steps.config.num_layers * steps.config.num_kv_heads
    always = (steps.budget.first + steps.budget.last) * PIECES
    return {
        "chosen": (seen - skipped) / of_each - always,
        "share_read": 1 - skipped / seen,
        "divergence": float((wanted.exp() * (wanted - logits)).sum(-1).mean()),
    }


def _last(steps: Steps, step: NativeStep, ids: list[int], table: BlockTable) -> tuple[Tensor, int]:
    """Log-probabilities behind each of the last tokens, and the pieces they did not read."""
    at = len(ids) - _SCORED
    batch = steps.batch(ids[at:], table, at, "all")
    return step(batch).log_softmax(-1), int(batch.skipped)


def _some(steps: Steps, text: str, tokens: int, name: str) -> list[int]:
    ids = steps.tokenizer.encode(text[:_MOST_DRAWN], bos=False)[:tokens]
    if len(ids) < tokens or tokens % BLOCK or tokens < 2 * _SCORED:
        raise ConfigError(
            f"{name} has {len(ids):,} tokens, and {tokens:,} are asked for; ask for a multiple of "
            f"{BLOCK} from {2 * _SCORED:,} on that it has"
        )
    return ids


def _sources() -> Iterator[str]:
    """Python's own."""
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        yield path.read_text(encoding="utf-8", errors="replace")
