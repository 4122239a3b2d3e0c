"""Reading a JSON body within bounds: of bytes, of depth, of time, and of what JSON allows."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from everlong.serving.errors import ApiError

MAX_DEPTH = 64
BODY_SECONDS = 60.0


class JsonRoute(APIRoute):
    """A route whose body, if it has one, is read by ``JsonRequest``."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            return await handler(JsonRequest(request.scope, request.receive))

        return handle


class JsonRequest(Request):
    """A request that refuses what a body must not be.

    Reads the bound ``max_body_bytes`` from the application's state.
    """

    async def body(self) -> bytes:
        """The body's bytes.

        Raises:
            ApiError: 413 for more bytes than allowed, whatever Content-Length says; 408 if
                they take too long; 415 for another type than JSON.
        """
        if not hasattr(self, "_body"):
            kind = self.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != "application/json":
                raise ApiError(415, f"Content-Type must be application/json, not {kind!r}")
            limit: int = self.app.state.max_body_bytes
            length = self.headers.get("content-length", "0")
            if length.isascii() and length.isdecimal() and int(length) > limit:
                raise _too_large(limit)
            try:
                async with asyncio.timeout(BODY_SECONDS):
                    self._body = await self._bounded(limit)
            except TimeoutError:
                raise ApiError(
                    408, f"the body did not arrive within {BODY_SECONDS:g} seconds"
                ) from None
        return self._body

    async def json(self) -> Any:
        """The body as JSON values.

        Raises:
            ApiError: 400 if it is not JSON, has NaN or infinite numbers or lone surrogates, or is
                nested deeper than ``MAX_DEPTH``.
        """
        if not hasattr(self, "_json"):
            self._json = parse_json(await self.body())
        return self._json

    async def _bounded(self, limit: int) -> bytes:
        body = bytearray()
        async for part in self.stream():
            body += part
            if len(body) > limit:
                raise _too_large(limit)
        return bytes(body)


def parse_json(body: bytes) -> Any:
    """JSON values of UTF-8 text; see :meth:`JsonRequest.json` for what is refused."""
    try:
        value = json.loads(
            body.decode(), parse_constant=_refuse_constant, parse_float=_finite_float
        )
    except UnicodeDecodeError:
        raise ApiError(400, "the body is not UTF-8", code="invalid_json") from None
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:  # JSONDecodeError, and integers of thousands of digits
        raise ApiError(400, f"the body is not JSON: {error}", code="invalid_json") from None
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for parent in level
            if isinstance(parent, dict | list)
            for child in (parent.values() if isinstance(parent, dict) else parent)
        ]
        if not level:
            break
    if any(isinstance(left, dict | list) for left in level):
        raise _too_deep()
    if b"\\u" in body:
        _refuse_surrogates(value)
    return value


def _refuse_surrogates(value: Any) -> None:
    """Half of a character can be escaped in JSON and cannot be written in UTF-8."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ApiError(
            400,
            "a text has a lone surrogate, which is half a character; send valid Unicode",
            code="invalid_json",
        ) from None


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is too large for a number")
    return value


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not a JSON value")


def _too_deep() -> ApiError:
    return ApiError(400, f"the body is nested deeper than {MAX_DEPTH} levels", code="invalid_json")


def _too_large(limit: int) -> ApiError:
    return ApiError(
        413,
        f"the body is larger than the {limit:,} bytes that this server reads; send less at once",
        code="body_too_large",
    )
