"""Quality rules beside datatrove's: documents a second, and how often both decide alike."""

from __future__ import annotations

import itertools
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import curation_documents
from benchmarks.contender import Contender
from benchmarks.report import Measured

SPEED, AGREEMENT = "docs_per_second_vs_datatrove", "decision_agreement"
_DOCUMENTS = 4_000
_PARTS = 8
"""A round is on one document of so many."""
_HOURS = 3_600.0
_WHAT = {"time": "extraction excluded", "time_pages": "extraction of pages included"}


def measure(
    data: Path, python: str, rounds: int, seed: int, say: Callable[[str], None]
) -> tuple[dict[str, Measured], dict[str, Any]]:
    """Both claims, and the single figures behind them.

    Args:
        data: folder of the public data.
        python: interpreter that has datatrove.
        rounds: in each, both are timed on the same documents, another one first each time.
        seed: of the documents that are drawn.
        say: told how far it is.
    """
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus.jsonl"
        count = curation_documents.write(data, corpus, _DOCUMENTS, seed)

        def begin(side: str, interpreter: str) -> Contender:
            return Contender(
                side,
                "benchmarks.peers.quality",
                python=interpreter,
                threads=1,
                arguments=(side, str(corpus)),
            )

        with begin("everlong", sys.executable) as ours, begin("datatrove", python) as theirs:
            sides = (ours, theirs)
            decided = []
            for side in sides:
                decided.append(side.ask("decide", timeout=_HOURS)["kept"])
                side.hold()
                say(f"{side.name} has decided on {count:,} documents")
            rates: dict[str, list[dict[str, float]]] = {"time": [], "time_pages": []}
            for number, (what, turns) in itertools.product(range(rounds), rates.items()):
                turns.append({})
                for side in sides[:: 1 if number % 2 else -1]:
                    told = side.ask(what, start=number % _PARTS, every=_PARTS, timeout=_HOURS)
                    side.hold()
                    turns[-1][side.name] = told["documents"] / told["seconds"]
                say(f"round {number + 1}, {_WHAT[what]}: {_told(turns[-1])}")
    return _figures(count, decided, rates)


def _told(rates: dict[str, float]) -> str:
    return ", ".join(f"{name} {rate:,.0f} documents a second" for name, rate in rates.items())


def _figures(
    count: int,
    decided: Sequence[dict[str, list[bool]]],
    rates: Mapping[str, Sequence[dict[str, float]]],
) -> tuple[dict[str, Measured], dict[str, Any]]:
    ours, theirs = decided
    agreed = {
        name: 100 * sum(map(lambda one, other: one == other, ours[name], theirs[name])) / count
        for name in ours
    }
    worst = min(agreed, key=lambda name: agreed[name])
    ratios, told = {}, []
    for what, turns in rates.items():
        own = sorted(one["everlong"] / one["datatrove"] for one in turns)
        typical = {name: median(one[name] for one in turns) for name in turns[0]}
        ratios[what] = median(own)
        told.append(
            f"{_WHAT[what]} {median(own):.1f} x ({own[0]:.1f} to {own[-1]:.1f}; {_told(typical)})"
        )
    return {
        SPEED: Measured(
            min(ratios.values()),
            f"four filters after one another, one thread: {'; '.join(told)}; the less of both, "
            f"medians of {len(rates['time'])} rounds in turn",
        ),
        AGREEMENT: Measured(
            agreed[worst],
            f"{worst}, the least of {', '.join(f'{n} {a:.2f} %' for n, a in agreed.items())}; "
            f"{count:,} documents, of which datatrove keeps {sum(theirs['all']):,}",
        ),
    }, {"agreed": agreed, "rates": dict(rates)}
