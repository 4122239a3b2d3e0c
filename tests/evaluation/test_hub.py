"""Sets from a hub: fetched once, checked ever after, and told clearly when they cannot be had."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("datasets", reason="needs the extra eval")

from everlong.evaluation.data import Data
from everlong.evaluation.hub import SETS
from tests.evaluation.dataset_server import COMMIT, DatasetServer
from tests.evaluation.public_data import public_data

ROWS: dict[str, dict[str, Any]] = {
    "lm_eval/boolq.jsonl": {
        "passage": "Snow is cold.",
        "question": "is snow cold",
        "label": 1,
        "idx": 0,
    },
    "lm_eval/piqa.jsonl": {"goal": "Open a tin.", "sol1": "Sing.", "sol2": "Cut it.", "label": 1},
    "lm_eval/copa.jsonl": {
        "premise": "The man turned on the faucet.",
        "choice1": "The toilet filled with water.",
        "choice2": "Water flowed from the spout.",
        "question": "effect",
        "label": 1,
    },
    "lm_eval/arc_easy.jsonl": {
        "question": "What is warm?",
        "choices": {"text": ["Ice", "Fire"], "label": ["A", "B"]},
        "answerKey": "B",
    },
    "lm_eval/winogrande.jsonl": {
        "sentence": "Sarah was a better surgeon than Maria so _ always got the easier cases.",
        "option1": "Sarah",
        "option2": "Maria",
        "answer": "2",
    },
    "lm_eval/lambada_openai.jsonl": {"text": "I don't care about signs"},
    "gsm8k/test.jsonl": {"question": "1 and 1?", "answer": "Two.\n#### 2"},
    "humaneval/HumanEval.jsonl": {
        "task_id": "HumanEval/0",
        "prompt": "def f():\n",
        "canonical_solution": "    return 1\n",
        "test": "def check(candidate):\n    assert candidate() == 1\n",
        "entry_point": "f",
    },
}
EXPECTED: dict[str, dict[str, Any]] = {
    "lm_eval/boolq.jsonl": {
        "query": "Passage: Snow is cold.\nQuestion: is snow cold?",
        "choices": ["no", "yes"],
        "gold": 1,
    },
    "lm_eval/piqa.jsonl": {
        "query": "Question: Open a tin.\n",
        "choices": ["Sing.", "Cut it."],
        "gold": 1,
    },
    "lm_eval/copa.jsonl": {
        "query": "The man turned on the faucet, therefore",
        "choices": ["the toilet filled with water.", "water flowed from the spout."],
        "gold": 1,
    },
    "lm_eval/arc_easy.jsonl": {
        "query": "Question: What is warm?",
        "choices": ["Ice", "Fire"],
        "gold": 1,
    },
    "lm_eval/winogrande.jsonl": {
        "context_options": [
            "Sarah was a better surgeon than Maria so Sarah",
            "Sarah was a better surgeon than Maria so Maria",
        ],
        "continuation": "always got the easier cases.",
        "gold": 1,
    },
    "lm_eval/lambada_openai.jsonl": {"context": "I don't care about", "continuation": "signs"},
}


@pytest.mark.parametrize("name", SETS)
def test_rows_take_the_form_of_the_folder(name: str) -> None:
    row = ROWS.get(name, ROWS["gsm8k/test.jsonl"])
    line = SETS[name].line(row)
    assert line == EXPECTED.get(name, row)


@pytest.mark.parametrize("name", EXPECTED)
def test_the_form_is_that_of_the_published_files(name: str) -> None:
    first = Data(public_data()).rows(name, lambda row: row)[0]
    assert set(first) == set(EXPECTED[name])
    if name in ("lm_eval/boolq.jsonl", "lm_eval/piqa.jsonl", "lm_eval/arc_easy.jsonl"):
        assert first["query"].split()[0] == EXPECTED[name]["query"].split()[0]
    if name == "lm_eval/copa.jsonl":
        assert first == EXPECTED[name]


def read(address: str, home: Path, folder: Path, name: str) -> subprocess.CompletedProcess[str]:
    """Read a set in a process of its own: the libraries take the hub's address when imported."""
    source = (
        "import sys, pathlib; from everlong.evaluation.data import Data\n"
        "from everlong.errors import EverlongError\n"
        "try: print(Data(pathlib.Path(sys.argv[1]), download=True).text(sys.argv[2]), end='')\n"
        "except EverlongError as error: sys.exit(f'{type(error).__name__}: {error}')"
    )
    environment = {
        **os.environ,
        "HF_ENDPOINT": address,
        "HF_HOME": str(home / "hf"),
        "EVERLONG_HOME": str(home / "everlong"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    for offline in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        environment.pop(offline, None)
    return subprocess.run(
        [sys.executable, "-c", source, str(folder), name],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_set_is_fetched_once_and_checked(tmp_path: Path) -> None:
    name = "lm_eval/piqa.jsonl"
    rows = [{**ROWS[name], "goal": f"Goal {n}."} for n in range(3)]
    with DatasetServer({("baber/piqa", "validation"): rows}) as hub:
        done = read(hub.address, tmp_path, tmp_path / "none", name)
        assert done.returncode == 0, done.stderr
        assert [json.loads(line)["query"] for line in done.stdout.splitlines()] == [
            f"Question: Goal {n}.\n" for n in range(3)
        ]
        assert any(path.endswith(".parquet") for path in hub.requests)
        missing = read(hub.address, tmp_path, tmp_path / "none", "lm_eval/copa.jsonl")
        assert missing.returncode == 1
        assert "MissingDataError: aps/super_glue (validation) cannot be had" in missing.stderr
        address = hub.address
    # The hub is gone, and the set is here.
    again = read(address, tmp_path, tmp_path / "none", name)
    assert again.stdout == done.stdout
    kept = tmp_path / "everlong/datasets" / name
    origin = json.loads(kept.with_name("piqa.jsonl.origin.json").read_text())
    assert (origin["repository"], origin["revision"], origin["rows"]) == ("baber/piqa", COMMIT, 3)
    kept.write_text(kept.read_text().replace("Goal 1", "Goal 9"))
    changed = read(address, tmp_path, tmp_path / "none", name)
    assert changed.returncode == 1
    assert "is not what was fetched" in changed.stderr
    # What the folder has comes first.
    (tmp_path / "own/lm_eval").mkdir(parents=True)
    (tmp_path / "own" / name).write_text("own\n")
    assert read(address, tmp_path, tmp_path / "own", name).stdout == "own\n"


def test_a_hub_that_is_not_there_is_said(tmp_path: Path) -> None:
    done = read("http://127.0.0.1:9", tmp_path, tmp_path, "gsm8k/test.jsonl")
    assert done.returncode == 1
    assert "MissingDataError: openai/gsm8k (test) cannot be had from the hub" in done.stderr


def test_other_columns_are_said(tmp_path: Path) -> None:
    with DatasetServer({("openai/gsm8k", "test"): [{"problem": "1 and 1?"}]}) as hub:
        done = read(hub.address, tmp_path, tmp_path, "gsm8k/test.jsonl")
    assert done.returncode == 1
    assert "openai/gsm8k" in done.stderr
