"""Pictures of figures, drawn with matplotlib (the extra ``eval``)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from everlong.errors import MissingExtraError
from everlong.evaluation.peer import Peer
from everlong.evaluation.results import Results

_MOST_LABELS = 40
"""Names that can be read below an axis."""


def draw(models: Sequence[Results], peer: Peer | None, out: Path) -> list[Path]:
    """Draw the tasks of every suite, and the parts of every task that has some.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("matplotlib", "eval") from None
    files: list[Path] = []
    for suite in dict.fromkeys(f.suite for m in models for f in m.tasks.values()):
        figure = Figure(figsize=(9, 4.5), layout="constrained")
        _draw_suite(figure.subplots(), suite, models, peer)
        files.append(out / f"{suite}.png")
        figure.savefig(files[-1], dpi=120)
    for task in dict.fromkeys(t for m in models for t, f in m.tasks.items() if f.groups):
        figure = Figure(figsize=(9, 4), layout="constrained")
        _draw_parts(figure, task, models)
        files.append(out / f"{task}.png")
        figure.savefig(files[-1], dpi=120)
    return files


def _draw_suite(axes: Any, suite: str, models: Sequence[Results], peer: Peer | None) -> None:
    names = list(dict.fromkeys(t for m in models for t, f in m.tasks.items() if f.suite == suite))
    width = 0.8 / len(models)
    for i, model in enumerate(models):
        places, means, errors = [], [], []
        for at, task in enumerate(names):
            if figures := model.tasks.get(task):
                estimate = next(iter(figures.metrics.values()))
                places.append(at + i * width)
                means.append(100 * estimate.mean)
                errors.append(
                    (100 * (estimate.mean - estimate.low), 100 * (estimate.high - estimate.mean))
                )
        axes.bar(
            places, means, width, yerr=list(zip(*errors, strict=True)), capsize=3, label=model.model
        )
    if peer is not None:
        first = models[0]
        found = [
            (at, 100 * value)
            for at, task in enumerate(names)
            if task in first.tasks
            and (value := peer.figure(task, next(iter(first.tasks[task].metrics)))) is not None
        ]
        if found:
            axes.plot(
                *zip(*found, strict=True), "k_", markersize=14, label=f"{peer.name}, same weights"
            )
    axes.set_xticks(
        [at + 0.4 - width / 2 for at in range(len(names))], names, rotation=30, ha="right"
    )
    axes.set_ylabel("per cent, with 95 % intervals")
    axes.set_title(suite)
    axes.legend()


def _draw_parts(figure: Any, task: str, models: Sequence[Results]) -> None:
    asked = [m for m in models if task in m.tasks and m.tasks[task].groups]
    named = len(asked) == 1 and len(asked[0].tasks[task].groups) <= _MOST_LABELS
    if named:  # one below the other, where there is room for names
        figure.set_size_inches(9, 1.2 + 0.24 * len(asked[0].tasks[task].groups))
    axes = figure.subplots()
    for model in asked:
        figures = model.tasks[task]
        metric = next(iter(figures.metrics))
        # Many parts are languages: their order says nothing, their spread does.
        parts = sorted(figures.groups.items(), key=lambda part: -part[1][metric].mean)
        places = range(len(parts))
        means = [100 * part[metric].mean for _, part in parts]
        low = [100 * part[metric].low for _, part in parts]
        high = [100 * part[metric].high for _, part in parts]
        if named:
            axes.hlines(places, low, high, alpha=0.5)
            axes.plot(means, places, "o", label=model.model)
            axes.set_yticks(list(places), [name for name, _ in parts])
        else:
            axes.fill_between(places, low, high, alpha=0.2)
            axes.plot(places, means, marker=".", label=model.model)
    if named:
        axes.invert_yaxis()
        axes.set_xlim(left=0)
        axes.set_xlabel("per cent, with 95 % intervals")
    else:
        axes.set_ylim(bottom=0)
        axes.set_xlabel(f"{len(parts)} parts, each model's best first")
        axes.set_ylabel("per cent, with 95 % intervals")
    axes.set_title(f"{task}, by part")
    axes.legend()
