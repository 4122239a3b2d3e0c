"""Sessions through OpenAI's protocol: continued after a restart, forked, kept apart by key."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from everlong.memory.memory import Memory
from everlong.tokenizer import Tokenizer
from tests.serving.conftest import RunningServer, random_llm, running

LETTERS = {"regex": "[a-z ]{60}"}


@contextmanager
def started(folder: Path, tokenizer: Tokenizer, **options: Any) -> Iterator[RunningServer]:
    with (
        Memory(folder, 64 << 20) as memory,
        running(random_llm(tokenizer, memory=memory, deterministic=True), **options) as server,
    ):
        yield server


def say(server: RunningServer, *texts: str, key: str = "none", **extra: Any) -> Any:
    roles = ("user", "assistant")
    messages: Any = [{"role": roles[n % 2], "content": text} for n, text in enumerate(texts)]
    return server.client(key).chat.completions.create(
        model="noise",
        messages=messages,
        temperature=0,
        max_tokens=40,
        extra_body={"structured_outputs": LETTERS, **extra},
    )


def session_of(reply: Any) -> str:
    name = reply.everlong["memory"]["session"]
    assert isinstance(name, str)
    return name


def texts(server: RunningServer, name: str, namespace: str = "local") -> list[str]:
    memory = server.engine.llm.memory
    assert memory is not None
    session = memory.sessions.find(memory.namespace(namespace).id, name)
    assert session is not None
    return [str(m.body["content"]) for m in memory.sessions.messages(session)]


def test_a_session_outlives_the_server(tmp_path: Path, tokenizer: Tokenizer) -> None:
    with started(tmp_path, tokenizer) as server:
        first = say(server, "the quick brown fox " * 9, session="s")
        assert session_of(first) == "s"
    with started(tmp_path, tokenizer) as server:
        second = say(server, "jumps", session="s")
        assert second.usage.prompt_tokens > first.usage.prompt_tokens + 40
        found = second.usage.prompt_tokens_details.cached_tokens
        assert found >= (first.usage.prompt_tokens + 39) // 64 * 64
        answers = [r.choices[0].message.content for r in (first, second)]
        said = ["the quick brown fox " * 9, answers[0], "jumps", answers[1]]
        assert texts(server, "s") == said
    with started(tmp_path / "other", tokenizer) as server:  # never stopped, nothing found
        say(server, said[0], session="s")
        assert say(server, "jumps", session="s").choices[0].message.content == answers[1]


def test_a_streamed_answer_names_its_session_first_and_is_kept(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    with started(tmp_path, tokenizer) as server:
        stream = server.client().chat.completions.create(
            model="noise",
            messages=[{"role": "user", "content": "the fox"}],
            max_tokens=20,
            stream=True,
            extra_body={"session": "s", "structured_outputs": LETTERS},
        )
        chunks = list(stream)
        assert session_of(chunks[0]) == "s"
        assert all("everlong" not in (c.model_extra or {}) for c in chunks[1:])
        content = "".join(c.choices[0].delta.content or "" for c in chunks)
        assert texts(server, "s") == ["the fox", content]


def test_what_a_client_that_leaves_has_read_is_kept(tmp_path: Path, tokenizer: Tokenizer) -> None:
    with started(tmp_path, tokenizer) as server:
        body = {
            "messages": [{"role": "user", "content": "the fox"}],
            "stream": True,
            "session": "s",
            "ignore_eos": True,
            "max_tokens": 1500,
        }
        with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=body) as stream:
            for _, _line in zip(range(8), stream.iter_lines(), strict=False):
                pass
        server.wait_until_idle()
        end = time.monotonic() + 10
        while len(texts(server, "s")) < 2:
            assert time.monotonic() < end, "the answer is not kept"
            time.sleep(0.01)
        assert texts(server, "s")[0] == "the fox"


def test_a_conversation_that_parts_goes_on_elsewhere(tmp_path: Path, tokenizer: Tokenizer) -> None:
    with started(tmp_path, tokenizer) as server:
        say(server, "one", session="s")
        forked = session_of(say(server, "one", "never said", "two", session="s"))
        assert forked != "s"
        assert texts(server, forked)[:3] == ["one", "never said", "two"]
        assert len(texts(server, "s")) == 2


def test_clients_that_name_no_session_are_remembered_where_that_is_wanted(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    with started(tmp_path, tokenizer) as server:
        assert "everlong" not in (say(server, "one").model_extra or {})
    with started(tmp_path, tokenizer, remembers_all=True) as server:
        first = say(server, "one")
        answer = str(first.choices[0].message.content)
        second = say(server, "one", answer, "two")
        assert session_of(second) == session_of(first)
        assert texts(server, session_of(first))[:3] == ["one", answer, "two"]
        # Another client begins alike: it is told nothing of that, and goes on with its own.
        other = say(server, "one")
        assert session_of(other) != session_of(first)
        assert other.usage.prompt_tokens == first.usage.prompt_tokens
        assert texts(server, session_of(other))[0] == "one"
        assert len(texts(server, session_of(other))) == 2
        its = str(other.choices[0].message.content)
        third = say(server, "one", its, "something else")
        assert texts(server, session_of(third))[:3] == ["one", its, "something else"]
        if its != answer:
            assert session_of(third) == session_of(other)
        longest = [*texts(server, session_of(second)), "three"]
        assert session_of(say(server, *longest)) == session_of(first)


def test_keys_have_sessions_of_their_own_and_keep_them(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    long = "the quick brown fox jumps over the lazy dog " * 8
    with started(tmp_path, tokenizer, api_keys=["anna", "ben"]) as server:
        say(server, long, key="anna", session="s")
        bens = say(server, long, key="ben", session="s")
        assert bens.usage.prompt_tokens_details.cached_tokens == 0
        memory = server.engine.llm.memory
        assert memory is not None
        annas = memory.namespaces.opened_by("anna").name
    with started(tmp_path, tokenizer, api_keys=["ben", "anna"]) as server:
        again = say(server, long + "!", key="anna", session="s")
        assert again.usage.prompt_tokens_details.cached_tokens >= 64
        assert texts(server, "s", annas)[2] == long + "!"


def test_what_a_session_cannot_be(
    tmp_path: Path, tokenizer: Tokenizer, server: RunningServer
) -> None:
    with pytest.raises(openai.BadRequestError, match="without --no-memory"):
        say(server, "one", session="s")
    with started(tmp_path, tokenizer) as remembering:
        for extra, message in (
            ({"session": "s", "n": 2}, "a session has one answer"),
            ({"session": ""}, "session"),
            ({"session": "x" * 200}, "session"),
            ({"session": "a\nb"}, "printable"),
        ):
            with pytest.raises(openai.BadRequestError, match=message):
                say(remembering, "one", **extra)
