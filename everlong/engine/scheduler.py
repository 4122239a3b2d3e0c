"""Who runs in the next step, and with how many tokens."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from everlong.engine.block_pool import BlockId, BlockPool
from everlong.engine.sequence import EngineSequence
from everlong.model.cache import BLOCK


@dataclass(frozen=True)
class Scheduled:
    """Tokens that a step computes for one sequence."""

    sequence: EngineSequence
    count: int

    @property
    def samples(self) -> bool:
        """Whether the step reaches the end of the sequence, so that a token follows."""
        end = self.sequence.computed + self.count == self.sequence.length
        return end and self.sequence.max_tokens > 0

    @property
    def scored(self) -> int:
        """How many of the step's last tokens tell the probability of the prompt's token after."""
        first = self.sequence.unscored
        end = min(self.sequence.computed + self.count, len(self.sequence.prompt) - 1)
        return 0 if first is None else max(0, end + 1 - max(first, self.sequence.computed + 1))

    @property
    def rows(self) -> int:
        """Of how many of the step's last tokens the logits are wanted."""
        # The prompt's last token is followed by none of it: it counts only if a token is sampled.
        last = self.sequence.computed + self.count >= len(self.sequence.prompt)
        return self.scored + (1 if last and self.scored else int(self.samples))


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
        order = sorted(self.running, key=lambda s: (s.computed + 1 < s.length, s.number))
        for sequence in order:
            if sequence not in self.running:  # preempted for one before it
                continue
            count = min(sequence.length - sequence.computed, budget)
            if count and self._make_room(sequence, sequence.computed + count):
                plan.append(Scheduled(sequence, count))
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
            sequence.attach_known(self._pool)
            count = min(sequence.length - sequence.computed, budget)
            # Blocks for the whole prompt and a first token: begun prompts are not abandoned for
            # lack of room, and growing sequences are not preempted at once.
            needed = -(-(sequence.length + 1) // BLOCK) - len(sequence.blocks)
            if self._pool.available < needed + len(self.running) and self.running:
                sequence.give_back(self._pool)
                self.waiting.appendleft(sequence)
                break
            if not sequence.grow(self._pool, sequence.computed + count):
                sequence.give_back(self._pool)
                self.waiting.appendleft(sequence)
                break
            self.running.append(sequence)
            admitted.append(Scheduled(sequence, count))
            upcoming |= self._will_publish(sequence)
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

    def _upcoming(self) -> set[BlockId]:
        return {known for sequence in self.running for known in self._will_publish(sequence)}

    def _will_publish(self, sequence: EngineSequence) -> set[BlockId]:
        """Ids of the prompt's blocks that the sequence is about to compute."""
        first, last = sequence.computed // BLOCK, len(sequence.prompt) // BLOCK
        return {sequence.id_of(at) for at in range(first, last)}

    def _should_wait_for(self, sequence: EngineSequence, upcoming: set[BlockId]) -> bool:
        """Whether the next block that ``sequence`` would compute is being computed by another."""
        if not upcoming:
            return False
        for at in range(sequence.reusable // BLOCK):
            known = sequence.id_of(at)
            if not self._pool.contains(known):
                return known in upcoming
        return False
