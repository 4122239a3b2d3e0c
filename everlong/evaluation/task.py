"""What a task is: examples, how a model is asked them, and how its answers are judged."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from everlong.checkpoint.progress import ProgressCallback
from everlong.engine.config import EngineConfig
from everlong.engine.llm import LLM
from everlong.engine.loading import load
from everlong.errors import ConfigError
from everlong.evaluation.data import Data
from everlong.model.assemble import WeightsOption


@dataclass(frozen=True)
class Example:
    """One thing that is asked. Subclasses say what."""

    id: str
    """Unique in its task and the same in every run: answers are kept under it."""
    group: str
    """Language or part of the task that has a figure of its own; "" where there are none."""


E = TypeVar("E", bound=Example)


@dataclass(frozen=True)
class Sample:
    """One example as the model answered it."""

    id: str
    group: str
    scores: Mapping[str, float]
    """By metric, for instance ``{"accuracy": 1.0}``; the task's figure is their mean."""
    record: Mapping[str, Any]
    """What was asked, what came back, what was right: plain JSON, for reading."""


@dataclass(frozen=True)
class Settings:
    """What may be chosen about a run; part of the name under which answers are kept."""

    shots: int | None = None
    """Solved examples before each question; None: as many as the task's protocol says."""
    chat: bool = False
    """Questions that are answered in writing go through the model's chat template."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.shots is not None and self.shots < 0:
            raise ConfigError(f"shots is {self.shots}; give 0 or more")


@dataclass(frozen=True)
class Model:
    """What it takes to load a model; see :func:`everlong.load`."""

    path: str
    weights: WeightsOption
    engine: EngineConfig

    def load(self, memory: str | None = None, embedder: str | None = None) -> LLM:
        """The model, with a memory in a folder and a sentence encoder for its recall."""
        return load(
            self.path, weights=self.weights, engine=self.engine, memory=memory, embedder=embedder
        )


def _silent(what: str, done: int, of: int) -> None:
    pass


@dataclass(frozen=True)
class Run:
    """What a task is asked with."""

    llm: LLM
    """The model; other requests may run beside."""
    data: Data
    settings: Settings
    preparing: ProgressCallback = _silent
    """Told of what comes before the first answer, where that takes long."""
    model: Model | None = None
    """How ``llm`` was loaded, for tasks that load it again in a process of their own; None: they
    cannot be run."""


@dataclass(frozen=True)
class Task(ABC, Generic[E]):
    """A set of examples with a way to ask and to judge them.

    Prompts, shots and judging are part of the version: whoever changes one counts ``version`` up.
    """

    name: str
    version: int

    @property
    @abstractmethod
    def metrics(self) -> tuple[str, ...]:
        """What samples are scored by; the first is the task's figure."""

    @property
    def program(self) -> str:
        """A digest of the code that is measured, which decides the answers as the model does; empty
        where it is only the model."""
        return ""

    @abstractmethod
    def examples(self, data: Data, settings: Settings) -> Sequence[E]:
        """All examples, in an order that does not change.

        Raises:
            MissingDataError: the task's data is not there.
            ConfigError: the data is malformed.
        """

    def sample(self, examples: Sequence[E], count: int) -> Sequence[E]:
        """A part of the examples that is like all of them, in their order.

        Args:
            examples: all.
            count: how many; more than there are is all.
        """
        return fair_sample(examples, count)

    @abstractmethod
    def answers(self, run: Run, examples: Sequence[E]) -> Iterator[Sample]:
        """Samples of ``examples``, in order, each as soon as it is known."""


class Demonstrated(Protocol):
    """An example that can be shown with its answer."""

    @property
    def group(self) -> str:
        """See :class:`Example`."""

    @property
    def demonstration(self) -> str:
        """The example with its answer."""


D = TypeVar("D", bound=Demonstrated)


def with_shots(every: Sequence[D], shown: Sequence[D] | None, shots: int) -> list[tuple[D, str]]:
    """What is asked, each with the text that comes before it: solved examples of its own part.

    Args:
        every: all examples.
        shown: examples to show, such as a training set; a part that has none there is shown those
            of all parts. None: the last of each part are shown, and not asked.
        shots: how many; each is followed by an empty line.

    Raises:
        ConfigError: there are not so many to show.
    """
    if not shots:
        return [(example, "") for example in every]
    parts: dict[str, list[D]] = {}
    for example in reversed(every) if shown is None else shown:
        part = parts.setdefault(example.group, [])
        if len(part) < shots:
            part.append(example)
    first = list(shown or ())[:shots]
    before: dict[str, str] = {}
    for group in {example.group for example in every}:
        chosen = parts.get(group, first)
        if len(chosen) < shots:
            raise ConfigError(f"shots is {shots}, and there are {len(chosen)} examples to show")
        before[group] = "".join(f"{example.demonstration}\n\n" for example in chosen)
    kept = {id(e) for part in parts.values() for e in part} if shown is None else set()
    return [(e, before[e.group]) for e in every if id(e) not in kept]


def fair_sample(examples: Sequence[E], count: int) -> list[E]:
    """So many from every group, as evenly as can be, drawn by the hash of their ids.

    Published files are often sorted by what is right, so their beginnings are no samples.
    """

    def drawn(example: E) -> bytes:
        return hashlib.blake2b(example.id.encode(), digest_size=8).digest()

    chosen = {example.id for example in spread(sorted(examples, key=drawn))[:count]}
    return [example for example in examples if example.id in chosen]


def spread(examples: Sequence[E]) -> list[E]:
    """The examples in an order whose beginning is a fair sample of all groups: the first of each
    group, the second of each, and so on."""
    seen: dict[str, int] = {}
    ranked = []
    for example in examples:
        rank = seen[example.group] = seen.get(example.group, -1) + 1
        ranked.append((rank, example))
    return [example for _, example in sorted(ranked, key=lambda pair: pair[0])]
