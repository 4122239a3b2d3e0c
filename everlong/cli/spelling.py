"""Command lines as people write them, turned into what the parser reads, and back in its help."""

from __future__ import annotations

import re
from argparse import HelpFormatter
from collections.abc import Collection, Sequence

from jsonargparse import ArgumentParser

_SWITCHES = (
    *("--no-memory", "--yes", "--everything", "--as-json", "--resume", "--whole"),
    *("--deterministic", "--download"),
)
"""Options that may stand without a value, which is then true."""


def as_parsed(arguments: Sequence[str], commands: Collection[str]) -> list[str]:
    """Arguments as the parser spells them: ``eval compare`` and ``memory list`` are commands.

    Args:
        arguments: of the command line.
        commands: that there are.
    """
    words = list(arguments)
    if words[:2] == ["curate", "--reproduce"]:
        words[1] = "reproduce"
    if "-".join(words[:2]) in commands:
        words[:2] = ["-".join(words[:2])]
    elif words[:1] == ["memory"]:
        words[0] = "memory-list"
    elif words[:1] == ["chat"] and len(words) > 1 and not words[1].startswith("-"):
        words[1:2] = ["--model", words[1]]  # a positional argument must be given, an option may
    parsed = []
    for word, following in zip(words, [*words[1:], ""], strict=True):
        alone = word in _SWITCHES and following.lower() not in ("true", "false")
        parsed.append(_with_underscores(f"{word}=true" if alone else word))
    return parsed


def _with_underscores(argument: str) -> str:
    """``--max-tokens=3`` as the parser spells it, ``--max_tokens=3``."""
    option, equals, value = argument.partition("=")
    if re.fullmatch(r"--[a-z][a-z0-9_-]*(\..*)?", option):
        name, dot, key = option[2:].partition(".")
        option = "--" + name.replace("-", "_") + dot + key
    return option + equals + value


class DashedParser(ArgumentParser):
    """Shows options with dashes; either spelling is understood."""

    def format_help(self, formatter: HelpFormatter | None = None) -> str:
        """The help text."""
        shown = super().format_help() if formatter is None else super().format_help(formatter)
        return re.sub(r"--[a-z_]+", lambda m: m[0].replace("_", "-"), shown)
