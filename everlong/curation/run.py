"""A whole run of curation: documents, token shards, the data card and the lock."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from everlong.config import parse_config
from everlong.curation.card import write_card
from everlong.curation.lock import (
    TOKENS,
    Lock,
    differences,
    lock_of,
    outputs_of,
    seen_by,
    versions,
)
from everlong.curation.mixture import Mixture, Part, bands_of, mixed, name_of
from everlong.curation.pipeline import DOCUMENTS, Pipeline, Progress, inputs_of
from everlong.curation.recipe import Curation
from everlong.curation.shards import documents_of, write_shards
from everlong.curation.stage import Counts
from everlong.curation.step import PreparedStep
from everlong.curation.workers import Executor
from everlong.errors import DataError


@dataclass(frozen=True)
class Outcome:
    """What a run has made."""

    counts: list[Counts]
    """Of each stage."""
    parts: list[Part]
    card: Path
    lock: Path


@dataclass(frozen=True)
class Reproduced:
    """A run that was made again."""

    files: int
    """That were compared."""
    differ: list[str]
    """Names of those that are not the same."""
    versions: list[str]
    """Libraries that have another version."""


def curate(
    recipe: Curation,
    executor: Executor,
    *,
    resume: bool = False,
    tell: Callable[[Progress], None] = lambda progress: None,
    say: Callable[[str], None] = lambda text: None,
) -> Outcome:
    """Run a recipe.

    Args:
        recipe: what to do.
        executor: who does it.
        resume: go on with the run that is in the recipe's folder.
        tell: told how far the steps are.
        say: told what happens after them.

    Raises:
        ConfigError, DataError, OSError: see :meth:`everlong.curation.pipeline.Pipeline.run`.
    """
    tokenizer = None
    if recipe.tokens is not None:
        from everlong.training.models import tokenizer_of  # with PyTorch, which takes its time

        # One that is not there is better known before the work than after it.
        tokenizer = tokenizer_of(recipe.tokens.tokenizer)
    for step in recipe.steps:
        if isinstance(step, PreparedStep):
            step.prepare()
    counts = Pipeline(recipe, executor, tell).run(resume=resume)
    documents, folder = recipe.run / DOCUMENTS, recipe.run / TOKENS
    bands = bands_of(recipe.mixture, documents_of(documents))
    parts = mixed(recipe.mixture, letters_of(recipe.mixture, counts[-1]), bands)
    tokens: dict[str, int] = {}
    if recipe.tokens is not None and tokenizer is not None:
        say("writing token shards")
        size = recipe.tokens.shard_tokens
        tokens = write_shards(documents, folder, tokenizer, recipe.mixture, parts, size)
    else:
        shutil.rmtree(folder, ignore_errors=True)  # of an earlier recipe for the same documents
    say("writing the data card")
    card = write_card(recipe, counts, parts, tokens)
    return Outcome(counts, parts, card, lock_of(recipe).write(recipe.run))


def reproduce(
    path: Path,
    folder: Path,
    executor: Executor,
    *,
    resume: bool = False,
    tell: Callable[[Progress], None] = lambda progress: None,
    say: Callable[[str], None] = lambda text: None,
) -> Reproduced:
    """Make a run again from its lock, in another folder, and compare every byte.

    Raises:
        ConfigError: the file is no lock.
        DataError: files that are read are not those that were.
    """
    lock = Lock.read(path)
    recipe = replace(parse_config(Curation, lock.recipe), run=folder)
    inputs = inputs_of(recipe)
    if changed := differences(lock.inputs, inputs):
        raise DataError(
            f"{len(changed)} files are not those that were read, such as {changed[0]}: the run "
            "cannot be made again"
        )
    if lost := differences(lock.seen, seen_by(recipe, inputs)):
        raise DataError(
            f"{', '.join(lost)} saw other runs in its store than there are now, because one was "
            "forgotten or the store is another: the run cannot be made again"
        )
    curate(recipe, executor, resume=resume, tell=tell, say=say)
    made = outputs_of(folder)
    differ = [*differences(lock.outputs, made)]
    return Reproduced(len(lock.outputs), differ, [*differences(lock.versions, versions())])


def letters_of(mixture: Mixture, counts: Counts) -> Counter[str]:
    """Letters of each part of what a stage kept."""
    letters: Counter[str] = Counter()
    for name, size in counts.parts.items():
        source, _, language = name.rpartition(" ")
        letters[name_of(mixture, source, language)] += size
    return letters
