"""What a run of curation is known by: its recipe, what it reads, and what its stores showed it.

A run goes on, is made again and is remembered only as what it began.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from everlong.config import format_config, parse_config, unusual
from everlong.curation.duplicates.store import DuplicateStore
from everlong.curation.recipe import Curation, Workers
from everlong.curation.saved import load_json
from everlong.curation.step import ReadingStep, RememberingStep
from everlong.curation.tasks import files_of
from everlong.errors import ConfigError
from everlong.files import atomic_write, sha256_file

RECIPE, INPUTS, SEEN = "recipe.yaml", "inputs.json", "seen.json"


def seen_by(run: Path) -> dict[str, list[str]]:
    """Which runs the steps of a run have seen in their stores, by their kinds."""
    return load_json(run / SEEN) if (run / SEEN).exists() else {}


def identity(recipe: Curation) -> str:
    """What of a recipe decides the result, as YAML."""
    return format_config(replace(recipe, run=Path(), workers=Workers()))


def recipe_of(run: Path) -> Curation:
    """The recipe of a run.

    Raises:
        ConfigError: there is none, or this version does not know what it says.
    """
    try:
        text = (run / RECIPE).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{run} has no run of curation: {error}") from None
    return replace(parse_config(Curation, text), run=run)


def kept_by(recipe: str) -> dict[str, Any]:
    """What of a recipe's YAML decides which documents are kept, and how they are divided into
    tasks."""
    plain: dict[str, Any] = yaml.safe_load(recipe)
    return {name: value for name, value in plain.items() if name not in _FOR_KEPT}


_FOR_KEPT = ("mixture", "tokens", "seed")
"""Fields of a recipe that say what is made of the documents that are kept: it can be made again."""


def stores_of(recipe: Curation) -> dict[str, DuplicateStore]:
    """What steps remember of earlier runs, by their kinds.

    Raises:
        ConfigError, DataError: a store is of another step, or damaged.
    """
    steps = [step for step in recipe.steps if isinstance(step, RememberingStep)]
    stores = [(step.kind, step.remembered()) for step in steps]
    return {kind: store for kind, store in stores if store is not None}


def inputs_of(recipe: Curation) -> dict[str, str]:
    """SHA-256 of the files of a recipe's sources, in order, and of what steps read beside the
    documents; reads all of them."""
    files = {
        f"{source.name}/{name}": sha256_file(path)
        for source in recipe.sources
        for name, _, path in files_of(source)
    }
    return files | _by_steps(recipe)


def inputs_of_run(recipe: Curation) -> dict[str, str]:
    """:func:`inputs_of` a run that has begun, which is what they were when it was first asked.

    They are kept in the folder of the run, so all files are read once; that they did not change
    meanwhile is seen by their times when a run goes on, and when all is kept.
    """
    path = recipe.run / INPUTS
    if not path.exists():
        atomic_write(path, json.dumps(inputs_of(recipe), indent=1, ensure_ascii=False).encode())
    found: dict[str, str] = load_json(path)
    return found


def known_as(recipe: Curation, inputs: Mapping[str, str]) -> str:
    """By which steps that remember runs know this one: a digest of what decides which texts it
    keeps.

    That is what is in its files, how they are read, and the steps. It is not where the files are,
    nor the folders of the run and of stores: to do a run again elsewhere is to do the same run. A
    field that is as it is anyway does not count, so that a later version, which has more of them,
    knows a run again.

    Args:
        recipe: of the run.
        inputs: see :func:`inputs_of`.
    """
    unlike: dict[str, Any] = {"paths": None, "licence": None}
    sources = [{**unusual(source), **unlike} for source in recipe.sources]
    steps = [{"kind": step.kind, **unusual(step), "store": None} for step in recipe.steps]
    read = {"sources": sources, "reading": unusual(recipe.reading), "steps": steps}
    text = json.dumps([read, [*inputs.items()]], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def read_by(recipe: Curation) -> dict[str, Any]:
    """Size and time of every file of the sources, and SHA-256 of what steps read beside them."""
    found: dict[str, Any] = {}
    for source in recipe.sources:
        for name, _, path in files_of(source):
            told = path.stat()
            found[f"{source.name}/{name}"] = [told.st_size, told.st_mtime_ns]
    return found | _by_steps(recipe)


def _by_steps(recipe: Curation) -> dict[str, str]:
    """SHA-256 of what steps read beside the documents."""
    return {
        f"step {step.kind}: {name}": digest
        for step in recipe.steps
        if isinstance(step, ReadingStep)
        for name, digest in step.reads().items()
    }
