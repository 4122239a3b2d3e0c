"""Runs a recipe in processes that are killed at random moments, until one of them finishes.

Usage: ``python -m tests.training.killed_run RECIPE SEED``; prints how many were killed. It is a
process of its own, so that what has been imported can be forked before anything runs in threads.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from functools import partial
from pathlib import Path

import torch

from everlong.config import load_config
from everlong.training.recipe import Recipe
from everlong.training.run_files import RECIPE
from everlong.training.trainer import Trainer

_MOST_STEPS = 20
"""A process does so many steps at most before it is killed."""


def main(path: Path, seed: int) -> int:
    torch.set_num_threads(1)
    given = load_config(Recipe, path)
    draw, killed = random.Random(seed), 0
    while True:
        began, tell = os.pipe()
        child = os.fork()
        if child == 0:
            resume, told = (given.run / RECIPE).exists(), os.fdopen(tell, "w")
            Trainer(given).run(resume, partial(print, file=told, flush=True))
            os._exit(0)
        os.close(tell)
        with os.fdopen(began) as steps:
            for _ in range(draw.randint(1, _MOST_STEPS)):
                if not steps.readline():  # it has ended
                    break
            time.sleep(draw.uniform(0, 0.02))  # somewhere in the next one
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            assert status == 0, f"it failed with status {status}"
            return killed
        killed += 1


if __name__ == "__main__":
    print(main(Path(sys.argv[1]), int(sys.argv[2])))
