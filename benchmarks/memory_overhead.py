"""What remembering costs while 16 streams are written: decoding with a memory and without."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.memory_store import emptied
from benchmarks.peers import everlong
from benchmarks.prompts import Prompts
from benchmarks.report import Measured
from benchmarks.rounds import ratios, spread
from benchmarks.speed import Entrant, Measurement, field_of, race
from everlong.evaluation.provenance import cores
from everlong.memory.ledger import Ledger

CLAIMS = ("decode_overhead",)

_LONG = Measurement("decode16", prompts=16, prompt_tokens=32, new_tokens=232)
"""Every stream fills four blocks of 64 tokens, as many as it does on average in so many."""
_OFF, _ON = "memory off", "memory on"


def measure(
    model: Path, folder: Path, rounds: int, say: Callable[[str], None]
) -> tuple[dict[str, Measured], dict[str, Any]]:
    """The claim, and the single measurements behind it.

    Args:
        model: what decodes.
        folder: an empty one; what is made in it is removed again.
        rounds: of both, in turn.
    """
    memory = folder / "memory"
    options = {_OFF: {"weights": "auto"}, _ON: {"weights": "auto", "memory": str(memory)}}
    entrants = [
        Entrant(
            name,
            name,
            everlong.__name__,
            sys.executable,
            str(model),
            {name: setting},
            {_LONG.name: name},
        )
        for name, setting in options.items()
    ]
    with emptied(memory):
        with field_of(cores(), say) as field:
            encoder = field.worker(entrants[0], _OFF)
            prompts = Prompts(0, lambda text: list(encoder.ask("encode", text=text)["ids"]))
            result = race(entrants, field, prompts, rounds, say, (_LONG,))
        ledger = Ledger(memory / "blocks" / "ledger.sqlite")
        written, _ = ledger.counts()
        ledger.close()
    on, off = (result.rates(_LONG, name) for name in (_ON, _OFF))
    samples = {
        name: [asdict(sample) for sample in of] for name, of in result.samples[_LONG.name].items()
    }
    if not on or not off:
        return {"decode_overhead": Measured(None, str(result.failures))}, samples
    least = (rounds + 1) * 16 * 4
    assert written >= least, f"{written} blocks were remembered of {least}"
    lost = spread([100 * (1 - ratio) for ratio in ratios(on, off)])
    return {
        "decode_overhead": Measured(
            lost.median,
            f"median of {lost.count} rounds in turn, {lost.low:.2g} to {lost.high:.2g} %; 16 "
            f"streams of {_LONG.new_tokens} tokens, SmolLM2-135M: with {spread(on)}, without "
            f"{spread(off)} tokens/s",
        )
    }, samples
