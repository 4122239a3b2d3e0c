"""The power is cut while a memory is used, at any place of a recorded log.

A process with a memory is recorded (every write, sync and name, SQLite's included), the log is cut
at random places, and what a disk may hold then (:mod:`tests.crash.power`) is opened and held to
what the process had promised by then. The next recording begins on such an image, so that
recoveries are cut, too.

A problem begins with the command that shows it again: it leaves the image of the disk in the folder
``image`` beside the log, and opens it.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.crash import shim
from tests.crash.life import Promise, hold_to
from tests.crash.outcome import Outcome
from tests.crash.power import CutDisk
from tests.crash.shim import Kind, Operation


def power_cuts(
    count: int, folder: Path, *, seed: int, recordings: int, steps: int, size: int
) -> Outcome:
    """Record and cut.

    Args:
        count: of cuts, over all recordings.
        folder: an empty one; the logs stay in it.
        seed: of everything that is drawn.
        recordings: how often a process is recorded, each time on what a cut of the last one left.
        steps: of each process.
        size: of the memory's blocks.
    """
    outcome = Outcome()
    library = shim.compiled(folder)
    draw = random.Random(seed)
    root = folder / "root"
    root.mkdir()
    promise = Promise()
    for number in range(recordings):
        log = folder / f"log-{number}"
        done = shim.run(
            library,
            "tests.crash.recorded",
            *map(str, (root, log, size, seed + number, steps)),
            given=json.dumps(promise.as_json()),
        )
        assert done.returncode == 0, f"recording {number} of seed {seed}: {done.stderr}"
        operations = list(shim.read_log(log))
        marks = [n for n, o in enumerate(operations) if o.kind is Kind.MARK]
        anywhere = range(marks[0] + 1, len(operations) + 1)
        share = count // recordings + (number < count % recordings)
        disk, at = CutDisk(root), 0
        # Half of them right after a promise, where it is the freshest.
        fresh = [n + 1 for n in draw.choices(marks, k=share // 2)]
        for cut in sorted(fresh + draw.choices(anywhere, k=share - len(fresh))):
            disk.apply_all(operations[at:cut])
            at = cut
            outcome.check(
                f"python -m tests.crash.power_cuts {root} {log} {cut} {seed} {size}",
                lambda disk=disk, ops=operations, cut=cut: opened(
                    disk, ops, cut, seed, size, folder / "image"
                ),
            )
        shutil.rmtree(root)
        root.mkdir()
        cut = draw.randrange(len(operations) // 2, len(operations) + 1)
        disk = CutDisk(root)
        disk.apply_all(operations[:cut])
        disk.image(root, draw)
        must, promise = promised(operations, cut)
        promise.blocks = must
    return outcome


def opened(
    disk: CutDisk, operations: Sequence[Operation], cut: int, seed: int, size: int, image: Path
) -> float:
    """Write what ``disk`` holds after a cut to the folder ``image``, and open the memory there.

    Returns:
        Seconds that opening took.

    Raises:
        Broken: it is not what was promised.
    """
    if image.exists():
        shutil.rmtree(image)
    image.mkdir()
    disk.image(image, random.Random(f"{seed}:{cut}"))
    return hold_to(image / "memory", size, *promised(operations, cut))


def promised(operations: Sequence[Operation], cut: int) -> tuple[set[int], Promise]:
    """What must be there after a cut: blocks, and everything else.

    Blocks that the next promise has no more may have been dropped already.
    """
    marks = [(at, o.data) for at, o in enumerate(operations) if o.kind is Kind.MARK]
    before = Promise.of([data for at, data in marks if at < cut][-1])
    after = Promise.of(next((data for at, data in marks if at >= cut), marks[-1][1]))
    before.next, before.texts = after.next, after.texts
    before.told = [n for n in before.told if n in after.told]
    return before.blocks & after.blocks, before


def main(root: Path, log: Path, cut: int, seed: int, size: int) -> None:
    """Show a cut again."""
    operations = list(shim.read_log(log))
    disk = CutDisk(root)
    disk.apply_all(operations[:cut])
    took = opened(disk, operations, cut, seed, size, log.parent / "image")
    print(f"all is as it must be; opened in {took:.3f} s")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:]))
