"""The command: every claim is printed, measured or with the reason why not."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.inference import GOALS, main
from everlong.evaluation.provenance import ROOT


@pytest.fixture(autouse=True)
def nothing_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("EVERLONG_SMOLLM2_GGUF", "EVERLONG_QWEN_GGUF", "EVERLONG_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("EVERLONG_HOME", str(tmp_path))


def test_without_models_every_claim_says_what_is_missing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "kept.json"
    assert main(["--json", "--quick", "--out", str(out)]) == 0
    printed = capsys.readouterr()
    report = json.loads(printed.out.splitlines()[-1])
    assert report["benchmark"] == "inference"
    assert [claim["name"] for claim in report["claims"]] == list(GOALS)
    for claim in report["claims"]:
        assert claim["value"] is None
        assert claim["holds"] is False
        missing = "--qwen" if claim["name"].startswith("qwen_") else "everlong pull smollm2-135m"
        assert missing in claim["detail"]
    assert json.loads(out.read_text())["claims"] == report["claims"]


def test_a_named_file_that_is_not_there_is_the_reason(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["--json", "--parts", "loading", "--model", str(tmp_path / "x.gguf")]) == 0
    claims = {c["name"]: c for c in json.loads(capsys.readouterr().out)["claims"]}
    assert claims["load_first"]["detail"] == f"there is no file {tmp_path / 'x.gguf'}"
    assert claims["prefill_vs_openvino"]["detail"] == "not asked for in this run"


def test_text_that_is_not_there_is_the_reason(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    model = tmp_path / "model.gguf"
    model.touch()
    assert (
        main(["--json", "--parts", "perplexity", "--model", str(model), "--data", str(tmp_path)])
        == 0
    )
    claims = {c["name"]: c for c in json.loads(capsys.readouterr().out)["claims"]}
    assert "wikitext2/test.txt" in claims["int4_perplexity_increase"]["detail"]


@pytest.mark.parametrize("arguments", [["--rounds", "4"], ["--threads", "0"], ["--peers", "vllm"]])
def test_settings_that_cannot_be_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2


def test_it_runs_as_a_file_from_anywhere(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "inference.py"), "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "--quick" in done.stdout
