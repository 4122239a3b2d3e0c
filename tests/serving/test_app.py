"""The application as a whole: many at once, those who leave, those who are refused, the end."""

from __future__ import annotations

import asyncio
import random
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from everlong.engine.async_engine import AsyncEngine
from everlong.errors import ConfigError
from everlong.serving.app import bind, create_app
from everlong.tokenizer import Tokenizer
from tests.serving.conftest import Ask, RunningServer, random_llm, running

LONG = {"max_tokens": 2000, "extra_body": {"ignore_eos": True}}


@pytest.fixture
def busy(tokenizer: Tokenizer) -> Iterator[RunningServer]:
    """A server that takes one request at a time and lets none wait."""
    llm = random_llm(tokenizer, max_num_seqs=1, max_waiting=0)
    with running(llm) as started:
        yield started


# ----------------------------------------------------------------------- many at once


def test_two_hundred_at_once_with_some_that_leave(server: RunningServer) -> None:
    """None is lost, none gets another's answer, and all blocks come back."""
    random_source = random.Random(5)
    words = ["fox", "dog", "brown", "lazy", "model", "words", "🦊", "Oslo"]
    kinds: list[dict[str, Any]] = [
        {
            "model": random_source.choice(["noise", "louder"]),
            "prompt": " ".join(random_source.choices(words, k=random_source.randint(1, 30))),
            "max_tokens": random_source.randint(1, 16),
            "temperature": random_source.choice([0, 1]),
            "seed": number,
        }
        for number in range(20)
    ]
    client = server.client()
    alone = [client.completions.create(**kind).choices[0] for kind in kinds]
    finished_before = _finished(server)

    async def one(number: int, http: openai.AsyncOpenAI) -> bool:
        """Whether the answer was read to its end; then it is the right one."""
        kind = number % len(kinds)
        leaves_after = random_source.choice([None, None, None, 0, 1, 3])
        if leaves_after == 0:
            patience = random_source.uniform(0, 2)
            try:
                await asyncio.wait_for(http.completions.create(**kinds[kind]), patience)
            except TimeoutError:
                return False
            return True
        if random_source.random() < 0.5 and leaves_after is None:
            choice = (await http.completions.create(**kinds[kind])).choices[0]
            assert (choice.text, choice.finish_reason) == (
                alone[kind].text,
                alone[kind].finish_reason,
            )
            return True
        text, reason = "", None
        async with await http.completions.create(**kinds[kind], stream=True) as stream:
            read = 0
            async for chunk in stream:
                text += chunk.choices[0].text
                reason = chunk.choices[0].finish_reason
                read += 1
                if read == leaves_after:
                    assert alone[kind].text.startswith(text)
                    return False
        assert (text, reason) == (alone[kind].text, alone[kind].finish_reason)
        return True

    async def all_of_them() -> list[bool]:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        transport = httpx.AsyncClient(limits=limits, timeout=120)
        async with openai.AsyncOpenAI(
            base_url=f"{server.url}/v1", api_key="none", max_retries=0, http_client=transport
        ) as http:
            return await asyncio.gather(*(one(number, http) for number in range(200)))

    read = asyncio.run(all_of_them())
    assert 100 <= sum(read) < 200, "some left, most stayed"
    server.wait_until_idle()
    assert server.metric("kv_cache_blocks_used") == 0
    finished = _finished(server) - finished_before
    assert sum(read) <= finished <= 200


def _finished(server: RunningServer) -> int:
    return sum(server.engine.stats().requests_finished.values())


# ------------------------------------------------------------------------- who leaves


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("n", [1, 3])
def test_a_client_that_leaves_frees_its_blocks(
    server: RunningServer, streamed: bool, n: int
) -> None:
    before = server.engine.stats().requests_finished.get("cancelled", 0)
    create = server.client().chat.completions.create
    body: dict[str, Any] = {"model": "noise", "messages": [{"role": "user", "content": "hi"}]}
    if streamed:
        stream = create(**body, **LONG, n=n, stream=True)
        next(iter(stream))
        assert server.metric("kv_cache_blocks_used") > 0
        stream.close()
    else:
        with pytest.raises(openai.APITimeoutError):
            create(**body, **LONG, n=n, timeout=0.3)
    server.wait_until_idle()
    assert server.metric("kv_cache_blocks_used") == 0
    assert server.engine.stats().requests_finished["cancelled"] == before + n


