"""Tokens per second of several contenders, measured in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.contender import Contender, ContenderError
from benchmarks.cpu_use import CpuUse
from benchmarks.prompts import Prompts
from benchmarks.report import Measured
from benchmarks.rounds import Spread, ratios, spread, turns
from benchmarks.worker import Run

Say = Callable[[str], None]
"""Where progress goes."""


@dataclass(frozen=True)
class Measurement:
    """One kind of work, and how it becomes tokens per second."""

    name: str
    prompts: int
    prompt_tokens: int
    """Of each prompt; all have the same length, which spares transformers its padding."""
    new_tokens: int
    """Generated for each prompt, greedily, whatever they are."""

    def rate(self, run: Run) -> float:
        """Tokens per second.

        Raises:
            ContenderError: the contender's own counts differ from what was asked for.
        """
        if run.prompt_tokens != [self.prompt_tokens] * self.prompts:
            raise ContenderError(f"prompts of {run.prompt_tokens}, not {self.prompt_tokens} tokens")
        if run.generated != [self.new_tokens] * self.prompts:
            raise ContenderError(f"generated {run.generated}, not {self.new_tokens} tokens each")
        if run.cached_tokens:
            raise ContenderError(f"{run.cached_tokens} prompt tokens came from a cache")
        if self.new_tokens == 1:
            return self.prompts * self.prompt_tokens / run.seconds
        if self.prompts == 1:
            assert run.decode_seconds is not None, "a single prompt is timed from its first token"
            return (self.new_tokens - 1) / run.decode_seconds
        return self.prompts * self.new_tokens / run.seconds


PREFILL = Measurement("prefill", prompts=1, prompt_tokens=1000, new_tokens=1)
"""Prompt tokens over the time to the first token."""
DECODE1 = Measurement("decode1", prompts=1, prompt_tokens=32, new_tokens=65)
"""64 tokens over the time from the first token to the last."""
DECODE16 = Measurement("decode16", prompts=16, prompt_tokens=32, new_tokens=64)
"""All generated tokens over the time of the whole call, prompts included."""

MEASUREMENTS = (PREFILL, DECODE1, DECODE16)

_NOTICEABLE = 0.05  # share of the machine; below that it is called quiet

_PATIENCE = 180.0
"""Seconds after which a call is given up: the slowest take a tenth of that."""

_WARM_UP = Measurement("warm-up", prompts=1, prompt_tokens=8, new_tokens=4)


@dataclass(frozen=True)
class Entrant:
    """A contender and its settings."""

    name: str
    peer: str
    """Which product it is; the fastest entrant of a peer stands for it."""
    module: str
    """Of its worker."""
    python: str
    path: str
    """What it loads."""
    candidates: Mapping[str, Mapping[str, Any]]
    """Options of its worker by the name of the setting."""
    best: Mapping[str, str]
    """The setting for each measurement."""

    def options(self, measurement: Measurement) -> Mapping[str, Any]:
        """What its worker is loaded with for a measurement."""
        return self.candidates[self.best[measurement.name]]


@dataclass(frozen=True)
class Sample:
    """One measurement of one entrant."""

    rate: float
    """Tokens per second."""
    elsewhere: float | None
    """Share of the machine that other processes took meanwhile."""


@dataclass
class Race:
    """What the rounds gave, by measurement and entrant."""

    entrants: tuple[Entrant, ...]
    samples: dict[str, dict[str, list[Sample]]] = field(default_factory=dict)
    failures: dict[tuple[str, str], str] = field(default_factory=dict)
    """Why an entrant has no figure in a measurement."""
    versions: dict[str, str] = field(default_factory=dict)

    def rates(self, measurement: Measurement, entrant: str) -> list[float]:
        """Tokens per second, round by round; empty where it failed."""
        if (measurement.name, entrant) in self.failures:
            return []
        return [s.rate for s in self.samples.get(measurement.name, {}).get(entrant, [])]

    def fastest(self, measurement: Measurement, peer: str) -> Entrant | None:
        """The entrant that stands for a peer: the one with the highest median."""
        able = [e for e in self.entrants if e.peer == peer and self.rates(measurement, e.name)]
        return max(able, key=lambda e: spread(self.rates(measurement, e.name)).median, default=None)

    def ratio(self, measurement: Measurement, ours: str, peer: str) -> Measured:
        """How many times as fast we are as a peer: the median of the rounds' ratios."""
        mine = self.rates(measurement, ours)
        other = self.fastest(measurement, peer)
        if not mine or other is None:
            names = [ours] if not mine else [e.name for e in self.entrants if e.peer == peer]
            reasons = [
                f"{name}: {self.failures.get((measurement.name, name), 'not measured')}"
                for name in names
            ] or [f"{peer} does not take part in this run"]
            return Measured(None, "; ".join(reasons))
        theirs = self.rates(measurement, other.name)
        ratio = spread(ratios(mine, theirs))
        return Measured(
            ratio.median,
            f"median of {ratio.count} rounds, {ratio.low:.3g} to {ratio.high:.3g}; "
            f"{ours} {_tokens(spread(mine))}, {other.name} {_tokens(spread(theirs))} "
            f"({other.best[measurement.name]}){self._disturbance(measurement)}",
        )

    def table(self, ours: str) -> str:
        """Every median, and every ratio whether or not there is a goal for it."""
        rows = []
        for name, of in self.samples.items():
            for entrant, samples in of.items():
                if (name, entrant) not in self.failures:
                    rates = [sample.rate for sample in samples]
                    shown = f"{name:<9} {entrant:<40} {spread(rates).median:>7.0f} tokens/s"
                    if entrant != ours and (name, ours) not in self.failures:
                        mine = [sample.rate for sample in of[ours]]
                        shown += f"  {ours} is {spread(ratios(mine, rates)).median:.2f} x as fast"
                    rows.append(shown)
        return "\n".join(rows)

    def _disturbance(self, measurement: Measurement) -> str:
        shares = [_noise(s) for of in self.samples[measurement.name].values() for s in of]
        if max(shares) < _NOTICEABLE:
            return ""
        middle = spread(shares)
        return (
            f"; the machine was not quiet: other processes took {middle.median:.0%} of it "
            f"(up to {middle.high:.0%})"
        )


