"""Folders of figures: written, read, compared, reported."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from everlong.cli import main
from everlong.errors import ConfigError, EverlongError
from everlong.evaluation.comparison import compare, holm, paired_test
from everlong.evaluation.peer import read_peer
from everlong.evaluation.report import write_report
from everlong.evaluation.results import add_result, read_results
from everlong.evaluation.runner import Result, figures
from everlong.evaluation.samples import SampleFile
from everlong.evaluation.task import Sample, Settings


def result(task: str, right: list[int], version: int = 1, group: str = "") -> Result:
    samples = tuple(
        Sample(str(n), group and f"{group}{n % 2}", {"accuracy": float(r)}, {"answer": n})
        for n, r in enumerate(right)
    )
    metrics, groups = figures(samples, ("accuracy",))
    return Result(task, version, metrics, groups, samples, {"file": "ab" * 32}, 1.5, len(right))


def keep(folder: Path, found: Result, model: str = "m", suite: str = "understanding") -> None:
    add_result(
        folder,
        found,
        model=model,
        fingerprint=model,
        suite=suite,
        settings=Settings(),
        limit=None,
    )


def test_figures_are_read_as_they_were_written(tmp_path: Path) -> None:
    first, second = result("one", [1, 0, 1]), result("two", [1, 1], group="part")
    keep(tmp_path, first)
    keep(tmp_path, second, suite="reasoning")
    read = read_results(tmp_path)
    assert list(read.tasks) == ["one", "two"]
    assert read.tasks["one"].metrics == first.metrics
    assert read.tasks["two"].groups == second.groups
    assert list(read.tasks["two"].groups) == ["part0", "part1"]
    assert read.tasks["two"].suite == "reasoning"
    assert read.samples(tmp_path, "one") == list(first.samples)
    assert "cores" in read.tasks["one"].provenance.hardware
    keep(tmp_path, result("one", [0, 0]))
    assert read_results(tmp_path).tasks["one"].metrics["accuracy"].mean == 0


def test_two_runs_do_not_write_the_same_answers(tmp_path: Path) -> None:
    path = tmp_path / "kept/task.jsonl"
    with SampleFile(path, {"task": "a"}) as first:
        first.add(Sample("1", "", {"accuracy": 1.0}, {}))
        with pytest.raises(EverlongError, match="is held by"), SampleFile(path, {"task": "a"}):
            pass
    with SampleFile(path, {"task": "a"}) as second:
        assert set(second.known) == {"1"}


def test_a_folder_belongs_to_one_model(tmp_path: Path) -> None:
    keep(tmp_path, result("one", [1]))
    with pytest.raises(ConfigError, match="holds the figures of m, which is another model"):
        keep(tmp_path, result("one", [1]), model="other")
    with pytest.raises(ConfigError, match="make one with everlong eval"):
        read_results(tmp_path / "nothing")
    (tmp_path / "results.json").write_text('{"format": 9}')
    with pytest.raises(ConfigError, match="format 9, and 1 is known"):
        read_results(tmp_path)


def test_the_paired_test_is_exact_where_it_can_be_counted() -> None:
    # 6 of 6 differences in one direction: 2 of the 64 ways to choose signs are that extreme.
    assert paired_test([1.0] * 6) == pytest.approx(2 / 64, abs=0.006)
    # McNemar's exact test for 9 against 2 (binomial, two-sided): 0.0654.
    assert paired_test([1.0] * 9 + [-1.0] * 2 + [0.0] * 50) == pytest.approx(0.0654, abs=0.008)
    assert paired_test([0.0, 0.0]) == 1.0


def test_equal_models_are_seldom_told_apart() -> None:
    draw = np.random.default_rng(0)
    told = sum(
        paired_test((draw.random(80) < 0.5).astype(float) - (draw.random(80) < 0.5)) < 0.05
        for _ in range(200)
    )
    assert told <= 20  # 10 are expected


def test_many_tests_ask_for_more() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])


def test_the_better_model_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    for task in ("same", "better"):
        keep(a, result(task, [n % 2 for n in range(60)]), model="a")
    keep(b, result("same", [n % 2 for n in range(60)]), model="b")
    keep(b, result("better", [1] * 60), model="b")
    found = {d.task: d for d in compare(a, b)}
    assert found["same"].p == 1.0
    assert found["better"].adjusted_p < 0.001
    assert found["better"].difference.mean == pytest.approx(0.5)
    assert main(["eval", "compare", str(a), str(b), "--tasks", "better"]) == 0
    assert "scores" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="'x' is not in both; in both are: same, better"):
        compare(a, b, ["x"])
    keep(b, result("same", [1] * 60, version=2), model="b")
    with pytest.raises(ConfigError, match="asked differently"):
        compare(a, b)


def test_the_report_has_every_figure_and_its_source(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    keep(a, result("arc_easy", [1, 0, 1, 1]), model="small")
    keep(a, result("bbh", [1, 0, 0, 0], group="part"), model="small", suite="reasoning")
    keep(b, result("arc_easy", [1, 1, 1, 1]), model="large")
    peer = tmp_path / "peer.json"
    peer.write_text(
        json.dumps({"config": {"model": "hf"}, "results": {"arc_easy": {"acc,none": 0.625}}})
    )
    models = [read_results(a), read_results(b)]
    files = write_report(models, read_peer(peer), tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text()
    assert "| 98.7 % on language understanding | arc_easy (accuracy, 4 examples) | small " in text
    assert "| 75.0 (25.0 to 100.0) | 62.5 |" in text
    assert "| part1 | 2 | 0.0 (0.0 to 0.0) |" in text
    assert "hf, same weights" in text
    for source in (models[0].tasks["bbh"].provenance.commit, "cores"):
        assert source in text
    assert {p.suffix for p in files} == {".md", ".json", ".png"}
    assert all(p.stat().st_size for p in files)
    content = json.loads((tmp_path / "out" / "report.json").read_text())
    assert content["models"][0]["tasks"]["arc_easy"]["metrics"]["accuracy"]["mean"] == 0.75
    with pytest.raises(ConfigError, match="no result of lm_eval"):
        read_peer(tmp_path / "out" / "report.md")
