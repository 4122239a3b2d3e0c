"""Runs a task: what is known already is not asked again, the rest goes through the engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from everlong.checkpoint.progress import ProgressCallback
from everlong.engine.llm import LLM
from everlong.errors import ConfigError
from everlong.evaluation.data import Data
from everlong.evaluation.processes import Processes
from everlong.evaluation.samples import SampleFile, file_name, key_of
from everlong.evaluation.statistics import Estimate, bootstrap
from everlong.evaluation.task import Model, Run, Sample, Settings, Task
from everlong.files import cache_dir


@dataclass(frozen=True)
class Result:
    """A task's figures."""

    task: str
    version: int
    metrics: Mapping[str, Estimate]
    """The task's own figure first."""
    groups: Mapping[str, Mapping[str, Estimate]]
    """The same for each part of the task that has a name."""
    samples: tuple[Sample, ...]
    data: Mapping[str, str]
    """SHA-256 of the files, by name."""
    seconds: float
    """That answering took, without what was known already."""
    answered: int
    """Examples that were asked now; the others were known."""


def evaluate(
    llm: LLM,
    task: Task[Any],
    data: Data,
    *,
    settings: Settings | None = None,
    limit: int | None = None,
    kept: Path | None = None,
    processes: Processes | None = None,
    model: Model | None = None,
    progress: ProgressCallback = lambda what, done, of: None,
) -> Result:
    """Figures of a model on a task.

    Args:
        llm: loaded model; other requests may run beside.
        task: what is asked.
        data: the data sets; one for each task, as it notes what was read.
        settings: what may be chosen.
        limit: only so many examples, a fair sample.
        kept: folder where answers are kept and found again; None: the cache folder.
        processes: others that answer with the same model, too.
        model: how ``llm`` was loaded; needed by tasks that restart it (see ``Run.model``).
        progress: told of every answer under the task's name, and of what comes before the first.

    Raises:
        MissingDataError: the task's data is not there.
        ConfigError: the data is malformed, or a setting is not possible.
    """
    chosen = settings or Settings()
    examples = task.examples(data, chosen)
    if limit is not None:
        examples = task.sample(examples, limit)
    if not examples:
        raise ConfigError(f"the data of {task.name} leaves no example to ask")
    assert len({e.id for e in examples}) == len(examples), f"{task.name}: ids are not unique"
    circumstances = {
        "model": llm.engine.fingerprint.hex(),
        "task": task.name,
        "version": task.version,
        "settings": asdict(chosen),
        "window": llm.max_model_len,
        "data": data.digests,
    }
    if task.program:
        circumstances["program"] = task.program
    place = (kept or cache_dir() / "evaluation") / key_of(circumstances) / file_name(task.name)
    with SampleFile(place, circumstances) as answers:
        missing = [example for example in examples if example.id not in answers.known]
        done = len(examples) - len(missing)
        progress(task.name, done, len(examples))
        begin = perf_counter()
        if missing:
            run = Run(llm, data, chosen, progress, model)
            ask = partial(processes.answers, task) if processes else task.answers
            for sample in ask(run, missing):
                answers.add(sample)
                done += 1
                progress(task.name, done, len(examples))
        seconds = perf_counter() - begin
        samples = tuple(answers.known[example.id] for example in examples)
    metrics, groups = figures(samples, task.metrics)
    return Result(
        task.name, task.version, metrics, groups, samples, data.digests, seconds, len(missing)
    )


def figures(
    samples: Sequence[Sample], metrics: Sequence[str]
) -> tuple[dict[str, Estimate], dict[str, dict[str, Estimate]]]:
    """Means over all samples, and over those of each named group, with their intervals."""
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.group, []).append(sample)

    def means(of: Sequence[Sample]) -> dict[str, Estimate]:
        return {m: bootstrap([s.scores[m] for s in of]) for m in metrics}

    parts = {name: means(groups[name]) for name in sorted(groups) if name}
    return means(samples), parts
