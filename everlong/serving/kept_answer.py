"""A session's answer while it is sent: what was asked and what was answered are kept."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from everlong.engine.conversations import Exchange
from everlong.engine.request import Chunk
from everlong.errors import RequestError
from everlong.memory.operations import told_episode
from everlong.serving.replies import MemoryReply, RecalledReply, ToolCallDelta

logger = logging.getLogger(__name__)


class KeptAnswer:
    """Writes what happens to the memory, beside the loop: it waits for the disk.

    The question is kept already, unless the engine refuses it; the answer is before its last piece
    is sent, or as far as it came when the client leaves.

    Args:
        exchange: the question.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._output: list[int] = []
        self._content: list[str] = []
        self._calls: list[dict[str, Any]] = []
        self._finished = False

    @property
    def session(self) -> str:
        """Name of the session."""
        return self._exchange.session.name

    def reply(self) -> MemoryReply:
        """What the client is told of it."""
        recalled = [
            RecalledReply(**told_episode(episode), score=score)
            for episode, score in self._exchange.recalled
        ]
        return MemoryReply(session=self.session, recalled=recalled)

    async def watch(
        self, chunks: AsyncGenerator[tuple[int, Chunk], None]
    ) -> AsyncGenerator[tuple[int, Chunk], None]:
        """The same chunks; notes their tokens on the way."""
        try:
            async with aclosing(chunks) as source:
                async for index, chunk in source:
                    self._output += chunk.token_ids
                    yield index, chunk
        except RequestError:
            if not self._output:
                await _beside(self._exchange.withdraw)
            raise
        finally:
            if not self._finished and self._output:
                # The client left, and nothing may be awaited here.
                _beside(self._finish).add_done_callback(_log_failure)

    def say(self, content: str, calls: Sequence[ToolCallDelta]) -> None:
        """A piece of the answer."""
        self._content.append(content)
        for call in calls:
            function = {"name": call.function.name, "arguments": call.function.arguments}
            self._calls.append({"id": call.id, "type": "function", "function": function})

    async def finish(self) -> None:
        """Keep the whole answer."""
        self._finished = True
        await _beside(self._finish)

    def _finish(self) -> None:
        answer: dict[str, Any] = {"role": "assistant", "content": "".join(self._content)}
        if self._calls:
            answer["tool_calls"] = self._calls
        self._exchange.finish(self._output, answer)


def name_of(messages: Sequence[Mapping[str, Any]]) -> str:
    """What the names of sessions begin with, of clients that name none: their conversations up to
    the first question, so that the same one, sent again with its answers, is found and goes on."""
    first = []
    for message in messages:
        first.append(message)
        if message["role"] not in ("system", "developer"):
            break
    text = json.dumps(first, sort_keys=True, ensure_ascii=False)
    return f"conversation-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _beside(work: Callable[[], None]) -> asyncio.Future[None]:
    return asyncio.get_running_loop().run_in_executor(None, work)


def _log_failure(written: asyncio.Future[None]) -> None:
    if not written.cancelled() and (error := written.exception()) is not None:
        logger.warning("an answer that was broken off is not kept: %s", error)
