"""Operations as people use them: here, over the owner's socket, and from bundles."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client
from pathlib import Path
from typing import Any

import pytest

from everlong.errors import (
    ConfigError,
    DamagedError,
    QuotaError,
    RequestError,
    StoreError,
)
from everlong.memory.bundle import read_bundle, write_bundle
from everlong.memory.episodes import NewEpisode, passages
from everlong.memory.memory import Memory, bytes_of
from everlong.memory.operations import OPERATIONS, perform
from everlong.memory.owner import asking, owned
from everlong.memory.sessions import Message

SIZE = 1 << 20


def fill(memory: Memory, name: str = "local") -> None:
    """Two sessions and a document."""
    namespace = memory.namespace(name)
    for session, texts in (("one", ["my cat is called Momo", "a fine name"]), ("two", ["hello"])):
        opened = memory.sessions.open(namespace.id, session)
        for n, text in enumerate(texts):
            role = ("user", "assistant")[n % 2]
            (kept,) = memory.sessions.append(
                opened, [Message(0, {"role": role, "content": text}, told=1000.0 + n)]
            )
            new = [NewEpisode(text, session, speaker=role, time=1000.0 + n)]
            (episode,) = memory.episodes.add(namespace.id, new)
            memory.sessions.remembered_as(opened, kept.place, [episode.id])
    text = "The handbook says: water the ferns."
    perform(memory, namespace, "remember", {"text": text, "source": "handbook.md"})


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    with owned(tmp_path / "memory", SIZE) as opened:
        fill(opened)
        yield opened


def ask(memory: Memory, operation: str, **arguments: Any) -> Any:
    told = perform(memory, memory.namespace(), operation, arguments)
    return json.loads(json.dumps(told))


def test_sessions_and_episodes_are_listed_in_pages(memory: Memory) -> None:
    first = ask(memory, "list_sessions", limit=1)
    assert [s["name"] for s in first["data"]] == ["two"]
    second = ask(memory, "list_sessions", limit=1, after=first["next"])
    assert second["data"][0]["title"] == "my cat is called Momo"
    assert second["data"][0]["messages"] == 2
    assert ask(memory, "list_sessions", limit=1, after=second["next"]) == {"data": [], "next": None}
    texts: list[str] = []
    after = None
    while True:
        page = ask(memory, "list_episodes", limit=2, after=after)
        texts += [e["text"] for e in page["data"]]
        if (after := page["next"]) is None:
            break
    assert texts[0].startswith("The handbook")
    assert texts[-1] == "my cat is called Momo"


def test_a_text_is_shown_where_it_was_said(memory: Memory) -> None:
    (momo,) = (e for e in ask(memory, "list_episodes")["data"] if "Momo" in e["text"])
    shown = ask(memory, "show_episode", id=momo["id"])
    assert [e["text"] for e in shown["context"]] == ["my cat is called Momo", "a fine name"]
    session = ask(memory, "show_session", name="one")
    assert [m["role"] for m in session["messages"]] == ["user", "assistant"]
    assert session["messages"][0]["episodes"] == [momo["id"]]


def test_forgetting_tells_first_and_then_what_went(memory: Memory) -> None:
    would = ask(memory, "forget", query="cat", dry_run=True)
    assert would["episodes"] == 1
    assert ask(memory, "stats")["episodes"] == 4
    receipt = ask(memory, "forget", query="cat")
    assert (receipt["episodes"], receipt["messages"]) == (1, 1)
    assert ask(memory, "stats")["episodes"] == 3
    assert len(ask(memory, "show_session", name="one")["messages"]) == 1
    assert ask(memory, "forget", source="handbook.md")["episodes"] == 1


@pytest.mark.parametrize(
    ("operation", "arguments", "message"),
    [
        ("burn", {}, "'burn' is none of: list_sessions"),
        ("show_session", {"name": "three"}, "there is no session 'three'"),
        ("show_episode", {"id": "xyz"}, "32 hexadecimal digits, not 'xyz'"),
        ("show_episode", {"id": "00" * 16}, "there is no episode"),
        ("list_sessions", {"limit": 0}, "from 1 to 200, not 0"),
        ("forget", {}, "say what is forgotten"),
        ("forget", {"colour": "red"}, "'colour' is no condition"),
        ("forget", {"episodes": ["00" * 16]}, "none of these episodes"),
        ("remember", {"text": "x", "source": "chat"}, "the document's name, not 'chat'"),
        ("import", {"path": "/nowhere/x.zip"}, "cannot be read"),
    ],
)
def test_what_cannot_be_done(
    memory: Memory, operation: str, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        ask(memory, operation, **arguments)
    assert ask(memory, "stats")["episodes"] == 4


def test_other_processes_ask_the_owner(memory: Memory) -> None:
    source = (
        "import sys, json, pathlib\n"
        "from everlong.memory.owner import asking\n"
        "with asking(pathlib.Path(sys.argv[1]), 1 << 20) as ask:\n"
        "    print(json.dumps([ask('stats'), ask('forget', query='cat'), ask('stats')]))\n"
        "    try:\n"
        "        ask('show_session', name='three')\n"
        "    except Exception as error:\n"
        "        print(type(error).__name__, error)\n"
    )
    command = [sys.executable, "-c", source, str(memory.folder)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    before, receipt, after = json.loads(told[0])
    assert (before["episodes"], receipt["episodes"], after["episodes"]) == (4, 1, 3)
    assert told[1].startswith("RequestError there is no session 'three'")
    assert ask(memory, "stats")["episodes"] == 3


def test_nobody_without_the_secret_is_answered(memory: Memory) -> None:
    file = memory.folder / "owner.json"
    assert file.stat().st_mode & 0o777 == 0o600
    address = json.loads(file.read_text())["address"]
    for key in (b"wrong", b"\0" * 32):
        with pytest.raises(AuthenticationError):
            Client(address, authkey=key)
    with asking(memory.folder, SIZE) as remote:
        assert remote("stats")["episodes"] == 4


def test_who_connects_and_says_nothing_keeps_nobody_waiting(memory: Memory) -> None:
    address = json.loads((memory.folder / "owner.json").read_text())["address"]
    silent = Client(address)
    with asking(memory.folder, SIZE) as remote:
        assert remote("stats")["episodes"] == 4
    silent.close()


def test_an_owner_that_does_not_answer_is_named(tmp_path: Path) -> None:
    with (
        Memory(tmp_path, SIZE),
        pytest.raises(StoreError, match="is held by process"),
        asking(tmp_path, SIZE),
    ):
        pass
    (tmp_path / "owner.json").write_text("{")  # left by a process that was killed
    with asking(tmp_path, SIZE) as here:
        assert here("stats")["sessions"] == 0


def test_a_bundle_is_taken_in_elsewhere_and_only_once(memory: Memory, tmp_path: Path) -> None:
    path = tmp_path / "memory.zip"
    counts = ask(memory, "export", path=str(path))
    assert counts == {"sessions": 2, "messages": 3, "episodes": 4}
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(RequestError, match="exists"):
        ask(memory, "export", path=str(path))
    with Memory(tmp_path / "other", SIZE) as other:
        namespace = other.namespace("somebody")
        assert read_bundle(other, namespace, path) == counts
        assert read_bundle(other, namespace, path) == dict.fromkeys(counts, 0)

        def told(of: Memory, owner: Any) -> list[tuple[str, int, str, str, float]]:
            episodes = of.episodes.all(owner.id)
            return [(e.text, e.place, e.session, e.speaker, e.time) for e in episodes]

        assert told(other, namespace) == told(memory, memory.namespace())
        # What came with its session goes from it, too.
        perform(other, namespace, "forget", {"query": "Momo"})
        shown = perform(other, namespace, "show_session", {"name": "one"})
        assert [m["content"] for m in shown["messages"]] == ["a fine name"]


def test_files_that_are_no_bundles(memory: Memory, tmp_path: Path) -> None:
    good = tmp_path / "good.zip"
    write_bundle(memory, memory.namespace(), good)
    with zipfile.ZipFile(good) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}

    def bundle(**changed: bytes | None) -> Path:
        path = tmp_path / "changed.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in parts.items():
                new = changed.get(name.partition(".")[0], content)
                if new is not None:
                    archive.writestr(name, new)
        return path

    manifests = (None, b"[]", b'{"format": "other", "version": 1}')
    junk = tmp_path / "junk.zip"
    junk.write_bytes(good.read_bytes()[:200])
    lines = (b"{", b"[]", b'{"name": "x"}', b'{"text": 3}', b"\xff")
    with Memory(tmp_path / "other", SIZE) as other:
        with pytest.raises(DamagedError, match="no whole bundle"):
            read_bundle(other, other.namespace(), junk)
        for manifest in manifests:
            with pytest.raises(DamagedError, match="bundle of a memory"):
                read_bundle(other, other.namespace(), bundle(manifest=manifest))
        for line in lines:
            for part in ("sessions", "episodes"):
                with pytest.raises(DamagedError, match="no whole bundle"):
                    read_bundle(other, other.namespace(), bundle(**{part: line + b"\n"}))
        later = bundle(manifest=b'{"format": "everlong-memory", "version": 99}')
        with pytest.raises(RequestError, match="version 99"):
            read_bundle(other, other.namespace(), later)


def test_every_operation_stays_in_its_namespace(memory: Memory, tmp_path: Path) -> None:
    stranger = memory.namespace("stranger")
    (momo,) = (e for e in ask(memory, "list_episodes")["data"] if "Momo" in e["text"])

    def strange(operation: str, **arguments: Any) -> str:
        try:
            return json.dumps(perform(memory, stranger, operation, arguments))
        except RequestError as error:
            return str(error)

    path = tmp_path / "bundle.zip"
    told = [
        strange("list_sessions"),
        strange("show_session", name="one"),
        strange("pause_session", name="one", paused=True),
        strange("list_episodes"),
        strange("show_episode", id=momo["id"]),
        strange("search", query="cat Momo"),
        strange("forget", episodes=[momo["id"]]),
        strange("forget", query="cat"),
        strange("forget", everything=True),
        strange("stats"),
        strange("export", path=str(path)),
    ]
    assert not any("Momo" in text for text in told)
    with zipfile.ZipFile(path) as archive:
        assert not any(b"Momo" in archive.read(name) for name in archive.namelist())
    assert ask(memory, "stats")["episodes"] == 4
    assert not ask(memory, "show_session", name="one")["paused"]
    assert set(OPERATIONS) >= {"verify", "import", "remember"}


def test_a_new_key_opens_what_the_old_one_opened(memory: Memory) -> None:
    before = memory.namespaces.opened_by("old")
    assert ask(memory, "replace_key", old="old", new="new") == {"namespace": before.name}
    assert memory.namespaces.opened_by("new") == before
    assert memory.namespaces.opened_by("old") != before
    with pytest.raises(RequestError, match="the old key opens nothing"):
        ask(memory, "replace_key", old="never", new="other")
    with pytest.raises(RequestError, match="a namespace of its own"):
        ask(memory, "replace_key", old="new", new="old")
    assert b"old" not in (memory.folder / "records.sqlite").read_bytes()


@pytest.mark.parametrize(
    ("size", "expected"),
    [("16GB", 16 * 10**9), ("500 mb", 5 * 10**8), ("1.5k", 1500), ("8GiB", 8 << 30), ("7", 7)],
)
def test_sizes(size: str, expected: int) -> None:
    assert bytes_of(size) == expected


@pytest.mark.parametrize("size", ["", "GB", "-1GB", "16 eggs", "1e9"])
def test_what_is_no_size(size: str) -> None:
    with pytest.raises(ConfigError, match="such as 16GB"):
        bytes_of(size)


def test_passages_end_where_sentences_do() -> None:
    sentences = [f"Sentence {n} has some words in it." for n in range(200)]
    text = "\n\n".join(" ".join(sentences[n : n + 20]) for n in range(0, 200, 20))
    parts = passages(text, 50)
    assert " ".join(" ".join(parts).split()) == " ".join(text.split())
    assert all(len(part.split()) <= 50 and part.endswith(".") for part in parts)
    assert passages("short") == ["short"]
    assert passages("  ") == []
    long = " ".join(["word"] * 450)
    assert [len(part.split()) for part in passages(long)] == [200, 200, 50]


def test_a_namespace_takes_in_no_more_than_its_quota(tmp_path: Path) -> None:
    with Memory(tmp_path / "full", SIZE) as source:
        for n in range(30):
            fill(source, f"n{n}")
        fill(source)
        write_bundle(source, source.namespace(), tmp_path / "bundle.zip")
    with Memory(tmp_path / "memory", SIZE, quota=300) as memory:
        fill(memory)
        fill(memory, "another")
        told = ask(memory, "stats")
        assert (told["text_bytes"], told["quota"]) == (
            memory.namespaces.used_by(memory.namespace().id),
            300,
        )
        document = {"text": "word " * 60, "source": "long.md"}
        ask(memory, "remember", **document)  # begun below it
        with pytest.raises(QuotaError, match=r"300 are allowed; forget something"):
            ask(memory, "remember", **document)
        with pytest.raises(QuotaError):
            ask(memory, "import", path=str(tmp_path / "bundle.zip"))
        other = memory.namespace("another")
        perform(memory, other, "remember", document)  # has room of its own
        assert ask(memory, "forget", source="long.md")["episodes"] == 1
        ask(memory, "remember", **document)
    with pytest.raises(ConfigError, match="quota is 0 bytes"):
        Memory(tmp_path / "none", SIZE, quota=0)