# ---------------------------------------------------------------------- who is refused


def test_a_full_queue_says_when_to_try_again(busy: RunningServer) -> None:
    client = busy.client()
    running_one = client.completions.create(model="noise", prompt="a", stream=True, **LONG)
    next(iter(running_one))
    for stream in (False, True):
        with pytest.raises(openai.RateLimitError) as refusal:
            client.completions.create(model="noise", prompt="b", stream=stream)
        assert refusal.value.code == "queue_full"
        assert int(refusal.value.response.headers["retry-after"]) >= 1
    with pytest.raises(openai.RateLimitError):  # all choices or none
        client.completions.create(model="noise", prompt="b", n=2)
    running_one.close()
    busy.wait_until_idle()
    assert client.completions.create(model="noise", prompt="b").choices[0].text


def test_every_key_has_its_own_cache(tokenizer: Tokenizer) -> None:
    prompt = "the quick brown fox jumps over the lazy dog " * 30

    def cached(client: openai.OpenAI) -> int:
        usage = client.completions.create(model="noise", prompt=prompt, max_tokens=1).usage
        assert usage is not None
        assert usage.prompt_tokens_details is not None
        return usage.prompt_tokens_details.cached_tokens or 0

    with running(random_llm(tokenizer), api_keys=["one", "two"]) as server:
        one, two = server.client("one"), server.client("two")
        assert cached(one) == 0
        assert cached(one) > 0
        assert cached(two) == 0
        assert cached(two) > 0
        with pytest.raises(openai.AuthenticationError) as refusal:
            server.client("three").models.list()
        assert refusal.value.code == "invalid_api_key"


# ----------------------------------------------------------------- models, health, page


def test_models(client: openai.OpenAI) -> None:
    assert [card.id for card in client.models.list()] == ["noise", "louder"]
    card = client.models.retrieve("louder")
    assert card.owned_by == "everlong"
    assert card.model_dump()["parent"] == "noise"
    assert card.model_dump()["max_model_len"] == 2048
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("org/other")


def test_the_model_is_served_under_another_name(ask: Ask) -> None:
    cards = ask("GET", "/v1/models", model="org/mine").json()["data"]
    assert [card["id"] for card in cards] == ["org/mine", "louder"]
    assert ask("GET", "/v1/models/org/mine", model="org/mine").status_code == 200
    body = {"model": "noise", "prompt": "a"}
    assert ask("POST", "/v1/completions", json=body, model="org/mine").status_code == 404


def test_health(ask: Ask) -> None:
    assert ask("GET", "/health", api_keys=["k"]).json() == {"status": "ok"}


def test_unknown_paths_and_methods(ask: Ask) -> None:
    missing = ask("GET", "/v2/models")
    assert missing.status_code == 404
    assert "GET /v2/models" in missing.json()["error"]["message"]
    wrong = ask("GET", "/v1/chat/completions")
    assert wrong.status_code == 405
    assert wrong.headers["allow"] == "POST"
    assert "POST" in wrong.json()["error"]["message"]
    assert ask("GET", "/docs").status_code == 404, "it would load scripts from another host"


