"""Typed access to what a checkpoint says about its architecture."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from everlong.errors import CheckpointError
from everlong.model.config import RopeConfig

MAX_LAYERS = 4096
MAX_WIDTH = 1 << 24
MAX_POSITION = 1 << 31
"""Bounds on what a configuration may claim, before anything of that size is made."""


def shown(value: object) -> str:
    """A name or value out of a file, fit for one line of a message."""
    text = repr(value)
    return text if len(text) <= 100 else text[:97] + "..."


class Fields:
    """Named values from a file, each checked for its type and range when it is taken.

    A value of None counts as missing.

    Args:
        values: the values by name.
        where: the file they come from, for messages.
        prefix: put before every name.
    """

    def __init__(self, values: Mapping[str, Any], where: str, prefix: str = "") -> None:
        self._values = values
        self._where = where
        self._prefix = prefix

    def has(self, name: str) -> bool:
        return self._values.get(self._prefix + name) is not None

    def integer(self, name: str, default: int | None = None, *, most: int, least: int = 1) -> int:
        """A whole number; ``default`` where it is missing, which None forbids.

        Raises:
            CheckpointError: it is missing, has another type, or is out of range.
        """
        value = self._get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self._invalid(name, value, f"a whole number from {least} to {most}")
        return value

    def number(self, name: str, default: float | None = None, *, above: float = -math.inf) -> float:
        """A finite number greater than ``above``; see :meth:`integer`."""
        value = self._get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._invalid(name, value, "a number")
        if not (abs(value) < 1e300 and value > above):
            limit = "" if above == -math.inf else f" above {above:g}"
            raise self._invalid(name, value, f"a finite number{limit}")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """True or False; see :meth:`integer`."""
        value = self._get(name, default)
        if not isinstance(value, bool):
            raise self._invalid(name, value, "true or false")
        return value

    def text(self, name: str, default: str) -> str:
        """A string; see :meth:`integer`."""
        value = self._get(name, default)
        if not isinstance(value, str):
            raise self._invalid(name, value, "a string")
        return value

    def table(self, name: str) -> dict[str, Any]:
        """A JSON object; empty where it is missing."""
        value = self._get(name, {})
        if not isinstance(value, dict):
            raise self._invalid(name, value, "an object")
        return value

    def within(self, name: str, values: Mapping[str, Any]) -> Fields:
        """The fields of an object that is the value ``name`` here."""
        return Fields(values, f"{self._where}, {self._prefix}{name}")

    def invalid(self, name: str, allowed: str) -> CheckpointError:
        """An error for a value that cannot be for a reason that only the caller knows."""
        return self._invalid(name, self._values.get(self._prefix + name), allowed)

    def _get(self, name: str, default: Any) -> Any:
        value = self._values.get(self._prefix + name)
        if value is None:
            value = default
        if value is None:
            raise CheckpointError(f"{self._where} lacks {self._prefix}{name}")
        return value

    def _invalid(self, name: str, value: Any, allowed: str) -> CheckpointError:
        return CheckpointError(
            f"{self._where}: {self._prefix}{name} must be {allowed}, not {shown(value)}"
        )


def trained_window(fields: Fields, name: str, rope: RopeConfig) -> int:
    """The window in tokens that a model was made for.

    With yarn, published configurations state the window in ``name`` either before or after
    stretching; the stretched one is what the model is for.

    Raises:
        CheckpointError: it is missing or out of range.
    """
    stated = fields.integer(name, most=MAX_POSITION)
    if rope.scaling != "yarn":
        return stated
    stretched = rope.original_max_position * rope.factor
    if stretched > MAX_POSITION:
        raise fields.invalid(name, f"at most {MAX_POSITION} after stretching {rope.factor:g} times")
    return max(stated, int(stretched))
