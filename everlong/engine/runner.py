"""Runs the model for the engine: batches in, logits out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from everlong.engine.block_pool import BlockIndex
from everlong.engine.request import Reads
from everlong.engine.scheduler import Scheduled
from everlong.model.adapters import Adapter, adapted
from everlong.model.cache import (
    EVERYWHERE,
    Batch,
    BlockTable,
    Sight,
    Span,
    block_shape,
    pieces_seen,
    reach_of,
)
from everlong.model.native.step import NativeStep, supports
from everlong.model.quantization import PackedLinear
from everlong.model.routing import Routing
from everlong.model.routing_index import index_shape
from everlong.model.transformer import Transformer


class Runner:
    """Computes steps with the fastest code that serves them.

    Args:
        model: ready for inference.
        deterministic: a token's logits do not depend on what is computed beside it: the native
            kernels for every number of rows; without them, one token at a time.
        chunk: tokens of a sequence that are computed at once where no scheduler decides.
        adapters: by name; their requests run through PyTorch, each adapter in a batch of its own.
        routing: which blocks are read; None: all.
        window: tokens of the longest sequence; past what the model was trained for, blocks are read
            as if they lay within.
    """

    def __init__(
        self,
        model: Transformer,
        *,
        deterministic: bool,
        chunk: int,
        adapters: Mapping[str, Adapter],
        routing: Routing | None = None,
        window: int = 0,
    ) -> None:
        self.model = model
        self._deterministic = deterministic
        self._chunk = chunk
        self._routing = routing
        trained = model.config.max_position
        self._reach = reach_of(trained) if window > trained else EVERYWHERE
        packed = isinstance(model.lm_head, PackedLinear)
        self.dtype = kv_dtype(model)
        self._native = (
            NativeStep(model, deterministic=deterministic, routing=routing)
            if packed and supports(model.config)
            else None
        )
        self.numerics = _numerics(model, self._native is not None, deterministic)
        if routing is not None:
            self.numerics += f", {routing.budget} {routing.projection.digest()} {self._reach}"
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
            return self._scheduled(plan, next(iter(adapters)))
        rows = torch.empty(sum(s.rows for s in plan), self.model.config.vocab_size)
        owners = [s.sequence.adapter for s in plan for _ in range(s.rows)]
        for adapter in adapters:
            part = [s for s in plan if s.sequence.adapter == adapter]
            rows[[a == adapter for a in owners]] = self._scheduled(part, adapter)
        return rows

    def _scheduled(self, plan: Sequence[Scheduled], adapter: str | None) -> Tensor:
        batch = Batch([_span(s) for s in plan], self._reach)
        logits = self._step(batch, adapter)
        if self._routing is not None:
            for scheduled, skipped in zip(plan, batch.skipped.tolist(), strict=True):
                end = scheduled.sequence.computed + scheduled.count
                places = range(scheduled.sequence.computed, end)
                seen = pieces_seen(self.model.config, places)
                scheduled.sequence.reads += Reads(seen - skipped, seen)
        return logits

    @property
    def block_index(self) -> BlockIndex | None:
        """What blocks need where attention is routed."""
        routing, rope, reach = self._routing, self.model.rope, self._reach
        if routing is None:
            return None
        native = self._native

        def make(block: Tensor, number: int) -> Tensor:
            if native is not None:
                return native.index(block, number, reach)
            return routing.projection.index(block, number, rope, reach)

        return BlockIndex(index_shape(self.model.config), make)

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
        batch = Batch(spans, self._reach)
        return list(torch.split(self._step(batch, states=True), [len(p) for p in prompts]))

    def _table(self, tokens: int) -> BlockTable:
        table = BlockTable()
        shape = block_shape(self.model.config)
        while table.capacity < tokens:
            codes = None
            if self._routing is not None:
                codes = torch.empty(index_shape(self.model.config), dtype=torch.uint8)
            table.append(torch.empty(shape, dtype=self.dtype), codes)
        return table

    def _whole(self, tokens: Sequence[int], sight: Sight, states: bool) -> Tensor:
        table = self._table(len(tokens))
        # Only what is causal can be cut.
        size = self._chunk if sight == "causal" else len(tokens)
        parts = []
        for start in range(0, len(tokens), size):
            part = tokens[start : start + size]
            span = Span(part, table, start, sight=sight, logits="none" if states else "all")
            parts.append(self._step(Batch([span], self._reach), states=states))
        return torch.cat(parts)

    def _step(self, batch: Batch, adapter: str | None = None, *, states: bool = False) -> Tensor:
        model = self._models[adapter]
        with torch.inference_mode():
            native = self._native if adapter is None else None
            if native is not None and native.serves(batch.rows):
                return native(batch, states=states)
            if self._deterministic and all(span.sight == "causal" for span in batch.spans):
                return _one_by_one(model, batch.spans, states)
            return model.step(batch, states=states, routing=self._routing)


def kv_dtype(model: Transformer) -> torch.dtype:
    """Number format of keys and values."""
    return torch.bfloat16 if isinstance(model.lm_head, PackedLinear) else torch.float32


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


def _one_by_one(model: Transformer, spans: Sequence[Span], states: bool) -> Tensor:
    """Every token in a step of its own, whose shapes depend on nothing else."""
    results = []
    for span in spans:
        for i, token in enumerate(span.tokens):
            one = Span([token], span.table, span.start + i)
            result = model.step(Batch([one]), states=states)
            if states or i >= len(span.tokens) - span.wanted:
                results.append(result)
    return torch.cat(results) if results else torch.empty(0, model.config.vocab_size)
