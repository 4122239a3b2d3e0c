"""The memory on the command line: list, search, show, forget, export, import, verify, stats.

Where a server or a chat has the memory, it is asked; see ``everlong.memory.owner``.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from everlong.errors import RequestError
from everlong.memory.memory import DEFAULT_SIZE, default_folder
from everlong.memory.owner import Ask, asking


def show_list(
    sessions: bool = True,
    limit: int = 20,
    namespace: str = "local",
    memory: Path | None = None,
    as_json: bool = False,
) -> None:
    """List what is remembered, the latest first.

    Args:
        sessions: list conversations; false: single texts.
        limit: most lines.
        namespace: whose memory.
        memory: folder of the memory.
        as_json: print JSON.
    """
    with _asking(memory) as ask:
        operation = "list_sessions" if sessions else "list_episodes"
        found = ask(operation, namespace, limit=limit)
    if as_json:
        _print_json(found)
    elif not sessions:
        _print_episodes(found["data"])
    else:
        table = Table(box=None, header_style="dim")
        for column in ("session", "used", "messages", "begins with"):
            table.add_column(column)
        for one in found["data"]:
            about = escape(one["title"]) + (" [dim](paused)[/dim]" if one["paused"] else "")
            table.add_row(escape(one["name"]), _when(one["updated"]), str(one["messages"]), about)
        Console().print(table if found["data"] else "nothing is remembered here")


def search(
    query: str,
    limit: int = 10,
    namespace: str = "local",
    memory: Path | None = None,
    as_json: bool = False,
) -> None:
    """Find what was said about something.

    Args:
        query: a question, or words.
        limit: most texts.
        namespace: whose memory.
        memory: folder of the memory.
        as_json: print JSON, with why each was found.
    """
    with _asking(memory) as ask:
        found = ask("search", namespace, query=query, limit=limit)
    _print_json(found) if as_json else _print_episodes(found["data"])


def show(
    name: str, namespace: str = "local", memory: Path | None = None, as_json: bool = False
) -> None:
    """Show a session, or a text with what was said around it.

    Args:
        name: of the session, or the id of the text.
        namespace: whose memory.
        memory: folder of the memory.
        as_json: print JSON.
    """
    is_id = len(name) == 32 and all(c in "0123456789abcdef" for c in name)
    with _asking(memory) as ask:
        if is_id:
            found = ask("show_episode", namespace, id=name)
        else:
            found = ask("show_session", namespace, name=name)
    if as_json:
        _print_json(found)
    elif is_id:
        _print_episodes(found["context"])
    else:
        console = Console(highlight=False)
        for message in found["messages"]:
            console.print(f"[dim]{_when(message['time'])}[/dim] [bold]{message['role']}[/bold]")
            console.print(str(message.get("content") or ""), markup=False)
            if recalled := message["recalled"]:
                ids = ", ".join(one["id"] for one in recalled)
                console.print(f"[dim]recalled: {ids}[/dim]")


def forget(
    episode: str | tuple[str, ...] = (),
    session: str | None = None,
    source: str | None = None,
    query: str | None = None,
    since: str | None = None,
    until: str | None = None,
    everything: bool = False,
    yes: bool = False,
    namespace: str = "local",
    memory: Path | None = None,
) -> None:
    """Forget for good what fits all conditions: texts, and all that was computed from them.

    Args:
        episode: ids of texts, one or a list.
        session: name of a session; alone, all of it goes.
        source: name of a document.
        query: words that are all in a text.
        since: date, such as 2026-11-25 or 2026-11-25T14:30.
        until: date.
        everything: all that the namespace remembers.
        yes: do not ask.
        namespace: whose memory.
        memory: folder of the memory.
    """
    ids = [episode] if isinstance(episode, str) else list(episode)
    conditions: dict[str, Any] = {
        "session": session,
        "source": source,
        "query": query,
        "since": _seconds(since),
        "until": _seconds(until),
        "everything": everything or None,
    }
    given = {name: value for name, value in conditions.items() if value is not None}
    if ids:
        given["episodes"] = ids
    with _asking(memory) as ask:
        found = ask("forget", namespace, dry_run=True, **given)
        if not yes and not _confirmed(found):
            print("nothing is forgotten", file=sys.stderr)
            return
        _print_json(ask("forget", namespace, **given))


def export(path: Path, namespace: str = "local", memory: Path | None = None) -> None:
    """Write what is remembered to a file that another machine, or another model, takes in.

    Args:
        path: new file.
        namespace: whose memory.
        memory: folder of the memory.
    """
    with _asking(memory) as ask:
        _print_json(ask("export", namespace, path=str(path.absolute())))


def take_in(path: Path, namespace: str = "local", memory: Path | None = None) -> None:
    """Take in a file that export wrote.

    Args:
        path: the file.
        namespace: whose memory it becomes.
        memory: folder of the memory.
    """
    with _asking(memory) as ask:
        _print_json(ask("import", namespace, path=str(path.absolute())))


def remember(
    path: Path, source: str | None = None, namespace: str = "local", memory: Path | None = None
) -> None:
    """Remember a text file, in passages.

    Args:
        path: a file in UTF-8.
        source: name under which it is cited; default: the file's.
        namespace: whose memory it becomes.
        memory: folder of the memory.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"{path} cannot be read as text: {error}") from None
    with _asking(memory) as ask:
        added = ask("remember", namespace, text=text, source=source or path.name)
    print(f"{len(added['data'])} passages")


