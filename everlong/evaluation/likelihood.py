"""Tasks whose answer is the likeliest of several texts.

Length normalisation follows lm-evaluation-harness: ``accuracy_by_length`` divides a text's
log-probability by its characters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from everlong.engine.request import TokenLogprob
from everlong.evaluation.data import Data
from everlong.evaluation.task import Example, Run, Sample, Settings, Task, with_shots
from everlong.tokenizer import Tokenizer


@dataclass(frozen=True)
class Choice(Example):
    """A question whose answer is the likeliest of several texts.

    With one option only it is answered rightly when each of its tokens is the likeliest.
    """

    options: tuple[tuple[str, str], ...]
    """Context and continuation of each; the continuation is judged, given the context."""
    gold: int
    """Which option is right."""

    @property
    def demonstration(self) -> str:
        """The example with its answer."""
        return "".join(self.options[self.gold])


def choice(id: str, options: Sequence[tuple[str, str]], gold: object, group: str = "") -> Choice:
    """An example after a look at its parts.

    Raises:
        ValueError: there is no option, a text is missing, or ``gold`` is none of them.
    """
    if not all(isinstance(text, str) and text.strip() for _, text in options):
        raise ValueError("a continuation is empty or no text")
    if not isinstance(gold, int) or not 0 <= gold < len(options):
        raise ValueError(f"gold is {gold!r}, and there are {len(options)} options")
    return Choice(id, group, tuple(options), gold)


@dataclass(frozen=True)
class Verdict:
    """What the log-probabilities of a choice's options say."""

    sums: tuple[float, ...]
    """Log-probability of each continuation."""
    chosen: int
    """Option of the highest log-probability; -1: the only option was not the likeliest text."""
    by_length: int
    """The same after dividing by the continuation's characters."""


def accuracy(example: Choice, verdict: Verdict) -> Mapping[str, float]:
    """Whether the right option is the likeliest."""
    return {"accuracy": float(verdict.chosen == example.gold)}


def accuracy_both_ways(example: Choice, verdict: Verdict) -> Mapping[str, float]:
    """As it is, and for each character of the option."""
    by_length = float(verdict.by_length == example.gold)
    return {**accuracy(example, verdict), "accuracy_by_length": by_length}


@dataclass(frozen=True)
class LikelihoodTask(Task[Choice]):
    """Choices between texts."""

    read: Callable[[Data], list[Choice]]
    """All examples."""
    read_shots: Callable[[Data], list[Choice]] | None = None
    """Solved examples to show; None: the last of the set, which are not asked then."""
    shots: int = 0
    """Of the task's protocol."""
    judge: Callable[[Choice, Verdict], Mapping[str, float]] = accuracy_both_ways
    judged_by: tuple[str, ...] = ("accuracy", "accuracy_by_length")
    """What ``judge`` returns; the first is the task's figure."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """See :class:`Task`."""
        return self.judged_by

    def examples(self, data: Data, settings: Settings) -> list[Choice]:
        """See :class:`Task`."""
        shots = self.shots if settings.shots is None else settings.shots
        shown = self.read_shots(data) if self.read_shots and shots else None
        return [
            replace(e, options=tuple((before + c, t) for c, t in e.options))
            for e, before in with_shots(self.read(data), shown, shots)
        ]

    def answers(self, run: Run, examples: Sequence[Choice]) -> Iterator[Sample]:
        """See :class:`Task`."""
        likelihoods = run.llm.score(
            place_of(run.llm.tokenizer, context, text, run.llm.max_model_len)
            for example in examples
            for context, text in example.options
        )
        for example in examples:
            verdict = judge(example, list(islice(likelihoods, len(example.options))))
            yield Sample(
                example.id,
                example.group,
                self.judge(example, verdict),
                {
                    "options": example.options,
                    "gold": example.gold,
                    "chosen": verdict.chosen,
                    "logprobs": verdict.sums,
                },
            )


def place_of(
    tokenizer: Tokenizer, context: str, continuation: str, most: int
) -> tuple[list[int], int]:
    """Tokens of both texts together, and where the continuation begins among them.

    White space at the context's end belongs to the continuation, as it does to the first token
    there. What does not fit the window is left out at the beginning. After an empty context the
    continuation follows the token that begins texts (or, without one, the one that ends them), so
    that its first token has a probability, too.
    """
    kept = context.rstrip()
    continuation = context[len(kept) :] + continuation
    ids = tokenizer.encode(kept + continuation)
    start = len(tokenizer.encode(kept))
    if start == 0 and (opening := _opening(tokenizer)) is not None:
        ids, start = [opening, *ids], 1
    cut = max(0, len(ids) - most)
    return ids[cut:], max(1, min(start, len(ids) - 1) - cut)


def _opening(tokenizer: Tokenizer) -> int | None:
    begins = tokenizer.bos_token_id
    return begins if begins is not None else min(tokenizer.eos_token_ids, default=None)


def judge(example: Choice, answers: Sequence[Sequence[TokenLogprob]]) -> Verdict:
    """Which option the log-probabilities of its tokens speak for."""
    sums = [sum(token.logprob for token in answer) for answer in answers]
    if len(answers) == 1:
        likeliest = all(token.top[0][0] == token.token_id for token in answers[0])
        chosen = by_length = 0 if likeliest else -1
    else:
        lengths = [len(text) for _, text in example.options]
        chosen = max(range(len(sums)), key=sums.__getitem__)
        by_length = max(range(len(sums)), key=lambda i: sums[i] / lengths[i])
    return Verdict(tuple(sums), chosen, by_length)
