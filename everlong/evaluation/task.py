"""What a task is: a set of examples, and how an answer to one is judged."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from everlong.errors import ConfigError


@dataclass(frozen=True)
class Example:
    """A question whose answer is the likeliest of several texts.

    With one option only it is answered rightly when each of its tokens is the likeliest.
    """

    options: tuple[tuple[str, str], ...]
    """Context and continuation of each; the continuation is judged, given the context."""
    gold: int
    """Which option is right."""


@dataclass(frozen=True)
class LikelihoodTask:
    """A set of examples in a file of JSON lines.

    Prompts are part of the version: whoever changes one counts ``version`` up.
    """

    name: str
    version: int
    file: str
    """Inside the data folder; ``.gz`` is read, too."""
    read: Callable[[Mapping[str, Any]], Example]

    def examples(self, data: Path) -> list[Example]:
        """All examples, in the file's order.

        Args:
            data: folder with the data sets.

        Raises:
            ConfigError: the file is missing, or a line is not what the task expects.
        """
        path = data / self.file
        path = path if path.exists() else path.with_name(path.name + ".gz")
        if not path.exists():
            raise ConfigError(
                f"the task {self.name} needs {data / self.file} (or .gz), which is not there; "
                "name the folder that has it with --data"
            )
        found: list[Example] = []
        for number, line in enumerate(_lines(path), start=1):
            try:
                found.append(self.read(json.loads(line)))
            except (ValueError, KeyError, TypeError, IndexError) as error:
                raise ConfigError(
                    f"{path}, line {number}: not an example of {self.name} ({error!r})"
                ) from None
        if not found:
            raise ConfigError(f"{path} has no examples")
        return found


def choice(options: list[tuple[str, str]], gold: object) -> Example:
    """An example after a look at its parts.

    Raises:
        ValueError: there is no option, a text is missing, or ``gold`` is none of them.
    """
    if not all(isinstance(text, str) and text.strip() for _, text in options):
        raise ValueError("a continuation is empty or no text")
    if not isinstance(gold, int) or not 0 <= gold < len(options):
        raise ValueError(f"gold is {gold!r}, and there are {len(options)} options")
    return Example(tuple(options), gold)


def _lines(path: Path) -> Iterator[str]:
    try:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
            yield from (line for line in lines if line.strip())
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
