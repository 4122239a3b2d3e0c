"""What people ask of a memory: by the command line, by the page, by REST; one function each.

Arguments and answers are JSON, so that they can cross a socket (``owner.py``) and HTTP alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from everlong.errors import RequestError
from everlong.memory.bundle import read_bundle, write_bundle
from everlong.memory.episodes import Episode, NewEpisode, passages
from everlong.memory.forget import Selection
from everlong.memory.namespaces import Namespace
from everlong.memory.sessions import Session

if TYPE_CHECKING:
    from everlong.memory.memory import Memory

MOST_ON_A_PAGE = 200


def perform(
    memory: Memory, namespace: Namespace, operation: str, arguments: Mapping[str, Any]
) -> Any:
    """Carry out an operation of ``OPERATIONS`` in a namespace.

    Raises:
        RequestError: the operation or an argument is unknown, or cannot be.
    """
    if operation not in OPERATIONS:
        raise RequestError(f"{operation!r} is none of: {', '.join(OPERATIONS)}")
    return OPERATIONS[operation](memory, namespace, **arguments)


def list_sessions(
    memory: Memory, namespace: Namespace, limit: int = 50, after: str | None = None
) -> dict[str, Any]:
    """Sessions, the one used last first; ``next`` is the ``after`` of the next page."""
    before = None
    if after is not None:
        last = _session(memory, namespace, after)
        before = last.updated, last.id
    page = memory.sessions.page(namespace.id, limit=_checked(limit), before=before)
    return {
        "data": [_told_session(memory, session) for session in page],
        "next": page[-1].name if len(page) == limit else None,
    }


def show_session(memory: Memory, namespace: Namespace, name: str) -> dict[str, Any]:
    """A session with its messages, and what was recalled for each."""
    session = _session(memory, namespace, name)
    episodes = memory.sessions.episodes(session)
    messages = []
    for message in memory.sessions.messages(session):
        told = dict(message.body) | {"time": message.told}
        told["episodes"] = [one.hex() for one in episodes.get(message.place, ())]
        told["recalled"] = [{"id": one.hex(), "score": score} for one, score in message.recalled]
        messages.append(told)
    return _told_session(memory, session) | {"messages": messages}


def pause_session(memory: Memory, namespace: Namespace, name: str, paused: bool) -> dict[str, Any]:
    """Have what is said in a session from now on remembered, or not; it is made if need be."""
    session = memory.sessions.open(namespace.id, name)
    memory.sessions.pause(session, bool(paused))
    return _told_session(memory, _session(memory, namespace, name))


def list_episodes(
    memory: Memory,
    namespace: Namespace,
    limit: int = 50,
    after: str | None = None,
    session: str | None = None,
    source: str | None = None,
) -> dict[str, Any]:
    """Episodes, the latest first; ``next`` is the ``after`` of the next page."""
    before = None if after is None else _episode(memory, namespace, after).number
    page = memory.episodes.page(
        namespace.id, limit=_checked(limit), before=before, session=session, source=source
    )
    return {
        "data": [told_episode(episode) for episode in page],
        "next": page[-1].id.hex() if len(page) == limit else None,
    }


def show_episode(memory: Memory, namespace: Namespace, id: str, around: int = 3) -> dict[str, Any]:
    """An episode, and those told before and after it."""
    episode = _episode(memory, namespace, id)
    context = memory.episodes.around(namespace.id, episode, min(max(around, 0), 50))
    return told_episode(episode) | {"context": [told_episode(one) for one in context]}


def search(memory: Memory, namespace: Namespace, query: str, limit: int = 10) -> dict[str, Any]:
    """Episodes that are about something, the best first, with why they were found."""
    found = memory.recall.search(namespace.id, query, limit=_checked(limit))
    return {
        "data": [
            told_episode(one.episode) | {"score": one.score, "why": dict(one.why)} for one in found
        ]
    }


def remember(
    memory: Memory,
    namespace: Namespace,
    text: str,
    source: str,
    speaker: str = "",
    time: float = 0.0,
) -> dict[str, Any]:
    """Remember a document, in passages."""
    if not source or source == "chat":
        raise RequestError(f"source is the document's name, not {source!r}")
    memory.check_room(namespace.id)
    new = [NewEpisode(part, source=source, speaker=speaker, time=time) for part in passages(text)]
    added = memory.episodes.add(namespace.id, new)
    return {"data": [told_episode(episode) for episode in added]}


def forget(
    memory: Memory,
    namespace: Namespace,
    episodes: list[str] | None = None,
    dry_run: bool = False,
    **conditions: Any,
) -> dict[str, Any]:
    """Forget what fits all conditions (see ``Selection``); with ``dry_run`` only say what does."""
    known = {"session", "source", "query", "since", "until", "everything"}
    if unknown := sorted(set(conditions) - known):
        raise RequestError(
            f"{unknown[0]!r} is no condition; there are: episodes, {', '.join(sorted(known))}"
        )
    ids = tuple(_identity(one) for one in episodes or ())
    if episodes is not None and not memory.episodes.get(namespace.id, ids):
        raise RequestError("none of these episodes is remembered")
    selection = Selection(episodes=ids, **conditions)
    if dry_run:
        found = memory.forgetting.selected(namespace, selection)
        return {"episodes": len(found), "data": [told_episode(e) for e in found[:MOST_ON_A_PAGE]]}
    return asdict(memory.forget(namespace, selection))


def stats(memory: Memory, namespace: Namespace) -> dict[str, Any]:
    """What a namespace remembers, and what the store of blocks has for all of them."""
    sessions, messages = memory.sessions.count(namespace.id)
    blocks = memory.blocks.stats()
    return {
        "namespace": namespace.name,
        "sessions": sessions,
        "messages": messages,
        "episodes": memory.episodes.count(namespace.id),
        "text_bytes": memory.namespaces.used_by(namespace.id),
        "block_bytes": memory.blocks.used_by(namespace.id),
        "quota": memory.quota,
        "blocks": asdict(blocks),
    }


def verify(memory: Memory, namespace: Namespace) -> dict[str, Any]:
    """Read every block, and take out those that are damaged; check the file of records."""
    blocks = memory.blocks.stats().blocks
    damaged = memory.blocks.verify()
    return {"blocks": blocks, "damaged": damaged, "records": memory.database.check()}


def replace_key(memory: Memory, namespace: Namespace, old: str, new: str) -> dict[str, Any]:
    """Have a new API key open what an old one opened; from the server's next start on."""
    found = memory.namespaces.replace(old, new)
    return {"namespace": found.name}


