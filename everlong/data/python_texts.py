"""Texts that every machine has which runs this: those of Python itself.

The manual's topics and the docstrings of the standard library are prose, questions about them with
their first paragraphs are conversations, and the library's source without docstrings is code. That
is enough to see a small model learn without a download, and the same everywhere for a version of
Python.
"""

from __future__ import annotations

import ast
import hashlib
import json
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from everlong.errors import DataError
from everlong.files import atomic_write

PARTS = ("manual", "answers", "code")
"""Prose, conversations, and source."""

_LEFT_OUT = frozenset(
    {"test", "tests", "idlelib", "lib2to3", "site-packages", "dist-packages", "turtledemo"}
    | {"pydoc_data", "encodings", "__pycache__"}
)
_HELD_OUT = 16
"""One of so many modules and topics is not learned from."""
_SHORTEST, _LONGEST = 30, 400
"""Letters of an answer."""
_QUESTIONS = (
    "What does {} do?",
    "Explain {} in Python.",
    "What is {} for?",
    "Tell me about {}.",
)


_NAMED = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_DESCRIBED = (ast.Module, *_NAMED)


@dataclass(frozen=True)
class _Module:
    name: str
    tree: ast.Module


def write_python_texts(folder: Path) -> dict[str, int]:
    """Write the parts, each as ``PART.jsonl`` and ``PART-held-out.jsonl``.

    Args:
        folder: of the files; made if need be. Files that are there are written anew.

    Returns:
        Letters of each file.

    Raises:
        DataError: this Python comes without the source of its library.
    """
    lines: dict[str, list[str]] = {
        f"{part}{suffix}": [] for part in PARTS for suffix in ("", "-held-out")
    }
    sizes = dict.fromkeys(lines, 0)

    def add(part: str, origin: str, record: Mapping[str, Any], size: int) -> None:
        name = part if _number(origin) % _HELD_OUT else f"{part}-held-out"
        lines[name].append(json.dumps({**record, "source": origin}, ensure_ascii=False) + "\n")
        sizes[name] += size

    for topic, text in _topics():
        add("manual", f"manual: {topic}", {"text": text}, len(text))
    modules = [*_modules()]
    if not modules:
        raise DataError(f"{_library()} has no source files; install Python's standard library")
    for module in modules:
        described = [*_docstrings(module)]
        if described:
            text = "\n\n".join(f"{name}\n\n{told}" for name, told in described)
            add("manual", module.name, {"text": text}, len(text))
        for name, told in described:
            answer = " ".join(told.split("\n\n")[0].split())
            if _SHORTEST <= len(answer) <= _LONGEST:
                question = _QUESTIONS[_number(name) % len(_QUESTIONS)].format(f"`{name}`")
                messages = [
                    {"role": "user", "content": question},
                    {"role": "assistant", "content": answer},
                ]
                add("answers", module.name, {"messages": messages}, len(question + answer))
        source = ast.unparse(_without_docstrings(module.tree))
        add("code", module.name, {"text": source}, len(source))
    folder.mkdir(parents=True, exist_ok=True)
    for name, written in lines.items():
        atomic_write(folder / f"{name}.jsonl", "".join(written).encode("utf-8", "replace"))
    return sizes


def _number(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest(), "big")


def _library() -> Path:
    return Path(sysconfig.get_paths()["stdlib"])


def _topics() -> Iterator[tuple[str, str]]:
    """Chapters of the language reference, as ``help()`` shows them."""
    try:
        from pydoc_data.topics import topics
    except ImportError:
        return  # a Python without its manual
    for name in sorted(topics):
        yield name, topics[name].strip()


def _modules() -> Iterator[_Module]:
    root = _library()
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if _LEFT_OUT.intersection(parts):
            continue
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue  # some files are there to test parsers
        if parts[-1] == "__init__":
            parts = parts[:-1]
        yield _Module(".".join(parts), tree)


def _docstrings(module: _Module) -> Iterator[tuple[str, str]]:
    """Docstrings with the names of what they describe, those that begin with ``_`` left out."""

    def walk(node: ast.AST, name: str) -> Iterator[tuple[str, str]]:
        assert isinstance(node, _DESCRIBED)
        if told := ast.get_docstring(node):
            yield name, told
        for child in node.body:
            if isinstance(child, _NAMED) and not child.name.startswith("_"):
                yield from walk(child, f"{name}.{child.name}")

    yield from walk(module.tree, module.name)


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, _DESCRIBED) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return tree