def _tokens(rate: Spread) -> str:
    return f"{rate.median:.4g} ({rate.low:.4g} to {rate.high:.4g}) tokens/s"


class Field:
    """The workers of a race: one process for each entrant and setting, started when needed."""

    def __init__(self, threads: int, say: Say) -> None:
        self.versions: dict[str, str] = {}
        self._threads, self._say = threads, say
        self._exits = ExitStack()
        self._workers: dict[tuple[str, str], Contender | ContenderError] = {}

    def worker(self, entrant: Entrant, setting: str) -> Contender:
        """A loaded worker, held still.

        Raises:
            ContenderError: it could not be loaded, now or earlier.
        """
        key = (entrant.name, setting)
        if key not in self._workers:
            self._workers[key] = self._start(entrant, setting)
        found = self._workers[key]
        if isinstance(found, ContenderError):
            raise found
        return found

    def _start(self, entrant: Entrant, setting: str) -> Contender | ContenderError:
        self._say(f"loading {entrant.name}")
        worker = Contender(
            entrant.name, entrant.module, python=entrant.python, threads=self._threads
        )
        self._exits.callback(worker.close)
        try:
            loaded = worker.ask(
                "load",
                path=entrant.path,
                threads=self._threads,
                options=dict(entrant.candidates[setting]),
            )
        except ContenderError as error:
            return error
        self.versions |= loaded["versions"]
        worker.hold()
        return worker

    def close(self) -> None:
        """End all workers."""
        self._exits.close()


@contextmanager
def field_of(threads: int, say: Say) -> Iterator[Field]:
    """A field whose workers end with the block."""
    workers = Field(threads, say)
    try:
        yield workers
    finally:
        workers.close()


def measure(worker: Contender, measurement: Measurement, prompts: Prompts, key: str) -> Sample:
    """Measure one thing once.

    A short call comes first: the process has been still, and its threads and weights must be
    where they are in a busy process. If others take a part of the machine meanwhile it is done
    again, up to three times, and the quietest one counts.

    Raises:
        ContenderError: the call failed, or its counts are wrong.
    """
    samples: list[Sample] = []
    while not samples or (_noise(samples[-1]) >= _NOTICEABLE and len(samples) < 3):
        for one in (_WARM_UP, measurement):
            place = f"{key} {one.name} {len(samples)}"
            made = prompts.make(place, one.prompts, one.prompt_tokens)
            with CpuUse(worker.pid) as use:
                answer = worker.ask("run", timeout=_PATIENCE, prompts=made, tokens=one.new_tokens)
            rate = one.rate(Run(**answer))
        samples.append(Sample(rate, use.elsewhere))
    worker.hold()
    return min(samples, key=_noise)


def _noise(sample: Sample) -> float:
    return sample.elsewhere or 0.0


def race(
    entrants: Sequence[Entrant],
    field: Field,
    prompts: Prompts,
    rounds: int,
    say: Say,
    measurements: Sequence[Measurement] = MEASUREMENTS,
) -> Race:
    """Measure all entrants in turn, ``rounds`` times; a round zero is thrown away.

    An entrant that fails is out of that measurement, and the others go on.
    """
    result = Race(tuple(entrants))
    for number in range(rounds + 1):
        for measurement in measurements:
            kept = result.samples.setdefault(measurement.name, {})
            shown = []
            for entrant in turns(entrants, number):
                place = (measurement.name, entrant.name)
                if place in result.failures:
                    continue
                try:
                    worker = field.worker(entrant, entrant.best[measurement.name])
                    sample = measure(worker, measurement, prompts, f"round {number}")
                except ContenderError as error:
                    result.failures[place] = str(error)
                    say(f"{entrant.name} is out of {measurement.name}: {error}")
                    continue
                if number:
                    kept.setdefault(entrant.name, []).append(sample)
                shown.append(f"{entrant.name} {sample.rate:.0f}")
            label = f"round {number} of {rounds}" if number else "warm-up"
            say(f"{label}, {measurement.name} (tokens/s): {', '.join(shown)}")
    result.versions = dict(field.versions)
    return result


def tune(
    entrant: Entrant,
    threads: int,
    prompts: Prompts,
    say: Say,
    rounds: int = 3,
    measurements: Sequence[Measurement] = MEASUREMENTS,
) -> dict[str, str]:
    """Find an entrant's best setting for each measurement: a race between its own settings.

    Returns:
        The setting with the highest median for each measurement; what it was before where nothing
        worked.
    """
    names = {f"{entrant.name} ({setting})": setting for setting in entrant.candidates}
    settings = [
        replace(entrant, name=name, best=dict.fromkeys((m.name for m in measurements), setting))
        for name, setting in names.items()
    ]
    with field_of(threads, say) as field:
        result = race(settings, field, prompts, rounds, say, measurements)
    best = dict(entrant.best)
    for measurement in measurements:
        fastest = result.fastest(measurement, entrant.peer)
        if fastest is not None:
            best[measurement.name] = names[fastest.name]
    say(result.table(f"{entrant.name} ({entrant.best[measurements[0].name]})"))
    say(f"{entrant.name}, best settings: {best}")
    return best
