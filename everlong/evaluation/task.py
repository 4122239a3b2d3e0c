"""What a task is: examples, how a model is asked them, and how its answers are judged."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from everlong.engine.llm import LLM
from everlong.errors import ConfigError
from everlong.evaluation.data import Data


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

    @abstractmethod
    def examples(self, data: Data, settings: Settings) -> Sequence[E]:
        """All examples, in an order that does not change.

        Raises:
            MissingDataError: the task's data is not there.
            ConfigError: the data is malformed.
        """

    @abstractmethod
    def answers(
        self, llm: LLM, examples: Sequence[E], data: Data, settings: Settings
    ) -> Iterator[Sample]:
        """Samples of ``examples``, in order, each as soon as it is known."""


def solved(demonstrations: Sequence[str], shots: int) -> str:
    """The text before a question: solved examples, an empty line after each."""
    if shots > len(demonstrations):
        raise ConfigError(f"shots is {shots}, and there are {len(demonstrations)} to show")
    return "".join(f"{text}\n\n" for text in demonstrations[:shots])
