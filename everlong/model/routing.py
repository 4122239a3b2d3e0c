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

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from everlong.errors import ConfigError
from everlong.model.attention import BlockAttention, moved_scores, pieces, turn_back
from everlong.model.cache import BLOCK, Batch, BlockTable, Span
from everlong.model.config import ModelConfig
from everlong.model.rope import Rope

DIRECTIONS = 32
"""R: 16 bytes a token and kv head, 6 % of keys and values of 64 numbers in bfloat16."""
STEPS = 7
"""Codes are from -8 to 7; so many steps reach what is seldom exceeded."""
_MOST_CHOSEN = 4096
_MOST_FIXED = 64
_MOST_QUERIES = 1024


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
    dense: int = 64
    """So many blocks, 4,096 tokens, are read without choosing: choosing would cost more."""
    renew: int = 8
    """A choice of a token that is computed alone serves so many tokens; the layers renew theirs one
    after the other."""

    def __post_init__(self) -> None:
        if not 0 < self.mass <= 1:
            raise ConfigError(f"mass is a share above 0 and at most 1, not {self.mass}")
        if not 0 <= self.least <= self.most:
            raise ConfigError(f"least is from 0 to most, not {self.least} to {self.most}")
        for name, low in (("first", 0), ("last", 1), ("queries", 1), ("dense", 0), ("renew", 1)):
            if getattr(self, name) < low:
                raise ConfigError(f"{name} is at least {low}, not {getattr(self, name)}")
        if self.most > _MOST_CHOSEN:
            raise ConfigError(f"most is at most {_MOST_CHOSEN}, not {self.most}")
        if self.first + self.last > _MOST_FIXED:
            raise ConfigError(
                f"first and last are at most {_MOST_FIXED} together, not {self.first + self.last}"
            )

    def reads_all(self, blocks: int) -> bool:
        """Whether a query with so many blocks, its own included, reads them all."""
        return blocks <= max(self.dense, self.first + self.last)


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
        return (along / self.step[layer]).round().clamp(-STEPS - 1, STEPS).to(torch.int8)

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
        # Queries are rounded to 8 bits.
        scale = along.abs().amax(-1, keepdim=True).clamp_min(1e-30) / 127
        along = (along / scale).round() * scale
        mean = torch.einsum("nkgd,kd->kgn", q, self.centre[layer])
        return torch.einsum("kgnr,tkr->kgnt", along, codes.float()) + mean[..., None]

    def index(self, block: Tensor) -> Tensor:
        """The routing index of a block [layers, K, 2, 64, D], see :func:`packed`."""
        keys = block[:, :, 0].transpose(1, 2)  # [layers, 64, K, D]
        return torch.stack([packed(self.codes(i, layer)) for i, layer in enumerate(keys)])

    def digest(self) -> str:
        """Names these directions."""
        found = hashlib.blake2b(digest_size=8)
        for part in (self.centre, self.directions, self.step):
            found.update(part.contiguous().numpy().tobytes())
        return found.hexdigest()


@dataclass(frozen=True)
class Routing:
    """How a model chooses what it reads."""

    projection: Projection
    budget: Budget


