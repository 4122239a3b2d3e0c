"""How much memory curation takes while a corpus grows: nothing of it may be kept in memory.

Corpora are passages of books, repeated with noise until there is enough: some copies are the same,
some nearly, most have so many words replaced that they are texts of their own. So steps that look
at the whole corpus have much to remember, and most documents come to the last step.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.report import Measured
from everlong.evaluation.data import Data

CLAIM = "peak_memory"
_RECIPE = """
run: RUN
sources:
  - {name: books, paths: [CORPUS], licence: CC0-1.0}
steps:
  - kind: exact_duplicates
  - kind: language
    keep: [en]
  - kind: gopher_repetition
  - kind: c4_quality
  - kind: hard_blocks
  - kind: personal_data
  - kind: near_duplicates
  - kind: repeated_spans
workers:
  count: 2
"""
_LETTERS = 4000
_FILE_BYTES = 64 << 20
_NOISE = (0.0, 0.02, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5)
"""Share of the words of a copy that are replaced; each copy draws one."""


def measure(
    data: Path, gigabytes: Sequence[float], seed: int, say: Callable[[str], None]
) -> tuple[dict[str, Measured], dict[str, Any]]:
    """Curate corpora of these sizes, and watch the memory of all processes together.

    Args:
        data: folder of the public data.
        gigabytes: of each corpus, ascending.
        seed: of the noise.
        say: told how far it is.
    """
    runs = []
    for size in gigabytes:
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as scratch:
            folder = Path(scratch)
            count = _write(data, folder / "corpus", int(size * 1e9), seed)
            began = time.monotonic()
            peak = _peak(folder)
            seconds = time.monotonic() - began
            counts = json.loads((folder / "run" / "lock.json").read_text(encoding="utf-8"))
            runs.append(
                {"gigabytes": size, "documents": count, "peak": peak, "seconds": seconds}
                | {"files": len(counts["outputs"])}
            )
        say(f"{size:g} GB, {count:,} documents: {peak / 1e6:.0f} MB, {seconds:.0f} s")
    return {
        CLAIM: Measured(
            max(one["peak"] for one in runs) / 1e6,
            "; ".join(
                f"{one['gigabytes']:g} GB ({one['documents']:,} documents, "
                f"{one['seconds']:.0f} s) {one['peak'] / 1e6:.0f} MB"
                for one in runs
            )
            + "; proportional set sizes of all processes together, every 0.2 s; eight steps, two "
            "workers",
        )
    }, {"runs": runs}


def _peak(folder: Path) -> int:
    """Run the recipe; the most memory that its processes had together, in bytes."""
    path = folder / "recipe.yaml"
    recipe = _RECIPE.replace("RUN", str(folder / "run"))
    path.write_text(recipe.replace("CORPUS", str(folder / "corpus")), encoding="utf-8")
    command = [sys.executable, "-m", "everlong.cli", "curate", str(path)]
    peak = 0
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            while process.poll() is None:
                peak = max(peak, sum(_sizes(process.pid)))
                time.sleep(0.2)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
    if process.returncode:
        told = (folder / "log").read_text(encoding="utf-8", errors="replace")
        raise RuntimeError(f"curate ended with status {process.returncode}: {told[-2000:]}")
    return peak


def _sizes(session: int) -> Iterator[int]:
    """Bytes of each process of a session; what several share is divided among them."""
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with suppress(OSError, ValueError):  # one that has just ended
            if os.getsid(int(folder.name)) == session:
                lines = (folder / "smaps_rollup").read_text().splitlines()
                yield sum(int(one.split()[1]) << 10 for one in lines if one.startswith("Pss:"))


def _write(data: Path, folder: Path, size: int, seed: int) -> int:
    """Write a corpus of so many bytes as files of JSON lines; how many documents it has."""
    folder.mkdir()
    chance = random.Random(seed)
    passages = [*_passages(data)]
    words = [*{word for passage in passages[:500] for word in passage}]
    written = documents = 0
    for number in itertools.count():
        with (folder / f"{number:05}.jsonl").open("wb") as file:
            while file.tell() < _FILE_BYTES:
                copy = [*chance.choice(passages)]
                for at in range(int(chance.choice(_NOISE) * len(copy))):
                    copy[chance.randrange(len(copy))] = words[(documents + at) % len(words)]
                line = json.dumps({"id": f"{documents}", "text": " ".join(copy)})
                written += file.write(line.encode() + b"\n")
                documents += 1
                if written >= size:
                    return documents
    raise AssertionError("files do not end")


def _passages(data: Path) -> Iterator[list[str]]:
    """Passages of books as their words, line ends among them."""
    books = Data(data)
    for name in books.names("books/*.txt"):
        text = books.text(name)
        for at in range(0, len(text) - _LETTERS, _LETTERS):
            yield text[at : at + _LETTERS].split(" ")
