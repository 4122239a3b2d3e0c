"""Whether one key can tell by the clock what another has asked: time to the first answer.

Two keys ask one server. In every round, in an order that changes, Ben asks something that nobody
asked before, something that Anna has just asked, and something that he has asked himself.

Usage: ``python benchmarks/isolation.py --json``; see ``benchmarks/README.md``.
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

if __package__ in (None, ""):  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.prompts import sentences
from benchmarks.report import Goal, Measured, add_output_options, compare, deliver, say
from benchmarks.rounds import ratios, spread, turns
from everlong.checkpoint.catalog import resolve
from everlong.evaluation.comparison import paired_test

NAME = "isolation"
PARTS = ("memory", "disk", "grammar")
GOALS: dict[str, Goal] = {
    f"{part}_{claim}": goal
    for part in PARTS
    for claim, goal in {
        "other_key_p": Goal(">=", 0.01, "p"),
        "own_key_rank": Goal(">=", 0.95, "share"),
    }.items()
}
"""By part: where what was asked is kept. ``p``: how likely differences like those between what Anna
and what nobody asked are by chance, by a paired test. ``rank``: how often what Ben asked before is
answered sooner than what nobody asked, over all pairs: it shows that the clock would tell."""

KINDS = NOBODY, OTHER, OWN = ("nobody", "other", "own")
ANNA, BEN = "anna", "ben"
_SENTENCES = 55
"""Of a prompt: about 600 tokens."""
_PAUSE = 0.05
"""Seconds before what is timed, for what was asked before to be written to the disk."""


@dataclass(frozen=True)
class Answer:
    """What one request took."""

    seconds: float
    """From sending it to the first event."""
    cached_tokens: int


class Client:
    """One key on a connection that stays open.

    Args:
        host, port: of the server.
        key: API key.
    """

    def __init__(self, host: str, port: int, key: str) -> None:
        self._connection = http.client.HTTPConnection(host, port, timeout=120)
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    def ask(self, body: Mapping[str, Any]) -> Answer:
        """Time until the first event of the answer, which has one token."""
        content = json.dumps(
            {
                "max_tokens": 1,
                "temperature": 0,
                "stream": True,
                "stream_options": {"include_usage": True},
                **body,
            }
        )
        begin = time.perf_counter()
        self._connection.request("POST", "/v1/completions", content, self._headers)
        reply = self._connection.getresponse()
        reply.readline()
        seconds = time.perf_counter() - begin
        rest = reply.read().decode()
        usage = re.search(r'"cached_tokens":(\d+)', rest)
        assert reply.status == 200, rest
        assert usage is not None, rest
        return Answer(seconds, int(usage[1]))

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class Server:
    """``everlong serve`` with two keys, in a process of its own.

    Args:
        model: what it serves.
        memory: folder of the memory.
    """

    def __init__(self, model: Path, memory: Path) -> None:
        program = "from everlong.cli import main; raise SystemExit(main())"
        settings = {"--port": "0", "--api-key": json.dumps([ANNA, BEN]), "--memory": str(memory)}
        words = [word for setting in settings.items() for word in setting]
        self._process = subprocess.Popen(
            [sys.executable, "-c", program, "serve", str(model), *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._process.stdout is not None
        log = ""
        for line in self._process.stdout:
            log += line
            if found := re.search(r"http://([0-9.]+):([0-9]+)/v1", line):
                break
        else:
            raise RuntimeError(f"the server did not start:\n{log}")
        # What it goes on to log is read, or it would wait for that.
        threading.Thread(target=deque, args=(self._process.stdout, 0), daemon=True).start()
        self.anna, self.ben = (Client(found[1], int(found[2]), key) for key in (ANNA, BEN))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.anna.close()
        self.ben.close()
        self._process.send_signal(signal.SIGTERM)
        self._process.wait()


class Fresh:
    """Requests of one kind, each about something else."""

    def __init__(self, seed: str, body: Callable[[str], Mapping[str, Any]]) -> None:
        self._seed, self._body, self._count = seed, body, 0

    def __call__(self) -> Mapping[str, Any]:
        self._count += 1
        return self._body(f"{self._seed} {self._count}")


def prompt(seed: str) -> Mapping[str, Any]:
    """A prompt that shares no block with another."""
    return {"prompt": sentences(seed, _SENTENCES)}


def grammar(seed: str) -> Mapping[str, Any]:
    """A short prompt whose answer is one of texts that nobody else would think of."""
    choice = [sentences(f"{seed} {number}", 1) for number in range(8)]
    return {"prompt": "word", "structured_outputs": {"choice": choice}}


Samples = dict[str, list[Answer]]
"""By kind, one a round."""


def at_once(server: Server, fresh: Fresh, rounds: int) -> Samples:
    """What was asked just before. Anna asks something before each of Ben's requests."""
    samples: Samples = {kind: [] for kind in KINDS}
    for number in range(rounds):
        for kind in turns(KINDS, number):
            asked = fresh()
            if kind == OWN:
                server.ben.ask(asked)
            server.anna.ask(asked if kind == OTHER else fresh())
            time.sleep(_PAUSE)
            samples[kind].append(server.ben.ask(asked))
    return samples


