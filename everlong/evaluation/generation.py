"""Tasks that are answered in writing: exact match, numbers, programs that are run."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from everlong.engine.request import Completion, SamplingParams
from everlong.errors import ConfigError
from everlong.evaluation.data import Data
from everlong.evaluation.task import Example, Run, Sample, Settings, Task, with_shots
from everlong.tokenizer import Tokenizer

_JUDGES = 4
"""Answers judged at once: programs are run, and most of that is waiting."""


@dataclass(frozen=True)
class Question(Example):
    """A prompt whose continuation is judged."""

    prompt: str
    target: str
    """A right answer, as a solved example shows it."""
    reference: Any = None
    """What the judge needs besides ``target``: plain JSON."""

    @property
    def demonstration(self) -> str:
        """The example with its answer."""
        between = "" if self.prompt.endswith((" ", "\n")) else " "
        return f"{self.prompt}{between}{self.target}"


Judge = Callable[[Question, str], Mapping[str, float]]
"""Scores of an answer: the question, and the text the model wrote."""


@dataclass(frozen=True)
class GenerationTask(Task[Question]):
    """Questions answered in writing, by the likeliest tokens (greedily)."""

    read: Callable[[Data], list[Question]]
    """All examples."""
    judge: Judge
    """Called from several threads at once."""
    max_tokens: int
    stop: tuple[str, ...] = ()
    """Texts at which an answer ends."""
    read_shots: Callable[[Data], list[Question]] | None = None
    """Solved examples to show; None: the last of the set, which are not asked then."""
    shots: int = 0
    """Of the task's protocol."""
    judged_by: tuple[str, ...] = ("accuracy",)
    """What ``judge`` returns; the first is the task's figure."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """See :class:`Task`."""
        return self.judged_by

    def examples(self, data: Data, settings: Settings) -> list[Question]:
        """See :class:`Task`."""
        shots = self.shots if settings.shots is None else settings.shots
        shown = self.read_shots(data) if self.read_shots and shots else None
        return [
            replace(q, prompt=before + q.prompt)
            for q, before in with_shots(self.read(data), shown, shots)
        ]

    def answers(self, run: Run, examples: Sequence[Question]) -> Iterator[Sample]:
        """See :class:`Task`."""
        sampling = SamplingParams(temperature=0.0, stop=self.stop)
        requests = (
            prompt_for(
                run.llm.tokenizer,
                question.prompt,
                run.settings.chat,
                run.llm.max_model_len,
                sampling,
                self.max_tokens,
            )
            for question in examples
        )
        completions = run.llm.complete(requests)
        pending: deque[Future[Sample]] = deque()
        with ThreadPoolExecutor(_JUDGES, "everlong-judge") as judges:
            for question, completion in zip(examples, completions, strict=True):
                pending.append(judges.submit(self._judged, question, completion))
                while pending and (pending[0].done() or len(pending) > 2 * _JUDGES):
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()

    def _judged(self, question: Question, completion: Completion) -> Sample:
        return Sample(
            question.id,
            question.group,
            self.judge(question, completion.text),
            {
                "prompt": question.prompt,
                "answer": completion.text,
                "target": question.target,
                "ended": completion.finish_reason,
            },
        )


def prompt_for(
    tokenizer: Tokenizer,
    text: str,
    chat: bool,
    window: int,
    sampling: SamplingParams,
    max_tokens: int,
) -> tuple[list[int], SamplingParams]:
    """A request for a written answer.

    A prompt that leaves no room for ``max_tokens`` loses its beginning, as in
    lm-evaluation-harness; in a chat that cannot be done, and the answer gets the room there is.
    """
    if chat:
        if tokenizer.chat_template is None:
            raise ConfigError("the model has no chat template; leave out --chat")
        ids = tokenizer.encode_chat([{"role": "user", "content": text}])
    else:
        ids = tokenizer.encode(text.rstrip(" "))
        ids = ids[max(0, len(ids) - max(1, window - max_tokens)) :]
    room = max(1, min(max_tokens, window - len(ids)))
    return ids, replace(sampling, max_tokens=room)
