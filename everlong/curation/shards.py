"""Token shards of curated documents, as the trainer reads them: a folder for each part."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path

import yaml

from everlong.curation.document import Document
from everlong.curation.mixture import Mixture, Part, part_finder
from everlong.curation.saved import load_lines
from everlong.curation.workers import cores
from everlong.data.corpora import corpus_names, end_of_text
from everlong.data.token_shards import ShardWriter
from everlong.files import atomic_write
from everlong.tokenizer import Tokenizer

TRAINING = "training.yaml"
_TOGETHER = 256
_LEAST_SHARD = 1 << 20


def documents_of(folder: Path) -> Iterator[Document]:
    """The documents of a run, in order.

    Args:
        folder: with files of JSON lines.

    Raises:
        DataError: a file is damaged.
    """
    names = [one.name for one in fields(Document)]
    return map(Document.from_plain, load_lines(folder, *names))


def write_shards(
    documents: Path,
    folder: Path,
    tokenizer: Tokenizer,
    mixture: Mixture,
    parts: Sequence[Part],
    shard_tokens: int,
    tell: Callable[[int], None] = lambda letters: None,
) -> dict[str, int]:
    """Write the shards, and how a training recipe names them.

    Args:
        documents: folder of a run's documents.
        folder: to be written anew; what is in it is removed.
        tokenizer: of the model that is to be trained.
        mixture: tells the part of a document.
        parts: all of them.
        shard_tokens: tokens of a shard, about; of many parts less, as all are written at once.
        tell: told how many letters more are done.

    Returns:
        Tokens of each part.
    """
    shutil.rmtree(folder, ignore_errors=True)
    end, tokens = end_of_text(tokenizer), {part.name: 0 for part in parts}
    find = part_finder(mixture, parts)
    size = max(_LEAST_SHARD, shard_tokens // len(parts))

    def encode(document: Document) -> list[int]:
        return [*tokenizer.encode(document.text, special=False, bos=False), end]

    with ExitStack() as opened:
        pool = opened.enter_context(ThreadPoolExecutor(cores()))
        writers = {
            part.name: opened.enter_context(
                ShardWriter(
                    folder / part.name,
                    tokenizer=tokenizer.fingerprint().hex(),
                    vocab_size=tokenizer.vocab_size,
                    shard_tokens=size,
                )
            )
            for part in parts
        }
        for some in _grouped(documents_of(documents), _TOGETHER):
            for document, ids in zip(some, pool.map(encode, some), strict=True):
                if (name := find(document)) is not None:
                    writers[name].add(ids)
                    tokens[name] += len(ids)
            tell(sum(len(document.text) for document in some))
    # Folders are called as the parts are; the corpora of a training recipe have narrower names.
    names = dict(zip(tokens, corpus_names([*tokens]), strict=True))
    corpora = [
        {"name": name, "kind": "shards", "paths": [str(folder / part)]}
        for part, name in names.items()
    ]
    weights = {names[part]: round(one, 6) for part, one in _weights(parts, tokens).items()}
    told = {"corpora": corpora, "weights": weights}
    head = "# For a training recipe: its corpora, and the weights of a phase.\n"
    atomic_write(folder / TRAINING, (head + yaml.safe_dump(told, sort_keys=False)).encode())
    return tokens


def _weights(parts: Sequence[Part], tokens: dict[str, int]) -> dict[str, float]:
    """Of the corpora in a phase: the parts' shares.

    The bands of a part divide its share by their tokens, not by their letters: texts differ in how
    many letters a token has, and each band is to be read as often as it says.
    """
    shares: defaultdict[str, float] = defaultdict(float)
    read: defaultdict[str, float] = defaultdict(float)
    for part in parts:
        shares[part.of] += part.share
        read[part.of] += part.epochs * tokens[part.name]
    return {
        part.name: shares[part.of] * (part.epochs * tokens[part.name] / read[part.of])
        if read[part.of]
        else 0.0
        for part in parts
    }


def _grouped(documents: Iterator[Document], count: int) -> Iterator[list[Document]]:
    some = []
    for document in documents:
        some.append(document)
        if len(some) == count:
            yield some
            some = []
    if some:
        yield some
