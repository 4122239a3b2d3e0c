"""Who gets as far as a route, and the headers of every answer."""

from __future__ import annotations

from typing import Any

import pytest

from everlong.engine.async_engine import AsyncEngine
from tests.serving.conftest import Ask

KEYS = ["secret"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/models"),
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/completions"),
        ("POST", "/v1/embeddings"),
        ("GET", "/metrics"),
        ("GET", "/openapi.json"),
        ("GET", "/nothing"),
        ("GET", "/health/"),
        ("DELETE", "/v1/models"),
    ],
)
def test_everything_needs_a_key(ask: Ask, method: str, path: str) -> None:
    for headers in ({}, {"Authorization": "Bearer guess"}):
        refused = ask(method, path, api_keys=KEYS, headers=headers)
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"] == "Bearer"
        assert refused.json()["error"]["code"] == "invalid_api_key"
        assert "secret" not in refused.text
    allowed = ask(method, path, api_keys=KEYS, headers={"Authorization": "Bearer secret"})
    assert allowed.status_code != 401


def test_health_and_page_need_none(ask: Ask) -> None:
    assert ask("GET", "/health", api_keys=KEYS).status_code == 200
    assert ask("GET", "/", api_keys=KEYS).status_code != 401


@pytest.mark.parametrize(
    ("bound", "host", "allowed"),
    [
        ("127.0.0.1", "127.0.0.1:8000", True),
        ("127.0.0.1", "localhost:8000", True),
        ("127.0.0.1", "LOCALHOST", True),
        ("127.0.0.1", "[::1]:8000", True),
        ("::1", "[::1]:8000", True),
        ("localhost", "127.1.2.3", True),
        ("127.0.0.1", "evil.example", False),
        ("127.0.0.1", "127.0.0.1.evil.example:8000", False),
        ("127.0.0.1", "localhost.evil.example", False),
        ("127.0.0.1", "192.168.0.7", False),
        ("127.0.0.1", "[::1", False),
        ("127.0.0.1", "", False),
        ("localhost", "evil.example", False),
        ("0.0.0.0", "evil.example", True),
    ],
)
def test_a_loopback_server_has_only_loopback_names(
    ask: Ask, bound: str, host: str, allowed: bool
) -> None:
    reply = ask("GET", "/health", host=bound, headers={"Host": host})
    assert reply.status_code == (200 if allowed else 403)
    if not allowed:
        assert reply.json()["error"]["code"] == "host_not_allowed"


def test_names_can_be_added(ask: Ask) -> None:
    def status(names: list[str], host: str, bound: str = "127.0.0.1") -> int:
        options: dict[str, Any] = {"host": bound, "allowed_hosts": names}
        return ask("GET", "/health", headers={"Host": host}, **options).status_code

    assert status(["llm.example"], "LLM.example:443") == 200
    assert status(["llm.example"], "localhost") == 200
    assert status(["llm.example"], "evil.example") == 403
    assert status(["llm.example"], "evil.example", "0.0.0.0") == 403
    assert status(["*"], "evil.example") == 200


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("http://127.0.0.1:8000", True),
        ("http://evil.example", False),
        ("http://127.0.0.1:8001", False),
        ("null", False),
        ("http://[", False),
        ("", False),
    ],
)
def test_pages_of_other_origins_are_refused(ask: Ask, origin: str, allowed: bool) -> None:
    reply = ask("GET", "/v1/models", headers={"Origin": origin})
    assert reply.status_code == (200 if allowed else 403)
    assert "access-control-allow-origin" not in reply.headers


def test_origins_can_be_added(ask: Ask) -> None:
    page = "https://chat.example"
    options = {"allowed_origins": [page], "api_keys": KEYS}
    preflight = ask(
        "OPTIONS",
        "/v1/chat/completions",
        headers={
            "Origin": page,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type",
        },
        **options,
    )
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == page
    reply = ask(
        "GET",
        "/v1/models",
        headers={"Origin": page, "Authorization": "Bearer secret"},
        **options,
    )
    assert reply.status_code == 200
    assert reply.headers["access-control-allow-origin"] == page
    other = ask("GET", "/v1/models", headers={"Origin": "https://evil.example"}, **options)
    assert other.status_code == 403


def test_a_mistake_of_ours_is_an_error_object(
    ask: Ask, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise RuntimeError("a secret of the server")

    monkeypatch.setattr(engine, "stats", broken)
    reply = ask("GET", "/metrics")
    assert reply.status_code == 500
    assert reply.json()["error"]["code"] == "internal_error"
    assert "secret" not in reply.text
    assert reply.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/", "/health", "/v1/models", "/nothing"])
def test_every_answer_carries_the_security_headers(ask: Ask, path: str) -> None:
    for host in ("127.0.0.1", "evil.example"):
        headers = ask("GET", path, headers={"Host": host}).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy, "no other host"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
