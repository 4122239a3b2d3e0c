"""Attention routing: which keys and values a query reads, chosen by what is in them.

Attention is concentrated: nearly all of it falls on a few places. To know which without reading
the keys, queries estimate their scores of all tokens from an index (``routing_index.py``), and so
how much of their attention falls on each *piece* of 4 tokens. Read are the first blocks, the last
ones, and of the others the best pieces, until together they have a given share of the estimated
attention: few where it is concentrated, many where it is spread.

Neighbouring tokens of a block that are computed together read the same pieces, for all heads of a
kv head, chosen by some of their queries; so what is read is read once for all of them. A token that
is computed alone chooses alone, and of a prompt's last tokens, which say what is asked for, all
choose. Long sequences are searched in two levels (``outline.py``).

Keys are rotated at their position. What lies farther back than a model was trained for is asked as
if it lay within reach (queries are turned, keys stay); and as the directions are found on positions
within reach, codes are those of the key at its place in a *frame* of that length.

This is the plain code, in PyTorch; ``native/routing.h`` is its twin in the kernels. A share of the
attention instead of a number of tokens is that of Lin et al., "Twilight" (2025). Pieces, and
queries that choose for others: ours, as measured in ``docs/experiments.md``.

Letters: T tokens, N blocks, P pieces, H query heads, K kv heads, G = H / K, D head size, R
directions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import pad

from everlong.errors import ConfigError
from everlong.model.attention import BlockAttention, moved_scores, pieces, turn_back
from everlong.model.cache import BLOCK, PIECE, PIECES, Batch, Outline, Span, frames, moved
from everlong.model.outline import QUERIES, THOROUGH, outlined, promises, remember, searched
from everlong.model.rope import Rope
from everlong.model.routing_index import Projection, unpacked

FOUR_TOKENS = 1.8
"""Attention to the four tokens of a piece by the largest of their scores alone: times this, as
measured (``docs/experiments.md``, section 23)."""
_MOST_CHOSEN = 1 << 16
_MOST_FIXED = 64


@dataclass(frozen=True)
class Budget:
    """How much a query reads."""

    mass: float = 0.91
    """Share of the estimated attention that what a token reads has, at least, where it is computed
    alone, as in decoding."""
    least: int = 16
    """Pieces of 4 tokens that are chosen at least, besides the first and the last blocks."""
    most: int = 512
    """And at most."""
    prompt_mass: float = 0.97
    """The same of tokens that are computed together, as those of a prompt: what they get wrong,
    every later token reads."""
    prompt_most: int = 1536
    """And so many pieces at most."""
    first: int = 1
    """Blocks at the beginning that are always read: much attention rests there (Xiao et al., 2023,
    section 3.1)."""
    last: int = 2
    """Blocks at the end, with that of the queries, that are always read."""
    rows: int = 64
    """So many neighbouring tokens of a block read the same pieces, where they are computed
    together; divides 64."""
    queries: int = 16
    """Of them, so many choose for all."""
    dense: int = 64
    """So many blocks, 4,096 tokens, are read without choosing: choosing would cost more."""
    flat: int = 2048
    """Up to so many blocks, 131,072 tokens, all are searched token by token. Of more, some are; see
    ``model/outline.py``."""
    searched: int = 512
    """So many."""

    def __post_init__(self) -> None:
        for mass in (self.mass, self.prompt_mass):
            if not 0 < mass <= 1:
                raise ConfigError(f"mass is a share above 0 and at most 1, not {mass}")
        if not 0 <= self.least <= min(self.most, self.prompt_most):
            raise ConfigError(
                f"least is from 0 to most, not {self.least} to {self.most} and {self.prompt_most}"
            )
        for name, low in (
            ("first", 0),
            ("last", 1),
            ("queries", 1),
            ("dense", 0),
            ("flat", 0),
            ("searched", 1),
        ):
            if getattr(self, name) < low:
                raise ConfigError(f"{name} is at least {low}, not {getattr(self, name)}")
        if not 1 <= self.rows <= BLOCK or BLOCK % self.rows:
            raise ConfigError(f"rows divides {BLOCK}, and {self.rows} does not")
        if max(self.most, self.prompt_most) > _MOST_CHOSEN:
            raise ConfigError(
                f"most is at most {_MOST_CHOSEN}, not {self.most} and {self.prompt_most}"
            )
        if self.first + self.last > _MOST_FIXED:
            raise ConfigError(
                f"first and last are at most {_MOST_FIXED} together, not {self.first + self.last}"
            )

    def reads_all(self, blocks: int) -> bool:
        """Whether a query with so many blocks, its own included, reads them all."""
        return blocks <= max(self.dense, self.first + self.last)


@dataclass(frozen=True)
class Routing:
    """How a model chooses what it reads."""

    projection: Projection
    budget: Budget


def choose(mass: Tensor, blocks: int, budget: Budget, alone: bool) -> Tensor:
    """Which pieces are read, by their estimated share of the attention.

    Args:
        mass: of each piece, [K, P].
        blocks: those before that of the queries, and it.
        budget: how many.
        alone: by a token that is computed alone.

    Returns:
        bool [K, P].
    """
    chosen = torch.zeros_like(mass, dtype=torch.bool)
    first, last = min(budget.first, blocks) * PIECES, max(blocks - budget.last, 0) * PIECES
    chosen[:, :first] = True
    chosen[:, last:] = True
    if last <= first:
        return chosen
    others = mass[:, first:last]
    best, place = others.sort(dim=1, descending=True, stable=True)
    fixed = (mass * chosen).sum(1, keepdim=True)
    # How many are needed: those before which the share is not reached.
    before = fixed + best.cumsum(1) - best
    enough = (budget.mass if alone else budget.prompt_mass) * mass.sum(1, keepdim=True)
    needed = (before < enough).sum(1, keepdim=True)
    needed = needed.clamp(budget.least, budget.most if alone else budget.prompt_most)
    taken = torch.arange(last - first).expand_as(place) < needed
    chosen[:, first:last].scatter_(1, place, taken)
    return chosen


class RoutedAttention:
    """Attention of one whole sequence to itself, a few tokens to the pieces they choose.

    For showing what is read; every index of a sequence is made anew.

    Args:
        projection: of the model.
        budget: how much is read.
        observe: told, for each layer and tokens that choose together, in order, which pieces they
            read: ``observe(layer, places, chosen)`` with bool [K, P].
    """

    def __init__(
        self,
        projection: Projection,
        budget: Budget,
        observe: Callable[[int, range, Tensor], None] = lambda layer, places, chosen: None,
    ) -> None:
        self._projection, self._budget, self._observe = projection, budget, observe

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, window: int | None) -> Tensor:
        """As :class:`everlong.model.attention.Attend`, with q [1, T, H, D]."""
        assert q.shape[0] == 1, "one sequence"
        assert window is None, "layers that see a window only are not routed"
        q, k, v = q[0], k[0], v[0]
        codes = self._projection.codes(layer, k)
        scale = q.shape[-1] ** -0.5
        out = torch.empty_like(q)
        for rows, places in pieces(0, len(q), self._budget.rows):
            block, end = places.start // BLOCK, rows.stop
            if self._budget.reads_all(block + 1):
                chosen = torch.ones(k.shape[1], (block + 1) * PIECES, dtype=torch.bool)
            else:
                at = rows.start + sampled(len(places), self._budget.queries)
                exactly = partial(exact, q[at] * scale, k[:end])
                scores = self._projection.scores(layer, q[at] * scale, codes[:end])
                mass = mass_by_piece(scores, at, self._budget, exactly)
                chosen = choose(mass, block + 1, self._budget, len(places) == 1)
            self._observe(layer, places, chosen)
            out[rows] = attend_chosen(q[rows], k[:end], v[:end], chosen)
        return out[None]


def mass_by_piece(
    scores: Tensor,
    at: Tensor,
    budget: Budget,
    exactly: Callable[[slice], Tensor],
    searched: Tensor | None = None,
) -> Tensor:
    """Share of the attention of some queries of one block to each piece, as estimated: [K, P].

    Args:
        scores: estimated scores of the queries that choose, [K, G, n, T].
        at: their places, int [n]; T ends with the last of them, or in its block.
        budget: how much is read.
        exactly: exact scores of a slice of the tokens.
        searched: which blocks are searched, bool [K, N]; None: all.
    """
    block = int(at[-1]) // BLOCK
    # Of what is read anyway the exact ones: keys at the beginning are like no others, and codes
    # have no step for them.
    first, last = budget.first * BLOCK, (block + 1 - budget.last) * BLOCK
    for part in (slice(first), slice(last, None)):
        scores[..., part] = exactly(part)
    seen = torch.arange(scores.shape[-1]) <= at[:, None]
    scores = scores.masked_fill(~seen, float("-inf"))
    weights = by_piece((scores - scores.amax(-1, keepdim=True)).exp(), block + 1)
    mass = weights.sum(-1)  # [K, G, n, P]
    others = slice(first // PIECE, last // PIECE)
    mass[..., others] = FOUR_TOKENS * weights.amax(-1)[..., others]
    if searched is not None:
        left_out = ~searched.repeat_interleave(PIECES, 1)[:, None, None, others]
        mass[..., others] = mass[..., others].masked_fill(left_out, 0)
    return (mass / mass.sum(-1, keepdim=True)).mean((1, 2))


class RoutedBlockAttention(BlockAttention):
    """Attention of a step's rows to the pieces they choose; the plain twin of ``native/routing.h``.

    Args:
        batch: rows and block tables, whose blocks have an index.
        rope: turns queries for blocks that are moved.
        routing: how blocks are chosen.
    """

    def __init__(self, batch: Batch, rope: Rope, routing: Routing) -> None:
        super().__init__(batch, rope)
        self._projection, self._budget = routing.projection, routing.budget

    def store(self, span: Span, layer: int, k: Tensor, v: Tensor) -> None:
        super().store(span, layer, k, v)
        for _, at in pieces(span.start, len(k)):
            number = at.start // BLOCK
            span.table.codes[number][layer] = self._projection.layer_index(
                layer,
                span.table.blocks[number][layer, :, 0],
                number,
                self._rope,
                self._batch.reach,
            )

    def attend(
        self, i: int, layer: int, q: Tensor, rows: slice, window: int | None, out: Tensor
    ) -> None:
        index, visible = self._batch.index[rows], self._batch.visible[rows]
        for part, places in self._groups(i):
            here = slice(rows.start + part.start, rows.start + part.stop)
            causal = bool((visible[part] == index[part] + 1).all())
            blocks = places.start // BLOCK + 1
            if window is not None or not causal or self._budget.reads_all(blocks):
                super().attend(i, layer, q, here, window, out)
                continue
            chosen = self._chosen(i, layer, q[here], here)
            self._batch.skipped[i] += len(places) * int((~chosen).sum())
            for head, read in enumerate(chosen):
                self._attend_chosen(i, layer, head, torch.nonzero(read)[:, 0], here, q, out)

    def _thorough(self, i: int, row: int) -> bool:
        """Whether a row of a span is of a prompt's end, which searches everything."""
        count = len(self._batch.spans[i].tokens)
        return self._batch.spans[i].wanted > 0 and count > 1 and row >= count - THOROUGH

    def _groups(self, i: int) -> Iterator[tuple[slice, range]]:
        """Rows of a span that choose together, and their places."""
        budget, span = self._budget, self._batch.spans[i]
        row, count = 0, len(span.tokens)
        while row < count:
            place = span.start + row
            most = min(budget.rows, budget.queries) if self._thorough(i, row) else budget.rows
            end = min(count, row + most, row + budget.rows - place % budget.rows)
            yield slice(row, end), range(place, span.start + end)
            row = end

    def _chosen(self, i: int, layer: int, q: Tensor, rows: slice) -> Tensor:
        """Which pieces neighbouring rows of one block read, bool [K, P]; q: [n, H, D]."""
        span, index = self._batch.spans[i], self._batch.index[rows]
        own, end = int(index[0]) // BLOCK, int(index[-1]) + 1
        places = sampled(len(index), self._budget.queries)
        asking = q[places].float() * q.shape[-1] ** -0.5
        keys = torch.cat([b[layer, :, 0] for b in span.table.blocks[: own + 1]], 1)  # [K, T, D]
        turns = self._turns(range(own + 1), own)

        def exactly(part: slice) -> Tensor:
            read = keys[:, :end][:, part].float()
            turned = turns[(part.start or 0) // BLOCK :][: -(-read.shape[1] // BLOCK)]
            found = moved_scores(asking, read, turned, self._rope)
            return found.view(len(keys), -1, *found.shape[1:])

        directions = self._projection.encoder.shape[-1]
        codes = torch.stack(  # [N, 64, K, R]
            [unpacked(of[layer], directions) for of in span.table.codes[: own + 1]]
        )
        scores = torch.cat(
            [
                self._projection.scores(layer, self._turned(asking, own, number), of)
                for number, of in enumerate(codes)
            ],
            dim=-1,
        )[..., :end]
        outlines = min(span.start // BLOCK, own + 1 - self._budget.last)
        whole = self._batch.rows_of(i)
        within = None
        thorough = self._thorough(i, rows.start - whole.start)
        if span.start // BLOCK > self._budget.flat and not thorough:
            within = torch.ones(len(keys), own + 1, dtype=torch.bool)
            within[:, :outlines] = self._searched(
                span, layer, asking, index[places], codes[:outlines], exactly, rows == whole
            )
        mass = mass_by_piece(scores, index[places], self._budget, exactly, within)
        if span.start // BLOCK > self._budget.flat and rows.stop == whole.stop:
            far = mass.view(len(keys), -1, PIECES).sum(-1)
            far[:, : self._budget.first] = far[:, own + 1 - self._budget.last :] = 0
            remember(self._outline(span), layer, far, len(index))
        return choose(mass, own + 1, self._budget, len(index) == 1)

    def _turned(self, asking: Tensor, own: int, number: int) -> Tensor:
        """Queries as the codes of a block are asked with them."""
        reach = self._batch.reach
        return turn_back(asking, self._rope, moved(own, number, reach) + frames(number, reach))

    def _searched(
        self,
        span: Span,
        layer: int,
        asking: Tensor,
        index: Tensor,
        codes: Tensor,
        exactly: Callable[[slice], Tensor],
        only: bool,
    ) -> Tensor:
        """Which blocks that have an outline are searched, bool [K, N]."""
        own, budget, worth = int(index[-1]) // BLOCK, self._budget, self._projection.worth[layer]
        group = asking.shape[1] // codes.shape[2]
        some = torch.arange(len(asking) - 1, -1, -(-len(asking) * group // QUERIES) * -1)
        means, spreads = outlined(codes, worth)
        parts = []
        for at in range(0, len(codes), Outline.GROUP):  # which are asked alike
            here = slice(at, at + Outline.GROUP)
            turned = self._turned(asking[some], own, at)
            of_means = self._projection.scores(layer, turned, means[here].flatten(0, 1))
            spread = spreads[here].flatten(0, 1).T[:, None, None]
            parts.append(of_means + self._projection.norms(layer, turned)[..., None] * spread)
        scores = torch.cat(parts, -1) + math.log(FOUR_TOKENS)
        scores = scores.view(*scores.shape[:3], -1, 2)
        scores[..., : budget.first, :] = float("-inf")
        near = (own + 1 - budget.last) * BLOCK
        fixed = torch.cat((exactly(slice(budget.first * BLOCK)), exactly(slice(near, None))), -1)
        place = torch.arange(fixed.shape[-1]) + near - budget.first * BLOCK
        unseen = (place > index[:, None]) & (place >= near)
        fixed = fixed.masked_fill(unseen, float("-inf")).logsumexp(-1)[:, :, some]
        lately = self._outline(span).lately[layer] if only else None
        return searched(promises(scores, fixed), lately, budget.first, budget.searched)

    def _outline(self, span: Span) -> Outline:
        if span.table.outline is None:
            layers, kv_heads = self._projection.centre.shape[:2]
            span.table.outline = Outline(layers, kv_heads)
        return span.table.outline

    def _turns(self, numbers: Iterable[int], own: int) -> list[int]:
        return [moved(own, number, self._batch.reach) for number in numbers]

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
        """Attention of one kv head's queries to the pieces with these numbers."""
        table, index = self._batch.spans[i].table, self._batch.index[rows]
        own, read = int(index[0]) // BLOCK, numbers.tolist()
        group = q.shape[1] // self._projection.centre.shape[1]
        heads = slice(head * group, (head + 1) * group)
        parts = (
            table.blocks[n // PIECES][layer, head, :, n % PIECES * PIECE :][:, :PIECE] for n in read
        )
        stored = torch.cat(list(parts), 1).to(q.dtype)
        tokens = (numbers[:, None] * PIECE + torch.arange(PIECE)).flatten()
        there = tokens <= index[-1]
        keys, values = stored[:, there]
        turns = self._turns([n // PIECES for n in read], own)
        scores = moved_scores(q[rows, heads], keys[None], turns, self._rope, PIECE).float()
        scores = scores * q.shape[-1] ** -0.5
        weights = scores.masked_fill(tokens[there] > index[:, None], float("-inf")).softmax(-1)
        out[rows, heads] = (weights.to(values.dtype) @ values).transpose(0, 1)


def exact(q: Tensor, k: Tensor, part: slice) -> Tensor:
    """Scores [K, G, n, T] of queries [n, H, D] and a part of keys [T, K, D]."""
    grouped = q.float().reshape(len(q), k.shape[1], -1, q.shape[-1])
    return torch.einsum("nkgd,tkd->kgnt", grouped, k[part].float())


def sampled(count: int, most: int) -> Tensor:
    """Places of at most ``most`` of ``count`` queries, evenly spread, the last one among them."""
    step = -(-count // most)
    return torch.arange(count - 1, -1, -step).flip(0)


def by_piece(weights: Tensor, blocks: int) -> Tensor:
    """[..., T] by pieces: [..., P, 4]; what is missing of the last block is 0."""
    whole = pad(weights, (0, blocks * BLOCK - weights.shape[-1]))
    return whole.view(*whole.shape[:-1], -1, PIECE)


def attend_chosen(q: Tensor, k: Tensor, v: Tensor, chosen: Tensor) -> Tensor:
    """Causal attention of the last queries of a sequence to chosen pieces of it.

    Args:
        q: [n, H, D], of the last n tokens.
        k, v: [T, K, D].
        chosen: bool [K, P]; the last ones are among them.

    Returns:
        [n, H, D].
    """
    out = torch.empty_like(q)
    group = q.shape[1] // k.shape[1]
    at = torch.arange(len(k) - len(q), len(k))
    for head, read in enumerate(chosen):
        tokens = torch.nonzero(read.repeat_interleave(PIECE)[: len(k)])[:, 0]
        heads = slice(head * group, (head + 1) * group)
        scores = torch.einsum("ngd,td->gnt", q[:, heads].float(), k[tokens, head].float())
        scores = scores * q.shape[-1] ** -0.5
        weights = scores.masked_fill(tokens > at[:, None], float("-inf")).softmax(-1)
        out[:, heads] = torch.einsum("gnt,td->ngd", weights.to(v.dtype), v[tokens, head])
    return out
