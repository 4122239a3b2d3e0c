"""Two keys on one server: nothing of one's is seen by the other, and no count tells of it.

What a key must get beside another is what it gets on a server where the other never asks.
"""

from __future__ import annotations

import http.client
import io
import json
import re
import socket
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from threading import Barrier
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from everlong.engine.embedders import ModelEmbedder
from everlong.engine.request import SamplingParams
from everlong.memory.episodes import NewEpisode
from everlong.memory.memory import Memory
from everlong.memory.recall import ROWS, Recall
from everlong.tokenizer import Tokenizer
from tests.engine.tiny import tiny_llm
from tests.serving.conftest import RunningServer, random_llm, running

KEYS = ("anna", "ben")
LONG = "the quick brown fox jumps over the lazy dog while a small model writes words " * 4
STREAMS = 8
"""Of each key."""


class Asking:
    """One key's client; keeps every byte that came back."""

    def __init__(self, http: httpx.Client) -> None:
        self.seen: list[str] = []
        self._http = http

    def __call__(self, method: str, path: str, **more: Any) -> httpx.Response:
        reply = self._http.request(method, path, **more)
        self.seen.append(f"{reply.headers}\n{reply.text}")
        if reply.headers["content-type"] == "application/zip":
            with zipfile.ZipFile(io.BytesIO(reply.content)) as archive:
                self.seen += [archive.read(name).decode() for name in archive.namelist()]
        return reply

    def chat(self, *texts: str, **extra: Any) -> Any:
        roles = ("user", "assistant")
        messages = [{"role": roles[n % 2], "content": text} for n, text in enumerate(texts)]
        body = {
            "messages": messages,
            "temperature": 0,
            "max_tokens": 8,
            "structured_outputs": {"regex": "[a-z ]{30}"},
        }
        reply = self("POST", "/v1/chat/completions", json=body | extra)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def memory(self, path: str, **body: Any) -> Any:
        """The answer of a route of the memory: asked with POST where there is a body."""
        method = "POST" if body else "GET"
        reply = self(method, f"/v1/memory/{path}", **({"json": body} if body else {}))
        assert reply.status_code == 200, reply.text
        return reply.json()


@contextmanager
def remembering(folder: Path, tokenizer: Tokenizer, **engine: Any) -> Iterator[RunningServer]:
    """A server for both keys over a memory."""
    with (
        Memory(folder, 64 << 20) as memory,
        running(random_llm(tokenizer, memory=memory, **engine), api_keys=KEYS) as server,
    ):
        yield server


@contextmanager
def both(server: RunningServer) -> Iterator[tuple[Asking, Asking]]:
    """Clients of the two keys."""
    with ExitStack() as open_clients:
        clients = [
            open_clients.enter_context(
                httpx.Client(
                    base_url=server.url, headers={"Authorization": f"Bearer {key}"}, timeout=120
                )
            )
            for key in KEYS
        ]
        anna, ben = map(Asking, clients)
        yield anna, ben


def text_of(reply: Any) -> str:
    content = reply["choices"][0]["message"]["content"]
    assert isinstance(content, str)
    return content


def cached(reply: Any) -> int:
    return int(reply["usage"]["prompt_tokens_details"]["cached_tokens"])


def in_parallel(work: Sequence[Callable[[], Any]]) -> list[Any]:
    """Results of all of it, begun at the same moment."""
    together = Barrier(len(work))

    def begin(one: Callable[[], Any]) -> Any:
        together.wait()
        return one()

    with ThreadPoolExecutor(len(work)) as pool:
        return list(pool.map(begin, work))


@pytest.fixture
def keys(server: RunningServer) -> Iterator[tuple[Asking, Asking]]:
    with both(server) as clients:
        yield clients


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Iterator[Any]:
    with remembering(tmp_path_factory.mktemp("memory"), tokenizer) as started:
        yield started


