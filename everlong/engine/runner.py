"""Runs the model for the engine: batches in, logits out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from everlong.engine.scheduler import Scheduled
from everlong.model.adapters import Adapter, adapted
from everlong.model.cache import Batch, BlockTable, Sight, Span, block_shape
from everlong.model.native.step import NativeStep, supports
from everlong.model.quantization import PackedLinear
from everlong.model.transformer import Transformer


class Runner:
    """Computes steps with the fastest code that serves them.

    Args:
        model: ready for inference.
        deterministic: a token's logits do not depend on what is computed beside it: the native
            kernels for every number of rows; without them, one token at a time.
        chunk: tokens of a sequence that are computed at once where no scheduler decides.
        adapters: by name; their requests run through PyTorch, each adapter in a batch of its own.
    """

    def __init__(
        self,
        model: Transformer,
        *,
        deterministic: bool,
        chunk: int,
        adapters: Mapping[str, Adapter],
    ) -> None:
        self.model = model
        self._deterministic = deterministic
        self._chunk = chunk
        packed = isinstance(model.lm_head, PackedLinear)
        self.dtype = torch.bfloat16 if packed else torch.float32
        self._native = (
            NativeStep(model, deterministic=deterministic)
            if packed and supports(model.config)
            else None
        )
        self.numerics = _numerics(model, self._native is not None, deterministic)
        """Names what besides the weights decides the bits of keys and values."""
        self._models = {None: model} | {name: adapted(model, a) for name, a in adapters.items()}

    def run(self, plan: Sequence[Scheduled]) -> Tensor:
        """Compute a step.

        Returns:
            float32 [n, V]: next-token logits, as many rows of each sequence of ``plan`` as its
            ``rows`` says, in order.
        """
        adapters = dict.fromkeys(s.sequence.adapter for s in plan)
        if len(adapters) == 1:
            return self._step([_span(s) for s in plan], next(iter(adapters)))
        rows = torch.empty(sum(s.rows for s in plan), self.model.config.vocab_size)
        owners = [s.sequence.adapter for s in plan for _ in range(s.rows)]
        for adapter in adapters:
            spans = [_span(s) for s in plan if s.sequence.adapter == adapter]
            rows[[a == adapter for a in owners]] = self._step(spans, adapter)
        return rows

    def logits(self, tokens: Sequence[int]) -> Tensor:
        """Next-token logits after every token of one sequence, float32 [T, V]."""
        return self._whole(tokens, "causal", states=False)

    def states(self, prompts: Sequence[Sequence[int]], sight: Sight) -> list[Tensor]:
        """Last hidden states of sequences, float32 [T, hidden] each.

        Several are computed in one step, whatever they take together; one alone in parts.
        """
        if len(prompts) == 1:
            return [self._whole(prompts[0], sight, states=True)]
        spans = [Span(p, self._table(len(p)), 0, sight=sight, logits="none") for p in prompts]
        return list(torch.split(self._step(spans, states=True), [len(p) for p in prompts]))

    def _table(self, tokens: int) -> BlockTable:
        table = BlockTable()
        shape = block_shape(self.model.config)
        while table.capacity < tokens:
            table.append(torch.empty(shape, dtype=self.dtype))
        return table

    def _whole(self, tokens: Sequence[int], sight: Sight, states: bool) -> Tensor:
        table = self._table(len(tokens))
        # Only what is causal can be cut.
        size = self._chunk if sight == "causal" else len(tokens)
        parts = []
        for start in range(0, len(tokens), size):
            part = tokens[start : start + size]
            span = Span(part, table, start, sight=sight, logits="none" if states else "all")
            parts.append(self._step([span], states=states))
        return torch.cat(parts)

    def _step(
        self, spans: list[Span], adapter: str | None = None, *, states: bool = False
    ) -> Tensor:
        model = self._models[adapter]
        with torch.inference_mode():
            rows = sum(len(span.tokens) for span in spans)
            native = self._native if adapter is None else None
            if native is not None and native.serves(rows):
                return native(Batch(spans), states=states)
            if self._deterministic and all(span.sight == "causal" for span in spans):
                return _one_by_one(model, spans, states)
            return model.step(Batch(spans), states=states)


def _numerics(model: Transformer, native: bool, deterministic: bool) -> str:
    packed = [m for m in model.modules() if isinstance(m, PackedLinear)]
    words = ["native" if native else "torch"]
    if any(m.integer for m in packed):
        words.append("integer activations")
    if deterministic:
        words.append("deterministic")
    return ", ".join(words)


def _span(scheduled: Scheduled) -> Span:
    s, start = scheduled.sequence, scheduled.sequence.computed
    tokens = s.tokens(start, start + scheduled.count)
    return Span(tokens, s.table, start, logits=scheduled.rows)


def _one_by_one(model: Transformer, spans: list[Span], states: bool) -> Tensor:
    """Every token in a step of its own, whose shapes depend on nothing else."""
    results = []
    for span in spans:
        for i, token in enumerate(span.tokens):
            one = Span([token], span.table, span.start + i)
            result = model.step(Batch([one]), states=states)
            if states or i >= len(span.tokens) - span.wanted:
                results.append(result)
    return torch.cat(results) if results else torch.empty(0, model.config.vocab_size)
