"""The inside of a worker process: loads a model once, then answers commands.

Only the standard library is used: workers run in whichever interpreter has the package they
measure. Commands and answers are JSON, one to a line: ``{"do": "run", ...}`` is answered with
``{"ok": {...}}`` or ``{"error": "..."}``.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol

Command = Callable[..., Mapping[str, Any]]
"""Takes the fields of a request and gives those of the answer."""


@dataclass(frozen=True)
class Run:
    """What one call to a contender took and gave."""

    seconds: float
    """From the call to the last token."""
    decode_seconds: float | None
    """From the first token to the last, for a single prompt."""
    prompt_tokens: list[int]
    """As the contender counts them, one for each prompt."""
    generated: list[int]
    """Tokens that came out, counted by the contender, one for each prompt."""
    cached_tokens: int = 0
    """Prompt tokens that were found instead of computed."""


class Model(Protocol):
    """A loaded contender."""

    def run(self, prompts: Sequence[Sequence[int]], tokens: int) -> Run:
        """Continue all prompts together by exactly ``tokens`` greedy tokens each."""


def serve_model(
    load: Callable[..., Model],
    packages: Sequence[str],
    more: Callable[[Any], Mapping[str, Command]] | None = None,
) -> None:
    """Serve a contender until standard input ends.

    Args:
        load: ``load(path, threads=..., **options)`` gives the loaded model.
        packages: distributions whose versions belong to the result.
        more: further commands for the loaded model.
    """
    commands: dict[str, Command] = {}

    def load_model(path: str, threads: int, options: dict[str, Any]) -> Mapping[str, Any]:
        model = load(path, threads=threads, **options)

        def run(prompts: Sequence[Sequence[int]], tokens: int) -> Mapping[str, Any]:
            return asdict(model.run(prompts, tokens))

        commands["run"] = run
        commands.update(more(model) if more else {})
        return {"versions": {name: package_version(name) for name in packages}}

    commands["load"] = load_model
    serve(commands)


def serve(commands: Mapping[str, Command]) -> None:
    """Answer commands from standard input until it ends."""
    _end_with_parent()
    # Ctrl-C reaches the whole process group; the parent decides when workers end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Libraries print to standard output: it becomes standard error, and answers have their own.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        for line in sys.stdin:
            request = json.loads(line)
            name = request.pop("do")
            try:
                answer: dict[str, Any] = {"ok": commands[name](**request)}
            except Exception as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            answers.write(json.dumps(answer) + "\n")
            answers.flush()


def package_version(package: str) -> str:
    """Of a distribution of this interpreter."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _end_with_parent() -> None:
    """Ask Linux to end this process with its parent, even while it is stopped."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
