"""``everlong verify-resume``: whether a run that is killed goes on to the same bits."""

from __future__ import annotations

import sys
from pathlib import Path


def verify_resume(
    recipe: Path,
    *,
    kills: int = 5,
    steps: int = 40,
    checkpoint_every: int = 5,
    seed: int = 0,
) -> None:
    """Run a recipe twice, once killed again and again, and compare the ends bit by bit.

    Args:
        recipe: YAML file; see recipes/.
        kills: how often, with SIGKILL at random moments.
        steps: of the whole run; the recipe's phases are shortened to that.
        checkpoint_every: steps between checkpoints.
        seed: of the moments.
    """
    from dataclasses import replace
    from tempfile import TemporaryDirectory

    from everlong.config import load_config
    from everlong.errors import CheckpointError, ConfigError
    from everlong.training.kills import kill_and_compare, shortened
    from everlong.training.recipe import Recipe

    if kills < 1 or steps < 2 or checkpoint_every < 1:
        raise ConfigError(
            "verify-resume has 1 kill or more, 2 steps or more and 1 step or more between "
            f"checkpoints, not {kills}, {steps} and {checkpoint_every}"
        )
    given = replace(
        shortened(load_config(Recipe, recipe), steps), checkpoint_every=checkpoint_every
    )
    with TemporaryDirectory(prefix="everlong-resume-") as folder:
        found = kill_and_compare(
            given, Path(folder), kills, seed, lambda text: print(text, file=sys.stderr)
        )
    print(
        f"kills: {found.kills}, in {found.steps:,} steps; of {found.numbers:,} numbers "
        f"{found.different_bits:,} bits differ; "
        f"losses {'the same' if found.same_losses else 'differ'}, "
        f"ledger {'the same' if found.same_ledger else 'differs'}"
    )
    if not found.equal:
        raise CheckpointError("a run that was killed did not go on as if nothing had happened")