def test_the_page_and_its_files(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text("<p>page")
    (tmp_path / "assets" / "a.js").write_text("1")
    asked = {
        path: ask("GET", path, page=tmp_path, api_keys=["k"]) for path in ("/", "/assets/a.js")
    }
    assert [reply.text for reply in asked.values()] == ["<p>page", "1"]
    assert asked["/"].headers["content-type"].startswith("text/html")
    assert asked["/"].headers["cache-control"] == "no-cache", "an update would not show"
    assert "immutable" in asked["/assets/a.js"].headers["cache-control"]
    assert ask("GET", "/assets/b.js", page=tmp_path, api_keys=["k"]).status_code == 401
    assert ask("GET", "/assets/../../x", page=tmp_path).status_code == 404
    assert ask("POST", "/", page=tmp_path).status_code == 405


def test_a_page_that_is_not_built(ask: Ask, tmp_path: Path) -> None:
    reply = ask("GET", "/", page=tmp_path)
    assert reply.status_code == 404
    assert "npm run build" in reply.text


# ---------------------------------------------------------------------------- the end


def test_an_engine_that_stops_ends_streams_with_an_error(tokenizer: Tokenizer) -> None:
    with running(random_llm(tokenizer)) as server:
        client = server.client()
        stream = client.completions.create(model="noise", prompt="a", stream=True, **LONG)
        next(iter(stream))
        server.engine.llm.close()
        with pytest.raises(openai.APIError, match="shut down"):
            list(stream)
        with pytest.raises(openai.InternalServerError) as refusal:
            client.completions.create(model="noise", prompt="a")
        assert refusal.value.status_code == 503


def test_a_stream_that_fails_still_says_done(tokenizer: Tokenizer) -> None:
    with running(random_llm(tokenizer)) as server:
        body = {"prompt": "a", "stream": True, "max_tokens": 2000, "ignore_eos": True}
        with httpx.stream("POST", f"{server.url}/v1/completions", json=body) as reply:
            lines = reply.iter_lines()
            assert next(lines).startswith("data: {")
            server.engine.llm.close()
            *_, error, done = (line for line in lines if line)
        assert error.startswith('data: {"error"')
        assert done == "data: [DONE]"


def test_running_requests_may_finish_when_the_server_stops(tokenizer: Tokenizer) -> None:
    with running(random_llm(tokenizer), drain_seconds=60) as server:
        client = server.client()
        stream = client.completions.create(
            model="noise", prompt="a", max_tokens=60, stream=True, extra_body={"ignore_eos": True}
        )
        next(iter(stream))
        server.uvicorn.should_exit = True
        *_, last = stream
        assert last.choices[0].finish_reason == "length"
        client.close()
        server.thread.join(30)
        assert not server.thread.is_alive()
        with pytest.raises(openai.APIConnectionError):
            server.client().models.list()


def test_what_is_left_when_the_time_is_up_ends_with_an_error(tokenizer: Tokenizer) -> None:
    with running(random_llm(tokenizer), drain_seconds=0.1) as server:
        stream = server.client().completions.create(model="noise", prompt="a", stream=True, **LONG)
        next(iter(stream))
        server.uvicorn.should_exit = True
        with pytest.raises(openai.APIError, match="shut down"):
            list(stream)


def test_a_busy_port_is_known_at_once() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port}.*--port"):
            bind("127.0.0.1", port)
    with pytest.raises(ConfigError, match="--host"):
        bind("no such host", 0)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": "fox", "max_tokens": 1}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}], "max_tokens": 1}),
        ("/v1/embeddings", {"input": "fox"}),
    ],
)
def test_reading_a_prompt_does_not_hold_up_the_others(
    engine: AsyncEngine, path: str, body: dict[str, Any]
) -> None:
    """It happens on threads of its own, which are kept busy here."""
    app = create_app(engine)
    free = threading.Event()

    async def exchange() -> None:
        for _ in range(2):
            app.state.service.readers.submit(free.wait)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            slow = asyncio.create_task(http.post(path, json=body))
            for _ in range(3):
                assert (await http.get("/health")).status_code == 200
            assert not slow.done()
            free.set()
            assert (await slow).status_code == 200

    try:
        asyncio.run(exchange())
    finally:
        free.set()
        app.state.service.readers.shutdown()


@pytest.mark.parametrize("package", ["fastapi", "uvicorn", "sse_starlette"])
def test_a_missing_extra_says_how_to_install_it(package: str) -> None:
    code = f"import sys; sys.modules[{package!r}] = None; import everlong.serving.app"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (
        f"{package} is not installed; it comes with: pip install 'everlong[serve]'" in done.stderr
    )
