"""Renders chat templates in a process of its own, which may be killed at any time.

A template comes with a model, and a model comes from a stranger. Jinja's sandbox keeps a template
from reaching Python's objects, but not from running for ever or filling the memory, and hardly any
of its operations is bounded: ``range``, ``"x" * n``, ``x ~ x`` in a loop, a list of lists turned
into text, ``| center(n)``, a macro that calls itself. So the bounds are set around the process:
seconds by a watchdog thread that ends it, bytes by the system's limits.

Run as a script by :mod:`everlong.tokenizer.chat_template`; it imports nothing of Everlong, so that
it starts in a few hundredths of a second. It answers requests from its standard input until that
is closed. Requests and answers are JSON with a length of 8 bytes (little-endian) before them.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import sys
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Any, BinaryIO

from jinja2 import Template, TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

_MEMORY_BYTES = 1 << 30


class _Generation(Extension):
    """``{% generation %}...{% endgeneration %}`` marks the assistant's text; its body is kept."""

    tags = {"generation"}  # noqa: RUF012  (Jinja declares it so)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body).set_lineno(line)


def _raise_exception(message: str) -> None:
    raise TemplateError(message)


def _strftime_now(layout: str) -> str:
    return datetime.now().strftime(layout)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as it is: Jinja's own filter escapes it for HTML."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


_ENVIRONMENT = _environment()


@lru_cache(maxsize=16)
def _compile(source: str) -> Template:
    return _ENVIRONMENT.from_string(source)


def render(source: str, variables: dict[str, Any], max_chars: int) -> str:
    """Render one template, without any bound but that on the length of the output.

    Raises:
        TemplateError: the template is invalid, refuses, or writes more than ``max_chars``.
        Exception: anything that the template's operations raise.
    """
    pieces: list[str] = []
    length = 0
    for piece in _compile(source).generate(variables):
        length += len(piece)
        if length > max_chars:
            raise TemplateError(f"it writes more than {max_chars:,} characters")
        pieces.append(piece)
    return "".join(pieces)


def _answer(request: dict[str, Any]) -> dict[str, str]:
    try:
        return {"text": render(request["source"], request["variables"], request["max_chars"])}
    except TemplateError as error:
        return {"error": error.message or type(error).__name__}
    except RecursionError:
        return {"error": "it calls itself too deeply"}
    except MemoryError:
        return {"error": f"it needs more than {_MEMORY_BYTES >> 20} MiB of memory"}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


def _limit_resources() -> None:
    """Bound what a template could take from the system, should it leave the sandbox too."""
    try:
        import resource
    except ImportError:
        return  # Windows: only time is bounded there
    for kind, most in (
        (resource.RLIMIT_AS, _MEMORY_BYTES),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
    ):
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(kind, (most, most))


def _serve(requests: BinaryIO, answers: BinaryIO, watch: Callable[[float], None]) -> None:
    while header := requests.read(8):
        request = json.loads(requests.read(int.from_bytes(header, "little")))
        watch(request["seconds"])
        data = json.dumps(_answer(request)).encode()
        faulthandler.cancel_dump_traceback_later()
        answers.write(len(data).to_bytes(8, "little") + data)
        answers.flush()


def main() -> None:
    """Answer requests until the standard input ends."""
    nowhere = open(os.devnull, "w")  # noqa: SIM115  (open for as long as the process lives)
    _limit_resources()
    _serve(
        sys.stdin.buffer,
        sys.stdout.buffer,
        # The one timer in the standard library that ends a process inside a long operation
        # in C, on every system.
        lambda seconds: faulthandler.dump_traceback_later(seconds, exit=True, file=nowhere),
    )


if __name__ == "__main__":
    main()