def export(memory: Memory, namespace: Namespace, path: str) -> dict[str, int]:
    """Write a bundle of texts to a new file."""
    return write_bundle(memory, namespace, Path(path))


def take_in(memory: Memory, namespace: Namespace, path: str) -> dict[str, int]:
    """Read a bundle."""
    return read_bundle(memory, namespace, Path(path))


OPERATIONS: dict[str, Callable[..., Any]] = {
    "list_sessions": list_sessions,
    "show_session": show_session,
    "pause_session": pause_session,
    "list_episodes": list_episodes,
    "show_episode": show_episode,
    "search": search,
    "remember": remember,
    "forget": forget,
    "stats": stats,
    "verify": verify,
    "replace_key": replace_key,
    "export": export,
    "import": take_in,
}


def told_episode(episode: Episode) -> dict[str, Any]:
    """An episode as JSON."""
    return {
        "id": episode.id.hex(),
        "session": episode.session,
        "source": episode.source,
        "speaker": episode.speaker,
        "time": episode.time,
        "text": episode.text,
    }


def _told_session(memory: Memory, session: Session) -> dict[str, Any]:
    messages, first = memory.sessions.glance(session)
    return {
        "name": session.name,
        "title": " ".join(first.split())[:80],
        "messages": messages,
        "created": session.created,
        "updated": session.updated,
        "paused": session.paused,
        "origin": session.origin,
    }


def _session(memory: Memory, namespace: Namespace, name: str) -> Session:
    session = memory.sessions.find(namespace.id, name)
    if session is None:
        raise RequestError(f"there is no session {name!r}; list_sessions tells which there are")
    return session


def _episode(memory: Memory, namespace: Namespace, id: str) -> Episode:
    found = memory.episodes.get(namespace.id, [_identity(id)])
    if not found:
        raise RequestError(f"there is no episode {id!r}")
    return found[0]


def _identity(id: str) -> bytes:
    try:
        return bytes.fromhex(id)
    except (TypeError, ValueError):
        raise RequestError(f"an episode's id has 32 hexadecimal digits, not {id!r}") from None


def _checked(limit: int) -> int:
    if not 1 <= limit <= MOST_ON_A_PAGE:
        raise RequestError(f"limit is from 1 to {MOST_ON_A_PAGE}, not {limit}")
    return limit
