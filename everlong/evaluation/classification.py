"""Classification by a head that is trained here on the model's frozen states."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from everlong.evaluation.data import Data
from everlong.evaluation.task import Example, Run, Sample, Settings, Task
from everlong.evaluation.tasks.understanding.labelled import LabelledSet

_PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)
_HELD_OUT = 0.1
_STEPS = 100
_AT_ONCE = 256
"""Texts read between two reports of progress."""


@dataclass(frozen=True)
class Text(Example):
    """A text whose label is asked for."""

    text: str
    label: str


@dataclass(frozen=True)
class HeadTask(Task[Text]):
    """Texts whose label a linear head reads from the model's last state after the prompt.

    The head is multinomial logistic regression, trained on the set's training part; its penalty
    is chosen on a tenth of that part, never on what is asked.
    """

    texts: LabelledSet

    @property
    def metrics(self) -> tuple[str, ...]:
        """See :class:`Task`."""
        return ("accuracy",)

    def examples(self, data: Data, settings: Settings) -> list[Text]:
        """See :class:`Task`."""
        self.texts.train(data)  # what it holds belongs to the circumstances of the answers
        return [Text(t.id, "", t.text, t.label) for t in self.texts.test(data)]

    def answers(self, run: Run, examples: Sequence[Text]) -> Iterator[Sample]:
        """See :class:`Task`."""
        train = self.texts.train(run.data)
        labels = self.texts.labels(train)
        place = {label: i for i, label in enumerate(labels)}
        states = self._states(run, "what the head learns from", [t.text for t in train])
        head = Head.fit(states, torch.tensor([place[t.label] for t in train]), run.settings.seed)
        asked = self._states(run, "what is asked", [e.text for e in examples])
        for example, chosen in zip(examples, head.predict(asked).tolist(), strict=True):
            right = labels[chosen] == example.label
            record = {"text": example.text, "answer": labels[chosen], "target": example.label}
            yield Sample(example.id, "", {"accuracy": float(right)}, record)

    def _states(self, run: Run, what: str, texts: Sequence[str]) -> Tensor:
        parts = []
        for start in range(0, len(texts), _AT_ONCE):
            prompts = [self.texts.prompt(text) for text in texts[start : start + _AT_ONCE]]
            parts.append(run.llm.encode(prompts, "last"))
            run.preparing(f"{self.name}: {what}", min(start + _AT_ONCE, len(texts)), len(texts))
        return torch.cat(parts)


@dataclass(frozen=True)
class Head:
    """A linear classifier of states."""

    mean: Tensor
    scale: Tensor
    weight: Tensor
    """[d + 1, classes]; the last row is the bias."""

    @classmethod
    def fit(cls, states: Tensor, labels: Tensor, seed: int) -> Head:
        """Train on states [n, d] with labels int64 [n].

        Args:
            seed: of the choice of the tenth on which the penalty is chosen.
        """
        classes = int(labels.max()) + 1
        mean, scale = states.mean(0), states.std(0).clamp_min(1e-6)
        inputs = _with_bias((states - mean) / scale)
        order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(seed))
        held, kept = order[: (few := int(_HELD_OUT * len(order)))], order[few:]

        def right(penalty: float) -> float:
            weight = _regression(inputs[kept], labels[kept], classes, penalty)
            return float(((inputs[held] @ weight).argmax(-1) == labels[held]).float().mean())

        best = max(_PENALTIES, key=right) if few else _PENALTIES[1]
        return cls(mean, scale, _regression(inputs, labels, classes, best))

    def predict(self, states: Tensor) -> Tensor:
        """Likeliest label of each state, int64 [n]."""
        return (_with_bias((states - self.mean) / self.scale) @ self.weight).argmax(-1)


def _with_bias(inputs: Tensor) -> Tensor:
    return torch.cat([inputs, torch.ones(len(inputs), 1)], dim=1)


def _regression(inputs: Tensor, labels: Tensor, classes: int, penalty: float) -> Tensor:
    weight = torch.zeros(inputs.shape[1], classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight], max_iter=_STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = torch.nn.functional.cross_entropy(inputs @ weight, labels)
        value = value + penalty * weight[:-1].square().sum() / 2
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return weight.detach()
