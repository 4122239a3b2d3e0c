"""The report: every figure beside the specification's and a peer's, with where it comes from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from everlong.evaluation.peer import Peer
from everlong.evaluation.plots import draw
from everlong.evaluation.results import Figures, Results
from everlong.evaluation.statistics import Estimate

SPECIFICATION: Mapping[str, tuple[str, float]] = {
    "understanding": ("language understanding", 98.7),
    "code": ("code generation", 95.3),
    "multilingual": ("multilingual comprehension", 92.1),
    "reasoning": ("reasoning and problem solving", 89.4),
}
"""What the specification says of each suite, in per cent; it names no data."""

_NO_SHARES = frozenset({"effect_size"})
"""Metrics that are no shares and are written as they are."""


def as_markdown(models: Sequence[Results], peer: Peer | None, pictures: Sequence[str]) -> str:
    """The report for people.

    Args:
        models: the first is the one the peer's weights are those of.
        peer: another program's figures for those weights.
        pictures: files beside the report.
    """
    lines = ["# Figures", "", *_specification_table(models, peer), ""]
    for suite in dict.fromkeys(f.suite for m in models for f in m.tasks.values()):
        lines += [f"## {suite.capitalize()}", "", *_suite_table(suite, models, peer), ""]
    for picture in pictures:
        lines += [f"![{Path(picture).stem}]({picture})", ""]
    lines += ["## Parts", ""]
    for model in models:
        for task, figures in model.tasks.items():
            if figures.groups:
                lines += [*_parts(model.model, task, figures), ""]
    return "\n".join([*lines, "## Where each figure comes from", "", *_sources(models), ""])


def as_json(models: Sequence[Results], peer: Peer | None) -> str:
    """The same for programs."""
    content = {
        "specification": {k: {"says": v[0], "percent": v[1]} for k, v in SPECIFICATION.items()},
        "models": [asdict(model) for model in models],
        "peer": asdict(peer) if peer else None,
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def write_report(
    models: Sequence[Results], peer: Peer | None, out: Path, pictures: bool = True
) -> list[Path]:
    """Write ``report.md``, ``report.json`` and pictures into a folder; returns the files."""
    out.mkdir(parents=True, exist_ok=True)
    drawn: list[Path] = []
    if pictures:
        drawn = draw(models, peer, out)
    files = [out / "report.md", out / "report.json"]
    files[0].write_text(as_markdown(models, peer, [p.name for p in drawn]), "utf-8")
    files[1].write_text(as_json(models, peer), "utf-8")
    return files + drawn


def written(metric: str, estimate: Estimate) -> str:
    """A figure with its interval: per cent, or as it is where it is no share."""
    scale = 1 if metric in _NO_SHARES else 100
    digits = 2 if metric in _NO_SHARES else 1
    low, mean, high = (
        f"{scale * value:.{digits}f}" for value in (estimate.low, estimate.mean, estimate.high)
    )
    return f"{mean} ({low} to {high})"


def _specification_table(models: Sequence[Results], peer: Peer | None) -> Iterator[str]:
    yield from _head(
        "the specification says", "public task", "model", "figure, 95 % interval", _of(peer)
    )
    for suite, (says, percent) in SPECIFICATION.items():
        for model in models:
            own = {t: f for t, f in model.tasks.items() if f.suite == suite}
            if not own:
                continue
            theirs = {
                task: figure
                for task, figures in own.items()
                if peer
                and model is models[0]
                and (figure := peer.figure(task, _headline(figures)[0])) is not None
            }
            # The task with the highest figure, and the highest that the peer was asked, too.
            for task in dict.fromkeys(_highest(own, among) for among in (own, theirs) if among):
                metric, estimate = _headline(own[task])
                yield _row(
                    f"{percent:g} % on {says}",
                    f"{task} ({metric}, {estimate.count:,} examples{_shots(own[task])})",
                    model.model,
                    written(metric, estimate),
                    f"{100 * theirs[task]:.1f}" if task in theirs else "",
                )


def _highest(own: Mapping[str, Figures], among: Iterable[str]) -> str:
    return max(among, key=lambda task: _headline(own[task])[1].mean)


def _suite_table(suite: str, models: Sequence[Results], peer: Peer | None) -> Iterator[str]:
    yield from _head("task", "metric", "examples", *(m.model for m in models), _of(peer))
    names = dict.fromkeys(t for m in models for t, f in m.tasks.items() if f.suite == suite)
    for task in names:
        have = [m.tasks.get(task) for m in models]
        for metric in next(f for f in have if f is not None).metrics:
            estimates = [f.metrics.get(metric) if f else None for f in have]
            count = next(e.count for e in estimates if e)
            theirs = peer.figure(task, metric) if peer else None
            yield _row(
                task,
                metric,
                f"{count:,}",
                *("" if e is None else written(metric, e) for e in estimates),
                "" if theirs is None else f"{100 * theirs:.1f}",
            )


def _parts(model: str, task: str, figures: Figures) -> Iterator[str]:
    yield f"<details><summary>{task}, {model}: {len(figures.groups)} parts</summary>"
    yield ""
    yield from _head("part", "examples", *figures.metrics)
    for name, metrics in figures.groups.items():
        count = next(iter(metrics.values())).count
        yield _row(name, f"{count:,}", *(written(m, e) for m, e in metrics.items()))
    yield ""
    yield "</details>"


def _sources(models: Sequence[Results]) -> Iterator[str]:
    yield from _head("model", "task", "version", "seed", "commit", "date", "command", "hardware")
    for model in models:
        for task, f in model.tasks.items():
            p = f.provenance
            yield _row(
                model.model,
                task,
                f"{f.version}",
                f"{f.settings.seed}",
                p.commit,
                p.date[:10],
                f"`{p.command}`",
                p.hardware,
            )


def _headline(figures: Figures) -> tuple[str, Estimate]:
    return next(iter(figures.metrics.items()))


def _shots(figures: Figures) -> str:
    shots = figures.settings.shots
    return "" if shots is None else f", {shots} shots"


def _of(peer: Peer | None) -> str:
    return f"{peer.name}, same weights" if peer else ""


def _head(*titles: str) -> Iterator[str]:
    yield _row(*titles)
    yield _row(*("---" for _ in titles))


def _row(*cells: Any) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"
