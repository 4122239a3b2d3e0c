"""The format of claims, and how a figure is set beside its goal."""

import argparse
import json
from pathlib import Path

import pytest

from benchmarks import report as reports
from benchmarks.report import Claim, Goal, Measured, compare, run_parts, write_results

SPEED = Goal(">=", 1.1, "x")
SIZE = Goal("<=", 2.5, "x")


@pytest.mark.parametrize(
    ("goal", "value", "holds"),
    [
        (SPEED, 1.1, True),
        (SPEED, 1.0999, False),
        (SIZE, 2.5, True),
        (SIZE, 2.5001, False),
        (SIZE, -1.0, True),
        (SPEED, None, False),
        (SIZE, None, False),
    ],
)
def test_a_claim_holds_when_its_goal_is_met(goal: Goal, value: float | None, holds: bool) -> None:
    assert Claim("c", goal, Measured(value, "why")).holds is holds


def test_json_has_the_fields_of_the_format() -> None:
    report = compare("b", {"fast": SPEED, "small": SIZE}, {"fast": Measured(1.23456, "5 rounds")})
    parsed = json.loads(report.line())
    assert list(parsed) == ["benchmark", "commit", "hardware", "claims"]
    assert parsed["benchmark"] == "b"
    assert parsed["hardware"]
    assert parsed["claims"] == [
        {
            "name": "fast",
            "value": 1.235,
            "unit": "x",
            "goal": 1.1,
            "holds": True,
            "detail": "5 rounds",
        },
        {
            "name": "small",
            "value": None,
            "unit": "x",
            "goal": 2.5,
            "holds": False,
            "detail": "not asked for in this run",
        },
    ]


def test_the_line_is_one_line() -> None:
    report = compare("b", {"fast": SPEED}, {"fast": Measured(None, "first\nsecond")})
    assert "\n" not in report.line()


def test_rounding_for_print_does_not_decide_whether_a_claim_holds() -> None:
    claim = Claim("c", SPEED, Measured(1.09999, "close"))
    assert claim.as_json()["value"] == 1.1
    assert not claim.holds


def test_a_figure_without_a_goal_is_our_mistake() -> None:
    with pytest.raises(AssertionError, match="without a goal"):
        compare("b", {"fast": SPEED}, {"quick": Measured(1.0, "why")})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_figure_is_a_number(value: float) -> None:
    with pytest.raises(AssertionError, match="not a number"):
        Measured(value, "division by nothing")


def test_the_table_names_what_fails() -> None:
    measured = {"fast": Measured(0.5, "slow"), "small": Measured(2.0, "fine")}
    fast, small, other = (
        compare("b", {"fast": SPEED, "small": SIZE, "other": SIZE}, measured).table().splitlines()
    )
    assert "FAILS" in fast
    assert "at least 1.1 x" in fast
    assert "holds" in small
    assert "not measured" in other


def test_results_say_how_to_repeat_them(tmp_path) -> None:
    report = compare("b", {"fast": SPEED}, {"fast": Measured(2.0, "why")})
    path = tmp_path / "results" / "b.json"
    write_results(report, path, seed=7, versions={"peer": "1.2"}, samples={"fast": [2.0]})
    kept = json.loads(path.read_text())
    assert kept["claims"] == report.as_json()["claims"]
    assert kept["goals"] == {"fast": {"operator": ">=", "value": 1.1, "unit": "x"}}
    assert kept["seed"] == 7
    assert kept["versions"] == {"peer": "1.2"}
    assert kept["samples"] == {"fast": [2.0]}
    assert kept["command"].startswith("python ")
    assert kept["date"].endswith("+00:00")


def options(*parts: str, out: Path | None = None) -> argparse.Namespace:
    return argparse.Namespace(parts=parts, json=True, out=out)


def test_a_part_that_fails_takes_nothing_from_the_others(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def measure(part: str) -> reports.Part:
        if part == "slow":
            raise ImportError("no peer")
        return {"small": Measured(2.0, "fine")}, [1]

    parts = {"slow": ("fast",), "quick": ("small",)}
    goals = {"fast": SPEED, "small": SIZE}
    given = options("slow", "quick")
    assert run_parts("b", goals, parts, measure, given, seed=0, versions={}) == 0
    claims = json.loads(capsys.readouterr().out.splitlines()[-1])["claims"]
    assert [one["value"] for one in claims] == [None, 2]
    assert claims[0]["detail"] == "ImportError: no peer"


def test_claims_of_hours_are_those_of_the_last_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reports, "RESULTS", tmp_path)

    def measure(part: str) -> reports.Part:
        return {"fast": Measured(1.5, "hours")}, {}

    for date in ("2026-01-01", "2026-01-02"):
        given = options("slow", out=tmp_path / f"b-slow-{date}.json")
        run_parts("b", {"fast": SPEED}, {"slow": ("fast",)}, measure, given, seed=3, versions={})
    capsys.readouterr()
    for recorded, value in ((("slow",), 1.5), ((), None)):
        run_parts(
            *("b", {"fast": SPEED}, {"slow": ("fast",)}, measure, options("another")),
            seed=0,
            versions={},
            recorded=recorded,
        )
        (claim,) = json.loads(capsys.readouterr().out.splitlines()[-1])["claims"]
        assert claim["value"] == value
        assert claim["holds"] == (value is not None)
        if recorded:
            assert claim["detail"].startswith("b-slow-2026-01-02.json: python ")
            assert ", seed 3, 2" in claim["detail"]


def test_results_name_no_folder_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = str(reports.ROOT / "benchmarks" / "b.py")
    monkeypatch.setattr("sys.argv", [inside, "--data", str(tmp_path), "--seed", "3"])
    report = compare("b", {"fast": SPEED}, {"fast": Measured(2.0, "why")})
    write_results(report, tmp_path / "b.json", seed=3, versions={}, samples={})
    command = json.loads((tmp_path / "b.json").read_text())["command"]
    assert command == f"python benchmarks/b.py --data {tmp_path.name} --seed 3"
