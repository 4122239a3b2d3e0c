"""Token shards of curated documents, as the trainer reads them: a folder for each part."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, fields
from pathlib import Path

import yaml

from everlong.curation.document import Document
from everlong.curation.mixture import Mixture, Part, part_finder
from everlong.curation.saved import load_lines
from everlong.data.corpora import corpus_names, end_of_text
from everlong.data.token_shards import ShardWriter
from everlong.evaluation.provenance import cores
from everlong.files import atomic_write
from everlong.tokenizer import Tokenizer

TRAINING = "training.yaml"
_TOGETHER = 256
_LEAST_SHARD = 1 << 20


@dataclass(frozen=True)
class PartTokens:
    """A part of the corpus as the trainer has it."""

    tokens: int
    """In its shards."""
    share: float
    """Of the tokens that a training run reads."""


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
) -> dict[str, PartTokens]:
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
        What each part has of tokens.
    """
    shutil.rmtree(folder, ignore_errors=True)
    end, tokens = end_of_text(tokenizer), {part.name: 0 for part in parts}
    read = dict(tokens)
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
                    read[name] += len(ids) - 1  # each predicts the one behind it
            tell(sum(len(document.text) for document in some))
    # Folders are called as the parts are; the corpora of a training recipe have narrower names.
    names = dict(zip(tokens, corpus_names([*tokens]), strict=True))
    corpora = [
        {"name": name, "kind": "shards", "paths": [str(folder / part)]}
        for part, name in names.items()
    ]
    weights, planned = _weights(parts, read)
    # Digits, not decimals: a part may be a millionth of the corpus, and is read nevertheless.
    told = {
        "corpora": corpora,
        "weights": {names[part]: float(f"{one:.6g}") for part, one in weights.items()},
    }
    head = (
        "# For a training recipe: its corpora, and the weights of a phase. These are shares of\n"
        "# tokens; those of letters, as the card has them, differ where tokens are longer.\n"
        f"# A run of {planned:,.0f} tokens reads each part as often as the card says.\n"
    )
    atomic_write(folder / TRAINING, (head + yaml.safe_dump(told, sort_keys=False)).encode())
    return {name: PartTokens(tokens[name], weights[name]) for name in tokens}


def _weights(parts: Sequence[Part], read: Mapping[str, int]) -> tuple[dict[str, float], float]:
    """Of the corpora in a phase.

    A trainer's weights are shares of tokens, and the parts' are shares of letters. Texts differ in
    how many letters a token has, so what is kept is how often a part is read.

    Args:
        parts: all of them.
        read: tokens of each that are read when all of it is read once.

    Returns:
        Shares of the tokens, and how many there are.
    """
    wanted = {part.name: part.epochs * read[part.name] for part in parts}
    planned = sum(wanted.values())
    return {name: one / planned if planned else 0.0 for name, one in wanted.items()}, planned


def _grouped(documents: Iterator[Document], count: int) -> Iterator[list[Document]]:
    some = []
    for document in documents:
        some.append(document)
        if len(some) == count:
            yield some
            some = []
    if some:
        yield some
