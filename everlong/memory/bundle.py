"""Bundles: what a namespace remembers as a file that another machine, or another model, takes in.

A bundle is a zip archive of JSON: texts and what is known of them, no keys and values; those are
computed again when they are needed. Whoever takes one in trusts nothing of it: every field is
checked, sizes are bounded, and what is there already is not taken twice.
"""

from __future__ import annotations

import json
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from everlong.errors import DamagedError, RequestError
from everlong.memory.episodes import NewEpisode, checked_time
from everlong.memory.namespaces import Namespace
from everlong.memory.sessions import Message

if TYPE_CHECKING:
    from everlong.memory.memory import Memory

FORMAT = 1
_MOST_LINE = 16 << 20
"""Bytes of one record."""
_PAGE = 500


def write_bundle(memory: Memory, namespace: Namespace, path: Path) -> dict[str, int]:
    """Write what a namespace remembers; returns how many sessions, messages and episodes.

    Raises:
        RequestError: the file exists.
        OSError: it cannot be written; nothing is left then.
    """
    counts = {"sessions": 0, "messages": 0, "episodes": 0}
    try:
        archive = zipfile.ZipFile(path, "x", zipfile.ZIP_DEFLATED)
    except FileExistsError:
        raise RequestError(f"{path} exists; name another file") from None
    try:
        path.chmod(0o600)
        with archive:
            with archive.open("sessions.jsonl", "w") as file:
                for record in _sessions(memory, namespace):
                    counts["sessions"] += 1
                    counts["messages"] += len(record["messages"])
                    _write(file, record)
            with archive.open("episodes.jsonl", "w") as file:
                for record in _episodes(memory, namespace):
                    counts["episodes"] += 1
                    _write(file, record)
            head = {"format": "everlong-memory", "version": FORMAT, "written": time.time()}
            archive.writestr("manifest.json", json.dumps(head | counts))
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return counts


def read_bundle(memory: Memory, namespace: Namespace, path: Path) -> dict[str, int]:
    """Take in a bundle; returns how many sessions, messages and episodes were new.

    A session whose name is taken, and an episode whose text, source, speaker and time are there
    already, are left as they are.

    Raises:
        DamagedError: the file is no bundle, or not whole; what came before the damage is kept.
        RequestError: it cannot be read, or was written by a later version.
        QuotaError: the namespace has what it may have; what came before is kept.
    """
    counts = {"sessions": 0, "messages": 0, "episodes": 0}
    try:
        with zipfile.ZipFile(path) as archive:
            head = json.loads(archive.read("manifest.json"))
            if head["format"] != "everlong-memory":
                raise DamagedError(f"{path} is no bundle of a memory")
            if head["version"] > FORMAT:
                raise RequestError(
                    f"{path} has version {head['version']}, and {FORMAT} is known; use the version "
                    "of Everlong that wrote it"
                )
            with archive.open("sessions.jsonl") as file:
                for record in _records(file, path):
                    added = _add_session(memory, namespace, record)
                    counts["sessions"] += added >= 0
                    counts["messages"] += max(added, 0)
            with archive.open("episodes.jsonl") as file:
                batch: list[NewEpisode] = []
                for record in _records(file, path):
                    batch.append(_episode(record))
                    if len(batch) == _PAGE:
                        counts["episodes"] += _add_episodes(memory, namespace, batch)
                        batch = []
                counts["episodes"] += _add_episodes(memory, namespace, batch)
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError, EOFError) as error:
        if isinstance(error, RequestError):
            raise
        raise DamagedError(f"{path} is no whole bundle of a memory: {error}") from None
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error}") from None
    return counts


def _sessions(memory: Memory, namespace: Namespace) -> Iterator[dict[str, Any]]:
    before = None
    while page := memory.sessions.page(namespace.id, limit=_PAGE, before=before):
        for session in page:
            yield {
                "name": session.name,
                "origin": session.origin,
                "paused": session.paused,
                "messages": [
                    {"body": m.body, "told": m.told} for m in memory.sessions.messages(session)
                ],
            }
        before = page[-1].updated, page[-1].id


def _episodes(memory: Memory, namespace: Namespace) -> Iterator[dict[str, Any]]:
    for episode in memory.episodes.all(namespace.id):
        yield {
            "text": episode.text,
            "session": episode.session,
            "source": episode.source,
            "speaker": episode.speaker,
            "time": episode.time,
        }


def _add_session(memory: Memory, namespace: Namespace, record: dict[str, Any]) -> int:
    """Returns how many messages it brought; -1: the name is taken."""
    name = record["name"]
    if memory.sessions.find(namespace.id, name) is not None:
        return -1
    memory.check_room(namespace.id)
    messages = []
    for message in record["messages"]:
        body = message["body"]
        if not isinstance(body, dict) or not isinstance(body["role"], str):
            raise ValueError("a message has no role")
        messages.append(Message(0, body, told=checked_time(float(message["told"]))))
    session = memory.sessions.open(namespace.id, name, str(record["origin"]))
    memory.sessions.append(session, messages)
    memory.sessions.pause(session, bool(record["paused"]))
    return len(messages)


def _episode(record: dict[str, Any]) -> NewEpisode:
    texts = {name: record[name] for name in ("text", "session", "source", "speaker")}
    if not all(isinstance(text, str) for text in texts.values()):
        raise ValueError("an episode's text, session, source and speaker are texts")
    return NewEpisode(**texts, time=float(record["time"]))


def _add_episodes(memory: Memory, namespace: Namespace, batch: list[NewEpisode]) -> int:
    memory.check_room(namespace.id)
    new = [one for one in batch if not memory.episodes.has(namespace.id, one)]
    added = memory.episodes.add(namespace.id, new)
    # What a message says goes from it, too, when its episode is forgotten.
    for name in {episode.session for episode in added}:
        if (session := memory.sessions.find(namespace.id, name)) is None:
            continue
        for message in memory.sessions.messages(session):
            content = str(message.body.get("content") or "")
            said = [e.id for e in added if e.session == name and e.text in content]
            memory.sessions.remembered_as(session, message.place, said)
    return len(added)


def _records(file: IO[bytes], path: Path) -> Iterator[dict[str, Any]]:
    while line := file.readline(_MOST_LINE + 1):
        if len(line) > _MOST_LINE:
            raise DamagedError(f"{path} has a record of more than {_MOST_LINE:,} bytes")
        record = json.loads(line)
        if not isinstance(record, dict):
            raise ValueError("a record is no object")
        yield record


def _write(file: IO[bytes], record: dict[str, Any]) -> None:
    file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
