"""Instructions with answers from Python source: a docstring asks for its function, and tells it."""

from __future__ import annotations

import ast
import textwrap
import warnings
from collections.abc import Iterator

_LONGEST_SOURCE = 400_000
"""Letters; longer ones are tables of data."""
_SHORTEST, _LONGEST = 20, 600
"""Letters of a docstring's first paragraph."""
_LONGEST_CODE = 4000
_FEWEST_STATEMENTS = 2
"""Besides the docstring; a function of one line is mostly a name for another."""


def instructions(source: str) -> Iterator[tuple[str, str]]:
    """For every documented function: what it should do with its code, and its code with what it
    does. Source that is no Python gives nothing."""
    if len(source) > _LONGEST_SOURCE:
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what the source should not do
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    lines = source.splitlines(keepends=True)
    for node in ast.walk(tree):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        docstring = ast.get_docstring(node)
        first = " ".join((docstring or "").split("\n\n", 1)[0].split())
        code = _without_docstring(node, lines)
        if not (_SHORTEST <= len(first) <= _LONGEST and code is not None):
            continue
        try:
            signature = _signature(node)
        except RecursionError:  # of a default or an annotation that is nested so deeply
            continue
        yield (
            f"Write a Python function with the signature `{signature}`. {first}",
            f"```python\n{code}\n```",
        )
        yield f"What does this Python function do?\n\n```python\n{code}\n```", first


def _signature(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    before = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    returns = f" -> {ast.unparse(node.returns)}" if node.returns is not None else ""
    return f"{before} {node.name}({ast.unparse(node.args)}){returns}"


def _without_docstring(
    node: ast.FunctionDef | ast.AsyncFunctionDef, lines: list[str]
) -> str | None:
    """The code of a function as it is written; None: it is too short or too long."""
    docstring, *rest = node.body
    if len(rest) < _FEWEST_STATEMENTS:
        return None
    assert docstring.end_lineno is not None, "of parsed source"
    if docstring.lineno == node.lineno or rest[0].lineno == docstring.end_lineno:
        return None  # several statements in a line
    start = min([node.lineno, *(one.lineno for one in node.decorator_list)])
    kept = lines[start - 1 : docstring.lineno - 1] + lines[docstring.end_lineno : node.end_lineno]
    code = textwrap.dedent("".join(kept)).strip("\n")
    return code if len(code) <= _LONGEST_CODE else None
