"""Books in EPUB: the chapters of the spine, in order, as one text.

Source: EPUB 3.3 (W3C), sections 4.2.6 (META-INF), 5 (package document).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from everlong.documents.archive import Archive, resolved
from everlong.documents.extracted import Extracted, Limits, Plain, clean, language_code
from everlong.documents.licences import licence_of_link
from everlong.documents.markup import tag_of, text_of
from everlong.documents.xml import parse_xhtml, parse_xml
from everlong.errors import DataError

if TYPE_CHECKING:
    from lxml import etree  # type: ignore[import-untyped]

_CONTAINER = "META-INF/container.xml"
_ENCRYPTION = "META-INF/encryption.xml"
_PAGES = frozenset({"application/xhtml+xml", "text/html"})


def read_epub(data: bytes, limits: Limits) -> Extracted:
    """The text of a book.

    Chapters that are missing or broken are left out and counted, as ``chapters_left_out``.

    Raises:
        DataError: it is no EPUB, is protected, has no text, or goes beyond a limit.
    """
    archive = Archive(data, limits)
    package_name = _package_name(archive, limits)
    package = parse_xml(archive.read(package_name), package_name, limits)
    told = _Told(package)
    protected = _protected(archive, limits)
    texts: list[str] = []
    letters = left_out = 0
    for link in _spine(package):
        name = resolved(package_name, link)
        if name is not None and name in protected:
            raise DataError(f"{name} is encrypted, as books with digital rights management are")
        if name is None or name not in archive:
            left_out += 1
            continue
        content = archive.read(name)
        try:
            text = clean(text_of(_body(parse_xhtml(content, name, limits))))
        except DataError:
            left_out += 1
            continue
        letters += len(text)
        limits.check_letters(letters)
        if text:
            texts.append(text)
    if not texts:
        raise DataError(f"a book without text; {left_out:,} chapters cannot be read")
    metadata: dict[str, Plain] = {"author": told.joined("creator"), "published": told.first("date")}
    if left_out:
        metadata["chapters_left_out"] = left_out
    rights = told.first("rights")
    return Extracted(
        place="",
        text="\n\n".join(texts),
        title=told.first("title"),
        language=language_code(told.first("language")),
        licence=licence_of_link(rights) if rights else None,
        metadata={key: value for key, value in metadata.items() if value is not None},
    )


def _package_name(archive: Archive, limits: Limits) -> str:
    container = parse_xml(archive.read(_CONTAINER), _CONTAINER, limits)
    for element in container.iter("{*}rootfile"):
        if name := resolved("", element.get("full-path") or ""):
            return name
    raise DataError(f"{_CONTAINER} names no package document")


def _protected(archive: Archive, limits: Limits) -> frozenset[str]:
    """Files that are encrypted. Fonts often are, by a key that is in the book."""
    if _ENCRYPTION not in archive:
        return frozenset()
    root = parse_xml(archive.read(_ENCRYPTION), _ENCRYPTION, limits)
    links = (element.get("URI") or "" for element in root.iter("{*}CipherReference"))
    return frozenset(name for link in links if (name := resolved("", link)))


def _spine(package: etree._Element) -> list[str]:
    """Links to the chapters in the order of reading, the table of contents left out."""
    links = {
        item.get("id"): item.get("href") or ""
        for item in package.iterfind("{*}manifest/{*}item")
        if item.get("media-type") in _PAGES and "nav" not in (item.get("properties") or "").split()
    }
    named = (item.get("idref") for item in package.iterfind("{*}spine/{*}itemref"))
    # Each once: a spine that names a chapter again and again would be a book without end.
    return list(dict.fromkeys(links[one] for one in named if one in links))


def _body(root: etree._Element) -> etree._Element:
    return next((one for one in root if tag_of(one) == "body"), root)


class _Told:
    """What a package document says of its book, in Dublin Core."""

    def __init__(self, package: etree._Element) -> None:
        self._said: dict[str, list[str]] = {}
        for element in package.iterfind("{*}metadata/*"):
            if text := " ".join(clean(element.text or "").split()):
                self._said.setdefault(tag_of(element), []).append(text)

    def first(self, name: str) -> str | None:
        return next(iter(self._said.get(name, ())), None)

    def joined(self, name: str) -> str | None:
        return ", ".join(self._said.get(name, ())) or None
