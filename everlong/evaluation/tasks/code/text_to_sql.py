"""Questions to SQL (Finegan-Dollak et al. 2018), judged by what the queries find.

Two databases that can be asked: geography and restaurants. A query is right when it finds the rows
that the published one finds, in its order where that one sorts. Questions whose published query
fails or finds nothing are left out. Restaurants has ten parts and no test part: the first two are
asked; its queries name the key ``ID``, which the database calls ``RESTAURANT_ID``. Three solved
questions of the training part come first.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from typing import Any

from everlong.evaluation.data import Data
from everlong.evaluation.generation import GenerationTask, Question
from everlong.evaluation.tasks.code.answers import program

_DATABASES = ("geography", "restaurants")
_SECONDS = 2.0
_MOST_ROWS = 10_000
_ALLOWED = frozenset(
    {
        sqlite3.SQLITE_SELECT,
        sqlite3.SQLITE_READ,
        sqlite3.SQLITE_FUNCTION,
        sqlite3.SQLITE_RECURSIVE,
    }
)

_PARTS = {"test": "test", "0": "test", "1": "test", "dev": "dev"}

Rows = list[tuple[Any, ...]]


def find(database: bytes, query: str) -> Rows:
    """The rows a query finds in a database that it can only read.

    Raises:
        sqlite3.Error: it is no query, does something else, takes too long or finds too much.
    """
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.deserialize(database)
        connection.set_authorizer(
            lambda action, *_: sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY
        )
        deadline = time.monotonic() + _SECONDS
        connection.set_progress_handler(lambda: time.monotonic() > deadline, 1000)
        rows = connection.execute(query).fetchmany(_MOST_ROWS)
        if len(rows) == _MOST_ROWS:
            raise sqlite3.DataError(f"more than {_MOST_ROWS} rows")
        return rows


def same(found: Rows, wanted: Rows, ordered: bool) -> bool:
    """Whether two results are the same; without order, rows count as often as they come."""
    return found == wanted if ordered else Counter(found) == Counter(wanted)


def _read(data: Data, part: str) -> list[Question]:
    found: list[Question] = []
    for name in _DATABASES:
        database = data.content(f"text2sql/{name}-db.sqlite")
        tables = _tables(database)

        def parse(content: Any, name: str = name, tables: str = tables) -> list[Question]:
            return [
                Question(
                    f"{name}:{n}:{m}",
                    name,
                    f"{tables}-- Question: {_filled(sentence['text'], sentence['variables'])}\n"
                    "-- Query:\n",
                    _query(_filled(entry["sql"][0], sentence["variables"])),
                )
                for n, entry in enumerate(content)
                for m, sentence in enumerate(entry["sentences"])
                if _PARTS.get(sentence["question-split"], "train") == part
            ]

        questions = data.document(f"text2sql/{name}.json", parse)
        for question in questions[: None if part == "test" else 40]:
            try:
                rows = find(database, question.target)
            except sqlite3.Error:
                continue
            if rows:
                found.append(question)
    return found


def _tables(database: bytes) -> str:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.deserialize(database)
        names = [
            row[0]
            for row in connection.execute("select name from sqlite_master where type = 'table'")
        ]
        columns = {
            name: [row[1] for row in connection.execute(f'pragma table_info("{name}")')]
            for name in names
        }
    return "".join(f"-- {name}({', '.join(own)})\n" for name, own in columns.items())


def _filled(text: str, variables: Mapping[str, str]) -> str:
    for name in sorted(variables, key=len, reverse=True):
        text = text.replace(name, variables[name])
    return text


def _query(published: str) -> str:
    named = re.sub(r"\b(RESTAURANTalias\d+)\.ID\b", r"\1.RESTAURANT_ID", published)
    return named.rstrip(" ;") + ";"


class _Judge:
    """Asks the databases of the data that was read last."""

    def __init__(self) -> None:
        self.databases: dict[str, bytes] = {}

    def read(self, data: Data) -> list[Question]:
        """The questions; their databases are kept for judging."""
        questions = _read(data, "test")
        self.databases = {name: data.content(f"text2sql/{name}-db.sqlite") for name in _DATABASES}
        return questions

    def __call__(self, question: Question, text: str) -> Mapping[str, float]:
        """Whether the query finds what the published one finds."""
        database = self.databases[question.group]
        wanted = find(database, question.target)
        query = program(text).split(";")[0].strip()
        try:
            found = find(database, query)
        except (sqlite3.Error, sqlite3.Warning, ValueError):
            return {"execution": 0.0}
        ordered = "order by" in question.target.lower()
        return {"execution": float(same(found, wanted, ordered))}


_JUDGE = _Judge()

TASK = GenerationTask(
    "text_to_sql",
    1,
    _JUDGE.read,
    _JUDGE,
    max_tokens=256,
    stop=("\n--", ";"),
    read_shots=lambda data: _read(data, "train"),
    shots=3,
    judged_by=("execution",),
)
