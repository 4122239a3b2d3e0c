"""Attention routing: which blocks of keys a query reads, chosen by what is in them.

Attention is concentrated: nearly all of it falls on a few blocks. To know which without reading the
keys, an *index* keeps R numbers of 4 bits for each token and kv head: the key in the directions in
which keys of that head differ most, found on other text (:func:`calibrate`). A query in the same
directions estimates its score of every token, and so how much of its attention falls on each block.
Read are the first blocks, the last ones, and of the others the best, until together they have a
given share of the estimated attention: few where it is concentrated, many where it is spread.

A block of queries is a block's 64 tokens, or the part of it that a step computes. It reads the same
blocks for all of its tokens and all heads of a kv head, chosen by some of its queries; so a read
block is read once.

This is the plain code, in PyTorch. Principal directions of keys are those of Singhania et al.,
"Loki" (2024); a share of the attention instead of a number of tokens is that of Lin et al.,
"Twilight" (2025). Blocks, queries that choose for others, and codes of 4 bits: ours, as measured in
``docs/experiments.md``.

Letters: T tokens, N blocks, H query heads, K kv heads, G = H / K, D head size, R directions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from everlong.errors import ConfigError
from everlong.model.attention import SequenceAttention
from everlong.model.cache import BLOCK
from everlong.model.transformer import Transformer

DIRECTIONS = 32
"""R: 16 bytes a token and kv head, 6 % of keys and values of 64 numbers in bfloat16."""
_STEPS = 7
"""Codes are from -8 to 7; so many steps reach what is seldom exceeded."""
_SELDOM = 0.999
_LEAST_TOKENS = 1024


@dataclass(frozen=True)
class Budget:
    """How many blocks a block of queries reads."""

    mass: float = 0.9
    """Share of the estimated attention that what is read has, at least."""
    least: int = 1
    """Blocks that are chosen at least, besides the first and the last ones."""
    most: int = 32
    """And at most."""
    first: int = 1
    """Blocks at the beginning that are always read: much attention rests there (Xiao et al., 2023,
    section 3.1)."""
    last: int = 4
    """Blocks at the end, with that of the queries, that are always read."""
    queries: int = 8
    """Of a block of queries, so many choose for all."""

    def __post_init__(self) -> None:
        if not 0 < self.mass <= 1:
            raise ConfigError(f"mass is a share above 0 and at most 1, not {self.mass}")
        if not 0 <= self.least <= self.most:
            raise ConfigError(f"least is from 0 to most, not {self.least} to {self.most}")
        if self.first < 0 or self.last < 1 or self.queries < 1:
            raise ConfigError(
                f"first is at least 0, last and queries at least 1, not {self.first}, {self.last}, "
                f"{self.queries}"
            )


@dataclass(frozen=True)
class Projection:
    """What keys become in the index, for each layer and kv head."""

    centre: Tensor
    """Mean key, float32 [layers, K, D]."""
    directions: Tensor
    """Orthonormal, float32 [layers, K, D, R]."""
    step: Tensor
    """Width of a code's step in each direction, float32 [layers, K, R]."""

    def codes(self, layer: int, keys: Tensor) -> Tensor:
        """Keys [T, K, D] in the index: int8 [T, K, R], from -8 to 7."""
        along = torch.einsum(
            "tkd,kdr->tkr", keys.float() - self.centre[layer], self.directions[layer]
        )
        return (along / self.step[layer]).round().clamp(-_STEPS - 1, _STEPS).to(torch.int8)

    def scores(self, layer: int, queries: Tensor, codes: Tensor) -> Tensor:
        """Estimated scores of tokens, before the softmax and without its scale.

        Args:
            layer: which.
            queries: rotated, [n, H, D].
            codes: of T tokens, [T, K, R].

        Returns:
            float32 [K, G, n, T].
        """
        kv_heads = codes.shape[1]
        q = queries.float().reshape(len(queries), kv_heads, -1, queries.shape[-1])  # [n, K, G, D]
        along = torch.einsum(
            "nkgd,kdr->kgnr", q, self.directions[layer] * self.step[layer, :, None]
        )
        mean = torch.einsum("nkgd,kd->kgn", q, self.centre[layer])
        return torch.einsum("kgnr,tkr->kgnt", along, codes.float()) + mean[..., None]


