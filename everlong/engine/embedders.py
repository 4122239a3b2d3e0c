"""Texts to vectors for recall: by a sentence encoder, or by the loaded model's own words.

Both are embedders as ``everlong.memory.recall`` asks for them: a ``name`` that changes whenever the
vectors would, and unit vectors of documents and of queries.
"""

from __future__ import annotations

import queue
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from everlong.checkpoint.catalog import resolve
from everlong.checkpoint.sentence_folder import open_sentence_folder
from everlong.engine.llm import LLM
from everlong.errors import EngineStoppedError

Vectors = npt.NDArray[np.float32]
"""[n, dimensions], each of unit length."""

_QUERY, _DOCUMENTS, _END = range(3)
"""What is computed first: somebody waits for a query."""

_WORD = re.compile(r"\w+")

_COMMON_RANK = 1000
"""Rank of the token that counts half; commoner ones count less."""
_COMMONEST = 4096
"""Tokens from which the direction that all texts share is found; they are most of any text."""

_STEP_TOKENS = 256
"""Tokens of a step of documents, padding included: the longest that a query waits for."""


class SentenceEmbedder:
    """Vectors by a sentence encoder. Safe to use from several threads; ``close`` it when done.

    It computes on a thread of its own, a query before documents that wait. A text that is longer
    than the encoder's window has the mean vector of its parts.

    Args:
        model: a name of the catalog such as ``minilm-l6``, or a folder in the layout of the
            sentence-transformers library.

    Raises:
        CheckpointError: it cannot be found or read.
        UnsupportedError: it is of a kind that is not implemented.
    """

    evidence = -10.55, 6.45, 16.38
    """Fitted for MiniLM-L6; see ``everlong.memory.recall.Embedder``."""

    def __init__(self, model: str | Path) -> None:
        path = resolve(str(model))
        self._folder = open_sentence_folder(path)
        self._encoder = self._folder.encoder
        self.name = f"{path.name} {self._folder.fingerprint.hex()[:32]}"
        self.dimensions = self._encoder.config.hidden_size
        self._jobs: queue.PriorityQueue[tuple[int, int, Callable[[], None]]] = queue.PriorityQueue()
        self._number = 0
        self._closed = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="everlong-embedder", daemon=True)
        self._thread.start()

    def documents(self, texts: Sequence[str]) -> Vectors:
        """Vectors of texts that are found."""
        return self._vectors(texts, self._folder.document_prompt, _DOCUMENTS)

    def queries(self, texts: Sequence[str]) -> Vectors:
        """Vectors of texts that are looked for."""
        return self._vectors(texts, self._folder.query_prompt, _QUERY)

    def close(self) -> None:
        """End the thread after what was asked for already."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._jobs.put((_END, 0, lambda: None))
        self._thread.join()

    def _vectors(self, texts: Sequence[str], prompt: str, urgency: int) -> Vectors:
        windows = self._folder.tokenizer.windows([prompt + text for text in texts])
        owners = [i for i, parts in enumerate(windows) for _ in parts]
        ids = [part for parts in windows for part in parts]
        steps = list(_steps(ids))
        sums = np.zeros((len(texts), self.dimensions), np.float32)
        for step, future in zip(steps, [self._submit(ids, s, urgency) for s in steps], strict=True):
            for part, vector in zip(step, future.result().numpy(), strict=True):
                sums[owners[part]] += len(ids[part]) * vector
        return _unit(sums)

    def _submit(
        self, ids: Sequence[Sequence[int]], step: Sequence[int], urgency: int
    ) -> Future[Tensor]:
        future: Future[Tensor] = Future()

        def run() -> None:
            try:
                future.set_result(self._encode([ids[part] for part in step]))
            except BaseException as error:
                future.set_exception(error)

        with self._lock:
            if self._closed:
                raise EngineStoppedError("the embedder is closed")
            self._number += 1
            self._jobs.put((urgency, self._number, run))
        return future

    def _encode(self, ids: Sequence[Sequence[int]]) -> Tensor:
        lengths = torch.tensor([len(part) for part in ids])
        tokens = torch.zeros(len(ids), int(lengths.max()), dtype=torch.long)
        for row, part in enumerate(ids):
            tokens[row, : len(part)] = torch.tensor(part)
        with torch.inference_mode():
            vectors: Tensor = self._encoder(tokens, lengths)
        return vectors

    def _work(self) -> None:
        while True:
            urgency, _, run = self._jobs.get()
            if urgency == _END:
                return
            run()


class ModelEmbedder:
    """Vectors by the words of a loaded model: its token embeddings, summed.

    It needs no other model and takes nothing from generation: a text of 30 tokens costs
    microseconds. Tokens count by how rare they are, ``rank / (rank + 1000)``, where a token's id
    stands for its rank (vocabularies are learned from the frequent to the rare); the direction
    that common tokens share is taken out.

    Source: Arora et al. 2017, "A Simple but Tough-to-Beat Baseline for Sentence Embeddings", with
    ranks for frequencies. Chosen by measurement (``docs/experiments.md``): the states of deeper
    layers find less.

    Args:
        llm: whose words; it may be closed before this is.
    """

    evidence = -10.88, 8.0, 12.26
    """Fitted for SmolLM2-135M; see ``everlong.memory.recall.Embedder``."""

    def __init__(self, llm: LLM) -> None:
        self._tokenizer = llm.tokenizer
        # Weights never change, so that other threads than the engine's may read them.
        self._table = llm.engine.call(lambda runner: runner.model.embed_tokens).result()
        # Whoever changes how vectors are made changes the number.
        self.name = f"{llm.name} words 1 {llm.engine.fingerprint.hex()[:32]}"
        self.dimensions = llm.config.hidden_size
        ids = np.arange(min(_COMMONEST, llm.tokenizer.vocab_size))
        # By Zipf's law a token's frequency is as 1 / rank.
        common = self._rows(ids) / np.sqrt(ids + 1.0, dtype=np.float32)[:, None]
        # The first right singular vector; the rows' own decomposition takes ten times as long.
        self._shared: Vectors = np.linalg.eigh(common.T @ common)[1][:, -1:].T

    def documents(self, texts: Sequence[str]) -> Vectors:
        """Vectors of texts that are found; the zero vector for a text without words."""
        sums = np.zeros((len(texts), self.dimensions), np.float32)
        for row, text in enumerate(texts):
            ids = np.asarray(self._ids(text), dtype=np.int64)
            weights = (ids + 1) / (ids + 1 + _COMMON_RANK)
            sums[row] = weights.astype(np.float32) @ self._rows(ids)
        shared = (sums @ self._shared.T @ self._shared).astype(np.float32)
        return _unit(sums - shared)

    def queries(self, texts: Sequence[str]) -> Vectors:
        """Vectors of texts that are looked for: a text has the same one on either side."""
        return self.documents(texts)

    def _ids(self, text: str) -> list[int]:
        # A word after a space is another token than the same word at the beginning of a text or
        # after a bracket.
        words = "".join(f" {word}" for word in _WORD.findall(text))
        return self._tokenizer.encode(words, special=False, bos=False)

    def _rows(self, ids: npt.NDArray[np.int64]) -> Vectors:
        with torch.inference_mode():
            rows: Vectors = self._table(torch.from_numpy(ids)).float().numpy()
        return rows


def _steps(ids: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Numbers of texts that are computed together: of similar lengths, so that padding is small."""
    step: list[int] = []
    for number in sorted(range(len(ids)), key=lambda i: len(ids[i])):
        if step and (len(step) + 1) * len(ids[number]) > _STEP_TOKENS:
            yield step
            step = []
        step.append(number)
    if step:
        yield step


def _unit(vectors: Vectors) -> Vectors:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    result: Vectors = vectors / np.maximum(lengths, 1e-12)
    return result
