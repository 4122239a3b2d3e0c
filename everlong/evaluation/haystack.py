"""Long texts with something hidden in them, of any length in the model's own tokens."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from everlong.engine.request import SamplingParams
from everlong.errors import ConfigError
from everlong.evaluation.data import Data
from everlong.evaluation.task import Example, Run, Sample, Settings, Task
from everlong.tokenizer import Tokenizer

LENGTHS: Mapping[str, int] = {
    **{f"{n}k": n << 10 for n in (2, 4, 8, 16, 32, 64, 128, 256, 512)},
    "1m": 1 << 20,
}
"""Tokens of prompt and answer together, by the name in a task's name. What is hidden takes up to
1,400 tokens, so there is no shorter one."""
_QUESTION = 96
"""Place for the longest question: the text before it is the same for all."""


@dataclass(frozen=True)
class Hidden(Example):
    """A question about sentences hidden in a long text."""

    text: str
    """Questions of one text stand together, so that it is read once; names it, and seeds it."""
    sentences: tuple[str, ...]
    """In the order in which they stand in the text."""
    question: str
    target: tuple[str, ...]
    """Words of the answer."""
    opening: str = ""
    """How the answer begins, which the model continues."""
    allowed: tuple[str, ...] = ()
    """Every answer that questions of this kind have, where they are few."""


Judge = Callable[[Hidden, str], float]


@dataclass(frozen=True)
class HaystackTask(Task[Hidden]):
    """Questions about what is hidden in books, at one length."""

    length: int
    """Tokens of prompt and answer."""
    read: Callable[[Data, int], list[Hidden]]
    """All examples, by the seed."""
    judge: Judge
    instruction: str
    max_tokens: int

    @property
    def metrics(self) -> tuple[str, ...]:
        """See :class:`Task`."""
        return ("accuracy",)

    def examples(self, data: Data, settings: Settings) -> list[Hidden]:
        """See :class:`Task`."""
        for name in data.names("books/*.txt"):
            data.content(name)  # they belong to the circumstances of the answers
        return self.read(data, settings.seed)

    def sample(self, examples: Sequence[Hidden], count: int) -> Sequence[Hidden]:
        """See :class:`Task`: the first ones, so that few texts are read, whole."""
        return examples[:count]

    def answers(self, run: Run, examples: Sequence[Hidden]) -> Iterator[Sample]:
        """See :class:`Task`.

        Raises:
            ConfigError: the model's window is shorter than the task's length.
        """
        llm = run.llm
        if llm.max_model_len < self.length:
            raise ConfigError(
                f"needs a window of {self.length:,} tokens, and the model has "
                f"{llm.max_model_len:,}; ask a shorter one, or raise --max-model-len"
            )
        books = sentences(run.data)
        sampling = SamplingParams(temperature=0.0, max_tokens=self.max_tokens, stop=("\n",))
        room = self.length - self.max_tokens
        known: dict[str, list[int]] = {}

        def prompt(asked: Hidden) -> list[int]:
            question = llm.tokenizer.encode(_ask(asked), bos=False)
            most = room - _QUESTION
            if asked.text not in known:
                known.clear()
                hay = haystack(books, asked.sentences, llm.tokenizer, most, asked.text)
                text = llm.tokenizer.encode(f"{self.instruction}\n\n{hay}\n\n")
                if len(text) > most:
                    raise ConfigError(
                        f"what is hidden takes {len(text):,} tokens with this model's tokenizer, "
                        f"and a text has room for {most:,}; ask a longer one"
                    )
                known[asked.text] = text
            if len(question) > _QUESTION:
                raise ConfigError(
                    f"a question takes {len(question)} tokens with this model's tokenizer, and "
                    f"there is room for {_QUESTION}"
                )
            return [*known[asked.text], *question]

        completions = llm.complete((prompt(asked), sampling) for asked in examples)
        for asked, completion in zip(examples, completions, strict=True):
            record = {
                "question": asked.question,
                "hidden": asked.sentences,
                "answer": completion.text,
                "target": asked.target,
                "prompt_tokens": completion.usage.prompt_tokens,
                "cached_tokens": completion.usage.cached_tokens,
            }
            score = self.judge(asked, completion.text)
            yield Sample(asked.id, asked.group, {"accuracy": score}, record)


def _ask(asked: Hidden) -> str:
    return f"Question: {asked.question}\nAnswer: {asked.opening}".rstrip()


def sentences(data: Data) -> list[str]:
    """All sentences of the books, in order."""
    found: list[str] = []
    for name in data.names("books/*.txt"):
        text = " ".join(data.text(name).split())
        found += [s for s in re.split(r"(?<=[.!?]) ", text) if 20 <= len(s) <= 400]
    if not found:
        raise ConfigError("the books have no sentences")
    return found


def haystack(
    books: Sequence[str], hidden: Sequence[str], tokenizer: Tokenizer, tokens: int, seed: str
) -> str:
    """Consecutive sentences of the books with the hidden ones among them, in their order.

    Args:
        tokens: about the length of the text, never more.
        seed: where the books are opened, and where the sentences are hidden.
    """
    draw = random.Random(seed)
    left = tokens - len(tokenizer.encode(" ".join(hidden))) - len(hidden) - 64
    start = draw.randrange(len(books))
    chosen: list[str] = []
    at = 0
    while left > 0:
        # Many at a time: counting one by one would take as long as reading.
        piece = [books[(start + at + i) % len(books)] for i in range(max(1, min(256, left // 64)))]
        count = len(tokenizer.encode(" ".join(piece)))
        if count > left:
            break
        chosen += piece
        left -= count
        at += len(piece)
    places = sorted(draw.randrange(len(chosen) + 1) for _ in hidden)
    for place, sentence in reversed(list(zip(places, hidden, strict=True))):
        chosen.insert(place, sentence)
    return " ".join(chosen)
