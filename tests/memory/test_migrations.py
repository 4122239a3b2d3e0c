"""Files of earlier versions are brought to this one, with all that is in them, or left as they are.

``version_1/`` has the tables of version 1 as they were.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from everlong.errors import StoreError
from everlong.memory.database import Database
from everlong.memory.episodes import NewEpisode
from everlong.memory.forget import Selection
from everlong.memory.ledger import Ledger
from everlong.memory.memory import Memory
from everlong.memory.sessions import Message
from tests.memory.blocks import name

TABLES = Path(__file__).parent / "version_1"
OWNER, SECRET = b"o" * 16, b"s" * 32


def ledger_of_version_1(path: Path) -> None:
    database = Database(path, b"EVLM", (TABLES / "ledger.sql").read_text())
    with database.transaction() as db:
        db.execute("insert into segments values (1, 65536, 4096)")
        db.executemany(
            "insert into origins (id, namespace, fingerprint) values (?, ?, ?)",
            [(1, OWNER, b"f" * 32), (2, OWNER, b"g" * 32), (3, b"p" * 16, b"f" * 32)],
        )
        for n, origin in enumerate((1, 1, 2, 3), 1):
            db.execute(
                "insert into blocks values (?, ?, ?, 0, 1, ?, ?, ?)",
                (name(n), origin, bytes(32), 4096 * n, 1000 * n, n),
            )
    database.close()


def records_of_version_1(folder: Path) -> None:
    folder.mkdir()
    database = Database(folder / "records.sqlite", b"EVLR", (TABLES / "records.sql").read_text())
    words = f"words_{OWNER.hex()}"
    with database.transaction() as db:
        db.execute("insert into namespaces values (?, 'local', ?, 1.0)", (OWNER, SECRET))
        db.execute("insert into sessions values (1, ?, 'trip', '', 0, 1.0, 2.0)", (OWNER,))
        db.execute(
            "insert into messages values (1, 0, ?, 'n', 1.0)",
            ('{"role": "user", "content": "Grüße"}',),
        )
        db.execute(
            f"create virtual table {words} using fts5 (body, speaker, content = '', "
            "tokenize = 'porter unicode61')"
        )
        for number, text in ((3, "A lighthouse stands in Dùn."), (7, "The harbour is small.")):
            db.execute(
                "insert into episodes values (?, ?, ?, 'trip', ?, 'chat', 'user', 1.0, ?)",
                (number, bytes([number]) * 16, OWNER, number, text),
            )
            db.execute(
                f"insert into {words} (rowid, body, speaker) values (?, ?, 'user')", (number, text)
            )
    database.close()


def test_a_ledger_of_version_1_knows_what_each_namespace_has(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger_of_version_1(path)
    for _ in range(2):  # brought to this version once
        ledger = Ledger(path)
        assert ledger.used_by(OWNER) == 1000 + 2000 + 3000
        assert ledger.used_by(b"p" * 16) == 4000
        entry = ledger.find(name(3))
        assert entry is not None
        assert (entry.place, entry.length) == (4096 * 3, 3000)
        ledger.close()
    ledger = Ledger(path)
    assert ledger.remove([name(1), name(3)]) == 2
    assert ledger.used_by(OWNER) == 2000
    ledger.close()


def test_records_of_version_1_are_all_there(tmp_path: Path) -> None:
    folder = tmp_path / "memory"
    records_of_version_1(folder)
    texts = ("A lighthouse stands in Dùn.", "The harbour is small.")
    with Memory(folder, 1 << 20) as memory:
        namespace = memory.namespace()
        assert (namespace.id, namespace.secret) == (OWNER, SECRET)
        (found, *_) = memory.recall.search(OWNER, "lighthouse")
        assert (found.episode.text, found.episode.number) == (texts[0], 3)
        session = memory.sessions.find(OWNER, "trip")
        assert session is not None
        (message,) = memory.sessions.messages(session)
        assert message.body["content"] == "Grüße"
        size = sum(len(text.encode()) for text in texts)
        size += len('{"role": "user", "content": "Grüße"}'.encode()) + len("n")
        assert memory.namespaces.used_by(OWNER) == size
        (new,) = memory.episodes.add(OWNER, [NewEpisode("Now.")])
        assert new.number == 8
        memory.sessions.append(session, [Message(0, {"role": "user", "content": "x"})])
        memory.forget(namespace, Selection(everything=True))
        assert memory.namespaces.used_by(OWNER) == 0


def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger_of_version_1(path)
    with sqlite3.connect(path) as db:  # in the way of what the migration makes
        db.execute("create trigger block_removed after delete on blocks begin select 1; end")
    db.close()
    with pytest.raises(StoreError, match="block_removed already exists"):
        Ledger(path)
    with sqlite3.connect(path) as db:
        assert db.execute("pragma user_version").fetchone() == (1,)
        assert db.execute("select count(*) from blocks").fetchone() == (4,)
        columns = [row[1] for row in db.execute("pragma table_info(origins)")]
        assert "bytes" not in columns
    db.close()
