"""One request inside the engine: its tokens, its blocks, and what decides its next token."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from everlong.engine.block_pool import LEAD, BlockPool
from everlong.engine.constraint import ConstraintState
from everlong.engine.request import (
    NOTHING_READ,
    Chunk,
    FinishReason,
    InSession,
    Reads,
    SamplingParams,
    TokenLogprob,
    Usage,
)
from everlong.engine.sampler import Sampled, SequenceSampler
from everlong.engine.text import TextAssembler
from everlong.errors import EverlongError
from everlong.memory.block_id import BlockId, block_id
from everlong.memory.namespaces import Namespace
from everlong.memory.record import NO_PARENT
from everlong.model.cache import BLOCK, BlockTable

log = logging.getLogger(__name__)

Sink = Callable[[Chunk | EverlongError], None]
"""Receives what a request produces, on the engine's thread; must not block."""


@dataclass(eq=False)
class EngineSequence:
    """State of one request; owned by the engine's thread once it is submitted."""

    number: int
    """Order of arrival."""
    prompt: tuple[int, ...]
    params: SamplingParams
    max_tokens: int
    namespace: Namespace
    """Whose blocks are found, and whose the new ones are."""
    session: InSession | None
    """The session in the namespace that it is of, if it is of one."""
    fingerprint: bytes
    """Of the model as this request uses it (with its adapter)."""
    adapter: str | None
    sink: Sink
    sampler: SequenceSampler
    assembler: TextAssembler
    constraint: ConstraintState | None
    output: list[int] = field(default_factory=list)
    table: BlockTable = field(default_factory=BlockTable)
    blocks: list[int] = field(default_factory=list)
    """Pool numbers of the table's blocks."""
    ids: list[BlockId] = field(default_factory=list)
    """Ids of the full blocks, as far as they are known."""
    leads: dict[int, BlockId] = field(default_factory=dict)
    """Ids of beginnings of blocks, by the block's number."""
    computed: int = 0
    """Tokens whose keys and values are in the blocks."""
    reads: Reads = NOTHING_READ
    """Of all its tokens so far."""
    cached: int = 0
    """Prompt tokens that were found when the request was first begun."""
    begun: bool = False
    short_of: int = 0
    """Free blocks without which it was not begun; it is not tried again before they are there."""
    prompt_logprobs: list[TokenLogprob] = field(default_factory=list)
    """Of the prompt's tokens from ``params.prompt_logprobs_from`` on, as far as they are known."""

    @property
    def length(self) -> int:
        """Tokens so far, prompt and output."""
        return len(self.prompt) + len(self.output)

    @property
    def wanted(self) -> int:
        """Tokens whose keys and values are needed now: all of them, but nothing follows the last
        token of a prompt that is only scored."""
        return self.length - (self.max_tokens == 0)

    @property
    def unscored(self) -> int | None:
        """Place of the prompt's next token whose log-probability is wanted, or None."""
        if self.params.prompt_logprobs_from is None:
            return None
        place = self.params.prompt_logprobs_from + len(self.prompt_logprobs)
        return place if place < len(self.prompt) else None

    @property
    def reusable(self) -> int:
        """Tokens whose keys and values may be found instead of computed: what follows the others
        is still to be told."""
        return (self.length if self.unscored is None else self.unscored) - 1

    @property
    def usage(self) -> Usage:
        """Tokens so far."""
        return Usage(len(self.prompt), self.cached, len(self.output), self.reads)

    def accept(self, sampled: Sampled) -> Chunk:
        """Append a sampled token; what is told of it, with a reason if it is the last."""
        token = sampled.token_id
        self.output.append(token)
        # A stop token is no part of the text.
        text, matched = "", False
        if sampled.end != "stop_token":
            text, matched = self.assembler.push(token)
        reason: FinishReason | None = None
        if sampled.end or matched:
            reason = "stop"
        elif len(self.output) >= self.max_tokens:
            reason = "length"
        if reason and not matched:
            text += self.assembler.flush()
        logprobs = None if sampled.logprob is None else (sampled.logprob,)
        told = None
        if self.params.prompt_logprobs_from is not None and len(self.output) == 1:
            told = tuple(self.prompt_logprobs)
        return Chunk(text, (token,), logprobs, reason, self.usage, told)

    def tell(self, what: Chunk | EverlongError) -> None:
        """Hand something to whoever asked; a receiver that fails harms nobody else."""
        try:
            self.sink(what)
        except Exception:
            log.exception("a request's receiver failed")

    def tokens(self, start: int, end: int) -> Sequence[int]:
        """Tokens ``start`` to ``end`` of prompt and output together."""
        split = len(self.prompt)
        if end <= split:
            return self.prompt[start:end]
        if start >= split:
            return self.output[start - split : end - split]
        return [*self.prompt[start:], *self.output[: end - split]]

    def id_of(self, block: int) -> BlockId:
        """Id of the sequence's full block number ``block``."""
        while len(self.ids) <= block:
            at = len(self.ids)
            self.ids.append(
                block_id(
                    self.namespace.secret,
                    self.fingerprint,
                    self.ids[-1] if self.ids else NO_PARENT,
                    self.tokens(at * BLOCK, (at + 1) * BLOCK),
                )
            )
        return self.ids[block]

    def lead_of(self, block: int) -> BlockId:
        """Id of the first ``LEAD`` tokens of block number ``block``, which has them."""
        lead = self.leads.get(block)
        if lead is None:
            parent = self.id_of(block - 1) if block else NO_PARENT
            first = block * BLOCK
            tokens = self.tokens(first, first + LEAD)
            lead = self.leads[block] = block_id(
                self.namespace.secret, self.fingerprint, parent, tokens
            )
        return lead

    def attach_known(self, pool: BlockPool) -> None:
        """Take over the longest known prefix that is ``reusable``.

        Full blocks are held; of the block after them, what another begins with is copied.
        """
        assert not self.blocks
        pool.expect([self.id_of(at) for at in range(self.reusable // BLOCK)])
        for at in range(self.reusable // BLOCK):
            block = pool.find(self.id_of(at), at, self.namespace.id)
            if block is None:
                break
            self._append(pool, block)
        self.computed = len(self.blocks) * BLOCK
        if self.reusable - self.computed >= LEAD:
            at = len(self.blocks)
            source, count = pool.longest(
                self.lead_of(at), self.tokens(self.computed, self.reusable)
            )
            copied = pool.copy(source, count) if count else None
            if copied is not None:
                self._append(pool, copied)
                self.computed += count
        if not self.begun:
            self.begun = True
            self.cached = min(self.computed, len(self.prompt))

    def grow(self, pool: BlockPool, tokens: int) -> bool:
        """Hold blocks for ``tokens`` tokens in all; False when the pool has none left."""
        while self.table.capacity < tokens:
            block = pool.take()
            if block is None:
                return False
            self._append(pool, block)
        return True

    def advance(self, pool: BlockPool, count: int) -> range:
        """``count`` more tokens were computed; blocks that are full now can be found.

        Returns:
            The numbers of those blocks in the sequence.
        """
        before = self.computed // BLOCK
        self.computed += count
        full = range(before, self.computed // BLOCK)
        for at in full:
            pool.publish(self.blocks[at], self.id_of(at), self.namespace.id)
            self._describe(pool, at)
        # While a sequence grows by single tokens its last block is described once, at the end.
        if count > 1:
            self._describe(pool, self.computed // BLOCK)
        return full

    def _describe(self, pool: BlockPool, at: int) -> None:
        first, end = at * BLOCK, min((at + 1) * BLOCK, self.computed)
        if end - first >= LEAD:
            tokens = tuple(self.tokens(first, end))
            pool.describe(self.blocks[at], self.lead_of(at), tokens, self.namespace.id)

    def give_back(self, pool: BlockPool) -> None:
        """Release every block; the tokens stay, and the blocks can be found again."""
        self._describe(pool, self.computed // BLOCK)
        # Last first, so that the beginnings of sequences stay known longest.
        for block in reversed(self.blocks):
            pool.release(block)
        self.blocks.clear()
        self.table = BlockTable()
        self.computed = 0

    def _append(self, pool: BlockPool, block: int) -> None:
        self.blocks.append(block)
        self.table.append(pool.tensor(block), pool.codes(block))
