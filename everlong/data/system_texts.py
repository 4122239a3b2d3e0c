"""Texts that a Unix system has for its users: manual pages, and licences of what is installed.

With Python's own texts (``python_texts.py``) they are a corpus to try curation on without a
download. What there is differs from machine to machine, and may be nothing.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

from everlong.documents.manual_page import text_of
from everlong.files import atomic_write

_PAGES = Path("/usr/share/man")
_LICENCES = Path("/usr/share/common-licenses")
_MOST_PAGES = 4_000
_MOST_BYTES = 1 << 20
_SHORTEST = 200
"""Letters; below are pages that only name another one."""


def write_system_texts(folder: Path) -> dict[str, int]:
    """Write ``pages.jsonl`` and ``licences.jsonl``, as far as there are any.

    Args:
        folder: of the files; made if need be.

    Returns:
        Letters of each file.
    """
    sizes = {}
    for name, texts in (("pages", _manual_pages()), ("licences", _licences())):
        seen, lines = set(), []
        sizes[name] = 0
        for origin, text in texts:
            digest = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).digest()
            if len(text) >= _SHORTEST and digest not in seen:
                seen.add(digest)
                lines.append(
                    json.dumps({"text": text, "source": origin}, ensure_ascii=False) + "\n"
                )
                sizes[name] += len(text)
        if lines:
            folder.mkdir(parents=True, exist_ok=True)
            written = "".join(lines).encode("utf-8", "replace")
            atomic_write(folder / f"{name}.jsonl", written)
        else:
            del sizes[name]
    return sizes


def _manual_pages() -> Iterator[tuple[str, str]]:
    """English pages about programs and formats; of very many a part."""
    files = [
        path
        for section in (1, 4, 5, 6, 7, 8)
        for path in _PAGES.glob(f"man{section}/*")
        if path.is_file() and not path.is_symlink()
    ]
    # By what their names hash to: the first of an alphabet would be of one kind.
    files.sort(key=lambda path: hashlib.blake2b(path.name.encode(), digest_size=8).digest())
    for path in sorted(files[:_MOST_PAGES], key=lambda path: path.name):
        if (page := _read(path)) is not None and not page.startswith(".so "):
            yield f"manual page: {path.name.removesuffix('.gz')}", text_of(page)


def _licences() -> Iterator[tuple[str, str]]:
    for path in _sorted(_LICENCES.glob("*")):
        if (text := _read(path)) is not None:
            yield f"licence: {path.name}", text
    installed = {str(one.metadata["Name"]): one for one in metadata.distributions()}
    for name, distribution in sorted(installed.items()):
        for file in distribution.files or ():
            if file.name.upper().startswith(("LICEN", "COPYING", "NOTICE")):
                path = Path(str(distribution.locate_file(file)))
                if path.suffix != ".py" and (text := _read(path)) is not None:
                    yield f"licence of {name}: {file.name}", text


def _sorted(paths: Iterable[Path]) -> list[Path]:
    return sorted(path for path in paths if path.is_file() and not path.is_symlink())


def _read(path: Path) -> str | None:
    """A text file, packed or not; None: it is none."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error):
        return None
    if len(data) > _MOST_BYTES or b"\0" in data:
        return None
    try:
        return data.decode("utf-8").replace("\r\n", "\n").strip()
    except UnicodeDecodeError:
        return data.decode("latin-1").replace("\r\n", "\n").strip()
