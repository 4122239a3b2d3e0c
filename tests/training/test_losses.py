from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from everlong.data.objectives import NOT_LEARNED
from everlong.errors import DataError
from everlong.training import losses
from everlong.training.losses import (
    contrastive_loss,
    next_token_loss,
    preference_loss,
    sequence_log_probabilities,
)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_the_loss_and_its_gradients_are_those_of_cross_entropy(
    monkeypatch: pytest.MonkeyPatch, precision: torch.dtype, chunk: int
) -> None:
    monkeypatch.setattr(losses, "CHUNK_LOGITS", chunk * 50)
    monkeypatch.setattr(losses, "_ROWS", 1)
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(23, 16, generator=generator, requires_grad=True)
    weight = torch.randn(50, 16, generator=generator, requires_grad=True)
    targets = torch.randint(50, (23,), generator=generator)
    targets[::4] = NOT_LEARNED
    found = next_token_loss(states, weight, targets, precision)
    expected = cross_entropy(states @ weight.T, targets, reduction="sum", ignore_index=NOT_LEARNED)
    near = (
        {"rtol": 1e-5, "atol": 1e-5} if precision == torch.float32 else {"rtol": 0.05, "atol": 0.05}
    )
    torch.testing.assert_close(found, expected, **near)
    for one, other in zip(
        torch.autograd.grad(0.5 * found, (states, weight)),
        torch.autograd.grad(0.5 * expected, (states, weight)),
        strict=True,
    ):
        torch.testing.assert_close(one, other, **near)


def test_frozen_weights_have_no_gradient() -> None:
    states = torch.randn(5, 4, requires_grad=True)
    weight = torch.randn(9, 4)
    next_token_loss(states, weight, torch.arange(5)).backward()
    assert states.grad is not None
    assert weight.grad is None
    with torch.no_grad():
        assert next_token_loss(states, weight, torch.arange(5)) > 0


def test_nothing_to_learn_is_no_loss() -> None:
    states = torch.randn(3, 4, requires_grad=True)
    loss = next_token_loss(states, torch.randn(9, 4), torch.full((3,), NOT_LEARNED))
    loss.backward()
    assert loss == 0
    assert states.grad is not None
    assert not states.grad.any()


def test_pairs_are_told_apart() -> None:
    one = torch.eye(6)
    assert contrastive_loss(one, one) < 1e-6
    assert contrastive_loss(one, one.roll(1, 0)) > 10
    # Nothing but chance: the logarithm of their number.
    same = torch.ones(6, 4)
    torch.testing.assert_close(contrastive_loss(same, same), torch.tensor(6.0).log())


@pytest.mark.parametrize("logits", [1 << 26, 22])
def test_log_probabilities_of_sequences(logits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("everlong.training.losses.CHUNK_LOGITS", logits)
    monkeypatch.setattr("everlong.training.losses._ROWS", 1)
    states = torch.randn(9, 6, requires_grad=True)
    weight = torch.randn(11, 6, requires_grad=True)
    targets = torch.tensor([3, NOT_LEARNED, 5, 1, NOT_LEARNED, NOT_LEARNED, 0, 10, 2])
    found = sequence_log_probabilities(states, weight, targets, (3, 3, 3))
    each = torch.log_softmax(states @ weight.T, -1)
    expected = [
        each[0, 3] + each[2, 5],
        each[3, 1],
        each[6, 0] + each[7, 10] + each[8, 2],
    ]
    torch.testing.assert_close(found, torch.stack(expected))
    of = torch.tensor([1.0, -2.0, 0.5])
    gradients = torch.autograd.grad(found, (states, weight), of)
    wanted = torch.autograd.grad(torch.stack(expected), (states, weight), of)
    for one, other in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(one, other)


def test_one_pair_alone_cannot_be_compared() -> None:
    with pytest.raises(DataError, match="there is a single one; give more"):
        contrastive_loss(torch.ones(1, 4), torch.ones(1, 4))


def test_pairs_that_share_a_text_are_not_told_apart() -> None:
    one, other = torch.randn(2, 4, 8).unbind()
    alike = torch.eye(4, dtype=torch.bool)
    torch.testing.assert_close(contrastive_loss(one, other, alike), contrastive_loss(one, other))
    alike[0, 3] = alike[3, 0] = True
    scores = torch.nn.functional.cosine_similarity(one[:, None], other[None], dim=-1) / 0.05
    wanted = torch.tensor(0.0)
    for row in range(4):
        for of in (scores, scores.T):
            others = [j for j in range(4) if j == row or not alike[row, j]]
            wanted += of[row, others].logsumexp(0) - of[row, row]
    torch.testing.assert_close(contrastive_loss(one, other, alike), wanted / 8)


def test_nothing_is_kept_for_gradients_that_nobody_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = torch.randn(9, 4, requires_grad=True)
    asked: list[object] = []
    monkeypatch.setattr(torch, "zeros_like", lambda like: asked.append(like))
    with torch.no_grad():
        next_token_loss(torch.randn(5, 4), weight, torch.arange(5))
    assert not asked


def test_preference_is_half_before_anything_is_learned() -> None:
    better, worse = torch.tensor([-3.0, -9.0]), torch.tensor([-2.0, -1.0])
    same = preference_loss(better, worse, better, worse)
    torch.testing.assert_close(same, 2 * torch.tensor(2.0).log())
    gained = preference_loss(better + 30, worse, better, worse)
    torch.testing.assert_close(gained, 2 * torch.tensor(1 + 2.718281828**-3).log())
