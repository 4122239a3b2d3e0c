"""Bodies that are no JSON, too large, too deep, too slow, or of another type."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlong.serving.errors import ApiError
from everlong.serving.json_body import MAX_DEPTH, parse_json
from tests.serving.conftest import Ask

JSON = {"Content-Type": "application/json"}
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab", max_size=2), inner),
    max_leaves=12,
)


@given(VALUES)
def test_reads_what_json_writes(value: object) -> None:
    assert parse_json(json.dumps(value, ensure_ascii=False).encode()) == value


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    with contextlib.suppress(ApiError):
        parse_json(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"a": NaN}',
        b"[Infinity]",
        b"[-Infinity]",
        b"1e999",
        b"[-1e999]",
        b"\xff",
        b"1" * 5000,
        b"[" * 100_000,
        b'{"a":' * 100_000,
        rb'["\ud800"]',
        rb'{"\udc00\ud800": 1}',
    ],
)
def test_what_is_refused(body: bytes) -> None:
    with pytest.raises(ApiError) as refusal:
        parse_json(body)
    assert refusal.value.status_code == 400
    assert refusal.value.code == "invalid_json"


def test_the_depth_is_bounded() -> None:
    assert parse_json(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
        deep = opening * MAX_DEPTH + b"[]" + closing * MAX_DEPTH
        with pytest.raises(ApiError, match=f"deeper than {MAX_DEPTH}"):
            parse_json(deep)


def test_numbers_keep_their_kind() -> None:
    assert parse_json(b"[1, 1.0, 1e2]") == [1, 1.0, 100.0]
    assert isinstance(parse_json(b"1"), int)
    assert isinstance(parse_json(b"1.0"), float)
    assert math.copysign(1, parse_json(b"-0.0")) == -1


def test_a_body_is_bounded_by_its_length(ask: Ask) -> None:
    body = json.dumps({"prompt": "x" * 5000})
    refused = ask("POST", "/v1/completions", content=body, headers=JSON, max_body_bytes=4096)
    assert refused.status_code == 413
    assert refused.json()["error"]["code"] == "body_too_large"
    assert "4,096" in refused.json()["error"]["message"]


def test_a_body_is_bounded_without_a_length(ask: Ask) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield b" " * 1024

    reply = ask("POST", "/v1/completions", content=endless(), headers=JSON, max_body_bytes=4096)
    assert reply.status_code == 413
    assert sent <= 8


def test_a_length_that_is_no_number_is_not_trusted(ask: Ask) -> None:
    headers = {**JSON, "Content-Length": "-1"}
    reply = ask("POST", "/v1/completions", content=b"{}", headers=headers)
    assert reply.status_code == 400


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "json"])
def test_other_types_are_refused(ask: Ask, kind: str | None) -> None:
    """A page of another site can send these without asking first."""
    headers = {"Content-Type": kind} if kind else {}
    reply = ask("POST", "/v1/completions", content=b'{"prompt": "a"}', headers=headers)
    assert reply.status_code == 415


def test_json_with_a_character_set(ask: Ask) -> None:
    headers = {"Content-Type": "application/JSON; charset=utf-8"}
    body = b'{"prompt": "a", "max_tokens": 1}'
    assert ask("POST", "/v1/completions", content=body, headers=headers).status_code == 200


def test_half_a_character_is_refused(ask: Ask) -> None:
    body = rb'{"prompt": "\ud800"}'
    reply = ask("POST", "/v1/completions", content=body, headers=JSON)
    assert reply.status_code == 400
    assert "surrogate" in reply.json()["error"]["message"]


@pytest.mark.parametrize("body", [b"[]", b"5", b'"a"', b"null", b""])
def test_a_body_that_is_no_object(ask: Ask, body: bytes) -> None:
    reply = ask("POST", "/v1/chat/completions", content=body, headers=JSON)
    assert reply.status_code == 400
    assert reply.json()["error"]["message"].startswith("the body")


def test_an_escaped_pair_is_one_character() -> None:
    assert parse_json(rb'["\ud83e\udd8a", "\u00e4"]') == ["🦊", "ä"]