def after_a_restart(serve: Callable[[], Server], fresh: Fresh, rounds: int) -> Samples:
    """What was asked of an earlier process, and is on the disk only."""
    asked = {kind: [fresh() for _ in range(rounds)] for kind in KINDS}
    with serve() as server:
        for hers, his in zip(asked[OTHER], asked[OWN], strict=True):
            server.anna.ask(hers)
            server.ben.ask(his)
    samples: Samples = {kind: [] for kind in KINDS}
    with serve() as server:
        server.ben.ask(fresh())  # the first request of a process takes longer
        for number in range(rounds):
            for kind in turns(KINDS, number):
                time.sleep(_PAUSE)
                samples[kind].append(server.ben.ask(asked[kind][number]))
    return samples


def sooner(some: Sequence[float], others: Sequence[float]) -> float:
    """How often one of some is less than one of the others, over all pairs; equal ones count half.

    Source: Mann and Whitney 1947, U over the number of pairs.
    """
    wins = sum((a < b) + (a == b) / 2 for a in some for b in others)
    return wins / (len(some) * len(others))


def judged(samples: Samples) -> dict[str, Measured]:
    """The claims of one part."""
    seconds = {kind: [a.seconds for a in answers] for kind, answers in samples.items()}
    cached = {kind: sorted({a.cached_tokens for a in samples[kind]}) for kind in KINDS}
    shown = "; ".join(
        f"{kind}: {spread([1000 * s for s in seconds[kind]])} ms, cached tokens "
        f"{cached[kind][0]} to {cached[kind][-1]}"
        for kind in KINDS
    )
    differences = [a - b for a, b in zip(seconds[OTHER], seconds[NOBODY], strict=True)]
    ratio = spread(ratios(seconds[OTHER], seconds[NOBODY]))
    return {
        "other_key_p": Measured(
            paired_test(differences),
            f"other's over nobody's by round {ratio}; sooner in "
            f"{sooner(seconds[OTHER], seconds[NOBODY]):.3f} of all pairs; {shown}",
        ),
        "own_key_rank": Measured(sooner(seconds[OWN], seconds[NOBODY]), shown),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="benchmarks/isolation.py",
        description=__doc__.splitlines()[0] if __doc__ else None,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add_output_options(parser)
    parser.add_argument("--model", default="smollm2-135m", help="what is served")
    parser.add_argument("--rounds", type=int, default=100, help="requests of each kind")
    parser.add_argument("--quick", action="store_true", help="40 rounds")
    parser.add_argument("--seed", type=int, default=0, help="of the prompts")
    options = parser.parse_args(arguments)
    rounds = 40 if options.quick else options.rounds
    with tempfile.TemporaryDirectory(prefix="everlong-isolation-") as folder:
        samples = dict(measured(resolve(options.model), Path(folder), rounds, options.seed))
    figures = {
        f"{part}_{name}": figure
        for part, found in samples.items()
        for name, figure in judged(found).items()
    }
    deliver(
        compare(NAME, GOALS, figures),
        options,
        seed=options.seed,
        versions={"everlong": version("everlong"), "torch": version("torch")},
        samples={
            part: {
                kind: [(a.seconds, a.cached_tokens) for a in answers]
                for kind, answers in of.items()
            }
            for part, of in samples.items()
        },
    )
    return 0


def measured(model: Path, folder: Path, rounds: int, seed: int) -> Iterator[tuple[str, Samples]]:
    """The samples of each part."""

    def serve() -> Server:
        return Server(model, folder / "memory")

    with serve() as server:
        for part, body in (("memory", prompt), ("grammar", grammar)):
            fresh = Fresh(f"{seed} {part}", body)
            at_once(server, fresh, 3)  # warm-up
            say(f"{part}: {rounds} rounds")
            yield part, at_once(server, fresh, rounds)
    say(f"disk: {rounds} rounds")
    yield "disk", after_a_restart(serve, Fresh(f"{seed} disk", prompt), rounds)


if __name__ == "__main__":
    sys.exit(main())
