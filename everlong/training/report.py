"""A picture of a run, from what it wrote while it went on."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from everlong.errors import MissingExtraError
from everlong.training.run_files import METRICS, read_lines

_FILE = "report.png"
_SMOOTHED = 0.95


def draw(run: Path) -> Path:
    """Draw losses, learning rate, gradients and speed over the steps of a run.

    Args:
        run: its folder.

    Returns:
        The picture, ``report.png`` in that folder.

    Raises:
        DataError: the run has written nothing yet.
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("matplotlib", "train") from None
    lines = [*read_lines(run / METRICS)]
    figure = Figure(figsize=(10, 7), layout="constrained")
    figure.suptitle(str(run))
    (losses, rates), (norms, speeds) = figure.subplots(2, 2, sharex=True)
    steps = [line["step"] for line in lines]
    _curve(losses, steps, [line["loss"] for line in lines], "training")
    validated = [line for line in lines if "validation" in line]
    for name in validated[0]["validation"] if validated else ():
        at = [line["step"] for line in validated]
        losses.plot(at, [line["validation"][name] for line in validated], ".-", label=name)
    losses.set(title="loss (nats a token)")
    losses.legend()
    rates.plot(steps, [line["learning_rate"] for line in lines])
    rates.set(title="learning rate")
    _curve(norms, steps, [line["gradient_norm"] for line in lines], "")
    norms.set(title="norm of the gradients", xlabel="step", yscale="log")
    _curve(speeds, steps, [line["tokens"] / line["seconds"] for line in lines], "")
    speeds.set(title="tokens a second", xlabel="step", ylim=(0, None))
    for before, line in itertools.pairwise(lines):
        if line["phase"] != before["phase"]:
            for axes in (losses, rates, norms, speeds):
                axes.axvline(line["step"], color="grey", linewidth=0.8, linestyle=":")
    path = run / _FILE
    figure.savefig(path, dpi=110)
    return path


def _curve(axes: Any, steps: Sequence[int], values: Sequence[float | None], label: str) -> None:
    """Single values faintly, and their moving average; None: it was not finite."""
    shown = [float("nan") if one is None else one for one in values]
    axes.plot(steps, shown, color="tab:blue", alpha=0.25, linewidth=0.8)
    smooth, total, weight = [], 0.0, 0.0
    for value in values:
        if value is not None:
            total, weight = _SMOOTHED * total + value, _SMOOTHED * weight + 1
        smooth.append(total / weight if weight else float("nan"))
    axes.plot(steps, smooth, color="tab:blue", label=label or None)
