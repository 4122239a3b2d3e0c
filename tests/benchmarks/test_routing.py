"""The routing benchmark: every claim is printed, and what is compared are the same tokens."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks import routing_loss, routing_speed
from benchmarks.routing import GOALS, PARTS, main
from benchmarks.routing_model import Steps
from everlong.evaluation.provenance import ROOT
from everlong.model.cache import EVERYWHERE
from everlong.model.calibration import calibrate
from everlong.model.native import library
from everlong.model.native.step import NativeStep
from everlong.model.routing import Budget, Routing
from tests.engine.tiny import config, model


@pytest.fixture(autouse=True)
def nothing_here(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EVERLONG_QWEN_GGUF", "EVERLONG_DATA"):
        monkeypatch.delenv(name, raising=False)


def test_every_claim_that_was_asked_for_is_printed() -> None:
    path = ROOT.parent / "shared" / "claims.json"
    if not path.is_file():
        pytest.skip(f"there is no {path}")
    asked = json.loads(path.read_text())["routing"]
    assert {name: [g.operator, g.value, g.unit] for name, g in GOALS.items()} == asked


def test_what_is_missing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--json", "--parts", "loss"]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    claims = {claim["name"]: claim for claim in report["claims"]}
    assert list(claims) == list(GOALS)
    for name in PARTS["loss"]:
        assert claims[name]["value"] is None
        assert "EVERLONG_QWEN_GGUF" in claims[name]["detail"]
    assert claims["prefill_4k_vs_dense"]["detail"] == "not asked for in this run"
    assert claims["retrieval_vs_dense_8k"]["detail"] == "not asked for in this run"
    assert claims["decode_1m_vs_8k_stored"]["detail"] == "not asked for in this run"


def test_steps_at_some_depths_add_up_to_all_of_them() -> None:
    # Steps whose time grows with their depth: what the trapezoid rule has exactly, but for where
    # inside a step its time is taken.
    depths = [0, 4096, 8192, 16384 - 512]
    seconds = [1 + depth / 1000 for depth in depths]
    every = sum(1 + depth / 1000 for depth in range(0, 16384, 512))
    assert routing_speed._integral(depths, seconds) / 512 == pytest.approx(every, rel=0.03)


def test_ratios_are_formed_round_by_round() -> None:
    found = routing_speed._ratio({"dense": [4.0, 9.0, 2.0], "routed": [2.0, 3.0, 2.0]}, "it")
    assert found.value == 2
    assert "(1.00 to 3.00 x)" in found.detail


def test_books_are_read_dense_and_routed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole part on a tiny model, whose budget is unlimited: nothing is lost."""
    if library.library() is None:
        pytest.skip("no native kernels on this machine")
    text = torch.randint(10, 300, (1024,), generator=torch.Generator().manual_seed(1)).tolist()
    unlimited = Budget(1 << 14, 1 << 14, 0, 1 << 14, 1 << 14, 1 << 14, dense=0)
    routing = Routing(calibrate(model("bf16"), text), unlimited)

    steps = Steps.__new__(Steps)  # without a file
    steps.config, steps.reach = config(), EVERYWHERE
    dense_step = NativeStep(model("bf16"))
    routed_step = NativeStep(model("bf16"), routing=routing)
    ids = (text * 5)[: 4096 + 1]
    monkeypatch.setattr(routing_loss, "_SCORED", 512)
    dense, all_read = routing_loss._losses(steps, ids, [2048, 4096], dense_step, dense_step)
    routed, shares = routing_loss._losses(steps, ids, [2048, 4096], routed_step, routed_step)
    assert all_read == shares == {2048: 1, 4096: 1}
    for end in (2048, 4096):
        assert len(routed[end]) == 512
        torch.testing.assert_close(routed[end], dense[end], rtol=1e-3, atol=1e-3)
