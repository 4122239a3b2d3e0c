"""How fast a model runs here: reading, one stream, several streams."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from rich.table import Table

from everlong.engine.llm import LLM
from everlong.engine.request import SamplingParams


@dataclass(frozen=True)
class Rates:
    """Tokens per second, medians."""

    prefill: float
    """Reading a prompt of 1,000 tokens."""
    one_stream: float
    """Writing, alone."""
    streams: float
    """Writing, all streams together."""
    num_streams: int


def measure(llm: LLM, *, repeats: int = 3, tokens: int = 64, prompt: int = 1000) -> Rates:
    """Measure with random tokens, which no cache knows.

    Args:
        llm: loaded model, not in use.
        repeats: runs of each figure.
        tokens: tokens that a stream writes.
        prompt: tokens of the prompt that is read; cut to what the window holds.
    """
    random = Random(0)
    streams = llm.engine.config.max_num_seqs
    prompt = min(prompt, llm.max_model_len - 1)
    tokens = min(tokens, llm.max_model_len - 33)

    def ids(count: int) -> list[int]:
        return [random.randrange(llm.tokenizer.vocab_size) for _ in range(count)]

    prefill, one, many = [], [], []
    for _ in range(repeats):
        prefill.append(prompt / _seconds(llm, [ids(prompt)], 1))
        one.append((tokens - 1) / _decode_seconds(llm, ids(32), tokens))
        together = [ids(32) for _ in range(streams)]
        many.append(streams * tokens / _seconds(llm, together, tokens))
    median = statistics.median
    return Rates(median(prefill), median(one), median(many), streams)


def rates_table(ours: Rates, theirs: Rates | None = None) -> Table:
    """The figures for a terminal, beside llama.cpp's where there are some."""
    table = Table("tokens/s", "Everlong", *(["llama.cpp", "ratio"] if theirs else []))
    for name, field in (
        ("reading 1,000 tokens", "prefill"),
        ("one stream", "one_stream"),
        (f"{ours.num_streams} streams", "streams"),
    ):
        mine = getattr(ours, field)
        row = [name, f"{mine:,.0f}"]
        if theirs:
            other = getattr(theirs, field)
            row += [f"{other:,.0f}", f"{mine / other:.1f} x"]
        table.add_row(*row)
    return table


def _sampling(tokens: int) -> SamplingParams:
    return SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True)


def _seconds(llm: LLM, prompts: Sequence[Sequence[int]], tokens: int) -> float:
    start = time.perf_counter()
    llm.generate(prompts, _sampling(tokens))
    return time.perf_counter() - start


def _decode_seconds(llm: LLM, prompt: Sequence[int], tokens: int) -> float:
    """From the first token to the last."""
    chunks = llm.stream(prompt, _sampling(tokens))
    next(chunks)
    start = time.perf_counter()
    for _ in chunks:
        pass
    return time.perf_counter() - start
