"""What a step of the model reads and writes: tokens of several sequences and their blocks.

A *block* holds the keys and values of 64 consecutive tokens of one sequence in every layer:
a tensor [layers, kv heads, 2 (keys, values), 64, D]. The model only ever sees lists of blocks,
and positions; who owns the blocks (a pool in memory, a mapped file) is not its matter.

Letters: M rows (tokens of the step), S sequences, D head size.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from everlong.device import large
from everlong.model.config import ModelConfig

BLOCK = 64
"""Tokens in a block."""

PIECE = 4
"""Tokens that routed attention chooses together."""

PIECES = BLOCK // PIECE
"""Of a block."""

EVERYWHERE = 1 << 30
"""A reach in blocks that no sequence exceeds."""

_SAMPLES = 64
_RUN = 32
_RUNS_WITHIN = 8

Sight = Literal["causal", "bidirectional"] | int
"""What a token may see of its own sequence: those before it and itself, all, or (an integer)
a prefix of that many tokens together with those before it and itself."""


def block_shape(config: ModelConfig) -> tuple[int, int, int, int, int]:
    """Shape of a block: [layers, kv heads, keys and values, 64, D]."""
    return (config.num_layers, config.num_kv_heads, 2, BLOCK, config.head_dim)


def pieces_seen(config: ModelConfig, places: Iterable[int]) -> int:
    """Pieces that tokens at these places could read, summed over layers and kv heads."""
    blocks = sum(place // BLOCK + 1 for place in places)
    return blocks * PIECES * config.num_layers * config.num_kv_heads


def moved(own: int, number: int, reach: int) -> int:
    """By how many blocks block ``number`` is moved towards queries in block ``own``.

    Blocks that lie farther back than ``reach`` are read as if they lay within. They are moved in
    runs, all of them to the same place: neighbours in a run keep their distance, and there are few
    different moves.
    """
    size = run(reach)
    place = -(-max(0, own - reach) // size) * size  # where runs are moved to
    return max(0, place - number // size * size)


def reach_of(trained: int) -> int:
    """The reach of a sequence that may become longer than a model's trained window.

    Half of the window: what lies at its far end models find less well than what lies in its middle,
    and all that is older is read as if it lay there (``docs/experiments.md``, section 25).

    Args:
        trained: tokens of the window.
    """
    return max(0, trained // BLOCK // 2 - 1)


def run(reach: int) -> int:
    """Blocks that are moved together: a power of two that divides what is within reach."""
    within = reach + 1
    return min(_RUN, within & -within, 1 << max(0, (within // _RUNS_WITHIN).bit_length() - 1))


def frames(number: int, reach: int) -> int:
    """Blocks of the frames before that of block ``number``; a frame has ``reach + 1`` blocks."""
    return number - number % (reach + 1)


def sampled_blocks(blocks: int) -> range:
    """Numbers of some of the first ``blocks`` blocks, at most 63, for their mean values.

    They are other ones only when a sequence has doubled. The first is not among them: values at
    the very beginning are like no others.
    """
    among = 1 << blocks.bit_length() >> 1
    step = max(1, among // _SAMPLES)
    return range(step, among, step)


class Outline:
    """What a long sequence has for its search in two levels; see ``model/outline.py``.

    Args:
        layers, kv_heads: of the model.
    """

    GROUP = 8
    """Blocks whose outlines lie together."""
    GROUP_BYTES = 320
    """Of 16 halves, 32 mean codes of 4 bits and a spread in float32 each."""
    LATELY = 128
    """Blocks that are kept because they had attention."""

    def __init__(self, layers: int, kv_heads: int) -> None:
        self.blocks = 0
        """So many have their outline."""
        self.groups = torch.zeros(layers, kv_heads, 0, self.GROUP_BYTES, dtype=torch.uint8)
        """As kernels read them, see ``native/outline.h``."""
        self.lately = torch.full((layers, kv_heads, self.LATELY), -1, dtype=torch.int32)
        """Numbers of the blocks that had attention lately, the most first; behind them -1."""
        self.shares = torch.zeros(layers, kv_heads, self.LATELY)
        """How much, fading."""

    def reserve(self, blocks: int) -> None:
        """Make room for so many blocks."""
        needed, there = -(-blocks // self.GROUP), self.groups.shape[2]
        if needed > there:
            room = (*self.groups.shape[:2], max(needed, 2 * there), self.GROUP_BYTES)
            grown = large(room, torch.uint8)
            grown[:, :, :there] = self.groups
            self.groups = grown


class BlockTable:
    """The blocks of one sequence in order, with the addresses that kernels read."""

    def __init__(self) -> None:
        self.blocks: list[Tensor] = []
        self.codes: list[Tensor] = []
        """Of each block its routing index, where there is one; see ``model/routing_index.py``."""
        self.outline: Outline | None = None
        """Made by the steps when the sequence is long enough."""
        self._mean_of = range(0)
        self._mean: Tensor | None = None
        self._addresses: NDArray[np.int64] = np.empty((2, 8), dtype=np.int64)

    def __len__(self) -> int:
        return len(self.blocks)

    @property
    def capacity(self) -> int:
        """Tokens that the blocks have room for."""
        return len(self.blocks) * BLOCK

    @property
    def addresses(self) -> NDArray[np.int64]:
        """Memory address of each block."""
        return self._addresses[0, : len(self.blocks)]

    @property
    def code_addresses(self) -> NDArray[np.int64]:
        """Memory address of the routing index of each block; every block has one."""
        assert len(self.codes) == len(self.blocks), "every block has its routing index"
        return self._addresses[1, : len(self.blocks)]

    def mean_values(self, blocks: int) -> Tensor | None:
        """The mean value of a sample of the first ``blocks`` blocks, float32 [layers, K, D].

        What is not read is taken to have it; None where there are too few.
        """
        sample = sampled_blocks(blocks)
        if sample != self._mean_of:
            values = [self.blocks[n][:, :, 1].float().mean(2) for n in sample]
            self._mean = torch.stack(values).mean(0) if values else None
            self._mean_of = sample
        return self._mean

    def append(self, block: Tensor, codes: Tensor | None = None) -> None:
        """Add a block at the end.

        Args:
            block: contiguous, shape :func:`block_shape`.
            codes: its routing index, contiguous; with every block, or with none.
        """
        at = len(self.blocks)
        if at == self._addresses.shape[1]:
            self._addresses = np.concatenate((self._addresses, np.empty_like(self._addresses)), 1)
        self._addresses[0, at] = block.data_ptr()
        self.blocks.append(block)
        if codes is not None:
            self._addresses[1, at] = codes.data_ptr()
            self.codes.append(codes)


@dataclass(frozen=True)
class Span:
    """Consecutive tokens of one sequence that a step computes."""

    tokens: Sequence[int]
    table: BlockTable
    """Has room for ``start + len(tokens)`` tokens; the first ``start`` are filled."""
    start: int = 0
    """Place of the first token in its sequence."""
    sight: Sight = "causal"
    """With anything but "causal", ``tokens`` reach at least to the end of what they see."""
    logits: Literal["none", "last", "all"] | int = "last"
    """Of which tokens the next-token logits are wanted; an integer: of so many of the last."""

    @property
    def wanted(self) -> int:
        """Of how many of the last tokens logits are wanted."""
        named = {"none": 0, "last": 1, "all": len(self.tokens)}
        return self.logits if isinstance(self.logits, int) else named[self.logits]


class Batch:
    """The spans of one step as flat arrays.

    Args:
        spans: what the step computes.
        reach: blocks that lie farther back than so many are attended to as if they lay nearer, see
            :func:`moved`; queries are turned instead of keys, so a block that several sequences
            share is never rewritten.

    Attributes:
        tokens: int32 [M].
        index: int32 [M], place in the sequence, and rotary position.
        visible: int32 [M], how many tokens of its sequence the row may see at most.
        sequence: int32 [M], which of the S spans the row belongs to.
        wanted: int32 [W], rows whose logits are computed.
        skipped: int64 [S], what the step tells: pieces of 4 tokens that rows of a span could have
            read and did not, summed over rows, layers and kv heads.
    """

    def __init__(self, spans: Sequence[Span], reach: int = EVERYWHERE) -> None:
        self.spans = spans
        self.reach = reach
        self.skipped = torch.zeros(len(spans), dtype=torch.int64)
        tokens: list[int] = []
        index: list[int] = []
        visible: list[int] = []
        sequence: list[int] = []
        wanted: list[int] = []
        for i, span in enumerate(spans):
            count, row = len(span.tokens), len(tokens)
            end = span.start + count
            assert 0 < count <= span.table.capacity - span.start, "tokens, and blocks for them"
            tokens.extend(span.tokens)
            index.extend(range(span.start, end))
            sequence.extend([i] * count)
            if span.sight == "causal":
                visible.extend(range(span.start + 1, end + 1))
            else:
                reach = end if span.sight == "bidirectional" else span.sight
                assert reach <= end, "a prefix is computed in one step"
                visible.extend(max(reach, t + 1) for t in range(span.start, end))
            assert 0 <= span.wanted <= count, "logits of tokens of the span"
            wanted.extend(range(row + count - span.wanted, row + count))
        self.tokens = torch.tensor(tokens, dtype=torch.int32)
        self.index = torch.tensor(index, dtype=torch.int32)
        self.visible = torch.tensor(visible, dtype=torch.int32)
        self.sequence = torch.tensor(sequence, dtype=torch.int32)
        self.wanted = torch.tensor(wanted, dtype=torch.int32)

    @property
    def rows(self) -> int:
        """M."""
        return len(self.tokens)

    def rows_of(self, i: int) -> slice:
        """Rows of span ``i``."""
        start = sum(len(span.tokens) for span in self.spans[:i])
        return slice(start, start + len(self.spans[i].tokens))
