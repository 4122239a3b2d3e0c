"""Whether a run that goes on is the run that began: its recipe, data, tokenizer and start."""

from __future__ import annotations

import json
from dataclasses import replace

from everlong.config import format_config, parse_config, to_plain
from everlong.data.token_shards import INDEX
from everlong.errors import ConfigError
from everlong.files import atomic_write, sha256_file
from everlong.training.models import digest_of_weights
from everlong.training.recipe import Recipe
from everlong.training.run_files import INPUTS, RECIPE, TOKENIZER, inputs_of
from everlong.training.start import Start


def begin(recipe: Recipe, start: Start) -> None:
    """Write what a new run begins with.

    Raises:
        ConfigError: there is a run in the folder.
    """
    folder = recipe.run
    if (folder / RECIPE).exists():
        raise ConfigError(
            f"{folder} holds a run already; go on with it by --resume, or name another folder by "
            "--run"
        )
    (folder / TOKENIZER).mkdir(exist_ok=True)
    start.tokenizer.save(folder / TOKENIZER)
    atomic_write(folder / INPUTS, json.dumps(_inputs(recipe, start), indent=1).encode())
    atomic_write(folder / RECIPE, format_config(recipe).encode())


def check(recipe: Recipe, start: Start) -> None:
    """See that a run goes on as what it began.

    Raises:
        ConfigError: its recipe, texts, tokenizer or start are others now.
        DataError: what it began with cannot be read.
    """
    check_recipe(recipe)
    folder = recipe.run
    known, now = inputs_of(folder), _inputs(recipe, start)
    changed = [name for name in {**known, **now} if known.get(name) != now.get(name)]
    if changed:
        raise ConfigError(
            f"not what it was when the run in {folder} began: {', '.join(changed)}; bring it back, "
            "or begin a new run by --run"
        )


def check_recipe(recipe: Recipe) -> None:
    """See that a run has the recipe that it began with.

    Raises:
        ConfigError: it has not.
    """
    folder = recipe.run
    began = replace(parse_config(Recipe, (folder / RECIPE).read_text("utf-8")), run=folder)
    if began != recipe:
        raise ConfigError(
            f"the run in {folder} is of another recipe ({RECIPE}): "
            f"{', '.join(_differing(began, recipe))} differ; go on with that one, or name another "
            "folder by --run"
        )


def _inputs(recipe: Recipe, start: Start) -> dict[str, str]:
    """Checksums of what decides a run besides its recipe, by what it is."""
    found = {"the tokenizer": start.tokenizer.fingerprint().hex()}
    for source in (*start.sources, *start.held_out):
        found[f"corpus {source.name}"] = sha256_file(source.shards.folder / INDEX)
    if recipe.model.checkpoint is not None:
        found[f"model {recipe.model.checkpoint}"] = digest_of_weights(start.weights)
    return found


def _differing(one: Recipe, other: Recipe) -> list[str]:
    """Names of the fields, as YAML has them."""
    left, right = to_plain(one), to_plain(other)
    return [name for name in left if left[name] != right[name]]
