"""Training's claims: speed beside other loops, stability, exact resumption, plans.

Usage: ``python benchmarks/training.py --json``; see ``benchmarks/README.md``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

if __package__ in (None, ""):  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.contender import Contender, add_peers_option, find_interpreter, interpreters
from benchmarks.memory import versions
from benchmarks.report import Goal, Measured, add_output_options, compare, deliver, say
from everlong.evaluation.provenance import ROOT

NAME = "training"

GOALS: dict[str, Goal] = {
    "small_vs_transformers_trainer": Goal(">=", 1.5, "x"),
    "small_vs_plain_loop": Goal(">=", 1.2, "x"),
    "lora_vs_transformers_trainer": Goal(">=", 1.5, "x"),
    "share_of_bf16_matmul": Goal(">=", 60, "%"),
    "spec128_vs_naive_loop": Goal(">=", 3, "x"),
    "spec128_unrecovered_spikes": Goal("<=", 0, "spikes"),
    "spec256_unrecovered_spikes": Goal("<=", 0, "spikes"),
    "quickstart_minutes": Goal("<=", 10, "min"),
    "quickstart_loss_below_baseline": Goal(">=", 0.1, "nats"),
    "resume_bit_differences": Goal("<=", 0, "bits"),
    "growth_logit_difference": Goal("<=", 1e-5, ""),
    "plan_error": Goal("<=", 15, "%"),
}
"""Every claim of this benchmark, in the order of the report."""

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

_LOOPS = {
    "small_vs_transformers_trainer": "transformers Trainer",
    "small_vs_plain_loop": "plain loop",
}
_WARM = 2
"""Steps of each turn that are not timed."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit status."""
    options = _parser().parse_args(arguments)
    measured = {name: Measured(None, "not built yet") for name in GOALS}
    measured |= {name: Measured(None, "not asked for in this run") for name in _LOOPS}
    samples: dict[str, Any] = {}
    if "small" in options.parts:
        try:
            found, samples["small"] = _small(options)
            measured |= found
        except KeyboardInterrupt:
            say("interrupted")
            return 130
    report = compare(NAME, GOALS, measured)
    deliver(report, options, seed=0, versions=versions(), samples=samples)
    return 0


def _small(options: argparse.Namespace) -> tuple[dict[str, Measured], dict[str, Any]]:
    """Tokens a second of the small model by each loop, in turn."""
    pythons = interpreters(options.python)
    own = dict.fromkeys(("everlong", "plain loop"), sys.executable)
    found = find_interpreter("transformers", pythons)
    named = own if found is None else own | {"transformers Trainer": found}
    rates: dict[str, list[float]] = {name: [] for name in named}
    workers: dict[str, Contender] = {}
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text.txt"
        text.write_text(_text(options.text), encoding="utf-8")
        try:
            for name, python in named.items():
                workers[name] = Contender(
                    name,
                    "benchmarks.training_loops",
                    python=python,
                    threads=options.threads,
                    arguments=(name,),
                )
                workers[name].ask(
                    "load",
                    threads=options.threads,
                    shape=SMALL,
                    text=str(text),
                    tokenizer=options.tokenizer,
                    sequences=options.sequences,
                    length=options.length,
                )
                workers[name].hold()
            for number in range(options.rounds):
                for name, worker in workers.items():
                    count = _WARM + options.steps
                    times = worker.ask("steps", timeout=1800, count=count)["times"]
                    worker.hold()
                    seconds = times[-1] - times[_WARM - 1]
                    rates[name].append(options.steps * options.sequences * options.length / seconds)
                    say(f"round {number + 1}: {name}: {rates[name][-1]:,.0f} tokens/s")
        finally:
            for worker in workers.values():
                worker.close()
    return {
        claim: _ratio(rates, loop)
        if loop in rates
        else Measured(None, "no interpreter has transformers; name one with --python")
        for claim, loop in _LOOPS.items()
    }, rates


def _ratio(rates: dict[str, list[float]], loop: str) -> Measured:
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="benchmarks/training.py",
        description=__doc__.splitlines()[0] if __doc__ else None,
        epilog="example: python benchmarks/training.py --json --parts small",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add_output_options(parser)
    add_peers_option(parser)
    add: Callable[..., Any] = parser.add_argument
    add("--parts", nargs="+", choices=["small"], default=["small"], help="what is measured")
    add("--text", type=Path, help="what is trained on (default: the project's documentation)")
    add("--tokenizer", default="smollm2-135m", help="name of the model whose it is")
    add("--sequences", type=int, default=16, help="of a step")
    add("--length", type=int, default=256, help="tokens of a sequence")
    add("--steps", type=int, default=6, help="that are timed in a turn")
    add("--rounds", type=int, default=5, help="turns of each loop")
    add("--threads", type=int, default=2, help="of each loop")
    return parser


if __name__ == "__main__":
    sys.exit(main())