def replace_key(old: str, new: str, memory: Path | None = None) -> None:
    """Have a new API key open what an old one opened, from the server's next start on.

    Args:
        old: the key that was served last.
        new: the key that is served from now on.
        memory: folder of the memory.
    """
    with _asking(memory) as ask:
        _print_json(ask("replace_key", old=old, new=new))


def verify(memory: Path | None = None) -> None:
    """Read everything on the disk and take out what is damaged.

    Args:
        memory: folder of the memory.
    """
    with _asking(memory) as ask:
        _print_json(ask("verify"))


def stats(namespace: str = "local", memory: Path | None = None) -> None:
    """Tell how much is remembered.

    Args:
        namespace: whose memory.
        memory: folder of the memory.
    """
    with _asking(memory) as ask:
        _print_json(ask("stats", namespace))


@contextmanager
def _asking(folder: Path | None) -> Iterator[Ask]:
    folder = (folder or default_folder()).expanduser()
    if not folder.is_dir():
        raise RequestError(
            f"there is no memory in {folder}; name its folder with --memory, or make one with "
            "everlong chat"
        )
    with asking(folder, DEFAULT_SIZE) as ask:
        yield ask


def _confirmed(found: Mapping[str, Any]) -> bool:
    _print_episodes(found["data"])
    if not sys.stdin.isatty():
        raise RequestError("nobody can be asked here; say --yes true to forget without asking")
    return input(f"Forget these {found['episodes']} for good? [y/N] ").strip().lower() == "y"


def _print_episodes(episodes: list[dict[str, Any]]) -> None:
    console = Console(highlight=False)
    if not episodes:
        console.print("nothing was found")
    for one in episodes:
        score = f" {one['score']:.2f}" if "score" in one else ""
        source = one["session"] or one["source"]
        console.print(
            f"[dim]{one['id']} {_when(one['time'])}{score}[/dim] "
            f"[bold]{escape(one['speaker'] or one['source'])}[/bold] [dim]{escape(source)}[/dim]"
        )
        console.print(one["text"], markup=False)


def _print_json(content: Any) -> None:
    print(json.dumps(content, indent=2, ensure_ascii=False))


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _seconds(date: str | None) -> float | None:
    if date is None:
        return None
    try:
        return datetime.fromisoformat(date).timestamp()
    except ValueError:
        raise RequestError(
            f"a date is written as 2026-11-25 or 2026-11-25T14:30, not {date!r}"
        ) from None