def test_sixteen_streams_of_equal_prompts(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """Both keys ask the same at the same time, then go on from it, before a restart and after."""

    def asked(clients: Sequence[Asking]) -> list[list[Any]]:
        """For each client what it got, in the order of its streams and turns."""
        streams = [(ask, n) for n in range(STREAMS) for ask in clients]
        told = {stream: [f"{stream[1]} {LONG}"] for stream in streams}
        got: dict[tuple[Asking, int], list[Any]] = {stream: [] for stream in streams}
        for more in ("and then?", "the lazy dog", ""):
            replies = in_parallel([partial(ask.chat, *told[ask, n]) for ask, n in streams])
            for stream, reply in zip(streams, replies, strict=True):
                got[stream].append((text_of(reply), reply["usage"]))
                told[stream] += [text_of(reply), more]
        return [[got[ask, n] for n in range(STREAMS)] for ask in clients]

    found = []
    for again in range(2):
        answers: list[list[Any]] = []
        for folder, clients in (("two", (0, 1)), ("one", (1,))):
            with (
                remembering(tmp_path / folder, tokenizer, deterministic=True) as server,
                both(server) as keys,
            ):
                answers += asked([keys[client] for client in clients])
        annas, bens, alone = answers
        assert annas == bens == alone, f"{again} restarts"
        found.append([turns[0][1]["prompt_tokens_details"]["cached_tokens"] for turns in alone])
    assert found[0] == [0] * STREAMS
    assert min(found[1]) >= 64, "on the disk"


def test_sixteen_streams_with_secrets(
    server: RunningServer, keys: tuple[Asking, Asking], tokenizer: Tokenizer
) -> None:
    """Sessions of the same names, facts that differ in a word, every route, all at once."""
    words = dict(zip(keys, ("quokka", "walrus"), strict=True))

    def live(ask: Asking, n: int) -> list[str]:
        secret = f"{words[ask]}{n}"
        ask.chat(f"the word for locker {n} is {secret}", session=f"told {n}")
        ask.memory("episodes", text=f"box {n} opens with {secret}", source=f"box {n}")
        reply = ask.chat(f"what is the word for locker {n}", session=f"asked {n}")
        ask.chat(f"what is the word for locker {n}", "not that", "really", session=f"asked {n}")
        ask.chat(LONG)
        for path in ("sessions", f"sessions/told {n}", "episodes", "stats", "export"):
            assert ask("GET", f"/v1/memory/{path}").status_code == 200
        for query in (f"word for locker {n}", f"box {n}", "box"):
            ask.memory("search", query=query)
        return [one["text"] for one in reply["everlong"]["memory"]["recalled"]]

    streams = [(ask, n) for n in range(STREAMS) for ask in keys]
    recalled = in_parallel([partial(live, ask, n) for ask, n in streams])
    for (ask, n), texts in zip(streams, recalled, strict=True):
        assert any(f"{words[ask]}{n}" in text for text in texts), "one's own is recalled"
    memory = server.engine.llm.memory
    assert memory is not None
    everything = {ask: "\n".join(ask.seen) for ask in keys}
    for key, ask, other in zip(KEYS, keys, keys[::-1], strict=True):
        shown = [ask.memory(f"sessions/{quote(s['name'])}") for s in ask.memory("sessions")["data"]]
        marks = {e["id"] for e in ask.memory("episodes?limit=200")["data"]}
        assert {e for s in shown for m in s["messages"] for e in m["episodes"]} <= marks
        marks |= {s["name"] for s in shown if s["origin"]} | {words[ask]}
        assert len(marks) > 4 * STREAMS
        for mark in marks:
            assert mark in everything[ask] or len(mark) == 32
            assert mark not in everything[other]
        read = [
            tokenizer.decode(tokens)
            for tokens in memory.sessions.transcripts(memory.namespaces.opened_by(key).id)
        ]
        assert any(words[ask] in text for text in read)
        assert not any(words[other] in text for text in read)


def test_every_count_is_that_of_a_server_without_the_other(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    """Anna asks each thing just before Ben does; Ben gets what he gets where she never asks."""
    tokens = tokenizer.encode(LONG)[:150]
    script: list[tuple[str, str, Any]] = [
        ("POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": text}]})
        for text in (LONG, LONG, f"{LONG} and more of it", LONG[:120])
    ]
    script += [
        ("POST", "/v1/completions", {"prompt": tokens, "logprobs": 2}),
        ("POST", "/v1/completions", {"prompt": tokens[:70], "echo": True}),
        ("POST", "/v1/embeddings", {"input": LONG}),
    ]
    for session in ("told", "asked", "told"):
        for text in ("the word for the locker is SECRET", "what is the word for the locker?"):
            message = {"role": "user", "content": text}
            script.append(
                ("POST", "/v1/chat/completions", {"messages": [message], "session": session})
            )
    document = {"text": f"{LONG} SECRET", "source": "handbook", "time": 1e9}
    script += [
        ("POST", "/v1/memory/episodes", document),
        ("POST", "/v1/memory/search", {"query": "which word is it for the lazy locker"}),
        ("GET", "/v1/memory/sessions", None),
        ("GET", "/v1/memory/sessions/told", None),
        ("GET", "/v1/memory/sessions/nobody", None),
        ("GET", "/v1/memory/episodes?limit=3", None),
        ("GET", "/v1/models", None),
        ("POST", "/v1/chat/completions", {"messages": [], "namespace": "anna"}),
    ]

    def lived(server: RunningServer, beside: bool) -> list[Any]:
        got = []
        with both(server) as (anna, ben):
            for method, path, body in script:
                given = {} if body is None else {"json": dict(body)}
                if body is not None and path.endswith("completions"):
                    given["json"] |= {"temperature": 0, "max_tokens": 8}
                text = json.dumps(given)
                if beside:
                    anna(method, path, **json.loads(text.replace("SECRET", "quokka")))
                before = server.engine.stats().steps
                reply = ben(method, path, **json.loads(text.replace("SECRET", "walrus")))
                steps = server.engine.stats().steps - before
                got.append((reply.status_code, known(reply.json()), steps))
        return got

    lives: list[list[list[Any]]] = []
    for folder, beside in (("two", True), ("one", False)):
        lives.append([])
        for _ in range(2):
            # Steps so small that every block that is found saves some.
            with remembering(
                tmp_path / folder, tokenizer, deterministic=True, max_num_batched_tokens=32
            ) as server:
                lives[-1].append(lived(server, beside))
    for two, one in zip(*lives, strict=True):
        for (method, path, _), beside_her, alone in zip(script, two, one, strict=True):
            assert beside_her == alone, f"{method} {path}"
    first, after_restart = lives[1]
    usages = [said["usage"]["prompt_tokens_details"]["cached_tokens"] for _, said, _ in first[:3]]
    assert usages[0] == 0 < usages[1] <= usages[2]
    assert 0 < first[1][2] < first[0][2], "fewer steps with what was found"
    assert after_restart[0][1]["usage"]["prompt_tokens_details"]["cached_tokens"] >= 64


