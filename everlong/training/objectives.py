"""From a batch to the loss that its objective says."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from everlong.data.batches import TokenBatch
from everlong.model.packed_attention import PackedAttention
from everlong.model.transformer import Transformer
from everlong.training.losses import (
    contrastive_loss,
    mean_states,
    next_token_loss,
    preference_loss,
    sequence_log_probabilities,
)


class Losses:
    """Computes losses of a run's batches.

    Args:
        precision: of the products.
        recompute: whether layers are computed again for the backward pass.
        reference: makes the model before the first step, which preferences are told from; called
            when it is needed, and once.
    """

    def __init__(
        self, precision: torch.dtype, recompute: bool, reference: Callable[[], Transformer]
    ) -> None:
        self._precision, self._recompute = precision, recompute
        self._make_reference = reference
        self._reference: Transformer | None = None

    def __call__(self, model: Transformer, batch: TokenBatch) -> Tensor:
        """The sum over the learned tokens of a batch, or over its pairs, in nats."""
        states = self._states(model, batch)
        if batch.pairs == "contrastive":
            embedded = mean_states(states, batch.lengths)
            return batch.learned * contrastive_loss(embedded[::2], embedded[1::2], batch.alike)
        if batch.pairs == "preference":
            if self._reference is None:
                self._reference = self._make_reference().requires_grad_(False)
            with torch.no_grad():
                known = self._states(self._reference, batch)
                before = self._log_probabilities(known, self._reference, batch)
            now = self._log_probabilities(states, model, batch)
            return preference_loss(now[::2], now[1::2], before[::2], before[1::2])
        return next_token_loss(states, model.head_weight, batch.targets, self._precision)

    def _log_probabilities(self, states: Tensor, model: Transformer, batch: TokenBatch) -> Tensor:
        return sequence_log_probabilities(
            states, model.head_weight, batch.targets, batch.lengths, self._precision
        )

    def _states(self, model: Transformer, batch: TokenBatch) -> Tensor:
        attend = PackedAttention(batch.lengths, batch.sights)
        bf16 = self._precision == torch.bfloat16
        with torch.autocast(batch.tokens.device.type, torch.bfloat16, enabled=bf16):
            return model.states(
                batch.tokens,
                positions=batch.positions,
                attend=attend,
                recompute=self._recompute and torch.is_grad_enabled(),
            )
