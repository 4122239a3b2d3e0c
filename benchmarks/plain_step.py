"""One step of a loop as short as nanoGPT's, whatever plain model it trains."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy


def plain_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, tokens: Tensor, sequences: int, length: int
) -> float:
    """Train on sequences from random places of a text; returns the loss, in nats."""
    starts = torch.randint(len(tokens) - length - 1, (sequences,))
    x = torch.stack([tokens[at : at + length] for at in starts])
    y = torch.stack([tokens[at + 1 : at + length + 1] for at in starts])
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(x)
        loss = cross_entropy(logits.view(-1, logits.shape[-1]), y.view(-1))
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return float(loss.item())