def known(reply: Any) -> Any:
    """A reply without what is drawn at random or read from a clock."""
    if isinstance(reply, list):
        return [known(one) for one in reply]
    if not isinstance(reply, dict):
        return reply
    drawn = ("id", "created", "updated", "time", "next", "episodes", "recalled")
    rest = {name: known(value) for name, value in reply.items() if name not in drawn}
    if isinstance(told := reply.get("recalled"), list):
        # Those of equal scores come in the order of their ids.
        rest["recalled"] = sorted((one["score"], one.get("text", "")) for one in told)
    return rest


@pytest.mark.parametrize(
    ("count", "rows"),
    [(20, ROWS), (300, ROWS), (300, 20)],
    ids=["few texts", "many texts", "words of many texts"],
)
def test_scores_do_not_depend_on_what_others_say(tmp_path: Path, count: int, rows: int) -> None:
    """Neither on their texts nor on how many there are, however words are weighed."""
    queries = ("number 7", "which zebra sleeps at noon", "ferns")

    def said(first: int, last: int) -> list[NewEpisode]:
        texts = [f"zebra number {n} sleeps" + " at noon" * (n % 5) for n in range(first, last)]
        return [NewEpisode(text, "s", time=1e9 + n) for n, text in enumerate(texts)]

    def scores(folder: str, others: int) -> Any:
        found = []
        with Memory(tmp_path / folder, 1 << 20) as memory:
            anna, ben = (memory.namespaces.opened_by(key).id for key in KEYS)
            recall = Recall(memory.episodes, rows=rows)
            memory.episodes.add(anna, [NewEpisode("ferns for zebras")] * others)
            memory.episodes.add(ben, said(0, count))
            found += [recall.search(ben, query) for query in queries]
            memory.episodes.add(anna, [NewEpisode("number 7 of the ferns " * 9)] * others)
            memory.episodes.add(ben, said(count, count + 2))
            found += [recall.search(ben, query) for query in queries]
        return [[(one.episode.text, one.score, one.why) for one in of] for of in found]

    alone = scores("alone", 0)
    assert alone[0]
    assert alone[2] == alone[5] == []
    assert scores("beside", 400) == alone


