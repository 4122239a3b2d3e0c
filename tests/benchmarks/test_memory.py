"""The command: every claim is printed, measured or with the reason why not."""

import json
from pathlib import Path

import pytest

from benchmarks import memory, memory_store
from benchmarks.memory import GOALS, PARTS, main
from everlong.evaluation.provenance import ROOT
from tests.home import own_home


@pytest.fixture(autouse=True)
def nothing_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("EVERLONG_SMOLLM2_GGUF", "EVERLONG_QWEN_GGUF", "EVERLONG_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("EVERLONG_HOME", own_home(tmp_path))


def _claims(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, object]]:
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["benchmark"] == "memory"
    assert [claim["name"] for claim in report["claims"]] == list(GOALS)
    return {claim["name"]: claim for claim in report["claims"]}


def test_every_claim_belongs_to_one_part() -> None:
    assert sorted(name for claims, _ in PARTS.values() for name in claims) == sorted(GOALS)


def test_every_claim_that_was_asked_for_is_printed() -> None:
    path = ROOT.parent / "shared" / "claims.json"
    if not path.is_file():
        pytest.skip(f"there is no {path}")
    asked = json.loads(path.read_text())["memory"]
    goals = {name: [goal.operator, goal.value, goal.unit] for name, goal in GOALS.items()}
    own = {"int8_memory_perplexity_increase", "int8_memory_bytes"}  # ours, beyond what was asked
    assert {name: goals[name] for name in goals.keys() - own} == asked


def test_without_a_model_a_claim_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--json", "--parts", "resume", "overhead"]) == 0
    claims = _claims(capsys)
    for name in (*PARTS["resume"][0], *PARTS["overhead"][0]):
        assert claims[name]["value"] is None
        assert claims[name]["holds"] is False
        assert "everlong pull smollm2-135m" in str(claims[name]["detail"])
    assert claims["open_16gb"]["detail"] == "not asked for in this run"


def test_the_last_crash_run_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(memory, "RESULTS", tmp_path)
    assert main(["--json", "--parts", "crash"]) == 0
    assert "make crash" in str(_claims(capsys)["kills_survived"]["detail"])
    for day, kills in ((1, 10), (2, 1000)):
        run = {"kills_survived": kills, "power_cuts_survived": 999, "committed_blocks_lost": 0}
        run |= {"command": "make crash", "commit": "abc", "seed": 3, "date": f"2026-01-0{day}"}
        (tmp_path / f"crash-2026-01-0{day}.json").write_text(json.dumps(run))
    assert main(["--json", "--parts", "crash"]) == 0
    claims = _claims(capsys)
    assert [claims[name]["holds"] for name in PARTS["crash"][0]] == [True, False, True]
    (tmp_path / "crash-2026-01-03.json").write_text(json.dumps({"kills_survived": 1}))
    assert main(["--json", "--parts", "crash"]) == 0
    assert "no power_cuts_survived" in str(_claims(capsys)["power_cuts_survived"]["detail"])
    told = "crash-2026-01-02.json: make crash, commit abc, seed 3, date 2026-01-02"
    assert claims["kills_survived"]["detail"] == told


def test_the_store_is_measured_and_removed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    small = memory_store.Size(10_000_000, 2, 1000, 20, 4)
    monkeypatch.setattr(memory_store.Size, "of", lambda quick: small)
    monkeypatch.setattr(memory_store, "_ROUND_BYTES", 4_500_000)
    folder, out = tmp_path / "disk", tmp_path / "kept.json"
    folder.mkdir()
    options = ["--json", "--parts", "store", "--folder", str(folder), "--out", str(out)]
    assert main(options) == 0
    claims = _claims(capsys)
    for name in PARTS["store"][0]:
        assert isinstance(claims[name]["value"], float), claims[name]
    assert not list(folder.iterdir())
    samples = json.loads(out.read_text())["samples"]["store"]
    assert len(samples["warm reads"]) == 20
    assert len(samples["cold reads"]["pread"]) == 4
    assert main([*options, "--quick"]) == 0
    assert _claims(capsys)["open_16gb"]["value"] is None, "the quick store has not 16 GB"


@pytest.mark.parametrize("arguments", [["--parts", "nothing"], ["--rounds", "4"]])
def test_settings_that_cannot_be_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
