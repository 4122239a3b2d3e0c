"""EPUB and Word files for tests, and ZIP files that lie."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping

CONTAINER = (
    '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
    '<rootfile full-path="{0}" media-type="application/oebps-package+xml"/></rootfiles></container>'
)
W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
LAUGHS = (
    '<!DOCTYPE a [<!ENTITY l0 "lol">'
    + "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    + "]>"
)
"""Entities that are 3 GB when they are expanded."""


def zipped(files: Mapping[str, str | bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A ZIP file."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", compression) as file:
        for name, content in files.items():
            stored = zipfile.ZIP_STORED if name == "mimetype" else None
            file.writestr(name, content, stored)
    return packed.getvalue()


def encrypted(data: bytes) -> bytes:
    """A ZIP file whose entries all say that they are encrypted."""
    changed = bytearray(data)
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = changed.find(signature)
        while place >= 0:
            changed[place + offset] |= 1
            place = changed.find(signature, place + 4)
    return bytes(changed)


def with_entries(count: int) -> bytes:
    """A ZIP file whose end says that it has so many entries."""
    return b"PK\x03\x04" + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, 46 * count, 4, 0)


def epub(
    chapters: Mapping[str, str], spine: str | None = None, head: str = "", **more: str | bytes
) -> bytes:
    """A book.

    Args:
        chapters: names and bodies; in the order of reading.
        spine: instead of that order.
        head: Dublin Core of the package document.
        more: other files, a dot in their names written as two underscores.
    """
    items = "".join(
        f'<item id="i{n}" href="{name}" media-type="application/xhtml+xml"/>'
        for n, name in enumerate(chapters)
    )
    if spine is None:
        spine = "".join(f'<itemref idref="i{n}"/>' for n in range(len(chapters)))
    package = (
        '<package xmlns="http://www.idpf.org/2007/opf" '
        f'xmlns:dc="http://purl.org/dc/elements/1.1/"><metadata>{head}</metadata>'
        f"<manifest>{items}</manifest><spine>{spine}</spine></package>"
    )
    return zipped(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": CONTAINER.format("OPS/book.opf"),
            "OPS/book.opf": package,
            **{
                f"OPS/{name}": body
                if body.startswith("<")
                else '<?xml version="1.0"?><!DOCTYPE html><html xmlns="http://www.w3.org/1999/xhtml">'
                f"<head><title>no</title></head><body><p>{body}</p></body></html>"
                for name, body in chapters.items()
            },
            **{name.replace("__", "."): content for name, content in more.items()},
        }
    )


def docx(body: str, **more: str) -> bytes:
    """A Word document; ``more`` are other files, a dot in their names written as two underscores,
    a slash as one."""
    return zipped(
        {
            "[Content_Types].xml": "<Types/>",
            "_rels/.rels": '<Relationships><Relationship Type="http://x/officeDocument" '
            'Target="/word/document.xml"/></Relationships>',
            "word/document.xml": body
            if body.startswith("<!")
            else f'<w:document xmlns:w="{W}"><w:body>{body}</w:body></w:document>',
            **{n.replace("__", ".").replace("_", "/"): content for n, content in more.items()},
        }
    )