NAMES = (
    "../told",
    "../../../../etc/passwd",
    "a/../b",
    "a//b",
    ".",
    "..",
    "%2e%2e%2ftold",
    "caf\u00e9",
    "cafe\u0301",
    "\u212b",  # the Angstrom sign, which normalises to the next
    "\u00c5",
    "TOLD",
    "ｔｏｌｄ",
    "ı",
    "%",
    "_",
    "told*",
    "' or 1=1 --",
    '"; drop table sessions; --',
    "?namespace=local",
    "#",
    "x" * 128,
)


def raw(server: RunningServer, method: str, target: str, key: str, body: Any = None) -> Any:
    """One request whose target nobody has tidied up; status and JSON."""
    address = httpx.URL(server.url)
    connection = http.client.HTTPConnection(address.host, address.port or 80, timeout=60)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    connection.request(method, target, json.dumps(body) if body is not None else None, headers)
    reply = connection.getresponse()
    content = reply.read().decode()
    connection.close()
    return reply.status, content


@pytest.mark.parametrize("name", NAMES)
def test_a_sessions_name_is_a_name_and_nothing_else(
    server: RunningServer, keys: tuple[Asking, Asking], name: str
) -> None:
    anna, ben = keys
    anna.chat(f"the quokka of {name}", session=name)
    target = f"/v1/memory/sessions/{quote(name, safe='')}"
    for spelled in (target, f"/v1/memory/sessions/{quote(name, safe='/.')}"):
        status, content = raw(server, "GET", spelled, "ben")
        assert "quokka" not in content
        assert status in (400, 404)
    assert raw(server, "POST", target, "ben", {"paused": True})[0] == 200
    status, content = raw(server, "GET", target, "anna")
    assert (status, json.loads(content)["name"]) == (200, name)
    assert not json.loads(content)["paused"]
    assert json.loads(content)["messages"][0]["content"] == f"the quokka of {name}"
    assert ben.memory("forget", session=name)["episodes"] == 0
    assert raw(server, "GET", target, "anna") == (status, content)
    names = [s["name"] for s in anna.memory("sessions?limit=200")["data"]]
    assert names.count(name) == 1


@pytest.mark.parametrize("name", ["", "\x00", "a\nb", "\u202etold", "\u200b", "\ud800", "x" * 129])
def test_what_is_no_name(server: RunningServer, name: str) -> None:
    for path, body in (
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}], "session": name}),
        ("/v1/memory/forget", {"session": name, "episodes": []}),
    ):
        status, content = raw(server, "POST", path, "ben", body)
        assert status == 400, content


