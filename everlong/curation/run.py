"""A whole run of curation: documents, token shards, the data card and the lock."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from everlong.config import parse_config
from everlong.curation.card import write_card
from everlong.curation.counts import Counts
from everlong.curation.lock import (
    TOKENS,
    Lock,
    differences,
    lock_of,
    outputs_of,
    versions,
)
from everlong.curation.mixture import Mixture, Part, bands_of, mixed, name_of
from everlong.curation.pipeline import DOCUMENTS, TASKS, Pipeline, Progress
from everlong.curation.recipe import Curation
from everlong.curation.same_run import inputs_of, stores_of
from everlong.curation.shards import PartTokens, documents_of, write_shards
from everlong.curation.step import PreparedStep
from everlong.curation.workers import Executor
from everlong.errors import DataError, EverlongError


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
    seen: Mapping[str, Sequence[str]] | None = None,
) -> Outcome:
    """Run a recipe.

    Args:
        recipe: what to do.
        executor: who does it.
        resume: go on with the run that is in the recipe's folder.
        tell: told how far the steps are.
        say: told what happens after them.
        seen: of a run that is made again, see :class:`everlong.curation.pipeline.Pipeline`.

    Raises:
        ConfigError, DataError: see :meth:`everlong.curation.pipeline.Pipeline.run`.
        EverlongError: the same; or something cannot be read or written, such as on a full disk.
    """
    tokenizer = None
    if recipe.tokens is not None:
        from everlong.training.models import tokenizer_of  # with PyTorch, which takes its time

        # One that is not there is better known before the work than after it.
        tokenizer = tokenizer_of(recipe.tokens.tokenizer)
    for step in recipe.steps:
        if isinstance(step, PreparedStep):
            step.prepare()
    outcome: list[Outcome] = []

    def finish(counts: list[Counts]) -> None:
        documents, folder = recipe.run / DOCUMENTS, recipe.run / TOKENS
        bands = bands_of(recipe.mixture, documents_of(documents))
        parts = mixed(recipe.mixture, letters_of(recipe.mixture, counts[-1]), bands)
        tokens: dict[str, PartTokens] = {}
        if recipe.tokens is not None and tokenizer is not None:
            say("writing token shards")
            size = recipe.tokens.shard_tokens
            tokens = write_shards(documents, folder, tokenizer, recipe.mixture, parts, size)
        else:
            shutil.rmtree(folder, ignore_errors=True)  # of an earlier recipe for the same documents
        say("writing the data card")
        card = write_card(recipe, counts, parts, tokens)
        outcome.append(Outcome(counts, parts, card, lock_of(recipe).write(recipe.run)))

    try:
        Pipeline(recipe, executor, tell, seen).run(resume=resume, then=finish)
    except OSError as error:
        kept = "; what is done is kept: mend that, and go on with --resume"
        begun = (recipe.run / TASKS).exists()
        raise EverlongError(f"{recipe.run}: {error}{kept if begun else ''}") from error
    return outcome[0]


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
        DataError: files that are read, or runs in stores, are not those that were.
        EverlongError: see :func:`curate`.
    """
    lock = Lock.read(path)
    recipe = replace(parse_config(Curation, lock.recipe), run=folder)
    if changed := differences(lock.inputs, inputs_of(recipe)):
        raise DataError(
            f"{len(changed)} files are not those that were read, such as {changed[0]}: the run "
            "cannot be made again"
        )
    stores = stores_of(recipe)
    if lost := [
        kind
        for kind, runs in lock.seen.items()
        if kind not in stores or not stores[kind].knows(runs)
    ]:
        raise DataError(
            f"{', '.join(lost)} saw other runs in its store than there are now, because one was "
            "forgotten or the store is another: the run cannot be made again"
        )
    curate(recipe, executor, resume=resume, tell=tell, say=say, seen=lock.seen)
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
