"""How much of a training run each part of a corpus gives.

What there is most of is not what a model should read most of: small languages and sources get more
than their share by a temperature (Devlin et al., 2019, multilingual BERT; Conneau et al., 2020,
section 3.1), and no part is read so often that it is learned by heart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from everlong.errors import ConfigError


@dataclass(frozen=True)
class Mixture:
    """What is wanted."""

    by: Literal["source", "language"] = "source"
    """What the parts are."""
    temperature: float = 1
    """A part of n letters gets a share in proportion to n to the power of 1 / temperature: above 1
    small ones get more."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """Times this, for parts that are named."""
    letters: int | None = None
    """That the training run reads; None: as many as there are."""
    most_epochs: float = 4
    """No part is read more often: up to four times repeated text is nearly as good as new
    (Muennighoff et al., 2023). What would be read more often is given to the others."""

    def __post_init__(self) -> None:
        if not self.temperature > 0 or not self.most_epochs > 0:
            raise ConfigError(
                f"temperature and most_epochs are above 0, not {self.temperature} and "
                f"{self.most_epochs}"
            )
        if wrong := [f"{name}: {weight}" for name, weight in self.weights.items() if weight < 0]:
            raise ConfigError(f"weights are 0 or more, not {', '.join(wrong)}")
        if self.letters is not None and self.letters < 1:
            raise ConfigError(f"letters is 1 or more, not {self.letters}")


@dataclass(frozen=True)
class Part:
    """A part of the corpus."""

    name: str
    letters: int
    share: float
    """Of what a training run reads."""
    epochs: float
    """How often all of it is read."""


def name_of(mixture: Mixture, source: str, language: str | None) -> str:
    """The part that a document belongs to."""
    return source if mixture.by == "source" else language or "unknown"


def mixed(mixture: Mixture, letters: Mapping[str, int]) -> list[Part]:
    """The parts of a corpus, the largest first.

    Args:
        mixture: what is wanted.
        letters: of each part.

    Raises:
        ConfigError: it names parts that are not there, or leaves nothing.
    """
    there = {name: size for name, size in letters.items() if size}
    if unknown := sorted(set(mixture.weights) - set(there)):
        raise ConfigError(
            f"mixture.weights names {', '.join(unknown)}; parts are {', '.join(sorted(there))}"
        )
    wanted = {
        name: mixture.weights.get(name, 1) * size ** (1 / mixture.temperature)
        for name, size in there.items()
    }
    if not sum(wanted.values()):
        raise ConfigError("mixture.weights leaves nothing; give a part a weight above 0")
    total = mixture.letters or sum(there.values())
    read: dict[str, float] = {}
    free = {name: weight for name, weight in wanted.items() if weight}
    while free:
        left, weights = total - sum(read.values()), sum(free.values())
        full = [
            name
            for name, weight in free.items()
            if left * weight / weights > mixture.most_epochs * there[name]
        ]
        if not full:
            read |= {name: left * weight / weights for name, weight in free.items()}
            break
        for name in full:  # what these cannot give, the others do
            read[name] = mixture.most_epochs * there[name]
            del free[name]
    given = sum(read.values())
    parts = [
        Part(name, size, read.get(name, 0) / given, read.get(name, 0) / size)
        for name, size in there.items()
    ]
    return sorted(parts, key=lambda part: (-part.share, part.name))
