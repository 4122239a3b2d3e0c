"""The curation benchmark: every claim is printed, and what it compares is what it says."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.curation import GOALS, main
from benchmarks.curation_documents import write
from benchmarks.curation_rules import AGREEMENT, SPEED, _figures
from benchmarks.curation_same import _differing
from benchmarks.peers.quality import everlong
from everlong.evaluation.provenance import ROOT

SHARED = ROOT.parent / "shared"


def test_every_claim_that_is_asked_for_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--json", "--parts", "personal"]) == 0
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    claims = {claim["name"]: claim for claim in printed["claims"]}
    assert list(claims) == list(GOALS)
    assert claims["pii_recall"]["value"] > 90
    assert claims["toxicity_auc"]["value"] is None
    path = SHARED / "claims.json"
    if not path.is_file():
        pytest.skip("the list of claims is not beside this checkout")
    asked = json.loads(path.read_text())["curation"]
    for name, (operator, value, unit) in asked.items():
        assert (GOALS[name].operator, GOALS[name].value, GOALS[name].unit) == (
            operator,
            value,
            unit,
        )


def test_ratios_and_agreement() -> None:
    kept = [True, True, False, False]
    sides = ({"a": kept, "all": kept}, {"a": [True, False, False, False], "all": kept})
    ours = {"time": (30.0, 20.0, 50.0), "time_pages": (21.0, 80.0, 29.0)}
    rates = {
        what: [{"everlong": one, "datatrove": 10.0} for one in turns]
        for what, turns in ours.items()
    }
    pages = {
        name: Counter({"documents": 10, "alike": alike, "empty": 1})
        for name, alike in (("everlong", 9.5), ("datatrove", 9.0))
    }
    measured, _ = _figures(4, sides, rates, pages)
    assert measured[SPEED].value == pytest.approx(2.9)  # the less of both medians
    assert "extraction excluded 3.0 x (2.0 to 5.0" in measured[SPEED].detail
    assert measured[AGREEMENT].value == 75
    assert "a, the least of" in measured[AGREEMENT].detail
    assert "everlong 0.950 (1 empty), datatrove 0.900" in measured[SPEED].detail
    pages["everlong"]["alike"] = 8  # type: ignore[assignment]
    assert _figures(4, sides, rates, pages)[0][SPEED].value is None


def test_documents_are_the_same_for_a_seed(tmp_path: Path) -> None:
    data = SHARED / "data"
    if not data.is_dir():
        pytest.skip("the public data is not beside this checkout")
    first, second = tmp_path / "first", tmp_path / "second"
    assert write(data, first, 60, 1) == write(data, second, 60, 1) == 60
    assert first.read_bytes() == second.read_bytes()
    kinds = [json.loads(line)["kind"] for line in first.read_text().splitlines()]
    assert sum(kind.startswith("damaged") for kind in kinds) == 20


def test_the_side_that_is_everlong() -> None:
    side = everlong()
    rules, make = side.rules, side.make
    assert len(rules) == 4
    assert not rules["gopher_quality"](make("too short"))


def test_bytes_that_differ(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"abcd")
    assert _differing(one, other) == 4
    other.write_bytes(b"abxdef")
    assert _differing(one, other) == 3
