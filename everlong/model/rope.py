"""Rotary position embedding and the rules that stretch it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from everlong.model.cache import BLOCK
from everlong.model.config import RopeConfig
from everlong.model.native.rotation import computes, rotated


def rotate(x: Tensor, rope: Tensor) -> Tensor:
    """Rotate heads by their positions (Su et al. 2021, section 3.4).

    The two halves of a head form the pairs, as in the checkpoints of the Hugging Face layout.

    Args:
        x: [..., H, D].
        rope: [..., D]: cosines in the first half, sines in the second, of the token's position.
    """
    cosine, sine = rope.unsqueeze(-2).chunk(2, dim=-1)
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cosine - b * sine, b * cosine + a * sine), dim=-1)


def turned(x: Tensor, rope: Tensor, dtype: torch.dtype) -> Tensor:
    """Heads rotated by their positions and then rounded, with gradients; as :func:`rotate`.

    Args:
        x: [..., H, D].
        rope: float32 [..., D].
        dtype: of the result.
    """
    return rotated(x, rope) if computes(x, dtype) else rotate(x, rope).to(dtype)


class Rope:
    """Angles of a model's positions, from a table that grows as it is used.

    Args:
        config: base and scaling rule.
        head_dim: D, even.
        max_position: trained window in tokens, where the rule does not name its own.
    """

    def __init__(self, config: RopeConfig, head_dim: int, max_position: int) -> None:
        self._config = config
        self._head_dim = head_dim
        self._window = config.original_max_position or max_position
        self._table = torch.empty(0, head_dim, device="cpu")
        self._turns = torch.empty(0, head_dim, device="cpu")
        self._frequencies, self._gain = self._rule()

    def __call__(self, positions: Tensor, length: int | None = None) -> Tensor:
        """Cosines and sines of ``positions``, float32 [..., D].

        Args:
            positions: integers of any shape, not negative.
            length: tokens of the longest sequence, read by the ``dynamic`` rule only; the
                largest position plus one when None.
        """
        if self._config.scaling == "dynamic":
            if length is None:
                length = int(positions.max()) + 1
            if length > self._window:
                return self._angles(positions, self._dynamic(length))
        if positions.numel() and (top := int(positions.max())) >= len(self._table):
            size = max(1024, 1 << (top + 1).bit_length())
            self._table = self._angles(torch.arange(size, device="cpu"), self._frequencies)
        return self._table[positions]

    def turns(self, count: int) -> Tensor:
        """Cosines and sines of moves by 0, 1, ... blocks, float32 [``count`` or more, D].

        Without the rule's gain: what is moved has it already.
        """
        if count > len(self._turns):
            size = max(64, 1 << (count - 1).bit_length())
            # In float64: a million tokens are 0.06 radians off in float32.
            angle = BLOCK * torch.arange(size, device="cpu").double()[:, None]
            angle = angle * self._frequencies
            self._turns = torch.cat((angle.cos(), angle.sin()), dim=-1).float()
        return self._turns

    def _angles(self, positions: Tensor, frequencies: Tensor) -> Tensor:
        # Angles in float32, as the reference implementations have them: at position p the error
        # is about p * 6e-8 radians, and the checkpoints were trained with it.
        angle = positions.float()[..., None] * frequencies
        return torch.cat((angle.cos(), angle.sin()), dim=-1) * self._gain

    def _base_frequencies(self, theta: float) -> Tensor:
        exponent = torch.arange(0, self._head_dim, 2, dtype=torch.int64, device="cpu")
        exponent = exponent.float() / self._head_dim
        return 1.0 / (theta**exponent)

    def _dynamic(self, length: int) -> Tensor:
        c, d = self._config, self._head_dim
        grown = c.factor * length / self._window - (c.factor - 1)
        return self._base_frequencies(c.theta * grown ** (d / (d - 2)))

    def _rule(self) -> tuple[Tensor, float]:
        c = self._config
        base = self._base_frequencies(c.theta)
        if c.scaling == "linear":
            return base / c.factor, 1.0
        if c.scaling == "llama3":
            return self._llama3(base), 1.0
        if c.scaling == "yarn":
            gain = c.attention_factor
            if gain is None:
                gain = 0.1 * math.log(c.factor) + 1.0 if c.factor > 1 else 1.0
            return self._yarn(base), gain
        return base, 1.0

    def _llama3(self, base: Tensor) -> Tensor:
        c = self._config
        wavelength = 2 * math.pi / base
        smooth = (c.original_max_position / wavelength - c.low_freq_factor) / (
            c.high_freq_factor - c.low_freq_factor
        )
        blended = (1 - smooth) * base / c.factor + smooth * base
        result = torch.where(
            wavelength > c.original_max_position / c.low_freq_factor, base / c.factor, blended
        )
        return torch.where(wavelength < c.original_max_position / c.high_freq_factor, base, result)

    def _yarn(self, base: Tensor) -> Tensor:
        c, d = self._config, self._head_dim

        def dimension(rotations: float) -> float:
            span = c.original_max_position / (rotations * 2 * math.pi)
            return d * math.log(span) / (2 * math.log(c.theta))

        low = max(math.floor(dimension(c.beta_fast)), 0)
        high = min(math.ceil(dimension(c.beta_slow)), d - 1)
        ramp = (torch.arange(d // 2, device="cpu").float() - low) / max(high - low, 0.001)
        interpolated = ramp.clamp(0, 1)
        return base / c.factor * interpolated + base * (1 - interpolated)
