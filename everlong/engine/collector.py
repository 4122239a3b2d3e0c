"""From the chunks of a request to its completion."""

from __future__ import annotations

import threading

from everlong.engine.request import Chunk, Completion
from everlong.errors import EverlongError


class Collector:
    """Receives the chunks of a request and wakes its reader once, at the end.

    Waking a thread for every token of every request would cost the engine's thread a tenth of a
    step of a small model.
    """

    def __init__(self) -> None:
        self._chunks: list[Chunk] = []
        self._error: EverlongError | None = None
        self._ended = threading.Event()

    def __call__(self, item: Chunk | EverlongError) -> None:
        if isinstance(item, EverlongError):
            self._error = item
            self._ended.set()
        else:
            self._chunks.append(item)
            if item.finish_reason is not None:
                self._ended.set()

    @property
    def finished(self) -> bool:
        """Whether nothing more will come."""
        return self._ended.is_set()

    def result(self) -> Completion:
        """Wait for the end; the completion, or the error that ended it."""
        self._ended.wait()
        if self._error is not None:
            raise self._error
        last = self._chunks[-1]
        assert last.finish_reason is not None
        logprobs = [lp for chunk in self._chunks for lp in chunk.logprobs or ()]
        asked = any(chunk.logprobs is not None for chunk in self._chunks)
        return Completion(
            "".join(chunk.text for chunk in self._chunks),
            tuple(i for chunk in self._chunks for i in chunk.token_ids),
            tuple(logprobs) if asked else None,
            last.finish_reason,
            last.usage,
            self._chunks[0].prompt_logprobs,
        )
