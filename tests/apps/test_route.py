"""What routed attention reads is shown as it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from everlong.cli import main
from tests.checkpoint.samples import tiny_config, tiny_gguf
from tests.home import own_home

pytest.importorskip("matplotlib")
WORDS = "".join(chr(ord("a") + n * n % 26) + " " * (n % 7 == 0) for n in range(1200))


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EVERLONG_HOME", own_home(tmp_path))
    return tiny_gguf(tmp_path / "tiny.gguf", tiny_config(max_position=2048))


def routed(model: Path, out: Path, *options: str) -> int:
    prompt = out.with_suffix(".txt")
    prompt.write_text(WORDS)
    return main(["route", str(model), "--prompt-file", str(prompt), "--out", str(out), *options])


def test_figures_picture_and_passages(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert routed(model, tmp_path / "few", "--pieces", "16") == 0
    assert "once for each model" in capsys.readouterr().out
    few = json.loads((tmp_path / "few" / "routing.json").read_text())
    assert (tmp_path / "few" / "reads.png").read_bytes().startswith(b"\x89PNG")
    assert "Tokens 0 to 63: read by 100.0 %" in (tmp_path / "few" / "blocks.md").read_text()
    assert routed(model, tmp_path / "all", "--pieces", "4000") == 0
    assert "once for each model" not in capsys.readouterr().out  # it was kept
    whole = json.loads((tmp_path / "all" / "routing.json").read_text())
    assert whole["share_read"] == pytest.approx(1)
    assert whole["loss_routed"] == pytest.approx(whole["loss_dense"], rel=1e-3)
    assert few["loss_dense"] == pytest.approx(whole["loss_dense"], abs=1e-5)
    blocks = few["blocks_read_by_query_block"]
    assert blocks[:4] == [1, 2, 3, 4]
    assert all(4 <= n <= 5 for n in blocks[4:])
    assert few["share_read"] == pytest.approx(
        sum(blocks) / sum(range(1, len(blocks) + 1)), abs=0.01
    )
    assert len(few["share_read_by_layer"]) == 2


def test_what_is_refused(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = ["route", str(model), "--prompt-file", str(tmp_path / "none.txt")]
    assert main(missing)
    assert "none.txt cannot be read as text" in capsys.readouterr().err
    short = tmp_path / "short.txt"
    short.write_text("too short")
    assert routed(model, tmp_path / "x", "--text", str(short))
    assert "too few to calibrate on" in capsys.readouterr().err
    assert routed(model, tmp_path / "y", "--pieces", "-1")
    assert "prompt is at least 0" in capsys.readouterr().err


def test_an_own_text_calibrates_for_good(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["calibrate", str(model)]) == 0
    told = capsys.readouterr().out
    assert "once for each model" in told
    assert "directions for each of 2 layers" in told
    assert main(["calibrate", str(model)]) == 0
    assert "once for each model" not in capsys.readouterr().out
    own = tmp_path / "own.txt"
    own.write_text("too short")
    assert main(["calibrate", str(model), "--text", str(own)]) != 0
    assert "too few to calibrate on" in capsys.readouterr().err
