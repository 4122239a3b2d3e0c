"""Which licence a page, a source file or a folder states, as an SPDX identifier.

Only what is stated is reported, and only where it is plain; nobody should take the rest for free.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

_CREATIVE_COMMONS = re.compile(
    r"creativecommons\.org/licen[sc]es/(by(?:-nc)?(?:-nd|-sa)?)/(\d\.\d)", re.IGNORECASE
)
_DEDICATED = {
    re.compile(r"creativecommons\.org/publicdomain/zero/1\.0", re.IGNORECASE): "CC0-1.0",
    re.compile(r"creativecommons\.org/publicdomain/mark/1\.0", re.IGNORECASE): "CC-PDM-1.0",
    # As Wikipedia links to it.
    re.compile(r"text_of_(?:the_)?creative_commons_attribution-sharealike_3\.0", re.IGNORECASE): (
        "CC-BY-SA-3.0"
    ),
    re.compile(r"gnu\.org/(?:licenses|copyleft)/fdl-1\.3", re.IGNORECASE): "GFDL-1.3-or-later",
    re.compile(r"opensource\.org/licen[sc]es?/mit", re.IGNORECASE): "MIT",
    re.compile(r"apache\.org/licenses/LICENSE-2\.0", re.IGNORECASE): "Apache-2.0",
}
_TAG = re.compile(r"SPDX-License-Identifier:[ \t]*([A-Za-z0-9.+() -]{1,200})")
_TAG_LETTERS = 8192
_NAME = re.compile(r"(?:licen[sc]e|copying|unlicense)(?:[.-][\w.-]{1,20})?", re.IGNORECASE)
_FILE_BYTES = 64 << 10

_PHRASES = (
    # The first that a text has all phrases of. Texts that quote others stand before them.
    ("AGPL-3.0-only", ("gnu affero general public license", "version 3")),
    ("LGPL-3.0-only", ("gnu lesser general public license", "version 3")),
    ("LGPL-2.1-only", ("gnu lesser general public license", "version 2.1")),
    ("GPL-3.0-only", ("gnu general public license", "version 3")),
    ("GPL-2.0-only", ("gnu general public license", "version 2")),
    ("MPL-2.0", ("mozilla public license", "2.0")),
    ("EPL-2.0", ("eclipse public license", "2.0")),
    ("Apache-2.0", ("apache license", "version 2.0")),
    ("BSL-1.0", ("boost software license", "version 1.0")),
    ("Unlicense", ("this is free and unencumbered software released into the public domain",)),
    ("CC0-1.0", ("cc0 1.0 universal",)),
    ("CC-BY-SA-4.0", ("attribution-sharealike 4.0 international",)),
    ("CC-BY-NC-4.0", ("attribution-noncommercial 4.0 international",)),
    ("CC-BY-4.0", ("attribution 4.0 international",)),
    (
        "BSD-3-Clause",
        ("redistribution and use in source and binary forms", "endorse or promote products"),
    ),
    ("BSD-2-Clause", ("redistribution and use in source and binary forms",)),
    ("0BSD", ("permission to use, copy, modify, and/or distribute this software for any purpose",)),
    ("MIT", ("permission is hereby granted, free of charge", "the software is provided")),
    ("Zlib", ("this software is provided 'as-is'", "must not be misrepresented")),
)
_ISC = "provided that the above copyright notice and this permission notice appear"
"""What ISC has and 0BSD has not; the rest of the two is the same."""


def licence_of_link(link: str) -> str | None:
    """The licence that a web address stands for; None: it is not a known one."""
    if found := _CREATIVE_COMMONS.search(link):
        return f"CC-{found[1].upper()}-{found[2]}"
    return next((name for form, name in _DEDICATED.items() if form.search(link)), None)


def licence_of_source(text: str) -> str | None:
    """The expression behind ``SPDX-License-Identifier:`` near the beginning of a source file."""
    found = _TAG.search(text, 0, _TAG_LETTERS)
    return found[1].strip(" -") or None if found else None


def licence_of_text(text: str) -> str | None:
    """Which licence a text is; None: not a well-known one."""
    if tagged := licence_of_source(text):
        return tagged
    words = " ".join(text.lower().split())
    for name, phrases in _PHRASES:
        if all(phrase in words for phrase in phrases):
            return "ISC" if name == "0BSD" and _ISC in words else name
    return None


def licence_of_tree(path: Path, root: Path) -> str | None:
    """The licence of the nearest folder above a file that has one, up to the root of the tree.

    A folder whose licence file is not a known text has none, and neither has what is in it.
    """
    for folder in path.parents:
        if not folder.is_relative_to(root):
            break
        there, licence = _licence_of_folder(folder)
        if there:
            return licence
    return None


@lru_cache(maxsize=4096)
def _licence_of_folder(folder: Path) -> tuple[bool, str | None]:
    """Whether there is a licence file, and the licence.

    Several files all count, except where they are named as Rust's are, such as ``LICENSE-MIT``
    beside ``LICENSE-APACHE``: then they are alternatives.
    """
    try:
        files = sorted(one for one in folder.iterdir() if _NAME.fullmatch(one.name))
        found = [licence_of_text(_beginning(one)) for one in files if one.is_file()]
    except OSError:
        return False, None
    if not found or None in found:
        return bool(found), None
    joined = " OR " if all("-" in one.name for one in files) else " AND "
    return True, joined.join(sorted({one for one in found if one}))


def _beginning(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(_FILE_BYTES).decode("utf-8", "replace")
