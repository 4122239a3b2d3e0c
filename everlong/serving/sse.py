"""Server-sent events: a stream that begins with the right status and always ends cleanly."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import anyio
from sse_starlette.sse import EventSourceResponse
from starlette.types import Receive, Scope, Send

from everlong.serving.errors import as_api_error

STREAM_STARTS_AFTER = 5.0
"""Seconds after which a stream is begun although nothing was generated yet (a long queue):
proxies give up on a connection without headers. Refusals come sooner, with their status."""

DONE = b"data: [DONE]\n\n"


def event(body: bytes) -> bytes:
    """One event with ``body``, JSON without line breaks, as its data."""
    return b"data: " + body + b"\n\n"


class EventStream(EventSourceResponse):
    """Sends what a generator yields, until it ends, fails, or the client leaves.

    A failure in the midst becomes an event with OpenAI's error object; ``[DONE]`` is always
    the last event. The generator is closed in every case, even if nothing was sent.

    Args:
        events: yields whole events as bytes.
    """

    def __init__(self, events: AsyncGenerator[bytes, None]) -> None:
        self._events = events
        self._first: asyncio.Future[bytes | None] | None = None
        super().__init__(self._until_done())

    async def begin(self, patience: float = STREAM_STARTS_AFTER) -> EventStream:
        """Waits for the first event, so that a refusal is raised here, with its own status.

        Args:
            patience: seconds to wait at most; later failures appear inside the stream.
        """
        self._first = asyncio.ensure_future(anext(self._events, None))
        try:
            await asyncio.wait({self._first}, timeout=patience)
            if self._first.done():
                self._first.result()
        except BaseException:
            await self._close()
            raise
        return self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._close()

    async def _until_done(self) -> AsyncGenerator[bytes, None]:
        try:
            if self._first is not None:
                first = await self._first
                if first is not None:
                    yield first
            async for item in self._events:
                yield item
        except Exception as error:
            body: dict[str, Any] = as_api_error(error).body()
            yield event(json.dumps(body).encode())
        yield DONE

    async def _close(self) -> None:
        with anyio.CancelScope(shield=True):
            if self._first is not None:
                self._first.cancel()
                await asyncio.gather(self._first, return_exceptions=True)
            await self._events.aclose()
