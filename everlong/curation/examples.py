"""Examples of documents in a data card: which ones, and what of them may be shown.

A card is passed on, and lies beside documents that are not: what was dropped, and what came before
personal data was masked. So nothing is quoted before it is masked, and what harms is not.
"""

from __future__ import annotations

import hashlib
import heapq
from typing import Any

from everlong.curation.document import Document
from everlong.curation.harm.blocks import HardBlocks
from everlong.curation.harm.hate import Hate
from everlong.curation.harm.toxicity import Toxicity
from everlong.curation.personal_data.masking import find, mask
from everlong.errors import MissingExtraError

NOT_SHOWN = "(not shown here)"
_SHOWN = 300
"""Letters of an example."""
_MASKED = 4 * _SHOWN
"""More than that, so that what is cut off in the middle is not shown."""


def push(heap: list[Any], one: Any, most: int) -> None:
    """Keep the largest."""
    (heapq.heappush if len(heap) < most else heapq.heappushpop)(heap, one)


def rank(seed: int, name: str) -> str:
    """By which examples are drawn, whatever the order of the documents."""
    return hashlib.blake2b(f"{seed} {name}".encode(), digest_size=8).hexdigest()


def quoted(text: str, language: str | None) -> str:
    """The beginning of a document's text as Markdown, if it may be shown."""
    if _harmful(text, language):
        return NOT_SHOWN
    shown = " ".join(masked(text[:_MASKED]).split())[:_SHOWN]
    return code(shown) + (" …" if len(text) > _SHOWN else "")


def masked(text: str) -> str:
    """A text without personal data; nothing of it where that cannot be looked for."""
    try:
        return mask(text, find(text))[0]
    except MissingExtraError:
        return NOT_SHOWN


def masked_name(name: str) -> str:
    """The same of an id, or of what ends with one: before the suffix of a file an address is not
    taken for one."""
    if (whole := masked(name)) != name:
        return whole
    stem, dot, suffix = name.rpartition(".")
    return f"{masked(stem)}{dot}{suffix}"


def code(text: str) -> str:
    """A text as Markdown shows it letter by letter, in a table as well."""
    return f"`{text.replace('`', chr(39)).replace('|', '¦')}`"


def _harmful(text: str, language: str | None) -> bool:
    document = Document("", text, "", language)
    if HardBlocks()(document) is not None or Hate()(document) is not None:
        return True
    # The classifier knows English alone; what no step has told may be English.
    return language in (None, "en") and Toxicity(languages=())(document) is not None
