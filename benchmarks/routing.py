"""Routed attention: what it loses, how much it reads, how much faster it is.

Usage: ``python benchmarks/routing.py --json``; see ``benchmarks/README.md``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

if __package__ in (None, ""):  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import (
    routing_kinds,
    routing_loss,
    routing_million,
    routing_retrieval,
    routing_speed,
)
from benchmarks.contender import add_peers_option, find_interpreter, interpreters
from benchmarks.memory import versions
from benchmarks.peers import llamacpp
from benchmarks.report import (
    Goal,
    Part,
    add_output_options,
    from_environment,
    run_parts,
    say,
)
from everlong.files import cache_dir

NAME = "routing"

GOALS: dict[str, Goal] = {
    "loss_increase_16k": Goal("<=", 0.01, "nats"),
    "loss_increase_32k": Goal("<=", 0.01, "nats"),
    "kv_read_share": Goal("<=", 8, "%"),
    "retrieval_vs_dense_8k": Goal(">=", 98, "%"),
    "retrieval_vs_dense_16k": Goal(">=", 98, "%"),
    "retrieval_vs_dense_32k": Goal(">=", 98, "%"),
    "worst_task_vs_dense": Goal(">=", 90, "%"),
    "prefill_32k_vs_dense": Goal(">=", 2, "x"),
    "prefill_128k_vs_dense": Goal(">=", 4, "x"),
    "decode_128k_vs_dense": Goal(">=", 4, "x"),
    "prefill_4k_vs_dense": Goal(">=", 0.98, "x"),
    "decode_1m_vs_8k_stored": Goal(">=", 80, "%"),
    "needle_1m_after_restart_vs_8k": Goal(">=", 95, "%"),
    "index_bytes_share": Goal("<=", 8, "%"),
}
"""Every claim of this benchmark, in the order of the report."""

PARTS = {
    "loss": routing_loss.CLAIMS,
    "retrieval": routing_retrieval.CLAIMS,
    "speed": routing_speed.CLAIMS,
    "million": routing_million.CLAIMS,
    "kinds": (),
}
"""Claims by the part that measures them."""

BOOKS = (
    "swift_gulliver_s_travels",
    "verne_twenty_thousand_leagues_under_the_sea",
    "franklin_the_autobiography_of_benjamin_franklin",
    "wells_war_of_the_worlds",
)
"""None of them was read when the budget was chosen."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit status."""
    options = _parser().parse_args(arguments)
    measure = partial(_measure, options=options)
    return run_parts(NAME, GOALS, PARTS, measure, options, seed=options.seed, versions=versions())


def _measure(part: str, options: argparse.Namespace) -> Part:
    match part:
        case "loss":
            return routing_loss.measure(
                _model(options), _books(options, options.books), options.tokens, say
            )
        case "retrieval":
            return routing_retrieval.measure(
                _model(options),
                _books(options, options.haystack_books),
                options.lengths,
                options.seed,
                options.retrieval_log,
                say,
            )
        case "speed":
            return routing_speed.measure(
                _model(options),
                _books(options, options.books),
                options.longest,
                find_interpreter(llamacpp.MODULE, interpreters(options.python)),
                say,
            )
        case "kinds":
            return {}, routing_kinds.measure(
                _model(options),
                _books(options, options.books)[0],
                _data(options) / "linguameta" / "linguameta.tsv",
                options.kinds_tokens,
                say,
            )
        case _:
            return routing_million.measure(
                _model(options),
                _books(options, options.haystack_books),
                options.million,
                options.million_folder or cache_dir() / "benchmarks" / "million",
                options.seed,
                say,
            )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="benchmarks/routing.py",
        description=__doc__.splitlines()[0] if __doc__ else None,
        epilog="example: python benchmarks/routing.py --json --parts speed",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add_output_options(parser)
    add = parser.add_argument
    add("--parts", nargs="+", choices=[*PARTS], default=[*PARTS], help="what is measured")
    add("--qwen", type=Path, help="Qwen2.5-0.5B as GGUF (default: $EVERLONG_QWEN_GGUF)")
    add("--data", type=Path, help="folder that holds books (default: $EVERLONG_DATA)")
    add("--books", nargs="+", default=BOOKS, help="files among them, without .txt.gz")
    add("--tokens", type=int, default=32768, help="longest text whose loss is compared")
    add("--longest", type=int, default=131072, help="longest text whose speed is compared")
    add_peers_option(parser)
    add("--seed", type=int, default=0, help="of what is planted in haystacks, and where")
    add("--lengths", type=int, nargs="+", default=routing_retrieval.LENGTHS, help="of haystacks")
    add(
        "--haystack-books",
        nargs="+",
        default=routing_retrieval.BOOKS,
        help="as --books: one for each haystack of a length",
    )
    add("--retrieval-log", type=Path, help="keeps answers for runs to come (default: in the cache)")
    add("--million", type=int, default=routing_million.TOKENS, help="tokens of the longest text")
    add("--million-folder", type=Path, help="its memory, 13 GB (default: in the cache)")
    add("--kinds-tokens", type=int, default=16384, help="of texts of different kinds")
    return parser


def _model(options: argparse.Namespace) -> Path:
    named: Path | None = options.qwen or from_environment("EVERLONG_QWEN_GGUF")
    if named is None:
        raise FileNotFoundError("no model; name one with --qwen or EVERLONG_QWEN_GGUF")
    return named


def _data(options: argparse.Namespace) -> Path:
    named: Path | None = options.data or from_environment("EVERLONG_DATA")
    if named is None:
        raise FileNotFoundError("no books; name their folder with --data or EVERLONG_DATA")
    return named


def _books(options: argparse.Namespace, names: Sequence[str]) -> list[Path]:
    return [_data(options) / "books" / f"{name}.txt.gz" for name in names]


if __name__ == "__main__":
    sys.exit(main())
