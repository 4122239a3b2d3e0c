"""A worker that generates nothing but counts, for testing how workers are driven."""

import os
import sys
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.worker import Run, serve_model


class Counter:
    """Counts tokens; ``rate`` is what it claims to reach, ``lost`` what it forgets to generate."""

    def __init__(self, path: str, *, threads: int, rate: float = 100.0, lost: int = 0) -> None:
        if path == "missing":
            raise FileNotFoundError(f"there is no {path}\n  (and a second line)")
        self._rate, self._lost = rate, lost

    def run(self, prompts: Sequence[Sequence[int]], tokens: int) -> Run:
        print("libraries print to standard output")
        work = tokens if tokens > 1 else len(prompts[0])
        seconds = len(prompts) * work / self._rate
        return Run(
            seconds,
            (tokens - 1) / self._rate if len(prompts) == 1 else None,
            [len(prompt) for prompt in prompts],
            [tokens - self._lost] * len(prompts),
        )

    def commands(self) -> dict[str, Any]:
        def die() -> dict[str, Any]:
            print("last words", file=sys.stderr, flush=True)
            os._exit(3)

        def sleep(seconds: float) -> dict[str, Any]:
            time.sleep(seconds)
            return {}

        return {"die": die, "sleep": sleep, "encode": lambda text: {"ids": [*text.encode()]}}


if __name__ == "__main__":
    serve_model(Counter, ["pytest", "no-such-package"], Counter.commands)
