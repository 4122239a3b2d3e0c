"""How fast training is beside other loops over the same model, and beside a matrix product."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.contender import Contender, find_interpreter
from benchmarks.report import Measured
from benchmarks.training_loops import WARM
from everlong.evaluation.provenance import ROOT

SMALL = {
    "vocab_size": 49152,
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_layers": 8,
    "num_heads": 8,
    "num_kv_heads": 4,
    "head_dim": 32,
    "max_position": 1024,
    "tied_head": True,
}
"""8 layers of width 256, with the vocabulary of SmolLM2, as in ``recipes/pretrain.yaml``."""

SPEC = {
    "vocab_size": 49152,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_layers": 128,
    "num_heads": 128,
    "num_kv_heads": 16,
    "head_dim": 8,
    "max_position": 512,
    "tied_head": True,
}
"""``recipes/spec-128.yaml`` with the vocabulary of SmolLM2."""


@dataclass(frozen=True)
class Amount:
    """How much is trained in a turn, and how often turns come."""

    sequences: int
    length: int
    steps: int
    rounds: int
    threads: int

    @property
    def tokens(self) -> int:
        """Of the timed steps of a turn."""
        return self.steps * self.sequences * self.length


Say = Callable[[str], None]
Found = tuple[dict[str, Measured], dict[str, Any]]


def small(
    pythons: Sequence[str], text: Path | None, tokenizer: str, amount: Amount, say: Say
) -> Found:
    """The small model by each loop."""
    given = {"shape": SMALL, "tokenizer": tokenizer}
    claims = {
        "small_vs_transformers_trainer": "transformers Trainer",
        "small_vs_plain_loop": "plain loop",
    }
    return _beside(claims, given, pythons, text, amount, say)


def spec(
    pythons: Sequence[str], text: Path | None, tokenizer: str, amount: Amount, say: Say
) -> Found:
    """The specification's depth and heads by the plain loop and by Everlong."""
    given = {"shape": SPEC, "tokenizer": tokenizer}
    return _beside({"spec128_vs_naive_loop": "plain loop"}, given, pythons, text, amount, say)


def lora(pythons: Sequence[str], text: Path | None, model: str, amount: Amount, say: Say) -> Found:
    """An adapter of a published model, beside transformers' Trainer with PEFT."""
    given = {"checkpoint": model, "rank": 16}
    claims = {"lora_vs_transformers_trainer": "transformers Trainer"}
    return _beside(claims, given, pythons, text, amount, say)


def share_of_product(text: Path | None, model: str, amount: Amount, say: Say) -> Found:
    """All weights of a published model: operations a second beside those of one matrix product."""
    given = {"checkpoint": model}
    shares, samples = [], []
    with _Loops({"everlong": sys.executable}, given, text, amount) as loops:
        for number in range(amount.rounds):
            told = loops.turn("everlong")
            shares.append(100 * told["flops"] / told["seconds"] / told["peak"])
            samples.append(told)
            say(f"round {number + 1}: {shares[-1]:.0f} % of {told['peak'] / 1e9:,.0f} GFLOP/s")
    rate = median(amount.tokens / one["seconds"] for one in samples)
    return {
        "share_of_bf16_matmul": Measured(
            median(shares),
            f"{rate:,.0f} tokens/s of {model}, all weights, {amount.sequences} sequences of "
            f"{amount.length:,}; median of {len(shares)} rounds ({min(shares):.0f} to "
            f"{max(shares):.0f} %), a 2048-cubed product in each",
        )
    }, {"rounds": samples}


def _beside(
    claims: Mapping[str, str],
    given: Mapping[str, Any],
    pythons: Sequence[str],
    text: Path | None,
    amount: Amount,
    say: Say,
) -> Found:
    """Tokens a second of Everlong and of the loops that claims name, in turn."""
    named = {"everlong": sys.executable}
    for loop in claims.values():
        found = sys.executable
        if loop == "transformers Trainer":
            found = find_interpreter("transformers", pythons) or ""
        if found:
            named[loop] = found
    rates: dict[str, list[float]] = {name: [] for name in named}
    with _Loops(named, given, text, amount) as loops:
        for number in range(amount.rounds):
            for name in named:
                rates[name].append(amount.tokens / loops.turn(name)["seconds"])
                say(f"round {number + 1}: {name}: {rates[name][-1]:,.0f} tokens/s")
    return {
        claim: _ratio(rates, loop)
        if loop in rates
        else Measured(None, "no interpreter has transformers; name one with --python")
        for claim, loop in claims.items()
    }, dict(rates)


class _Loops:
    """Worker processes, one for each loop; of which one works and the others are held still."""

    def __init__(
        self,
        named: Mapping[str, str],
        given: Mapping[str, Any],
        text: Path | None,
        amount: Amount,
    ) -> None:
        self._named, self._given, self._text, self._amount = named, given, text, amount
        self._folder = tempfile.TemporaryDirectory()
        self._workers: dict[str, Contender] = {}

    def __enter__(self) -> _Loops:
        text = Path(self._folder.name) / "text.txt"
        text.write_text(_text(self._text), encoding="utf-8")
        amount = self._amount
        try:
            for name, python in self._named.items():
                worker = Contender(
                    name,
                    "benchmarks.training_loops",
                    python=python,
                    threads=amount.threads,
                    arguments=(name,),
                )
                self._workers[name] = worker
                worker.ask(
                    "load",
                    timeout=600,
                    threads=amount.threads,
                    text=str(text),
                    sequences=amount.sequences,
                    length=amount.length,
                    **self._given,
                )
                worker.hold()
        except BaseException:
            self.__exit__()
            raise
        return self

    def turn(self, name: str) -> dict[str, Any]:
        """Steps of one loop; ``seconds`` of those that are timed, and what else it tells."""
        worker = self._workers[name]
        told = worker.ask("steps", timeout=3600, count=WARM + self._amount.steps)
        worker.hold()
        times = told.pop("times")
        return {"seconds": times[-1] - times[WARM - 1], **told}

    def __exit__(self, *_: object) -> None:
        for worker in self._workers.values():
            worker.close()
        self._folder.cleanup()


def _ratio(rates: Mapping[str, list[float]], loop: str) -> Measured:
    ratios = sorted(a / b for a, b in zip(rates["everlong"], rates[loop], strict=True))
    return Measured(
        median(ratios),
        f"{median(rates['everlong']):,.0f} tokens/s, {loop} {median(rates[loop]):,.0f}; median of "
        f"{len(ratios)} rounds in turn ({ratios[0]:.2f} to {ratios[-1]:.2f} x)",
    )


def _text(named: Path | None) -> str:
    """A text to train on; what it says has no influence on the speed."""
    paths = [named] if named else sorted((ROOT / "docs").glob("*.md"))
    return "\n".join(path.read_text(encoding="utf-8") for path in paths)
