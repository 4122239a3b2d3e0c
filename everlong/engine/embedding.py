"""Vectors of what is remembered, made in the background."""

from __future__ import annotations

import logging
import threading

from everlong.engine.embedders import ModelEmbedder, SentenceEmbedder
from everlong.engine.llm import LLM
from everlong.errors import EverlongError
from everlong.memory.memory import Memory
from everlong.memory.recall import Embedder

logger = logging.getLogger(__name__)

_AT_ONCE = 32
"""Texts between two looks whether to stop."""


class BackgroundEmbedding:
    """Gives vectors to the episodes of a memory until it is closed.

    Args:
        llm: whose words make the vectors, where nothing else is named; closed after this.
        memory: its recall uses the vectors.
        embedder: a sentence encoder instead: a name of the catalog such as ``minilm-l6``, or a
            folder.

    Raises:
        CheckpointError: the encoder cannot be found or read.
    """

    def __init__(self, llm: LLM, memory: Memory, embedder: str | None = None) -> None:
        self._sentences = None if embedder is None else SentenceEmbedder(embedder)
        chosen: Embedder = self._sentences or ModelEmbedder(llm)
        self._memory = memory
        memory.recall.embedder = chosen
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="everlong-embedding", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop; episodes that have no vector get one the next time."""
        self._closed = True
        self._memory.episodes.added.set()
        self._thread.join()
        self._memory.recall.embedder = None
        if self._sentences is not None:
            self._sentences.close()

    def _work(self) -> None:
        added = self._memory.episodes.added
        while not self._closed:
            added.clear()
            try:
                while not self._closed and self._memory.recall.embed_some(_AT_ONCE):
                    pass
            except EverlongError as error:
                logger.warning("what was said last is found by its words only: %s", error)
            if not self._closed:
                added.wait()
