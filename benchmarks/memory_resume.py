"""Going on with a long session after a restart, beside reading it again.

Every figure is of a fresh process that has loaded its model. The session's blocks lie in a memory
that an earlier process wrote. *Warm*: the files are in the system's page cache; *cold*: they were
dropped from it. What is read again is read without a memory.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

from benchmarks.contender import ask_once
from benchmarks.memory_store import emptied, forget_pages
from benchmarks.prompts import sentences
from benchmarks.report import Measured
from benchmarks.rounds import Spread, ratios, spread

CLAIMS = ("resume_warm_vs_cold_prefill", "resume_cold_cache_vs_cold_prefill")

_BLOCK = 64
_TAILS = (0, 9, 18, 27, 36, 45, 54, 63)
"""Tokens after the last full block: what a session ends with, averaged from 0 to 63."""
_COLD_TAILS = 2
"""Of a round: each needs a process of its own."""
_CONTINUED = 96
"""Tokens that are compared with those of a process that was never stopped."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Subject:
    """A model, and how long a session with it is."""

    label: str
    path: Path
    weights: str
    tokens: int


def measure(
    subject: Subject, folder: Path, rounds: int, say: Say
) -> tuple[dict[str, Measured], dict[str, Any]]:
    """Both claims, and the single measurements behind them.

    Args:
        subject: what is measured.
        folder: an empty one; what is made in it is removed again.
        rounds: of all three kinds, in turn.
    """
    with emptied(folder / "memory"):
        return _Session(subject, folder / "memory", say).measure(rounds)


class _Session:
    def __init__(self, subject: Subject, memory: Path, say: Say) -> None:
        self._subject, self._memory, self._say = subject, memory, say
        self._draw = random.Random(0)
        text = sentences("a session", subject.tokens // 7 + 1)
        ids = _ids(subject.path, text)
        full = subject.tokens // _BLOCK * _BLOCK
        self._session, self._words = ids[:full], ids
        assert len(self._session) == full, f"{len(ids)} tokens instead of {subject.tokens}"

    def measure(self, rounds: int) -> tuple[dict[str, Measured], dict[str, Any]]:
        identical = self._continues_identically()
        self._say(f"the continuation after a restart is identical: {identical}")
        # Another memory: without --deterministic its blocks are others.
        written = self._run(self._memory / "fast", [self._session + self._tail(1)])
        samples: dict[str, Any] = {"written": written, "identical": identical}
        kinds: dict[str, list[float]] = {"prefill": [], "warm": [], "cold": []}
        for number in range(rounds):
            for kind, times in kinds.items():
                done = self._round(kind, number)
                samples.setdefault(kind, []).append(done)
                times.append(fmean(r["seconds"] for r in done))
            self._say(
                f"round {number + 1} of {rounds}: "
                + ", ".join(f"{kind} {times[-1]:.4g} s" for kind, times in kinds.items())
            )
        if not identical:
            why = "the greedy continuation after a restart differs from that without one"
            return {name: Measured(None, why) for name in CLAIMS}, samples
        return {
            f"resume_{name}_vs_cold_prefill": self._claim(kinds, kind, samples)
            for name, kind in (("warm", "warm"), ("cold_cache", "cold"))
        }, samples

    def _round(self, kind: str, number: int) -> list[dict[str, Any]]:
        if kind == "prefill":
            return self._run(None, [self._session + self._tail(_TAILS[number % len(_TAILS)])])
        if kind == "warm":
            return self._found([self._session + self._tail(tail) for tail in _TAILS])
        done = []
        for turn in range(_COLD_TAILS):
            tail = _TAILS[(_COLD_TAILS * number + turn) * 3 % len(_TAILS)]
            forget_pages(self._memory / "fast")
            done += self._found([self._session + self._tail(tail)])
        return done

    def _found(self, prompts: list[list[int]]) -> list[dict[str, Any]]:
        results = self._run(self._memory / "fast", prompts)
        for prompt, result in zip(prompts, results, strict=True):
            # The last token is always computed, and a block is found as a whole.
            least = (len(prompt) - 1) // _BLOCK * _BLOCK
            assert result["found"] >= least, f"{result['found']} of {least} tokens were found"
        return results

    def _continues_identically(self) -> bool:
        """Whether a process that is stopped in the middle writes what one writes that is not."""
        prompt, half = self._session[: min(len(self._session), 2048)], _CONTINUED // 2
        (whole,) = self._run(None, [prompt], _CONTINUED, deterministic=True)
        memory = self._memory / "deterministic"
        (first,) = self._run(memory, [prompt], half, deterministic=True)
        (second,) = self._run(memory, [prompt + first["tokens"]], half, deterministic=True)
        assert second["found"] >= len(prompt), "nothing was found after the restart"
        return bool(first["tokens"] + second["tokens"] == whole["tokens"])

    def _tail(self, tokens: int) -> list[int]:
        """What follows the session: other tokens each time, so that none of them is found."""
        return self._draw.choices(self._words, k=tokens)

    def _run(
        self,
        memory: Path | None,
        prompts: Sequence[list[int]],
        tokens: int = 1,
        deterministic: bool = False,
    ) -> list[dict[str, Any]]:
        request = {
            "model": str(self._subject.path),
            "weights": self._subject.weights,
            "memory": None if memory is None else str(memory),
            "warm_up": self._words[-100:],
            "prompts": prompts,
            "tokens": tokens,
            "deterministic": deterministic,
        }
        answer = _ask("benchmarks.resume_once", request)
        results: list[dict[str, Any]] = answer["results"]
        return results

    def _claim(self, kinds: dict[str, list[float]], kind: str, samples: dict[str, Any]) -> Measured:
        ratio = spread(ratios(kinds["prefill"], kinds[kind]))
        single = [1000 * r["seconds"] for done in samples[kind] for r in done]
        prefill = spread(kinds["prefill"])
        return Measured(
            ratio.median,
            f"{ratio} rounds; {self._subject.label}, session of {len(self._session):,} tokens: "
            f"first token after {_shown(spread(single))} ms, mean {fmean(single):.4g}, "
            f"median {median(single):.4g} (tails of {min(_TAILS)} to {max(_TAILS)} tokens); read "
            f"again {prefill} s; {_CONTINUED} greedy tokens after a restart, deterministic, are "
            "those without one",
        )


def _ids(model: Path, text: str) -> list[int]:
    from everlong.checkpoint import open_checkpoint

    return open_checkpoint(model).tokenizer().encode(text, special=False, bos=False)


def _ask(module: str, request: dict[str, Any]) -> dict[str, Any]:
    return ask_once(module, given=json.dumps(request))


def _shown(values: Spread) -> str:
    return f"{values.low:.4g} to {values.high:.4g}"