def test_what_is_anothers_is_as_what_is_not_there(keys: tuple[Asking, Asking]) -> None:
    anna, ben = keys
    anna.chat("the quokka sleeps in box 5", session="only annas")
    (hers,) = anna.memory("sessions/only annas")["messages"][0]["episodes"]
    nobodys = "0123456789abcdef" * 2

    def told(method: str, path: str, mark: str, **body: Any) -> tuple[int, str]:
        text = json.dumps(body).replace("MARK", mark)
        reply = ben(method, path.replace("MARK", mark), **json.loads(text))
        return reply.status_code, reply.text.replace(mark, "MARK")

    asked: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", "/v1/memory/episodes/MARK", {}),
        ("GET", "/v1/memory/episodes?after=MARK", {}),
        ("POST", "/v1/memory/forget", {"json": {"episodes": ["MARK"]}}),
        ("POST", "/v1/memory/forget", {"json": {"episodes": ["MARK"], "dry_run": True}}),
        ("POST", "/v1/memory/forget", {"json": {"episodes": ["MARK"], "query": "quokka"}}),
    ]
    for method, path, body in asked:
        assert told(method, path, hers, **body) == told(method, path, nobodys, **body)
    for method, path, body in (
        ("GET", "/v1/memory/sessions/MARK", {}),
        ("GET", "/v1/memory/sessions?after=MARK", {}),
        ("GET", "/v1/memory/episodes?session=MARK", {}),
        ("POST", "/v1/memory/forget", {"json": {"session": "MARK", "dry_run": True}}),
    ):
        assert told(method, path, "only annas", **body) == told(method, path, "nobodys own", **body)
    # Beside one's own it is not taken along.
    ben.chat("the walrus sleeps in box 6", session="only bens")
    (his,) = ben.memory("sessions/only bens")["messages"][0]["episodes"]
    receipt = ben.memory("forget", episodes=[hers, his])
    assert (receipt["episodes"], receipt["messages"]) == (1, 1)
    assert anna.memory(f"episodes/{hers}")["text"] == "the quokka sleeps in box 5"


def test_nothing_in_a_request_chooses_a_namespace(
    server: RunningServer, keys: tuple[Asking, Asking]
) -> None:
    anna, ben = keys
    anna.memory("episodes", text="the quokka has a drum", source="annas book")
    memory = server.engine.llm.memory
    assert memory is not None
    hers = memory.namespaces.opened_by("anna")
    for given in (hers.name, "local"):
        for name in ("namespace", "everlong"):
            for path, body in (
                ("/v1/memory/search", {"query": "quokka"}),
                ("/v1/memory/forget", {"query": "quokka"}),
                ("/v1/memory/sessions/s", {"paused": True}),
                ("/v1/chat/completions", {"messages": [{"role": "user", "content": "quokka"}]}),
                ("/v1/completions", {"prompt": "quokka"}),
            ):
                for value in (given, {"memory": {"namespace": given}}):
                    assert ben("POST", path, json=body | {name: value}).status_code == 400
            headers = {
                f"X-{name}": given,
                "OpenAI-Organization": given,
                "Cookie": f"{name}={given}",
            }
            reply = ben("GET", f"/v1/memory/episodes?{name}={given}", headers=headers)
            assert not any("quokka" in one["text"] for one in reply.json()["data"])
    ignored = {"user": hers.name, "metadata": {"namespace": hers.name}, "store": True}
    reply = ben.chat("who has a drum", session="ignored", **ignored)
    assert reply["everlong"]["memory"]["recalled"] == []
    assert not any("quokka" in text for text in ben.seen)
    # Bundles are written for one's own only, and paths are not asked for.
    for path in ("import", "replace_key", "export", "operations"):
        body = {"path": "/tmp/x", "old": "anna", "new": "ben"}
        assert ben("POST", f"/v1/memory/{path}", json=body).status_code in (404, 405)