def index_shape(config: ModelConfig) -> tuple[int, int, int]:
    """Shape of the routing index of a block, uint8 [layers, K, bytes]."""
    return (config.num_layers, config.num_kv_heads, BLOCK * DIRECTIONS // 2)


def packed(codes: Tensor) -> Tensor:
    """The codes of a block [64, K, R] as they are stored: uint8 [K, 1024].

    Of 16 tokens, 4 bytes of each lie together: byte j of group g has code 8 g + j in its low half
    and 8 g + 4 + j in its high half, both plus 8. So kernels meet 16 tokens in one instruction.
    """
    whole = pad(codes + STEPS + 1, (0, DIRECTIONS - codes.shape[-1])).to(torch.uint8)
    low, high = whole.view(4, 16, -1, 4, 2, 4).unbind(4)  # [tokens / 16, 16, K, groups, 4]
    return (low | high << 4).permute(2, 0, 3, 1, 4).flatten(1)


def unpacked(index: Tensor, directions: int) -> Tensor:
    """The reverse of :func:`packed`: int8 [64, K, R]."""
    both = index.view(len(index), 4, 4, 16, 4).permute(1, 3, 0, 2, 4)  # as above
    codes = torch.stack((both & 15, both >> 4), dim=4).flatten(3).flatten(0, 1)
    return codes[..., :directions].to(torch.int8) - (STEPS + 1)


def choices_of(table: BlockTable, config: tuple[int, int], budget: Budget) -> Tensor:
    """Where the choices of a sequence are kept, int32 [layers, K, 3 + most].

    Whether there is one, where the last blocks that are always read began, how many were chosen,
    their numbers.

    Args:
        table: of the sequence.
        config: layers and kv heads.
        budget: how many may be chosen.
    """
    shape = (*config, 3 + budget.most)
    if table.choices is None or table.choices.shape != shape:
        table.choices = torch.zeros(shape, dtype=torch.int32)
    return table.choices


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

    For showing what is read; every index of a sequence is made anew.

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
        for rows, places in pieces(0, len(q)):
            block, end = places.start // BLOCK, rows.stop
            if self._budget.reads_all(block + 1):
                chosen = torch.ones(k.shape[1], block + 1, dtype=torch.bool)
            else:
                at = rows.start + sampled(len(places), self._budget.queries)
                scores = self._projection.scores(layer, q[at], codes[:end])
                chosen = chosen_by(
                    scores, at, self._budget, lambda part, at=at: exact(q[at], k[:end][part])
                )
            self._observe(layer, block, chosen)
            out[rows] = attend_chosen(q[rows], k[:end], v[:end], chosen)
        return out[None]


def chosen_by(
    scores: Tensor, at: Tensor, budget: Budget, exactly: Callable[[slice], Tensor]
) -> Tensor:
    """Which blocks some queries of one block read, bool [K, N].

    Args:
        scores: estimated scores of the queries that choose, without their scale, [K, G, n, T].
        at: their places, int [n]; the last of them in the last of the N blocks.
        budget: how many blocks.
        exactly: exact scores of a slice of the tokens.
    """
    block = int(at[-1]) // BLOCK
    # Of what is read anyway the exact ones: keys at the beginning are like no others, and codes
    # have no step for them.
    for part in (slice(budget.first * BLOCK), slice((block + 1 - budget.last) * BLOCK, None)):
        scores[..., part] = exactly(part)
    seen = torch.arange(scores.shape[-1]) <= at[:, None]
    mass = scores.masked_fill(~seen, float("-inf")).softmax(-1).mean((1, 2))  # [K, T]
    return choose(by_block(mass), block + 1, budget)


class RoutedBlockAttention(BlockAttention):
    """Attention of a step's rows to the blocks they choose; the plain twin of ``native/routing.h``.

    Args:
        batch: rows and block tables, whose blocks have an index.
        rope: turns queries for blocks that are moved.
        routing: how blocks are chosen.
    """

    def __init__(self, batch: Batch, rope: Rope, routing: Routing) -> None:
        super().__init__(batch, rope)
        self._projection, self._budget = routing.projection, routing.budget
        self._choices = [
            choices_of(span.table, tuple(self._projection.centre.shape[:2]), self._budget)
            for span in batch.spans
        ]

    def store(self, span: Span, layer: int, k: Tensor, v: Tensor) -> None:
        super().store(span, layer, k, v)
        for _, at in pieces(span.start, len(k)):
            number = at.start // BLOCK
            keys = span.table.blocks[number][layer, :, 0].transpose(0, 1)  # [64, K, D]
            # What lies behind the tokens that are there is never asked for.
            codes = self._projection.codes(layer, torch.nan_to_num(keys))
            span.table.codes[number][layer] = packed(codes)

    def attend(
        self, i: int, layer: int, q: Tensor, rows: slice, window: int | None, out: Tensor
    ) -> None:
        index, visible = self._batch.index[rows], self._batch.visible[rows]
        for part, places in pieces(int(index[0]), len(index)):
            here = slice(rows.start + part.start, rows.start + part.stop)
            causal = bool((visible[part] == index[part] + 1).all())
            blocks = places.start // BLOCK + 1
            if window is not None or not causal or self._budget.reads_all(blocks):
                super().attend(i, layer, q, here, window, out)
                continue
            chosen = self._chosen(i, layer, q[here], index[part])
            self._batch.skipped[i] += len(places) * int((~chosen).sum())
            for head, read in enumerate(chosen):
                self._attend_chosen(i, layer, head, torch.nonzero(read)[:, 0], here, q, out)

    def _chosen(self, i: int, layer: int, q: Tensor, index: Tensor) -> Tensor:
        """Which blocks the rows of one block read, bool [K, N]; q: [n, H, D]."""
        budget, table = self._budget, self._batch.spans[i].table
        choices, own = self._choices[i][layer], int(index[0]) // BLOCK
        chosen = torch.zeros(len(choices), own + 1, dtype=torch.bool)
        if len(index) == 1 and choices[0, 0] and (int(index[0]) + layer) % budget.renew:
            for head, (_, near, count, *numbers) in enumerate(choices.tolist()):
                chosen[head, numbers[:count]] = True
                chosen[head, near:] = True
            chosen[:, : budget.first] = True
            return chosen
        places = sampled(len(index), budget.queries)
        codes = torch.cat(
            [
                unpacked(c[layer], self._projection.directions.shape[-1])
                for c in table.codes[: own + 1]
            ]
        )
        keys = torch.cat([b[layer, :, 0] for b in table.blocks[: own + 1]], 1)  # [K, T, D]
        end = int(index[-1]) + 1
        turns = self._turns(range(own + 1), own)
        scores = self._estimated(layer, q[places], codes[:end], turns)
        scale = q.shape[-1] ** -0.5

        def exactly(part: slice) -> Tensor:
            blocks = range(own + 1)[slice(part.start and part.start // BLOCK, None)]
            if part.stop is not None:
                blocks = range(part.stop // BLOCK)
            found = moved_scores(
                q[places].float(),
                keys[:, :end][:, part].float(),
                self._turns(blocks, own),
                self._rope,
            )
            return found.unflatten(0, (len(choices), -1)) * scale

        chosen = chosen_by(scores * scale, index[places], budget, exactly)
        near = own + 1 - budget.last
        for head, read in enumerate(chosen):
            numbers = torch.nonzero(read[budget.first : near])[:, 0] + budget.first
            told = torch.tensor([len(index) == 1, near, len(numbers)])
            choices[head, : 3 + len(numbers)] = torch.cat((told, numbers))
        return chosen

    def _turns(self, numbers: Iterable[int], own: int) -> list[int]:
        return [max(0, own - number - self._batch.reach) for number in numbers]

    def _estimated(self, layer: int, q: Tensor, codes: Tensor, turns: list[int]) -> Tensor:
        """Estimated scores of tokens, [K, G, n, T], without their scale."""
        moved = sum(turn > 0 for turn in turns)  # the first ones
        parts = [
            self._projection.scores(
                layer, turn_back(q, self._rope, turn), codes[b * BLOCK : (b + 1) * BLOCK]
            )
            for b, turn in enumerate(turns[:moved])
        ]
        return torch.cat(
            [*parts, self._projection.scores(layer, q, codes[moved * BLOCK :])], dim=-1
        )

    def _attend_chosen(
        self,
        i: int,
        layer: int,
        head: int,
        numbers: Tensor,
        rows: slice,
        q: Tensor,
        out: Tensor,
    ) -> None:
        """Attention of one kv head's queries to the blocks with these numbers."""
        table, index = self._batch.spans[i].table, self._batch.index[rows]
        own, read = int(index[0]) // BLOCK, numbers.tolist()
        group = q.shape[1] // len(self._choices[i][layer])
        heads = slice(head * group, (head + 1) * group)
        stored = torch.cat([table.blocks[n][layer, head] for n in read], 1).to(q.dtype)
        tokens = (numbers[:, None] * BLOCK + torch.arange(BLOCK)).flatten()
        there = tokens <= index[-1]
        keys, values = stored[:, there]
        turns = self._turns(read, own)
        scores = moved_scores(q[rows, heads], keys[None], turns, self._rope).float()
        scores = scores * q.shape[-1] ** -0.5
        weights = scores.masked_fill(tokens[there] > index[:, None], float("-inf")).softmax(-1)
        out[rows, heads] = (weights.to(values.dtype) @ values).transpose(0, 1)


def exact(q: Tensor, k: Tensor) -> Tensor:
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
