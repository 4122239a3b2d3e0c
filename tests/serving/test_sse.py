"""Streams: the right status, errors as events, an end in every case."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

import pytest

from everlong.errors import EngineStoppedError, QueueFullError
from everlong.serving.sse import DONE, EventStream, event


class Events:
    """Events of a route, some of which fail."""

    def __init__(self, *items: bytes | Exception, delay: float = 0) -> None:
        self.items = items
        self.delay = delay
        self.closed = False

    async def stream(self) -> AsyncGenerator[bytes, None]:
        try:
            for item in self.items:
                await asyncio.sleep(self.delay)
                if isinstance(item, Exception):
                    raise item
                yield event(item)
        finally:
            self.closed = True


async def sent(stream: EventStream, gone_after: int | None = None) -> bytes:
    """What a client receives; it leaves after so many parts."""
    parts: list[bytes] = []
    gone = asyncio.Event()

    async def receive() -> dict[str, Any]:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            parts.append(message["body"])
            if len(parts) == gone_after:
                gone.set()
                await asyncio.sleep(0.01)

    await stream({"type": "http", "method": "POST"}, receive, send)
    return b"".join(parts)


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(test(), 10)

    asyncio.run(bounded())


def test_all_events_and_the_end() -> None:
    async def test() -> None:
        events = Events(b"1", b"2")
        stream = await EventStream(events.stream()).begin()
        assert stream.status_code == 200
        assert stream.media_type == "text/event-stream"
        assert await sent(stream) == b"data: 1\n\ndata: 2\n\n" + DONE
        assert events.closed

    run(test)


def test_a_refusal_comes_before_the_stream() -> None:
    async def test() -> None:
        events = Events(QueueFullError("full"))
        with pytest.raises(QueueFullError):
            await EventStream(events.stream()).begin()
        assert events.closed

    run(test)


def test_a_failure_in_the_midst_is_an_event() -> None:
    async def test() -> None:
        events = Events(b"1", EngineStoppedError("gone"))
        text = await sent(await EventStream(events.stream()).begin())
        first, error, rest = text.split(b"\n\n", 2)
        assert first == b"data: 1"
        assert json.loads(error.removeprefix(b"data: "))["error"]["message"] == "gone"
        assert rest == DONE

    run(test)


def test_a_slow_start_begins_the_stream_and_fails_inside_it() -> None:
    async def test() -> None:
        events = Events(QueueFullError("full"), delay=0.05)
        stream = await EventStream(events.stream()).begin(patience=0.001)
        text = await sent(stream)
        assert b'"full"' in text
        assert text.endswith(DONE)
        assert events.closed

    run(test)


def test_nothing_at_all_still_ends() -> None:
    async def test() -> None:
        assert await sent(await EventStream(Events().stream()).begin()) == DONE

    run(test)


@pytest.mark.parametrize("delay", [0, 0.02])
def test_leaving_closes_the_source(delay: float) -> None:
    async def test() -> None:
        events = Events(*[b"1"] * 1000, delay=delay)
        stream = await EventStream(events.stream()).begin()
        assert DONE not in await sent(stream, gone_after=1)
        assert events.closed

    run(test)


def test_giving_up_before_the_start_closes_the_source() -> None:
    async def test() -> None:
        events = Events(b"1", delay=60)
        begin = asyncio.create_task(EventStream(events.stream()).begin())
        await asyncio.sleep(0.01)
        begin.cancel()
        with pytest.raises(asyncio.CancelledError):
            await begin
        assert events.closed

    run(test)