def test_what_one_cannot_have_remembered_stops_nothing_of_the_other(
    server: RunningServer, keys: tuple[Asking, Asking]
) -> None:
    """Texts of all are given their vectors by one thread, in order."""
    anna, ben = keys
    for seconds in (1e300, 1e12):
        late = {"text": "the walrus is late", "source": "never", "time": seconds}
        refused = ben("POST", "/v1/memory/episodes", json=late)
        assert refused.status_code == 400
        assert "years 1 to 9999" in refused.text
    anna.memory("episodes", text="the quokka is early", source="today", time=253e9)
    half = "the walrus \ud800"
    refused_bodies: list[tuple[str, dict[str, Any]]] = [
        ("/v1/memory/episodes", {"text": half, "source": "half"}),
        ("/v1/memory/search", {"query": half}),
        ("/v1/memory/forget", {"source": half}),
        ("/v1/memory/forget", {"session": half}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": half}], "session": "h"}),
    ]
    for path, body in refused_bodies:
        status, content = raw(server, "POST", path, "ben", body)
        assert status == 400, content
    llm = server.engine.llm
    assert llm.memory is not None
    recall = Recall(llm.memory.episodes, ModelEmbedder(llm))
    while recall.embed_some():
        pass
    owner = llm.memory.namespaces.opened_by("anna")
    found = recall.search(owner.id, "is the quokka early")[0]
    assert found.episode.text == "the quokka is early"
    assert found.why["meaning"] > 0


def test_requests_of_two_keys_on_one_connection(
    server: RunningServer, keys: tuple[Asking, Asking]
) -> None:
    """As a proxy sends them: one after the other, before the first is answered."""
    anna, _ = keys
    anna.memory("episodes", text="the quokka has a kite", source="annas book")

    def sent(*requests: bytes) -> list[str]:
        """The answers; what is not answered within two seconds is waited for no longer."""
        address = (httpx.URL(server.url).host, httpx.URL(server.url).port or 80)
        got = b""
        with socket.create_connection(address, timeout=2) as connection, suppress(TimeoutError):
            connection.sendall(b"".join(requests))
            while part := connection.recv(1 << 16):
                got += part
        return got.decode().split("HTTP/1.1 ")[1:]

    def search(key: str | None, *more: str, body: str = '{"query": "kite"}') -> bytes:
        lines = ["POST /v1/memory/search HTTP/1.1", "Host: localhost", *more]
        lines += ["Content-Type: application/json"]
        if key is not None:
            lines.append(f"Authorization: Bearer {key}")
        if not any(line.startswith("Content-Length") for line in more):
            lines.append(f"Content-Length: {len(body)}")
        return "\r\n".join([*lines, "", body]).encode()

    end = "Connection: close"
    answers = sent(search("anna"), search("ben"), search("anna"), search("ben", end))
    assert [answer[:3] for answer in answers] == ["200"] * 4
    assert ["quokka" in answer for answer in answers] == [True, False, True, False]
    for requests in (
        (search("anna", body="{}"), search(None, end)),
        # What one takes for a body and another for a request.
        (search("ben", "Transfer-Encoding: chunked", body="0\r\n\r\n"), search(None, end)),
        (search("ben", "Content-Length: 0", "Content-Length: 17"), search(None, end)),
        (search("ben", "Content-Length: 0"), search(None, end)),
        (search("ben", "Transfer-Encoding : chunked"), search(None, end)),
    ):
        answers = sent(*requests)
        assert answers
        assert not any("quokka" in answer for answer in answers)
        assert [answer[:3] for answer in answers[1:]] in ([], ["400"], ["401"])


def test_metrics_name_nobody(keys: tuple[Asking, Asking]) -> None:
    anna, ben = keys
    anna.chat("the quokka counts", session="annas session")
    text = ben("GET", "/metrics").text
    assert set(re.findall(r'(\w+)="', text)) == {"model_name", "le", "finished_reason"}
    for word in ("anna", "ben", "quokka", "session", "key-"):
        assert word not in text


def test_forgetting_takes_nothing_from_the_other(keys: tuple[Asking, Asking]) -> None:
    anna, ben = keys
    for ask in (anna, ben):
        ask.chat(f"the walrus reads {LONG}", session="both")
        ask.memory("episodes", text="the walrus reads", source="both")
    kept = anna.memory("sessions/both"), anna.memory("episodes?source=both")
    for conditions in ({"session": "both"}, {"source": "both"}, {"query": "walrus"}):
        ben.memory("forget", **conditions)
    ben.memory("forget", everything=True)
    assert ben.memory("sessions")["data"] == ben.memory("episodes")["data"] == []
    assert (anna.memory("sessions/both"), anna.memory("episodes?source=both")) == kept
    assert anna.memory("search", query="walrus")["data"]
    assert cached(anna.chat("and then?", session="both")) >= 64
    # Not even the beginning of a block that is not full, of which the disk has nothing.
    first, again = (anna.chat(f"a tail {LONG}") for _ in range(2))
    assert cached(again) == first["usage"]["prompt_tokens"] - 1
    ben.memory("episodes", text="the walrus writes", source="both")
    ben.memory("forget", source="both")
    assert anna.chat(f"a tail {LONG}")["usage"] == again["usage"]
    assert cached(ben.chat(f"the walrus reads {LONG}", session="both")) == 0


def test_all_may_forget_at_the_same_time(
    server: RunningServer, keys: tuple[Asking, Asking]
) -> None:
    """Nobody's forgetting is left half done, and requests of the other go on."""
    anna, ben = keys
    anna.chat(LONG, session="goes on")

    def forget(ask: Asking, n: int) -> None:
        for turn in range(4):
            ask.memory("episodes", text=f"the walrus sings {turn}", source=f"song {n}")
            assert ask.memory("forget", source=f"song {n}")["episodes"] == 1

    work = [partial(forget, ben, n) for n in range(STREAMS)]
    work += [partial(anna.chat, f"{n} {LONG}") for n in range(STREAMS // 2)]
    work += [partial(anna.chat, f"song {n}", session=f"anna {n}") for n in range(STREAMS // 2)]
    in_parallel(work)
    memory = server.engine.llm.memory
    assert memory is not None
    assert memory.database.rows("select * from forgettings") == []
    assert not any("walrus sings" in e["text"] for e in ben.memory("episodes?limit=200")["data"])


def test_where_room_is_short_nobody_gets_anothers_blocks(tmp_path: Path) -> None:
    """Blocks of both are dropped from memory and from the disk; answers are what they ever are."""
    greedy = SamplingParams(temperature=0, max_tokens=4, ignore_eos=True)
    prompts = [[10 + (seed * 31 + n) % 290 for n in range(200)] for seed in range(24)]
    with tiny_llm(deterministic=True) as llm:
        expected = [done.token_ids for done in llm.generate(prompts, greedy)]
    with (
        Memory(tmp_path, 1 << 20) as memory,
        tiny_llm(deterministic=True, memory=memory, blocks=8) as llm,
    ):
        found = {"anna": 0, "ben": 0}
        for turn in range(3):
            for prompt, answer in zip(prompts, expected, strict=True):
                for key in KEYS:
                    for again in range(2):
                        done = llm.generate([prompt], greedy, namespace=key)[0]
                        assert done.token_ids == answer
                        if not again and not turn:
                            assert done.usage.cached_tokens == 0
                        found[key] += done.usage.cached_tokens
            memory.blocks.flush()
        assert memory.blocks.stats().dropped > 0
        assert min(found.values()) > 0
