"""Perplexity of a model under several choices of weights, on the same windows of a text."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contender import Contender
from benchmarks.peers import everlong
from benchmarks.report import Measured

WINDOW = 1024
"""Tokens in a window; windows follow each other without overlap."""


@dataclass(frozen=True)
class Losses:
    """Natural-log losses of one choice of weights, a sum for each window."""

    sums: tuple[float, ...]
    counts: tuple[int, ...]

    @property
    def perplexity(self) -> float:
        """Exponential of the mean loss of a token."""
        return math.exp(sum(self.sums) / sum(self.counts))


def increase(of: Losses, over: Losses) -> float:
    """By how many per cent the perplexity is higher than another's on the same windows."""
    assert of.counts == over.counts, "different windows"
    return 100.0 * (of.perplexity / over.perplexity - 1.0)


def windows(ids: Sequence[int], most: int | None) -> list[list[int]]:
    """Full windows of a text, at most ``most``; what is left at the end is not used."""
    whole = [list(ids[i : i + WINDOW]) for i in range(0, len(ids) - WINDOW + 1, WINDOW)]
    return whole[:most]


def measure_losses(
    model: Path,
    text: str,
    choices: Sequence[str],
    most: int | None,
    threads: int,
    say: Callable[[str], None],
) -> dict[str, Losses]:
    """Losses of a model on a text for each choice of weights.

    Every token of a window but its first is predicted from the window's tokens before it.

    Args:
        model: a GGUF file or folder.
        text: what is predicted.
        choices: values of ``weights`` of ``everlong.load``.
        most: windows from the start of the text; None: all.

    Raises:
        ContenderError: the model cannot be loaded or run.
    """
    found = {}
    for weights in choices:
        with Contender("everlong", everlong.__name__, threads=threads) as worker:
            worker.ask("load", path=str(model), threads=threads, options={"weights": weights})
            parts = windows(worker.ask("encode", text=text)["ids"], most)
            sums, counts = [], []
            for number, part in enumerate(parts, 1):
                answer = worker.ask("loss", ids=part)
                sums.append(answer["loss"])
                counts.append(answer["count"])
                if number % 16 == 0 or number == len(parts):
                    so_far = Losses(tuple(sums), tuple(counts)).perplexity
                    say(f"perplexity, {weights}, window {number} of {len(parts)}: {so_far:.4f}")
        found[weights] = Losses(tuple(sums), tuple(counts))
    return found


def claim(losses: dict[str, Losses], chosen: str, reference: str = "float32") -> Measured:
    """How much higher the perplexity of the chosen weights is than the reference's.

    The detail says the same of every other choice that was measured, and of the windows one by
    one, which shows how far the figure depends on the text.
    """
    base = losses[reference]
    others = (
        f"; weights={name}: {increase(found, base):+.3g} %"
        for name, found in losses.items()
        if name not in (chosen, reference)
    )
    of = losses[chosen]
    single = sorted(
        100.0 * (math.exp((a - b) / n) - 1.0)
        for a, b, n in zip(of.sums, base.sums, base.counts, strict=True)
    )
    return Measured(
        increase(of, base),
        f"weights={chosen}: {of.perplexity:.4f}, {reference}: {base.perplexity:.4f}, on "
        f"{len(base.sums)} windows of {WINDOW} tokens ({single[0]:+.3g} to {single[-1]:+.3g} % in "
        f"single windows){''.join(others)}",
    )
