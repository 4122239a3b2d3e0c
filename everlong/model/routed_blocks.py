"""Routed attention of a step's rows; the plain twin of ``native/routing.h``.

Letters: see ``model/routing.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from everlong.model.attention import BlockAttention, moved_scores, pieces, turn_back
from everlong.model.cache import BLOCK, PIECE, PIECES, Batch, Outline, Span, frames, moved
from everlong.model.outline import QUERIES, THOROUGH, outlined, promises, remember, searched
from everlong.model.rope import Rope
from everlong.model.routing import (
    FOUR_TOKENS,
    Choosers,
    Routing,
    choose,
    sampled,
    shares_by_piece,
    unread,
    worth_of,
)
from everlong.model.routing_index import unpacked


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
            blocks, who = places.start // BLOCK + 1, self._who(i, part)
            if window is not None or not causal or self._budget.reads_all(blocks, who):
                super().attend(i, layer, q, here, window, out)
                continue
            chosen, left = self._chosen(i, layer, q[here], here, who)
            self._batch.skipped[i] += len(places) * int((~chosen).sum())
            for head, read in enumerate(chosen):
                self._attend_chosen(i, layer, head, torch.nonzero(read)[:, 0], here, q, out)
            span = self._batch.spans[i]
            mean = span.table.mean_values(span.start // BLOCK)
            if mean is not None:
                of_heads = mean[layer].repeat_interleave(q.shape[1] // mean.shape[1], 0)
                out[here] = torch.lerp(out[here].float(), of_heads, left[..., None]).to(out.dtype)

    def _thorough(self, i: int, row: int) -> bool:
        """Whether a row of a span is of a prompt's end, which searches everything."""
        count = len(self._batch.spans[i].tokens)
        return self._batch.spans[i].wanted > 0 and count > 1 and row >= count - THOROUGH

    def _who(self, i: int, rows: slice) -> Choosers:
        """How a group of a span's rows chooses."""
        if rows.stop - rows.start == 1:
            return "alone"
        return "asked" if self._thorough(i, rows.start) else "together"

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

    def _chosen(
        self, i: int, layer: int, q: Tensor, rows: slice, who: Choosers
    ) -> tuple[Tensor, Tensor]:
        """Which pieces neighbouring rows of one block read, bool [K, P], and :func:`unread`.

        q: [n, H, D].
        """
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
        shares = shares_by_piece(scores, index[places], self._budget, exactly, within)
        worth = worth_of(shares, who)
        if span.start // BLOCK > self._budget.flat and rows.stop == whole.stop:
            far = worth.view(len(keys), -1, PIECES).sum(-1)
            far[:, : self._budget.first] = far[:, own + 1 - self._budget.last :] = 0
            remember(self._outline(span), layer, far, len(index))
        chosen = choose(worth, own + 1, self._budget, who)
        return chosen, unread(shares, chosen, len(index))

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
