"""Everlong as a contender: the engine with its default settings."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.worker import Run, serve_model

MODULE = "everlong"
PACKAGES = ("everlong", "torch")

CANDIDATES: dict[str, dict[str, Any]] = {
    "auto": {"weights": "auto"},
    "int4": {"weights": "int4"},
    "int8": {"weights": "int8"},
    "bf16": {"weights": "bf16"},
}


class Everlong:
    """``everlong.load`` and its engine.

    Args:
        path: the model.
        threads: of all products.
        weights, memory: as ``everlong.load`` takes them.
    """

    def __init__(self, path: str, *, threads: int, weights: Any, memory: str | None = None) -> None:
        import torch

        import everlong

        torch.set_num_threads(threads)
        self._llm = everlong.load(path, weights=weights, memory=memory)

    def run(self, prompts: Sequence[Sequence[int]], tokens: int) -> Run:
        """See ``worker.Model``."""
        options: dict[str, Any] = {"max_tokens": tokens, "temperature": 0.0, "ignore_eos": True}
        if len(prompts) == 1:
            return self._run_one(prompts[0], options)
        begin = time.perf_counter()
        done = self._llm.generate(prompts, **options)
        return Run(
            time.perf_counter() - begin,
            None,
            [completion.usage.prompt_tokens for completion in done],
            [len(completion.token_ids) for completion in done],
            sum(completion.usage.cached_tokens for completion in done),
        )

    def _run_one(self, prompt: Sequence[int], options: dict[str, Any]) -> Run:
        begin = time.perf_counter()
        arrived, count = [], 0
        for chunk in self._llm.stream(prompt, **options):
            arrived.append(time.perf_counter())
            count += len(chunk.token_ids)
        usage = chunk.usage
        return Run(
            arrived[-1] - begin,
            arrived[-1] - arrived[0],
            [usage.prompt_tokens],
            [count],
            usage.cached_tokens,
        )

    def encode(self, text: str) -> Mapping[str, Any]:
        """Token ids of plain text."""
        return {"ids": self._llm.tokenizer.encode(text, special=False)}

    def loss(self, ids: Sequence[int]) -> Mapping[str, Any]:
        """Sum of the natural-log losses of ``ids[1:]``, each given all ids before it."""
        import torch

        logits = self._llm.logits(ids)[:-1]
        targets = torch.tensor(ids[1:])
        total = torch.nn.functional.cross_entropy(logits, targets, reduction="sum").item()
        assert math.isfinite(total), "the loss is not a number"
        return {"loss": total, "count": len(targets)}


if __name__ == "__main__":
    serve_model(Everlong, PACKAGES, lambda model: {"encode": model.encode, "loss": model.loss})
