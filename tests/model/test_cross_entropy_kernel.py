from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from everlong.model.native import cross_entropy as kernel
from everlong.model.native.cross_entropy import cross_entropy_


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("size", [1, 15, 16, 17, 100, 1000])
def test_losses_and_gradients_are_those_of_the_exact_logits(
    monkeypatch: pytest.MonkeyPatch, size: int, native: bool
) -> None:
    if not native:
        monkeypatch.setattr(kernel, "library", lambda: None)
    generator = torch.Generator().manual_seed(size)
    logits = (8 * torch.randn(9, size, generator=generator)).bfloat16()
    targets = torch.randint(size, (9,), generator=generator)
    exact = logits.double().requires_grad_()
    wanted = cross_entropy(exact, targets, reduction="sum")
    (of_exact,) = torch.autograd.grad(wanted, exact)
    loss, gradient = cross_entropy_(logits.clone(), targets)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-5, abs=1e-5)
    assert gradient.dtype == torch.bfloat16
    torch.testing.assert_close(gradient.double(), of_exact, rtol=2**-8, atol=1e-6)


def test_far_logits_and_missing_ones_are_no_trouble() -> None:
    logits = torch.tensor([[-torch.inf, 3e4, 0.0, -3e4], [5e37, -5e37, 5e37, -torch.inf]])
    loss, gradient = cross_entropy_(logits.bfloat16(), torch.tensor([2, 0]))
    exact = cross_entropy(logits.bfloat16().double(), torch.tensor([2, 0]), reduction="sum")
    assert loss.item() == pytest.approx(exact.item(), rel=1e-5)
    torch.testing.assert_close(
        gradient.float(), torch.tensor([[0.0, 1, -1, 0], [-0.5, 0, 0.5, 0]]), rtol=0, atol=1e-6
    )
