"""Which failure becomes which status and error object."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

from everlong import errors
from everlong.serving.errors import ApiError, ErrorReply, as_api_error, invalid_body


@pytest.mark.parametrize(
    ("error", "status", "kind", "code"),
    [
        (errors.RequestError("bad"), 400, "invalid_request_error", None),
        (errors.TemplateError("bad"), 400, "invalid_request_error", None),
        (errors.ContextLengthError("bad"), 400, "invalid_request_error", "context_length_exceeded"),
        (errors.UnknownModelError("bad"), 404, "not_found_error", "model_not_found"),
        (errors.QueueFullError("bad", 0.2), 429, "rate_limit_error", "queue_full"),
        (errors.EngineStoppedError("bad"), 503, "service_unavailable_error", "engine_stopped"),
        (errors.CancelledError("bad"), 503, "service_unavailable_error", "engine_stopped"),
        (HTTPException(404, "bad"), 404, "not_found_error", None),
        (HTTPException(418, "bad"), 418, "invalid_request_error", None),
    ],
)
def test_every_kind_has_its_status(
    error: Exception, status: int, kind: str, code: str | None
) -> None:
    answer = as_api_error(error)
    assert answer.status_code == status
    assert answer.body()["error"]["type"] == kind
    assert answer.body()["error"]["code"] == code
    assert answer.body()["error"]["message"] == "bad"
    ErrorReply.model_validate(answer.body())


@pytest.mark.parametrize(("seconds", "header"), [(0.0, "1"), (1.0, "1"), (2.2, "3")])
def test_retry_after_is_whole_seconds(seconds: float, header: str) -> None:
    response = as_api_error(errors.QueueFullError("full", seconds)).response()
    assert response.headers["retry-after"] == header


@pytest.mark.parametrize("error", [KeyError("secret"), AssertionError("secret")])
def test_our_own_mistakes_are_logged_and_not_told(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        answer = as_api_error(error)
    assert answer.status_code == 500
    assert "secret" not in str(answer.body())
    assert caplog.records[0].exc_info is not None


def test_a_message_that_begins_with_a_field_names_it() -> None:
    assert ApiError(400, "temperature must be less").param == "temperature"
    assert ApiError(400, "messages.3 is empty").param == "messages.3"
    assert ApiError(400, "the body is empty").param is None
    assert ApiError(503, "model is gone").param is None


class Inner(BaseModel, extra="forbid"):
    kind: str


class Outer(BaseModel, extra="forbid"):
    either: int | list[Inner]


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({}, "either", "either: is required"),
        ({"either": 1, "x": 2}, "x", "x: is not a known field"),
        ({"either": [{}]}, "either.0.kind", "either.0.kind: is required"),
        ({"either": [{"kind": 3}]}, "either.0.kind", "either.0.kind: input should be a valid"),
        ({"either": "a"}, "either", "valid integer, unable to parse string as an integer or"),
        ([], None, "the body: input should be a valid dictionary"),
    ],
)
def test_the_furthest_branch_of_a_union_is_told(body: Any, param: str | None, message: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        Outer.model_validate(body)
    error = invalid_body(refusal.value.errors(), body)
    assert error.param == param
    assert message in error.detail
