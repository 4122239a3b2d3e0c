"""32 deterministic streams of packed sequences, which any number of processes can share.

Each source's documents are dealt to the streams in a shuffled order that the seed and the epoch
decide: stream s reads the places s, s + 32, s + 64, ... of the epochs one after the other, so that
no two streams read a document twice before all were read. A stream packs what it reads into
sequences (:class:`Stream`). The n-th sequence of a run comes from stream n mod 32, however many
processes there are and however many sequences make a step: processes compute different sequences
of a step, and all of them know which ones there are. Packing looks at lengths only, not at tokens,
so this costs next to nothing.

The state of the streams is plain data of a few kilobytes, from which they go on exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any

import xxhash

from everlong.data.permutation import Permutation
from everlong.data.token_shards import TokenShards
from everlong.errors import DataError

STREAMS = 32
_LOOKAHEAD = 32
"""Pieces among which a stream looks for the one that fits best,"""
_LOOKAHEAD_SEQUENCES = 16
"""as long as they are not so many sequences together: what waits is not read yet, and of sources
with long documents more waits."""
_CYCLE = 1000
"""Documents; each stream begins somewhere in so many draws, so that all of them together give every
source its share from the first step on."""


@dataclass(frozen=True)
class Source:
    """Documents that are drawn from."""

    name: str
    shards: TokenShards

    def __post_init__(self) -> None:
        if self.shards.tokens <= self.shards.documents:
            raise DataError(
                f"{self.shards.folder}: {self.shards.documents:,} documents with "
                f"{self.shards.tokens:,} tokens; one with two tokens is needed at least"
            )


@dataclass(frozen=True)
class Piece:
    """Consecutive tokens of a document that are read; each predicts the one behind it."""

    source: int
    document: int
    start: int
    end: int
    """The token at ``end`` is there as well: it is predicted, and not read."""

    def __len__(self) -> int:
        return self.end - self.start


@dataclass(frozen=True)
class Packed:
    """A sequence: pieces of at most so many tokens together, that do not see one another."""

    stream: int
    pieces: tuple[Piece, ...]

    @property
    def tokens(self) -> int:
        """That are read."""
        return sum(map(len, self.pieces))


class Stream:
    """One stream: draws documents, and packs them.

    A sequence begins with the piece that has waited longest and is filled with the longest piece
    that fits, again and again. What fits nowhere is cut, where cutting is wanted; a piece that is
    longer than a sequence always is. The rest of a piece waits in its place, so nothing is lost.

    Args:
        number: of the stream.
        sources: what is drawn from.
        seed: of the order of documents.
    """

    def __init__(self, number: int, sources: Sequence[Source], seed: int) -> None:
        self.number = number
        self._sources, self._seed = sources, seed
        self._drawn = [0] * len(sources)
        self._waiting: list[Piece] = []
        self._aside: list[Piece] = []
        self._given: list[float] = []
        self._orders: dict[int, tuple[int, Permutation]] = {}

    def restart(self) -> None:
        """Balance sources anew, as when weights have changed.

        What has been drawn and not read is read when its source's turn comes again.
        """
        self._aside += self._waiting
        self._waiting, self._given = [], []

    def next(self, length: int, weights: Sequence[float], cut: bool) -> Packed:
        """The next sequence.

        Args:
            length: tokens at most.
            weights: the share of the tokens that each source shall give; they sum to 1.
            cut: whether a sequence is filled by cutting a piece that would fit whole into another.
        """
        pieces: list[Piece] = []
        room = length
        while room:
            while len(self._waiting) < _LOOKAHEAD and (
                sum(map(len, self._waiting)) < _LOOKAHEAD_SEQUENCES * length
            ):
                self._waiting.append(self._draw(weights))
            place = self._best(room) if pieces else 0
            if place is None:
                if not cut:
                    break
                place = 0
            piece = self._waiting[place]
            if len(piece) > room:
                rest = Piece(piece.source, piece.document, piece.start + room, piece.end)
                piece = Piece(piece.source, piece.document, piece.start, rest.start)
                self._waiting[place] = rest
            else:
                del self._waiting[place]
            pieces.append(piece)
            room -= len(piece)
        return Packed(self.number, tuple(pieces))

    def state(self) -> dict[str, Any]:
        """From which :meth:`load` goes on."""
        waiting = [list(astuple(piece)) for piece in self._waiting]
        aside = [list(astuple(piece)) for piece in self._aside]
        return {
            "drawn": [*self._drawn],
            "given": [*self._given],
            "waiting": waiting,
            "aside": aside,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a :meth:`state`."""
        self._drawn, self._given = [*state["drawn"]], [*state["given"]]
        self._waiting = [Piece(*piece) for piece in state["waiting"]]
        self._aside = [Piece(*piece) for piece in state["aside"]]

    def _best(self, room: int) -> int | None:
        best, length = None, 0
        for place, piece in enumerate(self._waiting):
            if length < len(piece) <= room:
                best, length = place, len(piece)
        return best

    def _draw(self, weights: Sequence[float]) -> Piece:
        if not self._given:
            self._given = self._begin(weights)
        source = _behind(self._given, weights)
        for place, piece in enumerate(self._aside):
            if piece.source == source:
                del self._aside[place]
                self._given[source] += len(piece)
                return piece
        shards = self._sources[source].shards
        while True:
            place = self.number + STREAMS * self._drawn[source]
            self._drawn[source] += 1
            document = self._order(source, place // shards.documents)[place % shards.documents]
            if (length := shards.length(document)) >= 2:  # of one token nothing can be learned
                self._given[source] += length - 1
                return Piece(source, document, 0, length - 1)

    def _begin(self, weights: Sequence[float]) -> list[float]:
        """What sources would have given after some draws, of documents of their mean lengths."""
        given = [0.0] * len(weights)
        if sum(weight > 0 for weight in weights) > 1:
            lengths = [one.shards.tokens / one.shards.documents for one in self._sources]
            name = f"{self._seed} {self.number}".encode()
            for _ in range(xxhash.xxh64_intdigest(name) % _CYCLE):
                source = _behind(given, weights)
                given[source] += lengths[source]
        return given

    def _order(self, source: int, epoch: int) -> Permutation:
        known = self._orders.get(source)
        if known is None or known[0] != epoch:
            of = self._sources[source]
            order = Permutation(of.shards.documents, f"{self._seed} {of.name} {epoch}")
            known = self._orders[source] = (epoch, order)
        return known[1]


def _behind(given: Sequence[float], weights: Sequence[float]) -> int:
    """The source that lacks most of its share of the tokens."""
    total = sum(given)
    read = (i for i, weight in enumerate(weights) if weight > 0)
    return max(read, key=lambda i: weights[i] * total - given[i])


class Streams:
    """The 32 streams of a run.

    Args:
        sources: what is drawn from; names are distinct.
        seed: of the order of documents.
    """

    def __init__(self, sources: Sequence[Source], seed: int) -> None:
        assert len({source.name for source in sources}) == len(sources), "names are distinct"
        self.sources = tuple(sources)
        self._streams = [Stream(i, self.sources, seed) for i in range(STREAMS)]
        self._taken = 0

    def take(
        self, count: int, length: int, weights: Sequence[float], cut: bool = True
    ) -> list[Packed]:
        """The next ``count`` sequences; see :meth:`Stream.next`."""
        found = []
        for _ in range(count):
            found.append(self._streams[self._taken % STREAMS].next(length, weights, cut))
            self._taken += 1
        return found

    def restart(self) -> None:
        """See :meth:`Stream.restart`."""
        for stream in self._streams:
            stream.restart()

    def state(self) -> dict[str, Any]:
        """Plain data from which :meth:`load` goes on."""
        names = [source.name for source in self.sources]
        streams = [stream.state() for stream in self._streams]
        return {"sources": names, "taken": self._taken, "streams": streams}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a :meth:`state`.

        Raises:
            DataError: it is of other sources.
        """
        names = [source.name for source in self.sources]
        if state["sources"] != names:
            raise DataError(
                f"the run read from {', '.join(state['sources'])} when it stopped, and now from "
                f"{', '.join(names)}; go on with the sources that it had"
            )
        self._taken = state["taken"]
        for stream, of in zip(self._streams, state["streams"], strict=True):
            stream.load(of)


def deal(costs: Sequence[float], ranks: int) -> list[list[int]]:
    """Deal sequences to ranks, as many to each, so that the most loaded has little to do.

    The most costly first, each to the rank that has least and is not full (Graham, 1969).

    Args:
        costs: of each sequence; as many as a multiple of ``ranks``.
        ranks: how many share them.

    Returns:
        The numbers of the sequences of each rank, ascending.
    """
    assert len(costs) % ranks == 0, f"{len(costs)} sequences for {ranks} ranks"
    dealt: list[list[int]] = [[] for _ in range(ranks)]
    load = [0.0] * ranks
    for number in sorted(range(len(costs)), key=lambda i: (-costs[i], i)):
        free = (r for r in range(ranks) if len(dealt[r]) < len(costs) // ranks)
        rank = min(free, key=lambda r: (load[r], r))
        dealt[rank].append(number)
        load[rank] += costs[number]
    return [sorted(numbers) for numbers in dealt]
