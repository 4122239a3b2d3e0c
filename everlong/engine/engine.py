"""The engine: one thread that admits, computes, samples and delivers."""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from concurrent.futures import Future
from contextlib import suppress
from types import MappingProxyType
from typing import TypeVar

from torch import Tensor

from everlong.engine.block_pool import BlockPool
from everlong.engine.config import EngineConfig
from everlong.engine.prompt_logprobs import score_prompts
from everlong.engine.request import (
    NOTHING_READ,
    Chunk,
    FinishReason,
    InSession,
    SamplingParams,
)
from everlong.engine.runner import Runner, kv_dtype
from everlong.engine.sampler import Sampled, sample
from everlong.engine.scheduler import Scheduled, Scheduler
from everlong.engine.sequence import EngineSequence, Sink
from everlong.engine.sequence_builder import SequenceBuilder
from everlong.engine.stats import EngineStats
from everlong.engine.stored_blocks import FORMATS, StoredBlocks
from everlong.errors import (
    ConfigError,
    EngineStoppedError,
    EverlongError,
    QueueFullError,
    RequestError,
)
from everlong.memory.block_id import BlockId
from everlong.memory.memory import Memory
from everlong.memory.namespaces import LOCAL
from everlong.memory.record import NO_PARENT
from everlong.model.adapters import Adapter
from everlong.model.cache import BLOCK, block_shape
from everlong.model.routing import Routing
from everlong.model.routing_index import Projection
from everlong.model.transformer import Transformer
from everlong.tokenizer import Tokenizer

log = logging.getLogger(__name__)
_FORGOTTEN = "what this request is about is being forgotten; send it again"
T = TypeVar("T")


