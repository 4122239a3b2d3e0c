"""XML that strangers wrote: no entity is expanded, no file or address is opened, depth is bounded.

Source: the attacks that the documentation of Python's XML modules lists, "XML security".
"""

from __future__ import annotations

import re
from functools import lru_cache
from html.entities import html5
from typing import TYPE_CHECKING, Any, Literal

from everlong.documents.decoding import decode_page
from everlong.documents.extracted import Limits
from everlong.errors import DataError, MissingExtraError

if TYPE_CHECKING:
    from lxml import etree  # type: ignore[import-untyped]

_ENTITY = re.compile(r"&([A-Za-z][A-Za-z0-9]{1,31});")
_OF_XML = frozenset({"lt", "gt", "amp", "quot", "apos"})


def parse_xml(data: bytes, what: str, limits: Limits) -> etree._Element:
    """The root of a document.

    Args:
        data: the document.
        what: its name, for messages.
        limits: of its depth.

    Raises:
        DataError: it is not well-formed, too deep, or defines entities.
    """
    root = root_of(data, "xml", f"{what} is not well-formed XML", resolve_entities=False)
    _check(root, what, limits)
    return root


def parse_xhtml(data: bytes, what: str, limits: Limits) -> etree._Element:
    """The root of a chapter of a book, with errors in it mended where that can be done.

    HTML's own entities are known: they come from a list, not from the document type.

    Raises:
        DataError: nothing can be read in it, it is too deep, or defines entities.
    """
    text = _ENTITY.sub(_numbered, decode_page(data)[0])
    wrong, mending = f"{what} is not XHTML", {"encoding": "utf-8", "recover": True}
    root = root_of(text.encode("utf-8", "replace"), "xml", wrong, resolve_entities=False, **mending)
    if root is None:
        raise DataError(wrong)
    _check(root, what, limits)
    return root


def root_of(
    data: bytes, language: Literal["xml", "html"], wrong: str, **options: Any
) -> etree._Element | None:
    """What lxml makes of some bytes, without comments, and without going to the network.

    Args:
        data: to parse.
        language: whose parser.
        wrong: begins the message, where it makes nothing of them.
        options: of the parser.

    Returns:
        The root; None: there is no element.

    Raises:
        DataError: the parser refuses them.
        MissingExtraError: lxml is not installed.
    """
    try:
        from lxml import etree
    except ImportError:
        raise MissingExtraError("lxml", "curate") from None
    of = {"xml": etree.XMLParser, "html": etree.HTMLParser}[language]
    parser = of(no_network=True, remove_comments=True, remove_pis=True, **options)
    try:
        return etree.fromstring(data, parser)
    except (etree.LxmlError, ValueError) as error:
        raise DataError(f"{wrong}: {error}") from None


def check_depth(root: etree._Element, what: str, limits: Limits) -> None:
    """Refuse a tree that is too deep, without walking it.

    Raises:
        DataError: elements are nested more deeply than :attr:`Limits.nesting`.
    """
    if _deeper_than(limits.nesting)(root):
        raise DataError(f"{what} has elements nested more than {limits.nesting} deep; see nesting")


def _check(root: etree._Element, what: str, limits: Limits) -> None:
    defined = root.getroottree().docinfo.internalDTD
    if defined is not None and next(defined.iterentities(), None) is not None:
        raise DataError(f"{what} defines entities of its own, which no document needs")
    check_depth(root, what, limits)


def _numbered(found: re.Match[str]) -> str:
    name = found[1]
    known = None if name in _OF_XML else html5.get(f"{name};")
    return "".join(f"&#{ord(one)};" for one in known) if known else found[0]


@lru_cache(maxsize=4)
def _deeper_than(depth: int) -> etree.XPath:
    """Whether there is an element with so many above it; takes time by the tree's size only."""
    from lxml import etree

    return etree.XPath(f"boolean({'/*' * (depth + 1)})")
