"""Curation's claims: speed and decisions beside datatrove, languages, exact repetition.

Usage: ``python benchmarks/curation.py --json``; see ``benchmarks/README.md``.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import (
    curation_augmentation,
    curation_duplicates,
    curation_gain,
    curation_harm,
    curation_language,
    curation_memory,
    curation_rules,
    curation_same,
)
from benchmarks.memory import versions
from benchmarks.report import (
    Goal,
    Part,
    add_output_options,
    add_part_options,
    from_environment,
    run_parts,
    say,
)
from everlong.curation.quality import evaluation as quality_evaluation
from everlong.curation.quality.classifier import QualityClassifier
from everlong.evaluation.provenance import ROOT
from everlong.files import cache_dir

NAME = "curation"

GOALS: dict[str, Goal] = {
    "docs_per_second_vs_datatrove": Goal(">=", 2, "x"),
    "decision_agreement": Goal(">=", 99.5, "%"),
    "peak_memory": Goal("<=", 1000, "MB"),
    "near_duplicate_recall": Goal(">=", 95, "%"),
    "false_merges": Goal("<=", 0.1, "%"),
    "language_accuracy": Goal(">=", 95, "%"),
    "languages_covered": Goal(">=", 100, "languages"),
    "toxicity_auc": Goal(">=", 0.95, ""),
    "harmless_flagged": Goal("<=", 2, "%"),
    "pii_recall": Goal(">=", 95, "%"),
    "pii_precision": Goal(">=", 95, "%"),
    "bytes_differing_between_runs": Goal("<=", 0, "bytes"),
}
"""Every claim of this benchmark, in the order of the report."""

_PARTS = {
    "rules": (curation_rules.SPEED, curation_rules.AGREEMENT),
    "memory": (curation_memory.CLAIM,),
    "duplicates": ("near_duplicate_recall", "false_merges"),
    "languages": ("language_accuracy", "languages_covered"),
    "toxicity": ("toxicity_auc", "harmless_flagged"),
    "hate": (),
    "personal": ("pii_recall", "pii_precision"),
    "same": ("bytes_differing_between_runs",),
    "quality": (),
    "gain": (),
    "augmentation": (),
}
"""What is measured together, with its claims."""
_LONG = ("memory", "gain", "augmentation")
_QUICK = ("languages", "toxicity", "hate", "personal", "quality")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit status."""
    options = _parser().parse_args(arguments)
    measure = partial(_measure, options=options)
    return run_parts(
        *(NAME, GOALS, _PARTS, measure, options),
        seed=options.seed,
        versions=versions(),
        recorded=_LONG,
        quick=_QUICK,
    )


def _measure(part: str, options: argparse.Namespace) -> Part:
    match part:
        case "rules":
            return curation_rules.measure(
                options.data, options.datatrove, options.rounds, options.seed, say
            )
        case "memory":
            return curation_memory.measure(options.data, options.gigabytes, options.seed, say)
        case "duplicates":
            return curation_duplicates.measure(options.data, options.pairs, options.seed, say)
        case "gain":
            return {}, curation_gain.measure(options.data, options.documents, options.seeds, say)
        case "augmentation":
            folder = cache_dir() / "benchmarks" / "augmentation"
            domains = options.domains
            return {}, curation_augmentation.measure(
                options.data, folder, domains, options.seeds, say
            )
        case "quality":
            found = quality_evaluation.measure(options.data, QualityClassifier())
            for name, area in found.auc.items():
                say(f"good against junk, {name}: area under the ROC curve {area:.3f}")
            return {}, asdict(found)
        case "languages":
            figures, every, confusions = curation_language.measure(options.data)
            return figures, {
                "languages": [vars(one) for one in every],
                "confusions": [vars(one) for one in confusions],
            }
        case "toxicity":
            return curation_harm.toxicity(options.data)
        case "hate":
            return {}, curation_harm.hate(options.data, say)
        case "personal":
            return curation_harm.personal_data(options.seed, say)
        case _:
            there = importlib.util.find_spec("ray") is not None
            return curation_same.measure(options.data, options.kills, there, options.seed, say)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="benchmarks/curation.py",
        description=__doc__.splitlines()[0] if __doc__ else None,
        epilog="example: python benchmarks/curation.py --json --parts languages same",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add_output_options(parser)
    add: Callable[..., Any] = parser.add_argument
    data = from_environment("EVERLONG_DATA") or ROOT.parent / "shared" / "data"
    add("--data", type=Path, default=data, help="folder of the public data")
    add_part_options(parser, _PARTS)
    add("--datatrove", default=sys.executable, help="interpreter that has datatrove, spacy, nltk")
    add("--rounds", type=int, default=5, help="turns of each side")
    sizes = "of the corpora whose curation is watched, in GB"
    add("--gigabytes", nargs="+", type=float, default=[0.1, 5], help=sizes)
    add("--pairs", type=int, default=1000, help="of passages, of each length")
    add("--documents", type=int, default=6000, help="of the crawl that models are trained on")
    add("--seeds", type=int, default=3, help="models of each kind")
    every = [*curation_augmentation.DOMAINS]
    add("--domains", nargs="+", choices=every, default=every, help="of `augmentation`")
    add("--kills", type=int, default=20, help="of the run that goes on")
    add("--seed", type=int, default=0, help="of what is drawn")
    return parser


if __name__ == "__main__":
    sys.exit(main())
