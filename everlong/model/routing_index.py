"""The routing index: a few numbers of every key, from which queries estimate their scores.

It has R numbers of 4 bits for each token and kv head: the key in the directions that tell most
about its scores, found on other text (``calibration.py``). Principal directions of keys are those
of Singhania et al., "Loki" (2024), here weighted by the queries.

This is the plain twin of ``native/routing_index.h``.

Letters: T tokens, H query heads, K kv heads, G = H / K, D head size, R directions.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from everlong.model.attention import turn_back
from everlong.model.cache import BLOCK, EVERYWHERE, PIECE, PIECES, frames
from everlong.model.config import ModelConfig
from everlong.model.rope import Rope

DIRECTIONS = 32
"""R: 16 bytes a token and kv head, 6 % of keys and values of 64 numbers in bfloat16."""
STEPS = 7
"""Codes are from -8 to 7; so many steps reach what is seldom exceeded."""


@dataclass(frozen=True)
class Projection:
    """What keys become in the index, for each layer and kv head."""

    centre: Tensor
    """Mean key, float32 [layers, K, D]."""
    encoder: Tensor
    """A key less the mean, times this, rounded, is its codes; float32 [layers, K, D, R]."""
    decoder: Tensor
    """A query times this meets codes as it meets keys; float32 [layers, K, D, R]."""
    worth: Tensor
    """What a code's step is worth in a score: root of its mean square; float32 [layers, K, R]."""

    def codes(self, layer: int, keys: Tensor) -> Tensor:
        """Keys [T, K, D] in the index: int8 [T, K, R], from -8 to 7."""
        return self.rounded(layer, keys).to(torch.int8)

    def rounded(self, layer: int, keys: Tensor) -> Tensor:
        """The same in float32, for training: gradients pass the rounding straight through (Bengio
        et al., 2013)."""
        along = torch.einsum("tkd,kdr->tkr", keys.float() - self.centre[layer], self.encoder[layer])
        return _straight_through(along.round().clamp(-STEPS - 1, STEPS), along)

    def scores(self, layer: int, queries: Tensor, codes: Tensor) -> Tensor:
        """Estimated scores of tokens, before the softmax and without its scale.

        Args:
            layer: which.
            queries: rotated, [n, H, D].
            codes: of T tokens, [T, K, R].

        Returns:
            float32 [K, G, n, T].
        """
        q, along = self._along(layer, queries)
        # Queries are rounded to 8 bits.
        scale = along.abs().amax(-1, keepdim=True).clamp_min(1e-30) / 127
        along = _straight_through((along / scale).round() * scale, along)
        mean = torch.einsum("nkgd,kd->kgn", q, self.centre[layer])
        return torch.einsum("kgnr,tkr->kgnt", along, codes.float()) + mean[..., None]

    def norms(self, layer: int, queries: Tensor) -> Tensor:
        """Of queries [n, H, D], beside what queries ask along each direction: [K, G, n]."""
        _, along = self._along(layer, queries)
        return (along / self.worth[layer][:, None, None]).square().mean(-1).sqrt()

    def _along(self, layer: int, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Queries by their kv head [n, K, G, D], and as they meet codes [K, G, n, R]."""
        decoder = self.decoder[layer]
        q = queries.float().reshape(len(queries), len(decoder), -1, queries.shape[-1])
        return q, torch.einsum("nkgd,kdr->kgnr", q, decoder)

    def index(self, block: Tensor, number: int, rope: Rope, reach: int = EVERYWHERE) -> Tensor:
        """The routing index of a block, see :func:`packed`.

        Args:
            block: its keys and values [layers, K, 2, 64, D].
            number: its place in its sequence.
            rope: of the model.
            reach: as in a :class:`Batch`.
        """
        layers = range(len(block))
        return torch.stack(
            [self.layer_index(i, block[i, :, 0], number, rope, reach) for i in layers]
        )

    def layer_index(
        self, layer: int, keys: Tensor, number: int, rope: Rope, reach: int = EVERYWHERE
    ) -> Tensor:
        """The same of one layer: keys [K, 64, D], of which some may never have been written."""
        # What lies behind the tokens that are there is never asked for.
        there = torch.nan_to_num(keys.transpose(0, 1).float())
        if before := frames(number, reach):
            there = turn_back(there, rope, before)
        return packed(self.codes(layer, there))

    def digest(self) -> str:
        """Names these directions."""
        found = hashlib.blake2b(digest_size=8)
        for part in (self.centre, self.encoder, self.decoder, self.worth):
            found.update(part.contiguous().numpy().tobytes())
        return found.hexdigest()


def _straight_through(value: Tensor, smooth: Tensor) -> Tensor:
    """``value``, exactly, with the gradient of ``smooth``."""
    return value.detach() + (smooth - smooth.detach())


def index_shape(config: ModelConfig) -> tuple[int, int, int]:
    """Shape of the routing index of a block, uint8 [layers, K, bytes]."""
    return (config.num_layers, config.num_kv_heads, BLOCK * DIRECTIONS // 2)


def packed(codes: Tensor) -> Tensor:
    """The codes of a block [64, K, R] as they are stored: uint8 [K, 1024].

    A token of each piece lies beside those of the others, with 4 bytes: byte j of group g has code
    8 g + j in its low half and 8 g + 4 + j in its high half, both plus 8. So kernels meet 16 tokens
    in one instruction, and compare the four of a piece without leaving their place.
    """
    whole = pad(codes + STEPS + 1, (0, DIRECTIONS - codes.shape[-1])).to(torch.uint8)
    # [pieces, tokens, K, groups, 4 bytes]
    low, high = whole.view(PIECES, PIECE, -1, 4, 2, 4).unbind(4)
    return (low | high << 4).permute(2, 1, 3, 0, 4).flatten(1)


def unpacked(index: Tensor, directions: int) -> Tensor:
    """The reverse of :func:`packed`: int8 [64, K, R]."""
    both = index.view(len(index), PIECE, 4, PIECES, 4).permute(3, 1, 0, 2, 4)  # as above
    codes = torch.stack((both & 15, both >> 4), dim=4).flatten(3).flatten(0, 1)
    return codes[..., :directions].to(torch.int8) - (STEPS + 1)
