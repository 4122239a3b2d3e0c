"""Code tasks: published solutions pass, others do not, and nothing runs outside the sandbox."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from everlong.code.sandbox import SandboxError, run_python
from everlong.evaluation.data import Data
from everlong.evaluation.generation import Question
from everlong.evaluation.task import Settings
from everlong.evaluation.tasks.code import humaneval, mbpp, mbxp, quixbugs, scan, text_to_sql
from everlong.evaluation.tasks.code.answers import completed, program
from everlong.evaluation.tasks.code.text_to_sql import find, same
from tests.evaluation.public_data import public_data


@pytest.fixture(scope="module", autouse=True)
def confined() -> None:
    try:
        run_python("")
    except SandboxError as error:
        pytest.skip(f"this system cannot confine programs: {error}")


def asked(task: Any) -> list[Question]:
    return list(task.examples(Data(public_data()), Settings()))


def score(task: Any, question: Question, text: str) -> float:
    return float(task.judge(question, text)[task.metrics[0]])


@pytest.mark.parametrize("task", [mbpp.TASK, mbxp.TASK, scan.TASK], ids=lambda t: t.name)
def test_published_solutions_pass_and_nothing_does_not(task: Any) -> None:
    questions = [q for q in asked(task) if q.group in ("", "python", "simple")]
    for question in questions[:: len(questions) // 8]:
        assert score(task, question, question.target.replace("[DONE]", "")) == 1
        assert score(task, question, "") == 0
        assert score(task, question, "\n    exit()\n") == 0


def test_repairs_pass_and_the_bugs_do_not() -> None:
    questions = asked(quixbugs.TASK)
    rows = [
        json.loads(x) for x in (public_data() / "quixbugs/quixbugs.jsonl").read_text().splitlines()
    ]
    buggy = {row["name"]: row["buggy"] for row in rows}
    assert len(questions) == 31
    for question in questions[::3]:
        assert score(quixbugs.TASK, question, question.target) == 1
        assert score(quixbugs.TASK, question, buggy[question.id]) == 0


def test_queries_are_judged_by_what_they_find() -> None:
    questions = asked(text_to_sql.TASK)
    assert {q.group for q in questions} == {"geography", "restaurants"}
    for question in questions[::20]:
        assert score(text_to_sql.TASK, question, question.target) == 1
        assert score(text_to_sql.TASK, question, "SELECT 1 WHERE 0") == 0
        assert score(text_to_sql.TASK, question, "nonsense") == 0


def test_queries_can_only_read(tmp_path: Path) -> None:
    path = tmp_path / "db.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("create table t(x)")
        connection.executemany("insert into t values (?)", [(1,), (2,), (2,)])
    connection.close()
    database = path.read_bytes()
    assert find(database, "select x from t order by x") == [(1,), (2,), (2,)]
    for query in (
        "delete from t",
        "attach 'other.db' as other",
        f"attach '{path}' as other",
        "pragma writable_schema = 1",
        "create table u(x)",
        "select load_extension('x')",
        "with recursive n(i) as (select 1 union all select i + 1 from n) select max(i) from n",
        "select * from t a, t b, t c, t d, t e, t f, t g, t h, t i",
    ):
        with pytest.raises(sqlite3.Error):
            find(database, query)
    assert same([(1,), (2,)], [(2,), (1,)], ordered=False)
    assert not same([(1,), (2,)], [(2,), (1,)], ordered=True)
    assert not same([(1,), (1,)], [(1,)], ordered=False)


def test_humaneval_is_read_where_it_is(tmp_path: Path) -> None:
    row = {
        "task_id": "HumanEval/0",
        "prompt": "\ndef double(x):\n    '''Twice x.'''\n",
        "entry_point": "double",
        "canonical_solution": "    return 2 * x\n",
        "test": "def check(candidate):\n    assert candidate(2) == 4\n",
    }
    (tmp_path / "humaneval").mkdir()
    (tmp_path / "humaneval/HumanEval.jsonl").write_text(json.dumps(row) + "\n")
    (question,) = humaneval.TASK.examples(Data(tmp_path), Settings())
    assert score(humaneval.TASK, question, "    return x + x\n") == 1
    assert score(humaneval.TASK, question, "    return x\n") == 0
    fenced = "Sure:\n```python\ndef double(x):\n    return 2 * x\n```\nDone."
    assert score(humaneval.TASK, question, fenced) == 1


def test_code_is_found_in_answers() -> None:
    assert program("x = 1\n") == "x = 1\n"
    assert program("Here:\n```python\nx = 1\n```\nand\n```\ny\n```") == "x = 1"
    assert program("```js\nlet x\n") == "let x\n"
    assert completed("def f():\n", "    return 1", "f") == "def f():\n    return 1"
    assert completed("def f():\n", "```python\n    return 1\n```", "f") == "def f():\n    return 1"
