"""A memory: one folder with everything that is remembered."""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from everlong.errors import ConfigError, EverlongError, QuotaError, StoreError
from everlong.files import FileLock, data_dir
from everlong.memory import episodes, forget, namespaces, sessions
from everlong.memory.block_store import BlockStore
from everlong.memory.database import Database
from everlong.memory.disk import make_folder
from everlong.memory.episodes import Episodes
from everlong.memory.forget import Forgetting, Receipt, Selection
from everlong.memory.namespaces import Namespace, Namespaces
from everlong.memory.recall import Recall
from everlong.memory.sessions import Sessions

DEFAULT_SIZE = 16_000_000_000
"""Most bytes of keys and values on disk."""

_TABLES = namespaces.TABLES + sessions.TABLES + episodes.TABLES + forget.TABLES
_MIGRATIONS = (
    f"""
alter table namespaces add column bytes integer not null default 0;
update namespaces set bytes = (
    select coalesce(sum(length(cast(body as blob))), 0) from episodes
    where namespace = namespaces.id
) + (
    select coalesce(sum(length(cast(body as blob)) + length(cast(notes as blob))), 0)
    from messages m join sessions s on s.id = m.session where s.namespace = namespaces.id
);
{episodes.NUMBERING}{episodes.COUNTING}{sessions.COUNTING}""",
)


_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def bytes_of(size: str) -> int:
    """Bytes that a size such as ``16GB``, ``500 MB`` or ``8GiB`` says.

    Raises:
        ConfigError: it is no size.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", size, re.IGNORECASE)
    if not found:
        raise ConfigError(f"a size is a number with a unit, such as 16GB or 500MB, not {size!r}")
    number, unit, binary = found.groups()
    factor = _UNITS[unit.lower()]
    if binary:
        factor = 1024 ** list(_UNITS).index(unit.lower())
    return int(float(number) * factor)


def default_folder() -> Path:
    """Where the memory is when nobody says it."""
    return data_dir() / "memory"


class Memory:
    """What is remembered in a folder. One process owns it; several of its threads may use it.

    ``records.sqlite`` is the memory of record, ``blocks/`` what was computed from it: keys and
    values, which can be lost without loss.

    Args:
        folder: where; it is made.
        size: most bytes of ``blocks/``.
        quota: most bytes that one namespace has of them, of which then the coldest go; and most
            bytes of its texts, to which then nothing is added. None: no limit.

    Raises:
        ConfigError: the size is too small for a store, or the quota is none.
        StoreError: another process owns the folder, or it cannot be used.
    """

    def __init__(
        self, folder: str | Path, size: int = DEFAULT_SIZE, quota: int | None = None
    ) -> None:
        if quota is not None and quota < 1:
            raise ConfigError(f"the quota is {quota} bytes; give 1 or more, or none at all")
        self.quota = quota
        self.folder = Path(folder).expanduser()
        self._closed = False
        self._owner = FileLock(self.folder / "lock", timeout=0)
        try:
            make_folder(self.folder)
            self._owner.__enter__()
        except OSError as error:
            raise StoreError(f"{self.folder} cannot be used as a memory: {error}") from None
        except EverlongError as error:
            raise StoreError(
                f"{error}; or name another folder with --memory, or go on with --no-memory"
            ) from None
        opened = ExitStack()  # what a failure lets go of
        opened.push(self._owner)
        with opened:
            self.database = Database(
                self.folder / "records.sqlite",
                b"EVLR",
                _TABLES,
                _MIGRATIONS,
            )
            opened.callback(self.database.close)
            self.namespaces = Namespaces(self.database)
            self.sessions = Sessions(self.database)
            self.episodes = Episodes(self.database)
            self.recall = Recall(self.episodes)
            self.blocks = BlockStore(self.folder / "blocks", size, quota=quota)
            opened.callback(self.blocks.close)
            self.forgetting = Forgetting(
                self.database,
                self.namespaces,
                self.sessions,
                self.episodes,
                self.recall,
                self.blocks,
            )
            self.forgetting.finish_interrupted()
            opened.pop_all()

    def namespace(self, name: str = namespaces.LOCAL) -> Namespace:
        """The namespace of this name; it is made when there is none."""
        return self.namespaces.named(name)

    def check_room(self, namespace: bytes) -> None:
        """See that a namespace may have more texts.

        Raises:
            QuotaError: it has what it may have.
        """
        if self.quota is None:
            return
        used = self.namespaces.used_by(namespace)
        if used >= self.quota:
            raise QuotaError(
                f"what is remembered takes {used:,} bytes, and {self.quota:,} are allowed; forget "
                "something, or have the memory's quota raised"
            )

    def forget(self, namespace: Namespace, selection: Selection) -> Receipt:
        """See :meth:`everlong.memory.forget.Forgetting.forget`."""
        return self.forgetting.forget(namespace, selection)

    def close(self) -> None:
        """Write what waits, and let go of the folder; once is enough, and more do no harm."""
        if self._closed:
            return
        self._closed = True
        try:
            self.blocks.close()
        finally:
            self.database.close()
            self._owner.__exit__(None, None, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