def calibrate(
    model: Transformer, tokens: Sequence[int], directions: int = DIRECTIONS
) -> Projection:
    """Find the directions in which the keys of each head differ most on a text.

    Args:
        model: reads the text.
        tokens: of the text, of any kind but what it will be tested on.
        directions: R, at most D.

    Raises:
        ConfigError: the text is too short, or there are not so many directions.
    """
    if len(tokens) < _LEAST_TOKENS:
        raise ConfigError(f"{len(tokens)} tokens are too few to calibrate on; give {_LEAST_TOKENS}")
    if not 1 <= directions <= model.config.head_dim:
        raise ConfigError(f"there are 1 to {model.config.head_dim} directions, not {directions}")
    attend = _Observed()
    with torch.inference_mode():
        model.states(torch.tensor([list(tokens)]), attend=attend)
    found = [_principal(keys, directions) for keys in attend.keys]
    return Projection(*(torch.stack(parts) for parts in zip(*found, strict=True)))


def choose(mass: Tensor, blocks: int, budget: Budget) -> Tensor:
    """Which blocks are read, by their estimated share of the attention.

    Args:
        mass: of each block, [K, N], summing to 1 for each kv head.
        blocks: of them, so many come before the block of the queries, with it.
        budget: how many.

    Returns:
        bool [K, N].
    """
    chosen = torch.zeros_like(mass, dtype=torch.bool)
    first, last = min(budget.first, blocks), max(blocks - budget.last, 0)
    chosen[:, :first] = True
    chosen[:, last:blocks] = True
    if last <= first:
        return chosen
    others = mass[:, first:last]
    best, place = others.sort(dim=1, descending=True, stable=True)
    fixed = (mass * chosen).sum(1, keepdim=True)
    # How many are needed: those before which the share is not reached.
    before = fixed + best.cumsum(1) - best
    needed = (before < budget.mass * mass.sum(1, keepdim=True)).sum(1, keepdim=True)
    needed = needed.clamp(budget.least, budget.most)
    taken = torch.arange(last - first).expand_as(place) < needed
    chosen[:, first:last].scatter_(1, place, taken)
    return chosen


