"""Training's claims: speed beside other loops, stability, exact resumption, plans.

Usage: ``python benchmarks/training.py --json``; see ``benchmarks/README.md``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import training_checks, training_depth, training_speed, training_stages
from benchmarks.contender import add_peers_option, interpreters
from benchmarks.memory import versions
from benchmarks.report import (
    Goal,
    Part,
    add_output_options,
    add_part_options,
    run_parts,
    say,
)
from everlong.evaluation.provenance import cores
from everlong.files import cache_dir

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

_PARTS = {
    "small": ("small_vs_transformers_trainer", "small_vs_plain_loop"),
    "lora": ("lora_vs_transformers_trainer",),
    "product": ("share_of_bf16_matmul",),
    "naive": ("spec128_vs_naive_loop",),
    "resume": ("resume_bit_differences",),
    "growth": ("growth_logit_difference",),
    "plan": ("plan_error",),
    "quickstart": ("quickstart_minutes", "quickstart_loss_below_baseline"),
    "norms": (),
    "spec": ("spec128_unrecovered_spikes", "spec256_unrecovered_spikes"),
}
"""What is measured together, in the order in which it is; the last two take hours."""

_LONG = ("norms", "spec")
_QUICK = ("small", "product", "naive")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit status."""
    options = _parser().parse_args(arguments)
    measure = partial(_measure, options=options)
    options.rounds = options.rounds or (2 if options.quick else 5)
    return run_parts(
        *(NAME, GOALS, _PARTS, measure, options),
        seed=options.seed,
        versions=versions(),
        recorded=_LONG,
        quick=_QUICK,
    )


def _measure(part: str, options: argparse.Namespace) -> Part:
    def amount(sequences: int, length: int, steps: int) -> training_speed.Amount:
        return training_speed.Amount(
            options.sequences or sequences,
            options.length or length,
            options.steps or steps,
            options.rounds,
            options.threads,
        )

    pythons = interpreters(options.python)
    named = (pythons, options.text, options.model)
    seeds = range(options.seed, options.seed + options.seeds)
    deep = training_depth.DeepRuns(options.runs, options.earlier, say)
    match part:
        case "small":
            return training_speed.small(*named, amount(16, 256, 6), say)
        case "lora":
            return training_speed.lora(*named, amount(1, 1024, 4), say)
        case "product":
            return training_speed.share_of_product(*named[1:], amount(4, 1024, 3), say)
        case "naive":
            return training_speed.spec(pythons, options.text, amount(2, 256, 3), say)
        case "resume":
            return training_checks.resume(options.kills, 60, options.seed, say)
        case "growth":
            return training_checks.growth(options.model, options.grown_steps, say)
        case "plan":
            return training_checks.planned(say)
        case "quickstart":
            return training_stages.quickstart(
                options.baseline_batches, options.baseline_rates, options.threads, say
            )
        case "norms":
            return training_depth.norms(deep, seeds, options.norm_rates)
        case _:
            return training_depth.spec(deep, seeds)


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
    add_part_options(parser, _PARTS)
    add("--text", type=Path, help="what loops train on (default: the project's documentation)")
    add("--model", default="smollm2-135m", help="published model that is trained and grown")
    add("--sequences", type=int, help="of a step of a loop (default: as the part has it)")
    add("--length", type=int, help="tokens of a sequence, likewise")
    add("--steps", type=int, help="that are timed in a turn, likewise")
    add("--rounds", type=int, help="turns of each loop (default: 5, with --quick 2)")
    add("--threads", type=int, default=cores(), help="of each loop")
    add("--kills", type=int, default=20, help="of the run that goes on")
    add("--grown-steps", type=int, default=200, help="of the grown model")
    add("--baseline-batches", nargs="+", type=int, default=[8, 32], help="and its sequences a step")
    add("--baseline-rates", nargs="+", type=float, default=[1e-3, 3e-3], help="of the plain GPT-2")
    add("--seed", type=int, default=0, help="of what is drawn")
    add("--seeds", type=int, default=3, help="of deep runs, from --seed on")
    add("--norm-rates", nargs="+", type=float, default=[1e-3], help="learning rates of `norms`")
    default = cache_dir() / "benchmarks" / "training"
    add(
        "--runs", type=Path, default=default, help="folder of deep runs; they go on where they were"
    )
    add(
        "--earlier",
        type=Path,
        nargs="+",
        default=[],
        help="results of this benchmark whose deep runs need not run again",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