class Engine:
    """Runs many requests at once on one thread of its own.

    Args:
        model: ready for inference; used by this engine only.
        tokenizer: of the model.
        fingerprint: of the model as it is used; part of every block's id.
        config: sizes.
        adapters: low-rank adapters that requests may name.
        memory: where blocks are kept; None: they are found again until the engine is closed.
        projection: of the model's keys, where attention is routed.

    Raises:
        ConfigError: the pool is too small for the window, or the window too long for the model; or
            attention is to be routed, and there is no projection.
    """

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        fingerprint: bytes,
        config: EngineConfig,
        adapters: Mapping[str, Adapter] = MappingProxyType({}),
        memory: Memory | None = None,
        projection: Projection | None = None,
    ) -> None:
        self.config = config
        self.adapters = adapters
        self.fingerprint = fingerprint
        """Of the model without adapters."""
        self.memory = memory
        routing = None
        if config.routed:
            if projection is None:
                raise ConfigError("attention is routed, and no projection of keys is given")
            routing = Routing(projection, config.budget)
        dtype = kv_dtype(model)
        blocks, self.max_model_len = config.sizes(model.config, dtype)
        self._runner = Runner(
            model,
            deterministic=config.deterministic,
            chunk=config.max_num_batched_tokens,
            adapters=adapters,
            routing=routing,
            window=self.max_model_len,
        )
        shape, numerics = block_shape(model.config), self._runner.numerics
        self._stored = None
        if memory is not None:
            kept = FORMATS[config.memory_kv_dtype](shape, dtype)
            self._stored = StoredBlocks(memory.blocks, shape, kept)
            if not kept.exact:  # what follows a rounded block is not what follows an exact one
                numerics += f", {config.memory_kv_dtype} memory"
        self._pool = BlockPool(shape, blocks, dtype, self._stored, self._runner.block_index)
        self._scheduler = Scheduler(self._pool, config.max_num_seqs, config.max_num_batched_tokens)
        self._builder = SequenceBuilder(
            tokenizer,
            vocab_size=model.config.vocab_size,
            max_model_len=self.max_model_len,
            fingerprint=fingerprint,
            numerics=numerics,
            adapters=adapters,
            memory=memory,
        )
        self._arrivals = 0
        self._prompt_tokens = self._cached_tokens = self._generation_tokens = self._steps = 0
        self._reads = NOTHING_READ
        self._finished: Counter[str] = Counter()
        # Guards what other threads touch: jobs, the number waiting, and whether it is closed.
        self._lock = threading.Condition()
        self._jobs: deque[Callable[[], None]] = deque()
        self._accepted = 0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="everlong-engine", daemon=True)
        self._thread.start()
        if memory is not None:
            memory.forgetting.readers.add(self)

    # From any thread.

    def submit(
        self,
        prompt: Sequence[int],
        params: SamplingParams,
        sink: Sink,
        *,
        namespace: str = LOCAL,
        session: InSession | None = None,
        adapter: str | None = None,
    ) -> EngineSequence:
        """Queue a request; ``sink`` receives its chunks, or one error, on the engine's thread.

        Args:
            prompt: token ids.
            params: how to continue them.
            sink: receives what comes.
            namespace: name of whose blocks are found, and whose the new ones are.
            session: that the prompt is of, if it is of one.
            adapter: name of a loaded adapter.

        Returns:
            A handle for :meth:`cancel`.

        Raises:
            RequestError: the prompt is empty, has ids outside the vocabulary, or the constraint
                cannot be compiled.
            UnknownModelError: no adapter of this name is loaded.
            ContextLengthError: prompt and output do not fit the window.
            QueueFullError: ``max_waiting`` requests wait already.
            EngineStoppedError: the engine is closed.
        """
        sequence = self._builder.build(
            prompt, params, sink, namespace=namespace, session=session, adapter=adapter
        )
        limit = self.config.max_num_seqs + self.config.max_waiting
        with self._lock:
            self._check_open()
            if self._accepted >= limit:
                raise QueueFullError(
                    f"{self._accepted} requests are being served or wait, and {limit} are allowed; "
                    "try again later, or raise max_waiting",
                    retry_after=1.0,
                )
            self._accepted += 1
            self._arrivals += 1
            sequence.number = self._arrivals
            self._post(lambda: self._add(sequence))
        return sequence

    def cancel(self, sequence: EngineSequence) -> None:
        """Stop a request and free its blocks; nothing happens if it is finished."""
        with self._lock:
            if not self._closed:
                self._post(lambda: self._cancel(sequence))

    def call(self, job: Callable[[Runner], T]) -> Future[T]:
        """Run ``job`` on the engine's thread between two steps."""
        future: Future[T] = Future()

        def run() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(job(self._runner))
                except BaseException as error:
                    future.set_exception(error)

        with self._lock:
            self._check_open()
            self._post(run)
        return future

    def forget_cached(self) -> None:
        """Forget every block that no request holds: what comes next is computed from nothing."""
        self.call(lambda runner: self._pool.forget_cached()).result()

    def let_go(self, namespace: bytes, sessions: Collection[str]) -> set[BlockId]:
        """Read no block of a namespace any more that is not still asked for; see ``Memory``.

        Requests of the sessions, and requests of the namespace that are of no session, end with
        an error: what they are about is being forgotten.

        Returns:
            Ids of the blocks of the namespace's other requests.
        """

        def work(runner: Runner) -> set[BlockId]:
            asked: set[BlockId] = set()
            for sequence in [*self._scheduler.running, *self._scheduler.waiting]:
                if sequence.namespace.id != namespace:
                    continue
                if sequence.session is None or sequence.session.name in sessions:
                    self._fail(sequence, RequestError(_FORGOTTEN))
                else:
                    asked.update(map(sequence.id_of, range(sequence.length // BLOCK)))
            self._pool.forget_cached(namespace)
            return asked

        return self.call(work).result()

    def drop(self, namespace: bytes, blocks: Set[BlockId]) -> None:
        """Read none of these blocks of a namespace any more; requests that do end with an error."""

        def work(runner: Runner) -> None:
            for sequence in list(self._scheduler.running):
                if not blocks.isdisjoint(sequence.ids):
                    self._fail(sequence, RequestError(_FORGOTTEN))
            self._pool.forget_cached(namespace)

        with suppress(EngineStoppedError):  # then nothing is read
            self.call(work).result()

    def stats(self) -> EngineStats:
        """A snapshot of counters and gauges."""
        with self._lock:
            running, waiting = len(self._scheduler.running), len(self._scheduler.waiting)
            return EngineStats(
                running=running,
                waiting=max(waiting, self._accepted - running),
                blocks_total=self._pool.total,
                blocks_used=self._pool.total - self._pool.available,
                blocks_cached=self._pool.cached,
                prompt_tokens=self._prompt_tokens,
                cached_tokens=self._cached_tokens,
                generation_tokens=self._generation_tokens,
                requests_finished=dict(self._finished),
                preemptions=self._scheduler.preemptions,
                steps=self._steps,
                reads=self._reads,
            )

    def close(self) -> None:
        """Fail what is unfinished and end the thread."""
        if self.memory is not None:
            self.memory.forgetting.readers.discard(self)
        with self._lock:
            self._closed = True
            self._lock.notify()
        self._thread.join()

    # On the engine's thread.

    def _run(self) -> None:
        while self._wait_for_work():
            with self._lock:
                jobs, self._jobs = self._jobs, deque()
            for job in jobs:
                job()
            try:
                self._step()
            except Exception as error:
                # A step that fails takes its own requests with it, not the engine.
                log.exception("a step failed")
                failure = EngineStoppedError(f"the engine failed: {error}")
                for sequence in list(self._scheduler.running):
                    self._fail(sequence, failure)
        stopped = EngineStoppedError("the engine was shut down before the request finished")
        for job in self._jobs:
            job()
        for sequence in [*self._scheduler.running, *self._scheduler.waiting]:
            self._fail(sequence, stopped)

    def _wait_for_work(self) -> bool:
        with self._lock:
            while not (self._jobs or self._closed or self._has_sequences()):
                self._lock.wait()
            return not self._closed

    def _has_sequences(self) -> bool:
        return bool(self._scheduler.running or self._scheduler.waiting)

    def _step(self) -> None:
        plan = self._scheduler.schedule()
        if not plan:
            return
        logits = self._runner.run(plan)
        self._steps += 1
        score_prompts(plan, logits)
        sampling: list[EngineSequence] = []
        rows: list[int] = []
        only_scored: list[EngineSequence] = []
        end = 0
        for scheduled in plan:
            sequence, end = scheduled.sequence, end + scheduled.rows
            if scheduled.samples:
                sampling.append(sequence)
                rows.append(end - 1)
            self._count_prompt(scheduled)
            self._keep(sequence, sequence.advance(self._pool, scheduled.count))
            if sequence.max_tokens == 0 and sequence.computed == sequence.wanted:
                only_scored.append(sequence)
        for sequence in only_scored:
            self._end(sequence, "length")
            told = tuple(sequence.prompt_logprobs)
            sequence.tell(Chunk("", (), None, "length", sequence.usage, told))
        self._deliver(sampling, logits if len(rows) == len(logits) else logits[rows])

    def _keep(self, sequence: EngineSequence, full: range) -> None:
        """Have blocks that are full now written to the store."""
        if self._stored is None:
            return
        for at in full:
            self._stored.keep(
                self._pool.tensor(sequence.blocks[at]),
                known=sequence.id_of(at),
                parent=sequence.id_of(at - 1) if at else NO_PARENT,
                namespace=sequence.namespace.id,
                fingerprint=sequence.fingerprint,
                depth=at,
                tokens=sequence.tokens(at * BLOCK, (at + 1) * BLOCK),
            )

    def _deliver(self, sequences: list[EngineSequence], logits: Tensor) -> None:
        if not sequences:
            return
        results = sample(logits, [s.sampler for s in sequences])
        for sequence, result in zip(sequences, results, strict=True):
            if isinstance(result, EverlongError):
                self._fail(sequence, result)
            else:
                self._accept(sequence, result)

    def _accept(self, sequence: EngineSequence, sampled: Sampled) -> None:
        self._generation_tokens += 1
        chunk = sequence.accept(sampled)
        if chunk.finish_reason is not None:
            self._end(sequence, chunk.finish_reason)
        sequence.tell(chunk)

    def _add(self, sequence: EngineSequence) -> None:
        self._scheduler.add(sequence)
        if sequence.session is not None and not sequence.session.stands():
            self._fail(sequence, RequestError(_FORGOTTEN))

    def _cancel(self, sequence: EngineSequence) -> None:
        if sequence in self._scheduler.running or sequence in self._scheduler.waiting:
            self._end(sequence, "cancelled")
            sequence.tell(Chunk("", (), None, "cancelled", sequence.usage))

    def _fail(self, sequence: EngineSequence, error: EverlongError) -> None:
        self._end(sequence, "error")
        sequence.tell(error)

    def _end(self, sequence: EngineSequence, reason: FinishReason) -> None:
        self._scheduler.remove(sequence)
        self._reads += sequence.reads
        self._finished[reason] += 1
        with self._lock:
            self._accepted -= 1

    def _count_prompt(self, scheduled: Scheduled) -> None:
        sequence = scheduled.sequence
        if not sequence.output and sequence.computed == sequence.cached:
            self._prompt_tokens += len(sequence.prompt)
            self._cached_tokens += sequence.cached

    # Shared.

    def _post(self, job: Callable[[], None]) -> None:
        self._jobs.append(job)
        self._lock.notify()

    def _check_open(self) -> None:
        if self._closed:
            raise EngineStoppedError("the engine is closed")
