"""Several choices side by side, and work that stops when the client is gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

import pytest
from starlette.requests import Request

from everlong.engine.request import Chunk, Usage
from everlong.errors import EngineStoppedError, QueueFullError
from everlong.serving.generation import (
    ClientGone,
    UsageSum,
    finish_reason,
    merged,
    unless_gone,
)


class Source:
    """Chunks that come when told, from a stream that knows whether it was closed."""

    def __init__(self, *texts: str | Exception) -> None:
        self.items = texts
        self.closed = False

    async def stream(self) -> AsyncGenerator[Chunk, None]:
        try:
            for item in self.items:
                await asyncio.sleep(0)
                if isinstance(item, Exception):
                    raise item
                yield Chunk(item, (5,))
        finally:
            self.closed = True


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(test(), 10)

    asyncio.run(bounded())


@pytest.mark.parametrize("count", [1, 2, 5])
def test_every_choice_keeps_its_order(count: int) -> None:
    async def test() -> None:
        sources = [Source(*f"{number}abc") for number in range(count)]
        read = [""] * count
        async for index, chunk in merged([source.stream() for source in sources]):
            read[index] += chunk.text
        assert read == [f"{number}abc" for number in range(count)]
        assert all(source.closed for source in sources)

    run(test)


@pytest.mark.parametrize("count", [1, 3])
def test_closing_closes_all(count: int) -> None:
    async def test() -> None:
        sources = [Source(*"abcdef") for _ in range(count)]
        stream = merged([source.stream() for source in sources])
        await anext(stream)
        await stream.aclose()
        assert all(source.closed for source in sources)

    run(test)


def test_the_failure_of_one_ends_all() -> None:
    async def test() -> None:
        sources = [Source(*"abcdefgh"), Source("a", QueueFullError("full")), Source(*"abcdefgh")]
        with pytest.raises(QueueFullError):
            async for _ in merged([source.stream() for source in sources]):
                pass
        assert all(source.closed for source in sources)

    run(test)


def request_of(gone: asyncio.Event) -> Request:
    async def receive() -> dict[str, Any]:
        await gone.wait()
        return {"type": "http.disconnect"}

    return Request({"type": "http"}, receive)


def test_work_is_cancelled_when_the_client_goes() -> None:
    async def test() -> None:
        gone, ended = asyncio.Event(), asyncio.Event()

        async def work() -> None:
            gone.set()
            try:
                await asyncio.sleep(60)
            finally:
                ended.set()

        with pytest.raises(ClientGone):
            await unless_gone(request_of(gone), work())
        assert ended.is_set()

    run(test)


def test_work_that_is_done_is_returned_and_failures_are_raised() -> None:
    async def test() -> None:
        async def work(value: int) -> int:
            await asyncio.sleep(0)
            return 10 // value

        assert await unless_gone(request_of(asyncio.Event()), work(2)) == 5
        with pytest.raises(ZeroDivisionError):
            await unless_gone(request_of(asyncio.Event()), work(0))
        assert len(asyncio.all_tasks()) == 2, "only this test and its bound are left"

    run(test)


def test_a_request_that_was_ended_is_not_a_success() -> None:
    assert finish_reason(Chunk("", ())) is None
    assert finish_reason(Chunk("", (), None, "stop")) == "stop"
    for reason in ("cancelled", "error"):
        with pytest.raises(EngineStoppedError):
            finish_reason(Chunk("", (), None, reason))  # type: ignore[arg-type]


def test_a_prompt_counts_once() -> None:
    usage = UsageSum(choices_per_prompt=2)
    for choice, (prompt, cached, completion) in enumerate(
        [(10, 0, 1), (10, 9, 2), (20, 5, 3), (20, 19, 4)]
    ):
        usage.update(choice, Usage(prompt, cached, 0))
        usage.update(choice, Usage(prompt, cached, completion))
    reply = usage.reply()
    assert reply.prompt_tokens == 30
    assert reply.prompt_tokens_details.cached_tokens == 5
    assert reply.completion_tokens == 10
    assert reply.total_tokens == 40
