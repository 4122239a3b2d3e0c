"""Documents that are made of other documents, and how they are told from those.

Every made document says in its metadata what it was made of (``made_from``), by which step
(``made_by``) and with which seed (``made_seed``). So it can be made again, and all of them can be
taken out again. Nothing is made of what was made.

What is drawn depends on the seed, the step and the document's id only: the same in every run, in
any process and order.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator

from everlong.curation.document import Document, Plain

MADE_FROM, MADE_BY, MADE_SEED = "made_from", "made_by", "made_seed"


def made(
    of: Document, by: str, seed: int, name: str, text: str, more: dict[str, Plain] | None = None
) -> Document:
    """A new document.

    Args:
        of: the document it is made of, whose source, language, licence and metadata it has.
        by: kind of the step.
        seed: of the step.
        name: unique among what the step makes of the document.
        text: of the new one.
        more: metadata of its own.
    """
    assert not is_made(of), f"{of.id} was made itself"
    provenance: dict[str, Plain] = {MADE_FROM: of.id, MADE_BY: by, MADE_SEED: seed}
    return Document(
        f"{of.id}~{by}-{name}",
        text,
        of.source,
        of.language,
        of.licence,
        {**of.metadata, **(more or {}), **provenance},
    )


def is_made(document: Document) -> bool:
    """Whether a document was made of another one."""
    return MADE_FROM in document.metadata


def without_made(documents: Iterable[Document], by: str | None = None) -> Iterator[Document]:
    """The documents that were not made of others.

    Args:
        documents: all.
        by: leave out only what this kind of step has made.
    """
    for document in documents:
        if not is_made(document) or (by is not None and document.metadata[MADE_BY] != by):
            yield document


def drawing(document: Document, by: str, seed: int) -> random.Random:
    """Draws the same for the same document, step and seed."""
    name = f"{seed} {by} {document.id}".encode("utf-8", "surrogatepass")
    return random.Random(hashlib.blake2b(name, digest_size=16).digest())


def title_of(document: Document) -> str | None:
    """What a document is about, as its reader or its first heading says."""
    title = document.metadata.get("title")
    if isinstance(title, str) and title.strip():
        return " ".join(title.split())
    first = document.text.lstrip().partition("\n")[0]
    return first[2:].strip() or None if first.startswith("# ") else None
