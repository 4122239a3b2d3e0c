"""Log-probabilities of a prompt's own tokens, from the steps that compute it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

from torch import Tensor

from everlong.engine.sampler import log_probabilities
from everlong.engine.scheduler import Scheduled


def score_prompts(plan: Sequence[Scheduled], logits: Tensor) -> None:
    """Note in each sequence what a step tells of its prompt's next tokens.

    Args:
        plan: what the step computed; its sequences are as they were before it.
        logits: float32 [n, V], of the plan's ``rows``, in order.
    """
    rows: list[int] = []
    tokens: list[int] = []
    start = most = 0
    for scheduled in plan:
        if count := scheduled.scored:
            sequence, first = scheduled.sequence, scheduled.sequence.unscored
            assert first is not None, "only what is wanted is scored"
            rows += range(start, start + count)
            tokens += sequence.prompt[first : first + count]
            most = max(most, sequence.params.logprobs or 0)
        start += scheduled.rows
    if not rows:
        return
    # A model may have more ids than the tokenizer; they are no text.
    vocabulary = next(s.sequence.sampler.vocab_size for s in plan if s.scored)
    wanted = logits if len(rows) == len(logits) else logits[rows]
    told = iter(log_probabilities(wanted[:, :vocabulary], tokens, most))
    for scheduled in plan:
        sequence, asked = scheduled.sequence, scheduled.sequence.params.logprobs or 0
        for token in list(islice(told, scheduled.scored)):
            sequence.prompt_logprobs.append(replace(token, top=token.top[:asked]))
