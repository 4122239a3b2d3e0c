"""Who runs in the next step, and with how many tokens."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from everlong.engine.block_pool import LEAD, BlockPool, common
from everlong.engine.sequence import EngineSequence
from everlong.memory.block_id import BlockId
from everlong.model.cache import BLOCK


@dataclass(frozen=True)
class Scheduled:
    """Tokens that a step computes for one sequence."""

    sequence: EngineSequence
    count: int
    samples: bool
    """Whether the step reaches the end of the sequence, so that a token follows."""
    scored: int
    """How many of the step's last tokens tell the probability of the prompt's token after."""
    rows: int
    """Of how many of the step's last tokens the logits are wanted."""

    @classmethod
    def of(cls, sequence: EngineSequence, count: int) -> Scheduled:
        """The next ``count`` tokens of a sequence as it stands."""
        reached, prompt = sequence.computed + count, len(sequence.prompt)
        samples = reached == sequence.length and sequence.max_tokens > 0
        scored, first = 0, sequence.unscored
        if first is not None:
            begin = max(first, sequence.computed + 1)
            scored = max(0, min(reached, prompt - 1) + 1 - begin)
        # The prompt's last token tells of none of it; logits are those of the last rows, though.
        rows = scored + (reached >= prompt) if scored else int(samples)
        return cls(sequence, count, samples, scored, rows)


class Scheduler:
    """Continuous batching: sequences join and leave at every step (Orca, Yu et al. 2022).

    Every sequence that is generating runs in every step. What the token budget leaves goes to
    prompts in order of arrival, in chunks (Sarathi, Agrawal et al. 2023). When blocks run out, the
    latest arrival gives its blocks back and waits; its tokens are computed again later, or found.

    Args:
        pool: where blocks come from.
        max_seqs: most sequences in a step.
        max_tokens: most tokens in a step, at least ``max_seqs``.
    """

    def __init__(self, pool: BlockPool, max_seqs: int, max_tokens: int) -> None:
        assert max_tokens >= max_seqs >= 1
        self._pool, self._max_seqs, self._max_tokens = pool, max_seqs, max_tokens
        self.waiting: deque[EngineSequence] = deque()
        self.running: list[EngineSequence] = []
        self.preemptions = 0

    def add(self, sequence: EngineSequence) -> None:
        """Let a new sequence wait for its turn."""
        self.waiting.append(sequence)

    def remove(self, sequence: EngineSequence) -> None:
        """Take out a finished or cancelled sequence and give its blocks back."""
        if sequence in self.running:
            self.running.remove(sequence)
        else:
            self.waiting.remove(sequence)
        sequence.give_back(self._pool)

    def schedule(self) -> list[Scheduled]:
        """What the next step computes; empty when nothing can run."""
        budget = self._max_tokens
        plan: list[Scheduled] = []
        # Generating sequences first: they need one token each and are what people wait for.
        order = sorted(self.running, key=lambda s: (s.computed + 1 < s.wanted, s.number))
        for sequence in order:
            if sequence not in self.running:  # preempted for one before it
                continue
            count = min(sequence.wanted - sequence.computed, budget)
            if count and self._make_room(sequence, sequence.computed + count):
                plan.append(Scheduled.of(sequence, count))
                budget -= count
        plan = [s for s in plan if s.sequence in self.running]
        return plan + self._admit(budget)

    def _admit(self, budget: int) -> list[Scheduled]:
        admitted: list[Scheduled] = []
        upcoming = self._upcoming()
        passed: list[EngineSequence] = []
        while self.waiting and budget > 0 and len(self.running) < self._max_seqs:
            sequence = self.waiting.popleft()
            if self._should_wait_for(sequence, upcoming):
                passed.append(sequence)
                continue
            # Looking for the prefix again in every step would cost more than it could find.
            if self._pool.available < sequence.short_of and self.running:
                self.waiting.appendleft(sequence)
                break
            sequence.attach_known(self._pool)
            count = min(sequence.wanted - sequence.computed, budget)
            # Blocks for the whole prompt and a first token: begun prompts are not abandoned for
            # lack of room, and growing sequences are not preempted at once.
            needed = -(-(sequence.length + 1) // BLOCK) - len(sequence.blocks)
            if self._pool.available < needed + len(self.running) and self.running:
                sequence.short_of = self._pool.available + 1
                sequence.give_back(self._pool)
                self.waiting.appendleft(sequence)
                break
            if not sequence.grow(self._pool, sequence.computed + count):
                sequence.give_back(self._pool)
                self.waiting.appendleft(sequence)
                break
            self.running.append(sequence)
            admitted.append(Scheduled.of(sequence, count))
            upcoming.add(sequence)
            budget -= count
        self.waiting.extendleft(reversed(passed))
        return admitted

    def _make_room(self, sequence: EngineSequence, tokens: int) -> bool:
        """Blocks for ``tokens`` tokens, taken from later arrivals if need be."""
        while not sequence.grow(self._pool, tokens):
            victim = max(self.running, key=lambda s: s.number)
            self._preempt(victim)
            if victim is sequence:
                return False
        return True

    def _preempt(self, sequence: EngineSequence) -> None:
        self.running.remove(sequence)
        sequence.give_back(self._pool)
        self.waiting.appendleft(sequence)
        self.preemptions += 1

    def _upcoming(self) -> Upcoming:
        upcoming = Upcoming()
        for sequence in self.running:
            upcoming.add(sequence)
        return upcoming

    def _should_wait_for(self, sequence: EngineSequence, upcoming: Upcoming) -> bool:
        """Whether what ``sequence`` would compute next is just being computed by another."""
        if not upcoming.blocks and not upcoming.beginnings:
            return False
        at = 0
        for at in range(sequence.reusable // BLOCK):
            known = sequence.id_of(at)
            if not self._pool.contains(known):
                if known in upcoming.blocks:
                    return True
                break
        else:
            at = sequence.reusable // BLOCK
        first, end = at * BLOCK, min((at + 1) * BLOCK, sequence.reusable)
        if end - first < LEAD:
            return False
        lead, tokens = sequence.lead_of(at), sequence.tokens(first, end)
        most = max((common(tokens, t) for t in upcoming.beginnings.get(lead, ())), default=0)
        return most >= LEAD + self._pool.longest(lead, tokens)[1]


class Upcoming:
    """What prompts that have begun are about to compute."""

    def __init__(self) -> None:
        self.blocks: set[BlockId] = set()
        """Ids of full blocks."""
        self.beginnings: dict[BlockId, list[Sequence[int]]] = {}
        """Tokens of blocks, full or not, by the lead they will be found under."""

    def add(self, sequence: EngineSequence) -> None:
        """Note the blocks of the prompt that ``sequence`` has yet to compute."""
        if sequence.computed >= len(sequence.prompt):
            return
        for at in range(sequence.computed // BLOCK, -(-len(sequence.prompt) // BLOCK)):
            first, end = at * BLOCK, min((at + 1) * BLOCK, len(sequence.prompt))
            if end - first == BLOCK:
                self.blocks.add(sequence.id_of(at))
            if end - first >= LEAD:
                tokens = sequence.prompt[first:end]
                self.beginnings.setdefault(sequence.lead_of(at), []).append(tokens)
