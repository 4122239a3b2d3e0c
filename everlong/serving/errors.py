"""Every failure as OpenAI's error object, with the status that its kind calls for."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from everlong.errors import (
    CancelledError,
    ContextLengthError,
    EngineStoppedError,
    QueueFullError,
    QuotaError,
    RequestError,
    TemplateError,
    UnknownModelError,
)
from everlong.serving.protocol import (
    REFUSED_FIELDS,
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
)

logger = logging.getLogger(__name__)

_FIELDS = {
    *ChatRequest.model_fields,
    *CompletionRequest.model_fields,
    *EmbeddingRequest.model_fields,
    *REFUSED_FIELDS,
}


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorReply(BaseModel):
    """Body of every answer that is not a success."""

    error: ErrorDetail


FAILURES: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorReply, "description": "The request cannot be served as it stands"},
    "5XX": {"model": ErrorReply, "description": "The server cannot serve it now"},
}
"""What every route may answer instead, for its description."""


class ApiError(HTTPException):
    """A failure as a client sees it.

    Args:
        status: HTTP status.
        message: what was given, what is allowed, what to change.
        kind: OpenAI's ``type``; by default the one that goes with the status.
        param: the field of the request that is at fault; by default the message's first
            word where that is a field's name.
        code: a word for programs.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str | None = None,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, dict(headers) if headers else None)
        self.kind = kind or _KINDS.get(status) or _KINDS[500 if status >= 500 else 400]
        self.param = param
        if param is None and status == 400:
            first = message.split(" ", 1)[0]
            self.param = first if first.split(".", 1)[0] in _FIELDS else None
        self.code = code

    def body(self) -> dict[str, Any]:
        """OpenAI's error object."""
        return {
            "error": {
                "message": self.detail,
                "type": self.kind,
                "param": self.param,
                "code": self.code,
            }
        }

    def response(self) -> JSONResponse:
        return JSONResponse(self.body(), self.status_code, self.headers)


_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "service_unavailable_error",
}


def as_api_error(error: Exception) -> ApiError:
    """Translates any exception; what a client could not change is logged and not shown."""
    match error:
        case ApiError():
            return error
        case HTTPException():
            return ApiError(error.status_code, error.detail, headers=error.headers)
        case ContextLengthError():
            return ApiError(400, str(error), code="context_length_exceeded")
        case UnknownModelError():
            return ApiError(404, str(error), param="model", code="model_not_found")
        case QueueFullError():
            wait = max(1, math.ceil(error.retry_after))
            return ApiError(429, str(error), code="queue_full", headers={"Retry-After": str(wait)})
        case QuotaError():
            return ApiError(403, str(error), code="memory_quota_exceeded")
        case RequestError() | TemplateError():
            return ApiError(400, str(error))
        case EngineStoppedError() | CancelledError():
            return ApiError(503, str(error), code="engine_stopped")
    logger.error("a request failed", exc_info=error)
    return ApiError(500, "the server failed to answer; its log says why", code="internal_error")


def invalid_body(errors: Sequence[Mapping[str, Any]], body: Any) -> ApiError:
    """Says in one line what pydantic found wrong.

    Args:
        errors: pydantic's list; never empty. A union reports one per branch, and only the
            branch that got furthest into the body is told.
        body: what was validated, to tell its keys from pydantic's names of branches.
    """
    paths = [_path(error, body) for error in errors]
    depth = max(len(path) for path in paths)
    path = next(path for path in paths if len(path) == depth)
    reasons = [_reason(error) for error, other in zip(errors, paths, strict=True) if other == path]
    what = " or ".join(dict.fromkeys(reasons))
    if not path and errors[0]["type"] == "value_error":  # ours, which begins with the field
        return ApiError(400, what)
    where = ".".join(str(key) for key in path)
    return ApiError(400, f"{where or 'the body'}: {what}", param=where or None)


def _path(error: Mapping[str, Any], body: Any) -> tuple[str | int, ...]:
    """Keys from the body to the value at fault, without pydantic's names of branches."""
    location = error["loc"][1:] if error["loc"][:1] == ("body",) else error["loc"]
    path: list[str | int] = []
    for key in location:
        keys = body if isinstance(body, dict) else range(len(body) if isinstance(body, list) else 0)
        if key in keys:
            body = body[key]
        elif error["type"] != "missing" or key != location[-1]:
            continue
        path.append(key)
    return tuple(path)


def _reason(error: Mapping[str, Any]) -> str:
    if error["type"] == "missing":
        return "is required"
    if error["type"] == "extra_forbidden":
        return "is not a known field"
    message: str = error["msg"].removeprefix("Value error, ")
    return message[:1].lower() + message[1:] if error["type"] != "value_error" else message
