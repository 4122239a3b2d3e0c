"""What is remembered, over HTTP: seen, found, forgotten, by its owner only."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from everlong.memory.memory import Memory
from everlong.tokenizer import Tokenizer
from tests.serving.conftest import RunningServer, random_llm, running
from tests.serving.test_sessions import say


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Iterator[Any]:
    folder: Path = tmp_path_factory.mktemp("memory")
    with (
        Memory(folder, 64 << 20) as memory,
        running(random_llm(tokenizer, memory=memory), api_keys=["anna", "ben"]) as started,
    ):
        say(started, "the zebra sleeps at noon", key="anna", session="one/two")
        say(started, "the lazy dog", key="ben", session="bens")
        yield started


def asked(server: RunningServer, method: str, path: str, key: str = "anna", **more: Any) -> Any:
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.request(method, f"{server.url}/v1/memory/{path}", headers=headers, **more)


def test_sessions_and_episodes(server: RunningServer) -> None:
    listed = asked(server, "GET", "sessions").json()["data"]
    assert [s["name"] for s in listed] == ["one/two"]
    shown = asked(server, "GET", "sessions/one/two").json()
    assert shown["messages"][0]["content"] == "the zebra sleeps at noon"
    first = shown["messages"][0]["episodes"][0]
    context = asked(server, "GET", f"episodes/{first}?around=1").json()["context"]
    assert [e["speaker"] for e in context] == ["user", "assistant"]
    page = asked(server, "GET", "episodes?limit=1").json()
    assert page["next"] == page["data"][0]["id"]
    paused = asked(server, "POST", "sessions/one/two", json={"paused": True}).json()
    assert paused["paused"] is True
    say(server, "nobody hears this", key="anna", session="one/two")
    found = asked(server, "GET", "episodes").json()["data"]
    assert not any("nobody" in e["text"] for e in found)
    asked(server, "POST", "sessions/one/two", json={"paused": False})


def test_strangers_see_nothing(server: RunningServer) -> None:
    zebra = asked(server, "GET", "sessions/one/two").json()["messages"][0]["episodes"][0]
    for method, path, more in (
        ("GET", "sessions", {}),
        ("GET", "sessions/one/two", {}),
        ("GET", "episodes", {}),
        ("GET", f"episodes/{zebra}", {}),
        ("GET", "stats", {}),
        ("POST", "search", {"json": {"query": "zebra"}}),
        ("POST", "forget", {"json": {"query": "zebra", "dry_run": True}}),
        ("POST", "forget", {"json": {"episodes": [zebra]}}),
    ):
        assert "sleeps" not in asked(server, method, path, key="ben", **more).text
        assert asked(server, method, path, key="nobody", **more).status_code == 401
    exported = asked(server, "GET", "export", key="ben").content
    with zipfile.ZipFile(io.BytesIO(exported)) as archive:
        content = b"".join(map(archive.read, archive.namelist()))
    assert b"lazy dog" in content
    assert b"zebra" not in content
    assert asked(server, "GET", f"episodes/{zebra}").status_code == 200


def test_a_document_is_remembered_and_forgotten(server: RunningServer) -> None:
    body = {"text": "Ferns need water. " * 100, "source": "handbook.md"}
    added = asked(server, "POST", "episodes", json=body).json()["data"]
    assert len(added) > 1
    would = asked(server, "POST", "forget", json={"source": "handbook.md", "dry_run": True}).json()
    assert would["episodes"] == len(added)
    receipt = asked(server, "POST", "forget", json={"source": "handbook.md"}).json()
    assert receipt["episodes"] == len(receipt["hashes"]) == len(added)
    assert asked(server, "GET", "episodes?source=handbook.md").json()["data"] == []


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "message"),
    [
        ("GET", "sessions/none", None, 400, "there is no session 'none'"),
        ("GET", "sessions?limit=1000", None, 400, "from 1 to 200"),
        ("POST", "forget", {}, 400, "say what is forgotten"),
        ("POST", "forget", {"colour": "red"}, 400, "colour"),
        ("POST", "search", {"query": ""}, 400, "query"),
        ("POST", "sessions/none", {"paused": 0}, 400, "paused"),
        ("POST", "forget", {"until": False}, 400, "until"),
    ],
)
def test_what_is_refused(
    server: RunningServer, method: str, path: str, body: Any, status: int, message: str
) -> None:
    reply = asked(server, method, path, json=body)
    assert reply.status_code == status
    assert message in reply.json()["error"]["message"]


def test_a_full_namespace_is_told_so_and_others_are_served(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    with (
        Memory(tmp_path, 64 << 20, quota=500) as memory,
        running(random_llm(tokenizer, memory=memory), api_keys=["anna", "ben"]) as server,
    ):
        body = {"text": "Ferns need water. " * 30, "source": "handbook.md"}
        assert asked(server, "POST", "episodes", json=body).status_code == 200
        refused = asked(server, "POST", "episodes", json=body)
        assert refused.status_code == 403
        assert refused.json()["error"]["code"] == "memory_quota_exceeded"
        chat = {"model": "noise", "messages": [{"role": "user", "content": "hello"}]}
        for key, session, status in (
            ("anna", "one", 403),
            ("anna", None, 200),  # without a session nothing is remembered
            ("ben", "one", 200),
        ):
            reply = httpx.post(
                f"{server.url}/v1/chat/completions",
                headers={"Authorization": f"Bearer {key}"},
                json=chat | {"max_tokens": 4} | ({"session": session} if session else {}),
                timeout=60,
            )
            assert reply.status_code == status, reply.text
        stats = asked(server, "GET", "stats").json()
        assert stats["text_bytes"] >= stats["quota"] == 500


def test_without_a_memory_there_is_none(ask: Any) -> None:
    reply = ask("GET", "/v1/memory/stats")
    assert reply.status_code == 400
    assert "--no-memory" in reply.json()["error"]["message"]
