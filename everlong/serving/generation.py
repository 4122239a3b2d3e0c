"""Running the engine for one HTTP request: several choices at once, and a client that leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import anyio
from starlette.requests import Request

from everlong.engine.async_engine import AsyncEngine
from everlong.engine.request import NOTHING_READ, Chunk, InSession, SamplingParams, Usage
from everlong.errors import EngineStoppedError
from everlong.serving.metrics import Metrics
from everlong.serving.replies import PromptTokensDetails, UsageReply

T = TypeVar("T")


class ClientGone(Exception):
    """The client closed its connection before the answer was ready."""


@dataclass(frozen=True)
class Job:
    """What one choice asks of the engine."""

    prompt_ids: Sequence[int]
    sampling: SamplingParams
    session: InSession | None = None
    """The session that the prompt is of, if it is of one."""


def run(
    jobs: Sequence[Job],
    engine: AsyncEngine,
    metrics: Metrics,
    *,
    namespace: str,
    adapter: str | None,
) -> AsyncGenerator[tuple[int, Chunk], None]:
    """Starts the choices of one HTTP request; see :func:`merged`.

    Args:
        namespace: whose blocks may be shared.
        adapter: the model's adapter to use, if any.
    """
    return merged(
        [
            metrics.observed(
                engine.generate(
                    job.prompt_ids,
                    job.sampling,
                    namespace=namespace,
                    session=job.session,
                    adapter=adapter,
                )
            )
            for job in jobs
        ]
    )


async def merged(
    streams: Sequence[AsyncGenerator[Chunk, None]],
) -> AsyncGenerator[tuple[int, Chunk], None]:
    """Runs several engine requests side by side and yields their chunks as they come.

    Closing it, or a failure of one, closes them all.

    Args:
        streams: one per choice.

    Yields:
        The index of the choice and what it got.
    """
    if len(streams) == 1:
        async with aclosing(streams[0]) as only:
            async for chunk in only:
                yield 0, chunk
        return

    queue: asyncio.Queue[tuple[int, Chunk] | Exception | None] = asyncio.Queue()

    async def pump(index: int, stream: AsyncGenerator[Chunk, None]) -> None:
        try:
            async with aclosing(stream) as source:
                async for chunk in source:
                    queue.put_nowait((index, chunk))
        except Exception as error:
            queue.put_nowait(error)
        else:
            queue.put_nowait(None)

    tasks = [asyncio.create_task(pump(index, stream)) for index, stream in enumerate(streams)]
    try:
        unfinished = len(tasks)
        while unfinished:
            item = await queue.get()
            if item is None:
                unfinished -= 1
            elif isinstance(item, Exception):
                raise item
            else:
                yield item
    finally:
        for task in tasks:
            task.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.gather(*tasks, return_exceptions=True)


def finish_reason(chunk: Chunk) -> Literal["stop", "length"] | None:
    """Why a choice ended, in OpenAI's words; None while it goes on.

    Raises:
        EngineStoppedError: it did not end, it was ended.
    """
    match chunk.finish_reason:
        case "cancelled" | "error":
            raise EngineStoppedError("the engine ended this request before it was finished")
        case reason:
            return reason


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Awaits ``work``, or cancels it as soon as the client closes its connection.

    Raises:
        ClientGone: the client left first.
    """
    task = asyncio.ensure_future(work)
    watcher = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        return task.result()
    finally:
        task.cancel()
        watcher.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.gather(task, watcher, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class UsageSum:
    """Adds up the usage of the choices of one HTTP request.

    A prompt counts once, however many choices were drawn from it.

    Args:
        choices_per_prompt: ``n``.
    """

    def __init__(self, choices_per_prompt: int) -> None:
        self._per_prompt = choices_per_prompt
        self._usages: dict[int, Usage] = {}

    def update(self, choice: int, usage: Usage) -> None:
        self._usages[choice] = usage

    def reply(self) -> UsageReply:
        first = [u for choice, u in self._usages.items() if choice % self._per_prompt == 0]
        prompt = sum(usage.prompt_tokens for usage in first)
        completion = sum(usage.completion_tokens for usage in self._usages.values())
        share = sum((u.reads for u in self._usages.values()), NOTHING_READ).share
        return UsageReply(
            **({} if share is None else {"kv_read_share": round(share, 4)}),
            prompt_tokens=prompt,
            completion_tokens=completion,
            total_tokens=prompt + completion,
            prompt_tokens_details=PromptTokensDetails(
                cached_tokens=sum(usage.cached_tokens for usage in first)
            ),
        )
