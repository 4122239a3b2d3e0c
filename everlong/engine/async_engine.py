"""The engine for asyncio: it only queues; computing stays on the engine's thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from everlong.engine.conversations import Conversations
from everlong.engine.llm import LLM
from everlong.engine.pooling import Pooling
from everlong.engine.request import Chunk, InSession, SamplingParams
from everlong.engine.sequence import EngineSequence
from everlong.engine.stats import EngineStats
from everlong.errors import EverlongError, RequestError
from everlong.memory.namespaces import LOCAL
from everlong.model.config import ModelConfig
from everlong.tokenizer import Tokenizer

_COMPILERS = 4
"""Threads that submit requests with a constraint. One compiles at a time; those whose client left
wait here, too."""


class AsyncEngine:
    """Asynchronous front of an ``LLM``.

    Args:
        llm: loaded model; may be used directly at the same time.
    """

    def __init__(self, llm: LLM) -> None:
        self.llm = llm
        # Not asyncio's own executor: closing, and name look-ups, must not wait behind grammars.
        self._compilers = ThreadPoolExecutor(_COMPILERS, "everlong-compile")

    @property
    def name(self) -> str:
        """Name under which the model is served."""
        return self.llm.name

    @property
    def tokenizer(self) -> Tokenizer:
        """Tokenizer of the model."""
        return self.llm.tokenizer

    @property
    def config(self) -> ModelConfig:
        """Architecture of the model."""
        return self.llm.config

    @property
    def max_model_len(self) -> int:
        """Window in tokens."""
        return self.llm.max_model_len

    @property
    def adapters(self) -> tuple[str, ...]:
        """Names of the loaded adapters."""
        return self.llm.adapters

    @property
    def default_sampling(self) -> SamplingParams:
        """How to sample for requests that do not say it."""
        return self.llm.default_sampling

    @property
    def conversations(self) -> Conversations:
        """The sessions of the memory.

        Raises:
            RequestError: there is no memory.
        """
        if self.llm.conversations is None:
            raise RequestError(
                "there is no memory here, so session cannot be served; start without --no-memory"
            )
        return self.llm.conversations

    async def generate(
        self,
        prompt_ids: Sequence[int],
        sampling: SamplingParams,
        *,
        namespace: str = LOCAL,
        session: InSession | None = None,
        adapter: str | None = None,
    ) -> AsyncIterator[Chunk]:
        """Chunks of one request as they come; closing the iterator cancels the request.

        Raises:
            RequestError: at the first step, as ``Engine.submit``.
            EngineStoppedError: the engine was closed or failed.
        """
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[Chunk | EverlongError] = asyncio.Queue()

        def sink(item: Chunk | EverlongError) -> None:
            # The loop may be gone when a server is torn down: nobody listens then.
            if not loop.is_closed():
                loop.call_soon_threadsafe(queue.put_nowait, item)

        def submit() -> EngineSequence:
            return self.llm.engine.submit(
                prompt_ids,
                sampling,
                sink,
                namespace=namespace,
                session=session,
                adapter=adapter,
            )

        # Compiling a constraint may take seconds.
        if sampling.constraint is None:
            handle = submit()
        else:
            submitted = loop.run_in_executor(self._compilers, submit)
            try:
                handle = await asyncio.shield(submitted)
            except asyncio.CancelledError:
                submitted.add_done_callback(self._cancel_submitted)
                raise
        finished = False
        try:
            while not finished:
                item = await queue.get()
                finished = isinstance(item, EverlongError) or item.finish_reason is not None
                if isinstance(item, EverlongError):
                    raise item
                yield item
        finally:
            if not finished:
                self.llm.engine.cancel(handle)

    def _cancel_submitted(self, submitted: asyncio.Future[EngineSequence]) -> None:
        """Nobody waits any more for a request that was being submitted."""
        if not submitted.cancelled() and submitted.exception() is None:
            self.llm.engine.cancel(submitted.result())

    async def encode(self, prompts: Sequence[Sequence[int]], pooling: Pooling) -> Tensor:
        """Unit vectors of token sequences, float32 [n, hidden]; see ``LLM.encode``."""
        futures = self.llm.encode_tokens(prompts, pooling)
        return torch.cat([await asyncio.wrap_future(f) for f in futures])

    def stats(self) -> EngineStats:
        """Counters and gauges."""
        return self.llm.engine.stats()

    async def close(self) -> None:
        """Stop the engine; unfinished requests fail."""
        await asyncio.get_running_loop().run_in_executor(None, self.llm.close)
