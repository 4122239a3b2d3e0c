"""Runs tasks through the engine's batches."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from everlong.engine.llm import LLM
from everlong.engine.request import TokenLogprob
from everlong.evaluation.statistics import Estimate, bootstrap
from everlong.evaluation.task import Example, LikelihoodTask
from everlong.tokenizer import Tokenizer


@dataclass(frozen=True)
class Sample:
    """One example as the model answered it."""

    chosen: int
    """Option of the highest log-probability; -1: the only option was not the likeliest text."""
    chosen_by_length: int
    """The same after dividing by the continuation's characters."""
    gold: int
    logprobs: tuple[float, ...]
    """Of each option's continuation."""


@dataclass(frozen=True)
class Result:
    """A task's figures."""

    task: str
    version: int
    accuracy: Estimate
    accuracy_by_length: Estimate
    samples: tuple[Sample, ...]


def evaluate(
    llm: LLM,
    task: LikelihoodTask,
    data: Path,
    *,
    limit: int | None = None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Result:
    """Figures of a model on a task.

    Args:
        llm: loaded model; other requests may run beside.
        task: what is asked.
        data: folder with the data sets.
        limit: only so many examples, from the beginning.
        progress: told how many of how many continuations are judged.

    Raises:
        ConfigError: the task's data is missing or malformed.
    """
    examples = task.examples(data)[:limit]
    answers = llm.score(
        place_of(llm.tokenizer, context, text, llm.max_model_len)
        for example in examples
        for context, text in example.options
    )
    done, of = 0, sum(len(example.options) for example in examples)
    samples: list[Sample] = []
    for example in examples:
        samples.append(judge(example, list(islice(answers, len(example.options)))))
        done += len(example.options)
        progress(done, of)
    return Result(
        task.name,
        task.version,
        bootstrap([s.chosen == s.gold for s in samples]),
        bootstrap([s.chosen_by_length == s.gold for s in samples]),
        tuple(samples),
    )


def place_of(
    tokenizer: Tokenizer, context: str, continuation: str, most: int
) -> tuple[list[int], int]:
    """Tokens of both texts together, and where the continuation begins among them.

    White space at the context's end belongs to the continuation, as it does to the first token
    there. What does not fit the window is left out at the beginning.
    """
    kept = context.rstrip()
    continuation = context[len(kept) :] + continuation
    ids = tokenizer.encode(kept + continuation)
    start = len(tokenizer.encode(kept))
    cut = max(0, len(ids) - most)
    return ids[cut:], max(1, min(start, len(ids) - 1) - cut)


def judge(example: Example, answers: Sequence[Sequence[TokenLogprob]]) -> Sample:
    """Which option the log-probabilities speak for."""
    sums = [sum(token.logprob for token in answer) for answer in answers]
    if len(answers) == 1:
        likeliest = all(token.top[0][0] == token.token_id for token in answers[0])
        chosen = by_length = 0 if likeliest else -1
    else:
        lengths = [len(text) for _, text in example.options]
        chosen = max(range(len(sums)), key=sums.__getitem__)
        by_length = max(range(len(sums)), key=lambda i: sums[i] / lengths[i])
    return Sample(chosen, by_length, example.gold, tuple(sums))


def write_samples(result: Result, path: Path) -> None:
    """Samples as JSON lines, for reading."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lines:
        for number, sample in enumerate(result.samples):
            lines.write(json.dumps({"example": number, **asdict(sample)}) + "\n")
