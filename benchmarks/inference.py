"""Everlong's inference beside OpenVINO GenAI, llama.cpp and transformers, on one machine.

Usage: ``python benchmarks/inference.py --json``; see ``benchmarks/README.md``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

if __package__ in (None, ""):  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.contender import (
    ContenderError,
    add_peers_option,
    find_interpreter,
    interpreters,
)
from benchmarks.loading import measure_loading
from benchmarks.peers import everlong, llamacpp, openvino, openvino_export, transformers
from benchmarks.perplexity import claim as perplexity_claim
from benchmarks.perplexity import measure_losses
from benchmarks.prompts import Prompts
from benchmarks.report import (
    Goal,
    Measured,
    add_output_options,
    compare,
    deliver,
    from_environment,
    say,
)
from benchmarks.speed import DECODE1, DECODE16, PREFILL, Entrant, Race, field_of, race, tune
from everlong.evaluation.provenance import ROOT, cores

NAME = "inference"

GOALS: dict[str, Goal] = {
    "prefill_vs_openvino": Goal(">=", 1.1, "x"),
    "decode1_vs_openvino": Goal(">=", 1.2, "x"),
    "decode16_vs_openvino": Goal(">=", 1.2, "x"),
    "prefill_vs_llamacpp": Goal(">=", 8, "x"),
    "decode1_vs_llamacpp": Goal(">=", 1.1, "x"),
    "decode16_vs_llamacpp": Goal(">=", 3, "x"),
    "prefill_vs_transformers": Goal(">=", 1.2, "x"),
    "decode16_vs_transformers": Goal(">=", 2, "x"),
    "load_first": Goal("<=", 3, "s"),
    "load_again": Goal("<=", 1, "s"),
    "rss_over_import_per_weight_byte": Goal("<=", 2.5, "x"),
    "qwen_prefill_vs_openvino": Goal(">=", 1.1, "x"),
    "qwen_decode1_vs_openvino": Goal(">=", 1.0, "x"),
    "qwen_decode16_vs_openvino": Goal(">=", 1.1, "x"),
    "int4_perplexity_increase": Goal("<=", 1, "%"),
    "qwen_int4_perplexity_increase": Goal("<=", 3, "%"),
}
"""Every claim of this benchmark; on SmolLM2-135M unless the name says qwen."""

PEERS: dict[str, ModuleType] = {
    "openvino": openvino,
    "llamacpp": llamacpp,
    "transformers": transformers,
}
PARTS = ("speed", "loading", "perplexity")
QUICK_WINDOWS = 16


@dataclass(frozen=True)
class Subject:
    """A model that is measured."""

    label: str
    prefix: str
    """Before the names of its claims."""
    path: Path | None
    missing: str
    """Why there is no path."""
    weights: str
    """How Everlong runs it in 4 bits."""
    exported: bool
    """Whether OpenVINO also runs an export of its own."""


_QWEN = "qwen_"  # before the names of claims on Qwen


@dataclass
class Found:
    """Everything a run gathers for its report."""

    measured: dict[str, Measured] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    samples: dict[str, Any] = field(default_factory=dict)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        found = _measure(options)
    except KeyboardInterrupt:
        say("interrupted; the workers have ended")
        return 130
    report = compare(NAME, GOALS, found.measured)
    deliver(report, options, seed=options.seed, versions=found.versions, samples=found.samples)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="benchmarks/inference.py",
        description=__doc__.splitlines()[0] if __doc__ else None,
        epilog="example: python benchmarks/inference.py --json --quick --qwen qwen.gguf",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add_output_options(parser)
    add = parser.add_argument
    add(
        "--quick",
        action="store_true",
        help="what fits in ten minutes: less text, only peers with goals",
    )
    add("--rounds", type=_at_least(5), default=5, help="rounds of each measurement, 5 or more")
    add("--threads", type=_at_least(1), default=cores(), help="threads of every contender")
    add("--seed", type=int, default=0, help="of the prompts")
    add("--model", type=Path, help="SmolLM2-135M as GGUF (default: what everlong pull brings)")
    add("--qwen", type=Path, help="Qwen2.5-0.5B as GGUF (default: $EVERLONG_QWEN_GGUF)")
    add("--data", type=Path, help="folder that holds wikitext2/test.txt (default: $EVERLONG_DATA)")
    add_peers_option(parser)
    add("--peers", nargs="*", choices=[*PEERS], default=[*PEERS], help="who takes part")
    add("--parts", nargs="+", choices=PARTS, default=[*PARTS], help="what is measured")
    add(
        "--tune",
        action="store_true",
        help="try every setting of every peer first, and use the fastest ones",
    )
    return parser


def _at_least(lowest: int) -> Any:
    def integer(text: str) -> int:
        value = int(text)
        if value < lowest:
            raise argparse.ArgumentTypeError(f"must be at least {lowest}, not {value}")
        return value

    return integer


def _measure(options: argparse.Namespace) -> Found:
    found = Found()
    subjects = (_smollm2(options.model), _qwen(options.qwen))
    parts: list[tuple[str, Any]] = [
        ("speed", _measure_speed),
        ("loading", _measure_loading),
        ("perplexity", _measure_perplexity),
    ]
    for part, measure in parts:
        if part not in options.parts:
            continue
        for subject in subjects:
            names = [n for n in _claims_of(subject) if n not in found.measured]
            if subject.path is None:
                reason: str | None = subject.missing
            else:
                reason = measure(subject, subject.path, options, found)
            if reason is not None:
                say(f"{subject.label}, {part}: {reason}")
                wanted = [n for n in names if _part_of(n) == part]
                found.measured |= {name: Measured(None, reason) for name in wanted}
    return found


def _claims_of(subject: Subject) -> list[str]:
    return [name for name in GOALS if name.startswith(_QWEN) == bool(subject.prefix)]


def _part_of(claim: str) -> str:
    if "_vs_" in claim:
        return "speed"
    return "perplexity" if "perplexity" in claim else "loading"


# What is measured. Each returns why it was not, or None.


def _measure_speed(
    subject: Subject, path: Path, options: argparse.Namespace, found: Found
) -> str | None:
    pythons = interpreters(options.python)
    entrants = [
        Entrant(
            "everlong",
            "everlong",
            everlong.__name__,
            sys.executable,
            str(path),
            everlong.CANDIDATES,
            dict.fromkeys((m.name for m in (PREFILL, DECODE1, DECODE16)), subject.weights),
        )
    ]
    absent: dict[str, str] = {}
    goals = {name.partition("_vs_")[2] for name in _claims_of(subject)}
    for peer in options.peers:
        if options.quick and peer not in goals:
            continue
        module = PEERS[peer]
        python = find_interpreter(module.MODULE, pythons)
        if python is None:
            absent[peer] = (
                f"{module.MODULE} is not installed; pip install 'everlong[bench]', or name an "
                "interpreter that has it with --python"
            )
            continue
        paths = {peer: str(path)}
        if peer == "openvino" and subject.exported:
            export = _openvino_export(path, pythons)
            if isinstance(export, Path):
                paths["openvino int4 export"] = str(export)
            else:
                say(f"no export for OpenVINO: {export}")
        entrants += [
            Entrant(name, peer, module.__name__, python, where, module.CANDIDATES, module.BEST)
            for name, where in paths.items()
        ]
    with field_of(options.threads, say) as field_:
        try:
            encoder = field_.worker(entrants[0], entrants[0].best[PREFILL.name])
        except ContenderError as error:
            return str(error)
        prompts = Prompts(options.seed, lambda text: list(encoder.ask("encode", text=text)["ids"]))
        if options.tune:
            entrants[1:] = [
                replace(e, best=tune(e, options.threads, prompts, say)) for e in entrants[1:]
            ]
        result = race(entrants, field_, prompts, options.rounds, say)
    say(f"{subject.label}\n{result.table('everlong')}")
    found.versions |= result.versions
    found.samples[f"{subject.label} speed"] = _speed_samples(result)
    for name in _claims_of(subject):
        measurement, _, peer = name.removeprefix(subject.prefix).partition("_vs_")
        if not peer:
            continue
        by_name = {m.name: m for m in (PREFILL, DECODE1, DECODE16)}
        if peer in absent:
            found.measured[name] = Measured(None, absent[peer])
        else:
            found.measured[name] = result.ratio(by_name[measurement], "everlong", peer)
    return None


def _speed_samples(result: Race) -> dict[str, Any]:
    return {
        "tokens_per_second": {
            measurement: {name: [asdict(s) for s in samples] for name, samples in of.items()}
            for measurement, of in result.samples.items()
        },
        "settings": {
            e.name: {m: {s: dict(e.candidates[s])} for m, s in e.best.items()}
            for e in result.entrants
        },
        "failures": {f"{name}, {m}": why for (m, name), why in result.failures.items()},
    }


def _measure_loading(
    subject: Subject, path: Path, options: argparse.Namespace, found: Found
) -> str | None:
    if subject.prefix:
        return None  # no claim on it
    try:
        claims, runs = measure_loading(path, subject.weights, options.rounds, say)
    except (OSError, RuntimeError) as error:
        return str(error)
    found.measured |= claims
    found.samples[f"{subject.label} loading"] = runs
    return None


def _measure_perplexity(
    subject: Subject, path: Path, options: argparse.Namespace, found: Found
) -> str | None:
    text = _wikitext(options.data)
    if isinstance(text, str):
        return text
    # What the engine runs by default, and integers made anew where that is something else.
    choices = list(dict.fromkeys(("float32", subject.weights, "int4")))
    most = QUICK_WINDOWS if options.quick else None
    try:
        losses = measure_losses(
            path, text.read_text(encoding="utf-8"), choices, most, options.threads, say
        )
    except ContenderError as error:
        return str(error)
    found.measured[f"{subject.prefix}int4_perplexity_increase"] = perplexity_claim(
        losses, subject.weights
    )
    found.samples[f"{subject.label} perplexity"] = {k: asdict(v) for k, v in losses.items()}
    return None


# What there is on this machine.


def _smollm2(given: Path | None) -> Subject:
    path, missing = given or from_environment("EVERLONG_SMOLLM2_GGUF"), ""
    if path is None:
        from everlong.checkpoint.catalog import resolve
        from everlong.errors import CheckpointError

        try:
            path = resolve("smollm2-135m")
        except CheckpointError as error:
            missing = str(error)
    return _checked(Subject("SmolLM2-135M", "", path, missing, weights="auto", exported=False))


def _qwen(given: Path | None) -> Subject:
    path = given or from_environment("EVERLONG_QWEN_GGUF")
    missing = "no Qwen checkpoint; give --qwen FILE.gguf or set EVERLONG_QWEN_GGUF"
    return _checked(Subject("Qwen2.5-0.5B", _QWEN, path, missing, weights="int4", exported=True))


def _checked(subject: Subject) -> Subject:
    if subject.path is None or subject.path.is_file():
        return subject
    return replace(subject, path=None, missing=f"there is no file {subject.path}")


def _wikitext(given: Path | None) -> Path | str:
    """The text for perplexity, or why there is none."""
    beside = ROOT.parent / "shared" / "data"
    folder = given or from_environment("EVERLONG_DATA") or beside
    path = folder / "wikitext2" / "test.txt"
    if path.is_file():
        return path
    return f"there is no {path}; give --data FOLDER with WikiText-2's test part in it"


def _openvino_export(file: Path, pythons: Sequence[str]) -> Path | str:
    """OpenVINO's int4 export of a GGUF file, made once; or why there is none."""
    from everlong.files import cache_dir

    stamp = file.stat()
    folder = cache_dir() / "benchmarks" / f"{file.stem}-{stamp.st_size}-openvino-int4"
    if folder.is_dir():
        return folder
    able = [
        python
        for python in pythons
        if all(find_interpreter(module, [python]) for module in openvino_export.MODULES)
    ]
    if not able:
        return f"no interpreter has {' and '.join(openvino_export.MODULES)}"
    say(f"exporting {file.name} for OpenVINO to {folder}")
    done = subprocess.run(
        [able[0], "-m", openvino_export.__name__, str(file.resolve()), str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return folder if done.returncode == 0 else f"the export failed: {done.stderr[-500:]}"


if __name__ == "__main__":
    sys.exit(main())
