"""Learning rates over the steps of a phase, as factors of the phase's own rate."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from everlong.errors import ConfigError


@dataclass(frozen=True)
class ScheduleConfig:
    """How the learning rate goes."""

    kind: Literal["wsd", "cosine", "plateau", "constant"] = "wsd"
    """``wsd``: warm-up, stable, decay (Hu et al., "MiniCPM", 2024, section 4); ``cosine``:
    half a cosine wave from the end of the warm-up to the end of the phase (Loshchilov and Hutter,
    2017); ``plateau``: lowered whenever the validation loss has stopped falling; ``constant``."""
    warmup: int = 0
    """Steps over which the rate rises in a line."""
    decay: float = 0.2
    """``wsd``: share of the phase, at its end, over which the rate falls in a line."""
    floor: float = 0.0
    """The lowest factor."""
    patience: int = 2
    """``plateau``: so many validations in a row that bring nothing lower the rate,"""
    shrink: float = 0.5
    """to so much of what it was."""
    better: float = 0.001
    """``plateau``: a loss lower than the best by so many nats is an improvement."""

    def __post_init__(self) -> None:
        if self.warmup < 0:
            raise ConfigError(f"warmup is 0 steps or more, not {self.warmup}")
        for name in ("decay", "floor"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is from 0 to 1, not {getattr(self, name)}")
        if not 0 < self.shrink < 1:
            raise ConfigError(f"shrink is between 0 and 1, not {self.shrink}")
        if self.patience < 1:
            raise ConfigError(f"patience is 1 or more, not {self.patience}")
        if not 0 <= self.better < math.inf:
            raise ConfigError(f"better is 0 nats or more, not {self.better}")


@dataclass
class Schedule:
    """The factor of each step of one phase.

    Args:
        config: how it goes.
        steps: of the phase.
    """

    config: ScheduleConfig
    steps: int
    lowered: float = field(default=1.0, init=False)
    """``plateau``: what is left of the factor."""
    best: float = field(default=math.inf, init=False)
    """The lowest validation loss."""
    waited: int = field(default=0, init=False)
    """Validations since then."""

    def __post_init__(self) -> None:
        if self.config.warmup > self.steps:
            raise ConfigError(
                f"a warm-up of {self.config.warmup} steps is longer than its phase of {self.steps}"
            )

    def factor(self, step: int) -> float:
        """Of step ``step`` of the phase, counted from 0: more than 0 but for a floor of 0."""
        c = self.config
        if step < c.warmup:
            return (step + 1) / c.warmup
        if c.kind == "constant":
            return 1.0
        if c.kind == "plateau":
            return max(c.floor, self.lowered)
        if c.kind == "cosine":
            done = (step - c.warmup) / max(1, self.steps - c.warmup)
            return c.floor + (1 - c.floor) * 0.5 * (1 + math.cos(math.pi * done))
        length = min(self.steps - c.warmup, round(c.decay * self.steps))
        left = self.steps - step
        return 1.0 if left > length else c.floor + (1 - c.floor) * left / (length + 1)

    def validated(self, loss: float) -> None:
        """Tell it a validation loss, in nats."""
        if loss < self.best - self.config.better:
            self.best, self.waited = loss, 0
            return
        self.waited += 1
        if self.config.kind == "plateau" and self.waited >= self.config.patience:
            self.lowered, self.waited = self.lowered * self.config.shrink, 0

    def state(self) -> dict[str, Any]:
        """Plain data from which :meth:`load` goes on."""
        return {"lowered": self.lowered, "best": self.best, "waited": self.waited}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a :meth:`state`."""
        self.lowered, self.best, self.waited = state["lowered"], state["best"], state["waited"]
