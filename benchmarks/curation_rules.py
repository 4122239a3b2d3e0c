"""Quality rules beside datatrove's: documents a second, and how often both decide alike."""

from __future__ import annotations

import itertools
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import curation_documents
from benchmarks.contender import Contender
from benchmarks.report import Measured
from benchmarks.rounds import ratios, spread

SPEED, AGREEMENT = "docs_per_second_vs_datatrove", "decision_agreement"
_DOCUMENTS = 4_000
_PARTS = 8
"""A round is on one document of so many."""
_HOURS = 3_600.0
_LESS_ALIKE = 0.01
"""By which Everlong's extraction may be worse for its speed to count."""
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
            pages: dict[str, Counter[str]] = {side.name: Counter() for side in sides}
            for number, (what, turns) in itertools.product(range(rounds), rates.items()):
                turns.append({})
                for side in sides[:: 1 if number % 2 else -1]:
                    told = side.ask(what, start=number % _PARTS, every=_PARTS, timeout=_HOURS)
                    side.hold()
                    turns[-1][side.name] = told["documents"] / told["seconds"]
                    if what == "time_pages":
                        pages[side.name] += Counter(told)
                say(f"round {number + 1}, {_WHAT[what]}: {_told(turns[-1])}")
            versions = theirs.ask("versions")
    figures, samples = _figures(count, decided, rates, pages)
    return figures, samples | {"versions": versions}


def _told(rates: dict[str, float]) -> str:
    return ", ".join(f"{name} {rate:,.0f} documents a second" for name, rate in rates.items())


def _figures(
    count: int,
    decided: Sequence[dict[str, list[bool]]],
    rates: Mapping[str, Sequence[dict[str, float]]],
    pages: Mapping[str, Counter[str]],
) -> tuple[dict[str, Measured], dict[str, Any]]:
    ours, theirs = decided
    agreed = {name: _agreed(ours[name], theirs[name], (True, False)) for name in ours}
    kept = {name: _agreed(ours[name], theirs[name], (True,)) for name in ours}
    worst = min(agreed, key=lambda name: agreed[name])
    found, told = {}, []
    for what, turns in rates.items():
        rates_of = {name: [one[name] for one in turns] for name in turns[0]}
        own = spread(ratios(rates_of["everlong"], rates_of["datatrove"]))
        typical = {name: median(every) for name, every in rates_of.items()}
        found[what] = own.median
        told.append(
            f"{_WHAT[what]} {own.median:.1f} x ({own.low:.1f} to {own.high:.1f}; {_told(typical)})"
        )
    alike = {name: one["alike"] / one["documents"] for name, one in pages.items()}
    empty = {name: one["empty"] for name, one in pages.items()}
    as_good = alike["everlong"] >= alike["datatrove"] - _LESS_ALIKE
    extraction = "; words of what is extracted beside those of the text, F1: " + ", ".join(
        f"{name} {share:.3f} ({empty[name]} empty)" for name, share in alike.items()
    )
    return {
        SPEED: Measured(
            min(found.values()) if as_good else None,
            f"four filters after one another, one thread: {'; '.join(told)}; the less of both, "
            f"medians of {len(rates['time'])} rounds in turn{extraction}",
        ),
        AGREEMENT: Measured(
            agreed[worst],
            f"{worst}, the least of {', '.join(f'{n} {a:.2f} %' for n, a in agreed.items())}; "
            f"{count:,} documents, of which datatrove keeps {sum(theirs['all']):,}; of those that "
            f"a filter of it keeps at least {min(kept.values()):.2f} %; texts in scripts without "
            "spaces between words are not among them",
        ),
    }, {"agreed": agreed, "agreed_on_kept": kept, "rates": dict(rates), "alike": alike}


def _agreed(ours: Sequence[bool], theirs: Sequence[bool], where: Sequence[bool]) -> float:
    """Share in per cent that both decide alike, of the documents that datatrove keeps or not."""
    both = [one == other for one, other in zip(ours, theirs, strict=True) if other in where]
    return 100 * sum(both) / len(both)
