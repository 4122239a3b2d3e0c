"""Whether one model is better than another, example by example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from everlong.errors import ConfigError
from everlong.evaluation.results import Figures, Results, read_results
from everlong.evaluation.statistics import Estimate, bootstrap

_RESAMPLES = 10_000
_CHUNK = 1000


@dataclass(frozen=True)
class Difference:
    """B against A on one task, over the examples that both answered."""

    task: str
    metric: str
    a: float
    b: float
    difference: Estimate
    """B - A with its 95 % interval over examples."""
    p: float
    """Of the paired test; small: the difference is not chance."""
    adjusted_p: float
    """The same by Holm (1979) for all tasks that are compared."""


def compare(a: Path, b: Path, tasks: Sequence[str] = ()) -> list[Difference]:
    """Compare two folders of figures, task by task.

    Args:
        a, b: folders that ``everlong eval --out`` wrote.
        tasks: only these; none: all that both have.

    Raises:
        ConfigError: a folder has no figures, no task is in both, or a task was asked differently.
    """
    first, second = read_results(a), read_results(b)
    both = [name for name in first.tasks if name in second.tasks]
    if unknown := sorted(set(tasks) - set(both)):
        raise ConfigError(f"{unknown[0]!r} is not in both; in both are: {', '.join(both) or '-'}")
    if not both:
        raise ConfigError(f"{a} and {b} have no task in common")
    found = [_difference(first, second, a, b, name) for name in tasks or both]
    adjusted = holm([d.p for d in found])
    return [
        Difference(d.task, d.metric, d.a, d.b, d.difference, d.p, p)
        for d, p in zip(found, adjusted, strict=True)
    ]


def _difference(first: Results, second: Results, a: Path, b: Path, task: str) -> Difference:
    ours, theirs = first.tasks[task], second.tasks[task]
    if (asked := _asked(ours)) != (other := _asked(theirs)):
        raise ConfigError(
            f"{task} was asked differently in {a} ({asked}) and {b} ({other}); run one again"
        )
    metric = next(iter(ours.metrics))
    left = {s.id: s.scores[metric] for s in first.samples(a, task)}
    right = {s.id: s.scores[metric] for s in second.samples(b, task)}
    shared = [id for id in left if id in right]
    if not shared:
        raise ConfigError(f"{task}: no example was answered in both {a} and {b}")
    differences = [right[id] - left[id] for id in shared]
    return Difference(
        task,
        metric,
        float(np.mean([left[id] for id in shared])),
        float(np.mean([right[id] for id in shared])),
        bootstrap(differences),
        p := paired_test(differences),
        p,
    )


def _asked(figures: Figures) -> str:
    s = figures.settings
    return (
        f"version {figures.version}, shots {s.shots}, chat {s.chat}, seed {s.seed}, "
        f"data {' '.join(sorted(digest[:8] for digest in figures.data.values()))}"
    )


def paired_test(differences: Sequence[float], seed: int = 0) -> float:
    """Probability of a mean at least this far from 0 if each difference's sign were chance.

    Two-sided permutation test over signs (Fisher 1935), by seeded resampling; for right and wrong
    answers it is McNemar's test.
    """
    values = np.asarray([d for d in differences if d], dtype=np.float64)
    if not len(values):
        return 1.0
    draw = np.random.default_rng(seed)
    # Rounding must not tell equal sums apart.
    seen = abs(values.sum()) * (1 - 1e-9)
    extreme = 0
    for _ in range(_RESAMPLES // _CHUNK):
        signs = draw.integers(0, 2, (_CHUNK, len(values)), dtype=np.int8) * 2 - 1
        extreme += int((np.abs(signs @ values) >= seen).sum())
    return (extreme + 1) / (_RESAMPLES + 1)


def holm(ps: Sequence[float]) -> list[float]:
    """Probabilities adjusted for how many tests there are (Holm 1979)."""
    adjusted = [0.0] * len(ps)
    least = 0.0
    for rank, i in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        least = max(least, min(1.0, ps[i] * (len(ps) - rank)))
        adjusted[i] = least
    return adjusted
