"""``everlong serve`` as a process: from the command line to the last answer."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.checkpoint.samples import tiny_config, tiny_gguf


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gguf(tmp_path_factory.mktemp("serve") / "tiny.gguf", tiny_config(max_position=4096))


@contextmanager
def serving(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process, and the address that it says it listens on."""
    command = [sys.executable, "-c", "from everlong.cli import main; raise SystemExit(main())"]
    process = subprocess.Popen(
        [*command, "serve", *arguments, "--port", "0"],
        stderr=subprocess.STDOUT,
        stdout=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "OMP_NUM_THREADS": "1",
        },
    )
    assert process.stdout is not None
    try:
        log = ""
        for line in process.stdout:
            log += line
            if found := re.search(r"http://[0-9.]+:[0-9]+(?=/v1)", line):
                yield process, found[0]
                break
        else:
            raise AssertionError(f"the server did not start:\n{log}")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_settings_reach_the_server_and_a_stream_outlives_the_signal(model: Path) -> None:
    options = "--api-key k --served-model-name mine --max-model-len 2500 --max-waiting 0"
    with serving(str(model), *options.split(), "--max-num-seqs", "1") as (process, url):
        assert httpx.get(f"{url}/health").status_code == 200
        assert httpx.get(f"{url}/v1/models").status_code == 401
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0)
        (card,) = client.models.list().data
        assert card.id == "mine"
        assert card.model_dump()["max_model_len"] == 2500
        with pytest.raises(openai.BadRequestError, match="2500 tokens"):
            client.completions.create(model="mine", prompt="a", max_tokens=2500)
        stream = client.completions.create(
            model="mine",
            prompt=[5] * 10,
            max_tokens=2000,
            stream=True,
            extra_body={"ignore_eos": True},
        )
        next(iter(stream))
        with pytest.raises(openai.RateLimitError):
            client.completions.create(model="mine", prompt="a")
        process.send_signal(signal.SIGTERM)
        *_, last = stream
        assert last.choices[0].finish_reason == "length"
        client.close()
        assert process.wait(30) == -signal.SIGTERM


def test_a_model_that_is_not_there_is_one_line() -> None:
    with pytest.raises(AssertionError, match=r"everlong: error: .*nowhere"), serving("nowhere"):
        pass


def test_a_conversation_outlives_a_server_that_is_killed(model: Path, tmp_path: Path) -> None:
    def ask(url: str, text: str) -> dict[str, Any]:
        body = {
            "messages": [{"role": "user", "content": text}],
            "session": "s",
            "temperature": 0,
            "max_tokens": 8,
            "ignore_eos": True,
        }
        reply = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60)
        assert reply.status_code == 200, reply.text
        return dict(reply.json())

    options = (str(model), "--memory", str(tmp_path), "--memory-size", "100MB")
    with serving(*options) as (process, url):
        first = ask(url, "hello " * 80)
        deadline = time.monotonic() + 30
        while httpx.get(f"{url}/v1/memory/stats").json()["blocks"]["waiting"]:
            assert time.monotonic() < deadline
        process.send_signal(signal.SIGKILL)
        process.wait()
    with serving(*options) as (_, url):
        second = ask(url, "again")
        assert second["everlong"]["memory"]["session"] == "s"
        found = second["usage"]["prompt_tokens_details"]["cached_tokens"]
        assert found >= first["usage"]["prompt_tokens"] // 64 * 64 > 0
        shown = httpx.get(f"{url}/v1/memory/sessions/s").json()["messages"]
        assert [m["role"] for m in shown] == ["user", "assistant"] * 2
    with serving(str(model), "--no-memory") as (_, url):
        assert httpx.get(f"{url}/v1/memory/stats").status_code == 400
