"""Cross-entropies of logits that become their own gradients; see ``cross_entropy.h``."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from everlong.model.native.library import library


def cross_entropy_(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Losses of rows of logits and their gradients, for which the logits' memory may be used.

    Args:
        logits: [n, V], contiguous; not to be read afterwards.
        targets: int64 [n].

    Returns:
        The sum of the losses in nats, float32, and its gradients [n, V] in the type of ``logits``.
    """
    kernels = library() if logits.device.type == "cpu" and logits.dtype == torch.bfloat16 else None
    if kernels is None:
        exact = logits.float()
        loss = cross_entropy(exact, targets, reduction="sum")
        gradient = exact.softmax(-1)
        ones = torch.ones_like(targets, dtype=gradient.dtype)[:, None]
        gradient.scatter_add_(1, targets[:, None], -ones)
        return loss, gradient.to(logits.dtype)
    targets = targets.contiguous()
    losses = torch.empty(len(targets))
    tensors = (one.data_ptr() for one in (logits, targets, losses))
    kernels.everlong_cross_entropy(*tensors, *logits.shape, torch.get_num_threads())
    return losses.sum(), logits
