"""A folder of figures: one model, its tasks, every figure with where it comes from.

``results.json`` holds the figures, ``samples/TASK.jsonl`` every answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from everlong.errors import ConfigError
from everlong.evaluation.provenance import Provenance
from everlong.evaluation.runner import Result
from everlong.evaluation.samples import file_name, read_samples, write_samples
from everlong.evaluation.statistics import Estimate
from everlong.evaluation.task import Sample, Settings
from everlong.files import atomic_write

FORMAT = 1
_NAME = "results.json"


@dataclass(frozen=True)
class Figures:
    """What was found on one task."""

    suite: str
    version: int
    """Of the task."""
    settings: Settings
    limit: int | None
    """Only so many examples, a fair sample; None: all."""
    metrics: Mapping[str, Estimate]
    """The task's own figure first."""
    groups: Mapping[str, Mapping[str, Estimate]]
    data: Mapping[str, str]
    """SHA-256 of the files, by name."""
    seconds: float
    """Of the examples that were answered in that run."""
    answered: int
    """How many were; the others were known."""
    provenance: Provenance


@dataclass(frozen=True)
class Results:
    """All figures of one model in a folder."""

    model: str
    fingerprint: str
    tasks: Mapping[str, Figures]

    def samples(self, folder: Path, task: str) -> list[Sample]:
        """The answers behind a task's figures."""
        return read_samples(folder / "samples" / file_name(task))


def add_result(
    folder: Path,
    result: Result,
    *,
    model: str,
    fingerprint: str,
    suite: str,
    settings: Settings,
    limit: int | None,
) -> None:
    """Write a task's figures and answers into a folder, beside those of the model's other tasks.

    Raises:
        ConfigError: the folder holds the figures of another model.
    """
    known = read_results(folder) if (folder / _NAME).exists() else Results(model, fingerprint, {})
    if known.fingerprint != fingerprint:
        raise ConfigError(
            f"{folder} holds the figures of {known.model}, which is another model or has other "
            "weights; name another folder with --out"
        )
    figures = Figures(
        suite,
        result.version,
        settings,
        limit,
        result.metrics,
        result.groups,
        result.data,
        round(result.seconds, 2),
        result.answered,
        Provenance.here(),
    )
    write_samples(result.samples, folder / "samples" / file_name(result.task))
    content = {
        "format": FORMAT,
        "model": model,
        "fingerprint": fingerprint,
        "tasks": {n: asdict(f) for n, f in {**known.tasks, result.task: figures}.items()},
    }
    text = json.dumps(content, indent=1, ensure_ascii=False)
    atomic_write(folder / _NAME, text.encode() + b"\n")


def read_results(folder: Path) -> Results:
    """Figures that :func:`add_result` wrote.

    Raises:
        ConfigError: there are none, or the file is malformed.
    """
    path = folder / _NAME
    try:
        content = json.loads(path.read_text("utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']!r}, and {FORMAT} is known")
        tasks = {name: _figures(value) for name, value in content["tasks"].items()}
        return Results(content["model"], content["fingerprint"], tasks)
    except FileNotFoundError:
        raise ConfigError(
            f"{folder} has no {_NAME}; make one with everlong eval MODEL --out {folder}"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path} cannot be read: {error!r}") from None


def _figures(value: dict[str, Any]) -> Figures:
    return Figures(
        **{
            **value,
            "settings": Settings(**value["settings"]),
            "metrics": _estimates(value["metrics"]),
            "groups": {name: _estimates(group) for name, group in value["groups"].items()},
            "provenance": Provenance(**value["provenance"]),
        }
    )


def _estimates(values: dict[str, dict[str, Any]]) -> dict[str, Estimate]:
    return {name: Estimate(**value) for name, value in values.items()}
