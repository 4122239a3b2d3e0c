"""Sets that can be had from the Hugging Face hub, as the files that tasks read.

The library ``datasets`` fetches a set; its rows are written as JSON lines in the form that the
folder of data has, beside a note of the origin with the file's checksum, and from then on the file
is used without the hub. Names and columns are those that lm-evaluation-harness uses, too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from everlong.errors import ConfigError, MissingDataError, MissingExtraError
from everlong.files import atomic_write, cache_dir

Row = Mapping[str, Any]

_TIMEOUT_SECONDS = 20.0


@dataclass(frozen=True)
class HubSet:
    """A part of a set on the hub."""

    repository: str
    configuration: str | None
    split: str
    line: Callable[[Row], Row]
    """A row as the tasks read it."""


@dataclass(frozen=True)
class Origin:
    """Where a fetched file is from."""

    repository: str
    configuration: str | None
    split: str
    revision: str
    """Commit of the repository."""
    rows: int
    sha256: str
    """Of the file."""


def fetched(name: str) -> Path | None:
    """The file of a set, from the cache or else from the hub; None: the hub has no such set.

    Args:
        name: as tasks name it, such as ``lm_eval/piqa.jsonl``.

    Raises:
        MissingDataError: the hub cannot be reached or does not have it.
        MissingExtraError: ``datasets`` is not installed.
        ConfigError: the file in the cache is not the one that was written.
    """
    if name not in SETS:
        return None
    path = cache_dir() / "datasets" / name
    note = path.with_name(path.name + ".origin.json")
    if not (path.exists() and note.exists()):
        _fetch(SETS[name], path, note)
    try:
        expected = Origin(**json.loads(note.read_text("utf-8"))).sha256
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{note} cannot be read ({error}); remove it to fetch it again") from None
    if found != expected:
        raise ConfigError(f"{path} is not what was fetched (SHA-256 differs); remove it")
    return path


def _fetch(wanted: HubSet, path: Path, note: Path) -> None:
    try:
        import datasets
        from huggingface_hub import HfApi
    except ImportError:
        raise MissingExtraError("datasets", "eval") from None
    try:
        # A question of its own, because datasets tries for half a minute when nobody answers.
        commit = HfApi().dataset_info(wanted.repository, timeout=_TIMEOUT_SECONDS).sha
        builder = datasets.load_dataset_builder(
            wanted.repository, wanted.configuration, revision=commit
        )
        builder.download_and_prepare()
        rows = builder.as_dataset(split=wanted.split)
    except Exception as error:  # it raises whatever the libraries below it raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise MissingDataError(
            f"{wanted.repository} ({wanted.split}) cannot be had from the hub: {reason}"
        ) from None
    try:
        lines = [json.dumps(wanted.line(row), ensure_ascii=False) for row in rows]
    except (KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise ConfigError(
            f"{wanted.repository} has other columns than expected ({error!r}): {rows.column_names}"
        ) from None
    content = "".join(f"{line}\n" for line in lines).encode()
    origin = Origin(
        wanted.repository,
        wanted.configuration,
        wanted.split,
        str(commit),
        len(lines),
        hashlib.sha256(content).hexdigest(),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, content)
    # Last: a file without its note is not used.
    atomic_write(note, json.dumps(asdict(origin), indent=1).encode() + b"\n")


def _boolq(row: Row) -> Row:
    query = f"Passage: {row['passage']}\nQuestion: {row['question']}?"
    return {"query": query, "choices": ["no", "yes"], "gold": int(row["label"])}


def _piqa(row: Row) -> Row:
    query, choices = f"Question: {row['goal']}\n", [row["sol1"], row["sol2"]]
    return {"query": query, "choices": choices, "gold": int(row["label"])}


def _copa(row: Row) -> Row:
    word = {"cause": "because", "effect": "therefore"}[row["question"]]
    choices = [text[0].lower() + text[1:] for text in (row["choice1"], row["choice2"])]
    query = f"{row['premise'].strip().removesuffix('.')}, {word}"
    return {"query": query, "choices": choices, "gold": int(row["label"])}


def _arc(row: Row) -> Row:
    choices = row["choices"]
    gold = choices["label"].index(row["answerKey"])
    return {"query": f"Question: {row['question']}", "choices": choices["text"], "gold": gold}


def _winogrande(row: Row) -> Row:
    before, after = row["sentence"].split("_", 1)
    contexts = [before + row["option1"], before + row["option2"]]
    gold = int(row["answer"]) - 1
    return {"context_options": contexts, "continuation": after.strip(), "gold": gold}


def _lambada(row: Row) -> Row:
    context, word = row["text"].rsplit(" ", 1)
    return {"context": context, "continuation": word}


def _as_it_is(*columns: str) -> Callable[[Row], Row]:
    return lambda row: {column: row[column] for column in columns}


_GSM8K = _as_it_is("question", "answer")

SETS: Mapping[str, HubSet] = {
    "lm_eval/boolq.jsonl": HubSet("aps/super_glue", "boolq", "validation", _boolq),
    "lm_eval/piqa.jsonl": HubSet("baber/piqa", None, "validation", _piqa),
    "lm_eval/copa.jsonl": HubSet("aps/super_glue", "copa", "validation", _copa),
    "lm_eval/arc_easy.jsonl": HubSet("allenai/ai2_arc", "ARC-Easy", "test", _arc),
    "lm_eval/winogrande.jsonl": HubSet(
        "allenai/winogrande", "winogrande_xl", "validation", _winogrande
    ),
    "lm_eval/lambada_openai.jsonl": HubSet(
        "EleutherAI/lambada_openai", "default", "test", _lambada
    ),
    "gsm8k/train.jsonl": HubSet("openai/gsm8k", "main", "train", _GSM8K),
    "gsm8k/test.jsonl": HubSet("openai/gsm8k", "main", "test", _GSM8K),
    "humaneval/HumanEval.jsonl": HubSet(
        "openai/openai_humaneval",
        None,
        "test",
        _as_it_is("task_id", "prompt", "canonical_solution", "test", "entry_point"),
    ),
}
"""By the name of the file."""
