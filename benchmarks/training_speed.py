"""How fast training is beside other loops over the same model, and beside a matrix product."""

from __future__ import annotations

import itertools
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.contender import Contender, find_interpreter
from benchmarks.cpu_use import CpuUse
from benchmarks.report import Measured
from benchmarks.rounds import ratios, spread, turns
from benchmarks.training_loops import WARM
from everlong.config import load_config
from everlong.evaluation.provenance import ROOT
from everlong.tokenizer import train_tokenizer
from everlong.training.recipe import Recipe

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
_NOTICEABLE = 0.05
"""Share of the machine that others may take of a turn."""
_TRIES = 3
Found = tuple[dict[str, Measured], dict[str, Any]]


def small(
    pythons: Sequence[str], text: Path | None, tokenizer: str, amount: Amount, say: Say
) -> Found:
    """The small model by each loop; of the plain one, as it is and compiled, the faster counts."""
    given = {"shape": SMALL, "tokenizer": tokenizer}
    claims = {
        "small_vs_transformers_trainer": ("transformers Trainer",),
        "small_vs_plain_loop": ("plain loop", "plain loop, compiled"),
    }
    return _beside(claims, given, pythons, text, amount, say)


def spec(pythons: Sequence[str], text: Path | None, amount: Amount, say: Say) -> Found:
    """The recipe of the specification's depth and heads, by the plain loop and by Everlong."""
    recipe = load_config(Recipe, ROOT / "recipes" / "spec-128.yaml")
    assert recipe.model.shape is not None
    shape = {name: getattr(recipe.model.shape, name) for name in (*SMALL, "residual")}
    with tempfile.TemporaryDirectory() as folder:
        train_tokenizer([_text(text)], shape["vocab_size"]).save(Path(folder))
        given = {"shape": shape, "tokenizer": folder}
        claims = {"spec128_vs_naive_loop": ("plain loop",)}
        return _beside(claims, given, pythons, text, amount, say)


def lora(pythons: Sequence[str], text: Path | None, model: str, amount: Amount, say: Say) -> Found:
    """An adapter of a published model, beside transformers' Trainer with PEFT."""
    given = {"checkpoint": model, "rank": 16}
    claims = {"lora_vs_transformers_trainer": ("transformers Trainer",)}
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
            f"{max(shares):.0f} %), a 2048-cubed product behind the steps of each",
        )
    }, {"rounds": samples, "versions": loops.versions}


def _beside(
    claims: Mapping[str, Sequence[str]],
    given: Mapping[str, Any],
    pythons: Sequence[str],
    text: Path | None,
    amount: Amount,
    say: Say,
) -> Found:
    """Tokens a second of Everlong and of the loops that claims name, in turn.

    Args:
        claims: with the loops that each is about, of which the fastest counts.
        given: what they train.
        pythons: interpreters that may have transformers.
        text: that they train on.
        amount: of it.
        say: told how far it is.
    """
    named = {"everlong": sys.executable}
    for loop in dict.fromkeys(itertools.chain.from_iterable(claims.values())):
        found = sys.executable
        if loop == "transformers Trainer":
            needs = "peft" if "rank" in given else "transformers"
            found = find_interpreter(needs, pythons) or ""
        if found:
            named[loop] = found
    turned: dict[str, list[dict[str, Any]]] = {name: [] for name in named}
    with _Loops(named, given, text, amount) as loops:
        for number in range(amount.rounds):
            for name in turns([*named], number):
                told = loops.turn(name)
                rate = amount.tokens / told["seconds"]
                # With the peak, where it is told: a busy host makes products slower than the rest.
                kept = {what: told[what] for what in ("elsewhere", "peak") if what in told}
                turned[name].append({"tokens_per_second": rate, **kept})
                say(f"round {number + 1}: {name}: {rate:,.0f}")
    rates = {name: [one["tokens_per_second"] for one in told] for name, told in turned.items()}
    measured = {}
    for claim, beside in claims.items():
        there = [loop for loop in beside if loop in rates]
        measured[claim] = (
            _ratio(rates, max(there, key=lambda loop: median(rates[loop])))
            if there
            else Measured(None, "no interpreter has what it needs; name one with --python")
        )
    return measured, {"rounds": turned, "versions": loops.versions}


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
        self.versions: dict[str, Any] = {}
        """Of packages, by loop."""

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
                told = worker.ask(
                    "load",
                    timeout=600,
                    threads=amount.threads,
                    text=str(text),
                    sequences=amount.sequences,
                    length=amount.length,
                    **self._given,
                )
                self.versions[name] = told["versions"]
                worker.hold()
        except BaseException:
            self.__exit__()
            raise
        return self

    def turn(self, name: str) -> dict[str, Any]:
        """Steps of one loop: ``seconds`` of those that are timed, and what else it tells.

        If others take a part of the machine meanwhile they are done again, up to three times, and
        the quietest turn counts; ``elsewhere`` is their share.
        """
        worker, tries = self._workers[name], list[dict[str, Any]]()
        while not tries or (tries[-1]["elsewhere"] > _NOTICEABLE and len(tries) < _TRIES):
            with CpuUse(worker.pid) as use:
                told = worker.ask("steps", timeout=3600, count=WARM + self._amount.steps)
            times = told.pop("times")
            seconds = times[-1] - times[WARM - 1]
            tries.append({"seconds": seconds, "elsewhere": use.elsewhere or 0.0, **told})
        worker.hold()
        return min(tries, key=lambda one: float(one["elsewhere"]))

    def __exit__(self, *_: object) -> None:
        for worker in self._workers.values():
            worker.close()
        self._folder.cleanup()


def _ratio(rates: Mapping[str, Sequence[float]], loop: str) -> Measured:
    found = spread(ratios(rates["everlong"], rates[loop]))
    return Measured(
        found.median,
        f"{median(rates['everlong']):,.0f} tokens/s, {loop} {median(rates[loop]):,.0f}; median of "
        f"{found.count} rounds in turn ({found.low:.2f} to {found.high:.2f} x)",
    )


def _text(named: Path | None) -> str:
    """A text to train on; what it says has no influence on the speed."""
    paths = [named] if named else sorted((ROOT / "docs").glob("*.md"))
    return "\n".join(path.read_text(encoding="utf-8") for path in paths)
