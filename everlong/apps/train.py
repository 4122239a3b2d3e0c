"""``everlong train``: run a recipe, and watch it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from everlong.apps.command import command


def train(recipe: Path, run: Path | None = None, *, resume: bool = False) -> None:
    """Train a model by a recipe; Ctrl-C saves, and --resume goes on exactly where it was.

    Args:
        recipe: YAML file, see recipes/; or a folder of them, each a stage that goes on with the
            model of the one before, in the order of their names.
        run: folder of what is written, instead of the recipe's.
        resume: go on with the run that is there; of stages, with the one that is not finished.
    """
    from dataclasses import replace

    from everlong.config import load_config
    from everlong.errors import ConfigError
    from everlong.training.parallel import joined
    from everlong.training.recipe import Recipe
    from everlong.training.run_files import RECIPE, outcome_of
    from everlong.training.same_run import check_recipe

    if not recipe.is_dir():
        given = load_config(Recipe, recipe)
        one = given if run is None else replace(given, run=run)
        with joined() as ranks:
            _one(one, resume, command("everlong train", recipe, run), ranks)
        return
    paths = sorted(recipe.glob("*.yaml"))
    if not paths or run is not None:
        raise ConfigError(
            f"{recipe} has no recipes (*.yaml)"
            if not paths
            else "stages have a folder each, as their recipes say; leave out --run"
        )
    # All are read before the first one begins: a mistake in the last is better known now.
    stages = [(path, load_config(Recipe, path)) for path in paths]
    with joined() as ranks:
        say = print if ranks.first else _nothing
        for path, given in stages:
            # Before any process begins: the first one writes what the others look for here.
            began, done = (given.run / RECIPE).exists(), outcome_of(given.run)
            ranks.wait()
            if resume and done is not None and done["why"] != "stopped":
                check_recipe(given)
                say(f"{path.stem}: done before")
                continue
            say(f"{path.stem}:")
            if not _one(given, resume and began, command("everlong train", recipe), ranks):
                return


def _one(given: Any, resume: bool, again: str, ranks: Any) -> bool:
    """Run a recipe; returns whether it came to its end.

    Args:
        given: the recipe.
        resume: go on with the run that is there.
        again: the command, for who has to go on.
        ranks: the processes of the run.
    """
    from everlong.errors import EverlongError, MissingExtraError
    from everlong.training.report import draw
    from everlong.training.trainer import Trainer

    try:
        with _shown(given) if ranks.first else nullcontext(_QUIET) as (say, tell):
            outcome = Trainer(given, say, ranks).run(resume, tell)
    except OSError as error:
        raise EverlongError(
            f"{error}; checkpoints that were saved are whole: when it is mended, go on with: "
            f"{again} --resume"
        ) from error
    except (RuntimeError, MemoryError) as error:
        if (mending := _mending(error, ranks.size)) is None:
            raise
        raise EverlongError(
            f"{mending} Checkpoints that were saved are whole; go on with: {again} --resume"
        ) from error
    if not ranks.first:
        return not outcome.stopped
    losses = ", ".join(
        f"{name} {outcome.before[name]:.3f} before, {loss:.3f} now"
        for name, loss in outcome.validation.items()
    )
    print(
        f"{outcome.why} after {outcome.steps:,} of {given.steps:,} steps"
        + (f"; held-out loss: {losses} (nats)" if losses else "")
        + (f"; {outcome.skipped} steps skipped" if outcome.skipped else "")
    )
    with suppress(MissingExtraError):
        print(f"curves: {draw(given.run)}")
    if outcome.stopped:
        print(f"go on with: {again} --resume")
    elif (use := _use(given)) is not None:
        print(f"use it: {use}")
    return not outcome.stopped


def _mending(error: Exception, processes: int) -> str | None:
    """What happened and what to change, of errors that PyTorch raises without a class of their own;
    None: it is none of these."""
    told = " ".join(str(error).split())
    if isinstance(error, MemoryError) or "out of memory" in told or "can't allocate memory" in told:
        return (
            "there is not enough memory; begin anew with fewer micro_sequences, recompute: true or "
            "shorter sequences, or make room and go on as it is."
        )
    if processes > 1 and any(sign in told for sign in ("gloo", "NCCL", "Connection", "rank")):
        return f"another process of the run has ended; what it said is above or below ({told})."
    return None


def _use(given: Any) -> str | None:
    """Commands that answer with what a run has learned; None: only runs go on from it."""
    run = shlex.quote(str(given.run))
    if given.adapter is not None:
        base = shlex.quote(given.model.checkpoint)
        serve = f"everlong serve {base} --lora-modules.mine ./adapter"
        return f"everlong convert {run} ./adapter && {serve}"
    shape = given.model.shape
    if shape is not None and shape.residual in ("deepnorm", "keel"):
        return None
    return f"everlong convert {run} ./model && everlong chat ./model"


def _nothing(told: Any) -> None:
    """Processes besides the first one tell nothing."""


_QUIET: tuple[Callable[[str], None], Callable[[Any], None]] = (_nothing, _nothing)


# The parser evaluates this module's annotations, and naming Recipe would import PyTorch for --help.
@contextmanager
def _shown(given: Any) -> Iterator[tuple[Callable[[str], None], Callable[[Any], None]]]:
    """A line for what happens, and a bar with the last step's figures, on the standard error."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from everlong.device import peak_flops
    from everlong.training.parallel import device_of_process

    console = Console(stderr=True)
    peak = peak_flops(given.precision, device_of_process())
    columns = (
        TextColumn("step"),
        MofNCompleteColumn(),
        BarColumn(),
        TextColumn("{task.description}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bars:
        task = bars.add_task("", total=given.steps)

        def tell(step: Any) -> None:
            rate = step.tokens / step.seconds
            share = step.flops / step.seconds / peak
            bars.update(
                task,
                completed=step.number + 1,
                description=f"loss {step.loss:.3f}  {rate:,.0f} tokens/s  {share:.0%} of peak",
            )
            if step.validation is not None:
                losses = ", ".join(f"{n} {loss:.3f}" for n, loss in step.validation.items())
                console.print(f"after step {step.number + 1:,}: held-out loss: {losses} nats")

        yield console.print, tell
