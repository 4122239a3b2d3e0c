"""The parts of the routing benchmark that take a text apart: what is compared is what is said."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import torch

from benchmarks import routing_kinds, routing_million
from benchmarks.routing_million import _long, measure
from benchmarks.routing_model import Steps
from everlong.errors import ConfigError
from everlong.model.cache import EVERYWHERE
from everlong.model.calibration import calibrate
from everlong.model.native import library
from everlong.model.native.step import NativeStep
from everlong.model.routing import Budget, Routing
from tests.benchmarks.test_haystacks import BOOK
from tests.engine.tiny import config, model, tokenizer

NEAR = 20_000


def book(folder: Path) -> Path:
    path = folder / "book.txt.gz"
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write(BOOK)
    return path


def test_halves_of_a_long_text_lie_at_its_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = tokenizer()
    monkeypatch.setattr(routing_million, "opening_of", lambda _: ("Remember:\n\n", "\n"))
    monkeypatch.setattr(routing_million, "NEAR", NEAR)  # tokens of a tiny vocabulary
    tokens = 60_000
    long = _long(given, [book(tmp_path)], tokens, 1)
    assert len(long.ids) == tokens
    assert len(long.far) > 10
    assert len(long.near) > 10
    first, last = given.decode(long.ids[:NEAR]), given.decode(long.ids[-NEAR:])
    for question in long.far:
        assert question.expected[0] in first
    for question in long.near:
        assert question.expected[0] in last
    with pytest.raises(ConfigError, match="too few"):
        _long(given, [book(tmp_path)], 1000, 1)


def test_a_full_disk_is_said_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routing_million, "_BYTES", 1 << 60)
    with pytest.raises(ConfigError, match="--million-folder"):
        measure(Path("none.gguf"), [], 1000, tmp_path, 0, print)


def test_what_a_fixed_budget_chooses_is_what_is_counted() -> None:
    if library.library() is None:
        pytest.skip("no native kernels on this machine")
    ids = torch.randint(10, 300, (2048,), generator=torch.Generator().manual_seed(1)).tolist()
    projection = calibrate(model("bf16"), ids[:1024])
    steps = Steps.__new__(Steps)  # without a file
    steps.config, steps.reach, steps.budget = config(), EVERYWHERE, Budget()
    table = steps.table(len(ids))
    fixed = Budget(10, 10, 1.0, 10, dense=0, rows=1, queries=1)
    step = NativeStep(model("bf16"), routing=Routing(projection, fixed))
    step(steps.batch(ids, table, 0, "none"))
    wanted, nothing = routing_kinds._last(steps, NativeStep(model("bf16")), ids, table)
    assert nothing == 0
    found = routing_kinds._compared(steps, step, ids, table, wanted)
    # What no query has any attention for is not read.
    assert 9.9 < found["chosen"] <= 10
    assert 0 < found["share_read"] < 0.3
    assert found["divergence"] > 0
