"""A small random model behind a real server."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import openai
import pytest
import torch
import uvicorn

from everlong.engine.async_engine import AsyncEngine
from everlong.engine.config import EngineConfig
from everlong.engine.llm import LLM
from everlong.model.adapters import Adapter, LowRank
from everlong.model.assemble import assemble
from everlong.model.config import ModelConfig
from everlong.serving import app as application
from everlong.serving.config import ServeConfig
from everlong.tokenizer import Tokenizer, train_tokenizer
from tests.model.random_models import random_weights

WINDOW = 2048
CORPUS = (
    "the quick brown fox jumps over the lazy dog while a small model writes some words of "
    'its own, 0123456789 of them; {"name": "weather", "arguments": {"city": "Oslo"}} '
    "ÄÖÜ äöü 今日は 🦊🐕 "
)


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """Products this small gain nothing from a second thread, and where the machine is busy its
    barriers cost tenfold: clients, server and engine are all in this process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return train_tokenizer([CORPUS * 3], 400)


def random_llm(tokenizer: Tokenizer, **engine: Any) -> LLM:
    """Two layers that write noise, and end by themselves now and then."""
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=64,
        intermediate_size=128,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        head_dim=16,
        max_position=WINDOW,
    )
    weights = random_weights(config)
    generator = torch.Generator().manual_seed(1)
    louder = LowRank(
        down=torch.randn(4, 64, generator=generator),
        up=torch.randn(64, 4, generator=generator),
        scale=1.0,
    )
    memory = engine.pop("memory", None)
    return LLM(
        assemble(config, weights.__getitem__, "float32"),
        tokenizer,
        name="noise",
        fingerprint=b"noise",
        engine=EngineConfig(kv_cache_memory=16 << 20, **engine),
        adapters={"louder": Adapter({"layers.0.self_attn.q_proj": louder}, b"louder")},
        memory=memory,
    )


@dataclass
class RunningServer:
    """A server in a thread of this process."""

    url: str
    engine: AsyncEngine
    uvicorn: uvicorn.Server
    thread: threading.Thread

    def client(self, key: str = "none", **options: Any) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, **options)

    def metric(self, name: str, **labels: str) -> float:
        """Value of the first sample of a metric that has these labels."""
        for line in httpx.get(f"{self.url}/metrics").text.splitlines():
            wanted = [f'{key}="{value}"' for key, value in labels.items()]
            if line.startswith(f"everlong:{name}{{") and all(w in line for w in wanted):
                return float(line.rsplit(" ", 1)[1])
        raise AssertionError(f"there is no metric {name} with {labels}")

    def wait_until_idle(self) -> None:
        """Until no request runs or waits."""
        end = time.monotonic() + 30
        while self.metric("num_requests_running") or self.metric("num_requests_waiting"):
            assert time.monotonic() < end, "requests are still there after 30 s"
            time.sleep(0.01)


@contextmanager
def running(llm: LLM, *, drain_seconds: float = 0.0, **options: Any) -> Iterator[RunningServer]:
    """Serves ``llm`` on a free port; ``options`` are those of ``create_app``."""
    engine = AsyncEngine(llm)
    app = application.create_app(engine, **options)
    config = ServeConfig(model="noise", log_level="warning", drain_seconds=drain_seconds)
    with application.bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        server = application.server(app, engine, config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.005)
        try:
            yield RunningServer(f"http://127.0.0.1:{port}", engine, server, thread)
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="session")
def server(tokenizer: Tokenizer) -> Iterator[RunningServer]:
    """Answers the same whatever else is asked at the same time."""
    with running(random_llm(tokenizer, deterministic=True, max_num_seqs=8)) as started:
        yield started


@pytest.fixture(scope="session")
def client(server: RunningServer) -> openai.OpenAI:
    return server.client()


Ask = Callable[..., httpx.Response]


@pytest.fixture(scope="session")
def engine(tokenizer: Tokenizer) -> Iterator[AsyncEngine]:
    """For applications that are asked without a server around them."""
    llm = random_llm(tokenizer)
    yield AsyncEngine(llm)
    llm.close()


@pytest.fixture
def ask(engine: AsyncEngine) -> Ask:
    """Makes an application, options first, and sends it one request.

    ``ask("GET", "/v1/models", api_keys=["k"], headers={...})``
    """

    def send(method: str, path: str, /, **options: Any) -> httpx.Response:
        names = ("headers", "json", "content")
        sent = {name: options.pop(name) for name in names if name in options}
        base = options.pop("base_url", "http://127.0.0.1:8000")
        app = application.create_app(engine, **options)

        async def exchange() -> httpx.Response:
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url=base) as http:
                return await http.request(method, path, **sent)

        return asyncio.run(exchange())

    return send