class RoutedAttention:
    """Attention of one whole sequence to itself, each block of queries to the blocks it chooses.

    The plain reference: every index of a sequence is made anew.

    Args:
        projection: of the model.
        budget: how many blocks are read.
        observe: told, for each layer and block of queries, in order, which blocks it reads:
            ``observe(layer, block, chosen)`` with bool [K, block + 1].
    """

    def __init__(
        self,
        projection: Projection,
        budget: Budget,
        observe: Callable[[int, int, Tensor], None] = lambda layer, block, chosen: None,
    ) -> None:
        self._projection, self._budget, self._observe = projection, budget, observe

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, window: int | None) -> Tensor:
        """As :class:`everlong.model.attention.Attend`, with q [1, T, H, D]."""
        assert q.shape[0] == 1, "one sequence"
        assert window is None, "layers that see a window only are not routed"
        q, k, v = q[0], k[0], v[0]
        codes = self._projection.codes(layer, k)
        out = torch.empty_like(q)
        for block in range(-(-len(q) // BLOCK)):
            rows = slice(block * BLOCK, min((block + 1) * BLOCK, len(q)))
            chosen = self._chosen(layer, block, q[rows], k[: rows.stop], codes[: rows.stop])
            self._observe(layer, block, chosen)
            out[rows] = attend_chosen(q[rows], k[: rows.stop], v[: rows.stop], chosen)
        return out[None]

    def _chosen(self, layer: int, block: int, q: Tensor, k: Tensor, codes: Tensor) -> Tensor:
        """Which blocks a block of queries reads, bool [K, block + 1]."""
        budget, kv_heads = self._budget, codes.shape[1]
        if block < budget.first + budget.last + budget.least:
            return torch.ones(kv_heads, block + 1, dtype=torch.bool)
        places = sampled(len(q), budget.queries)
        scores = self._projection.scores(layer, q[places], codes)
        # Of what is read anyway the exact ones: keys at the beginning are like no others, and codes
        # have no step for them.
        for part in (slice(budget.first * BLOCK), slice((block + 1 - budget.last) * BLOCK, None)):
            scores[..., part] = _exact(q[places], k[part])
        scores *= q.shape[-1] ** -0.5
        seen = torch.arange(len(codes)) <= block * BLOCK + places[:, None]
        mass = scores.masked_fill(~seen, float("-inf")).softmax(-1).mean((1, 2))  # [K, T]
        return choose(by_block(mass), block + 1, budget)


def _exact(q: Tensor, k: Tensor) -> Tensor:
    """Scores [K, G, n, T] of queries [n, H, D] and keys [T, K, D], before the scale."""
    grouped = q.float().reshape(len(q), k.shape[1], -1, q.shape[-1])
    return torch.einsum("nkgd,tkd->kgnt", grouped, k.float())


def sampled(count: int, most: int) -> Tensor:
    """Places of at most ``most`` of ``count`` queries, evenly spread, the last one among them."""
    step = -(-count // most)
    return torch.arange(count - 1, -1, -step).flip(0)


def by_block(mass: Tensor) -> Tensor:
    """Sums [..., N] over the blocks of [..., T]."""
    whole = pad(mass, (0, -mass.shape[-1] % BLOCK))
    return whole.view(*whole.shape[:-1], -1, BLOCK).sum(-1)


def attend_chosen(q: Tensor, k: Tensor, v: Tensor, chosen: Tensor) -> Tensor:
    """Causal attention of the last queries of a sequence to chosen blocks of it.

    Args:
        q: [n, H, D], of the last n tokens.
        k, v: [T, K, D].
        chosen: bool [K, N]; the last block is among them.

    Returns:
        [n, H, D].
    """
    out = torch.empty_like(q)
    group = q.shape[1] // k.shape[1]
    at = torch.arange(len(k) - len(q), len(k))
    for head, read in enumerate(chosen):
        tokens = torch.nonzero(read.repeat_interleave(BLOCK)[: len(k)])[:, 0]
        heads = slice(head * group, (head + 1) * group)
        scores = torch.einsum("ngd,td->gnt", q[:, heads].float(), k[tokens, head].float())
        scores = scores * q.shape[-1] ** -0.5
        weights = scores.masked_fill(tokens > at[:, None], float("-inf")).softmax(-1)
        out[:, heads] = torch.einsum("gnt,td->ngd", weights.to(v.dtype), v[tokens, head])
    return out


class _Observed(SequenceAttention):
    """Dense attention that keeps the keys of every layer."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: list[Tensor] = []

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, window: int | None) -> Tensor:
        self.keys.append(k[0].float())
        return super().__call__(layer, q, k, v, window)


def _principal(keys: Tensor, directions: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of one layer's keys [T, K, D]: centre [K, D], directions [K, D, R] and steps [K, R]."""
    centre = keys.mean(0)
    rest = (keys - centre).transpose(0, 1)  # [K, T, D]
    _, vectors = torch.linalg.eigh(rest.transpose(1, 2) @ rest)  # ascending
    found = vectors[..., -directions:].flip(-1)
    reach = (rest @ found).abs().quantile(_SELDOM, dim=1)
    return centre, found, reach.clamp_min(1e-6) / _STEPS
