"""What a part of the harness found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tests.crash.life import Broken


@dataclass
class Outcome:
    """Of many crashes of one kind."""

    runs: int = 0
    problems: list[str] = field(default_factory=list)
    """Each begins with what it takes to see it again."""
    lost: int = 0
    """Blocks that had been promised and were gone."""
    slowest: float = 0.0
    """Seconds that opening took, at most."""

    @property
    def survived(self) -> int:
        """Crashes after which all was as it must be."""
        return self.runs - len(self.problems)

    def check(self, again: str, checked: Callable[[], float]) -> None:
        """One crash: note whether all is as it must be afterwards.

        Args:
            again: what it takes to see it again.
            checked: holds the memory to its promises; returns the seconds that opening took.
        """
        self.runs += 1
        try:
            self.slowest = max(self.slowest, checked())
        except Broken as error:
            self.problems.append(f"{again}: {error}")
            self.lost += error.lost
        except Exception as error:  # nothing else may be raised, whatever it is
            self.problems.append(f"{again}: {type(error).__name__}: {error}")

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(
            self.runs + other.runs,
            self.problems + other.problems,
            self.lost + other.lost,
            max(self.slowest, other.slowest),
        )
