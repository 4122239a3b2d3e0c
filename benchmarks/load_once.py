"""One fresh process that loads a model and prints, as JSON, what that took.

Usage: ``python -m benchmarks.load_once MODEL WEIGHTS``
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

_KB = 1024


def resident() -> dict[str, int]:
    """Bytes of this process in memory: all, of files, and the most there ever were.

    Linux only: ``/proc/self/status`` is where they are read.
    """
    names = {"VmRSS": "all", "RssFile": "of_files", "VmHWM": "peak"}
    found = {}
    for line in Path("/proc/self/status").read_text().splitlines():
        key, _, value = line.partition(":")
        if key in names:
            found[names[key]] = int(value.split()[0]) * _KB
    return found


def resident_of(path: str) -> int:
    """Bytes of a mapped file that this process holds in memory."""
    inside, total = False, 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first = line.split(" ", 1)[0]
        if "-" in first and not first.endswith(":"):
            inside = line.endswith(path)
        elif inside and line.startswith("Rss:"):
            total += int(line.split()[1]) * _KB
    return total


def weight_bytes(model: Any) -> int:
    """Bytes of a model's weights as they lie in memory, each once."""
    from everlong.model.quantization import PackedLinear

    packed = sum(m.nbytes for m in model.modules() if isinstance(m, PackedLinear))
    plain = {p.data_ptr(): p.nbytes for p in model.parameters()}
    return int(packed + sum(plain.values()))


def main(path: str, weights: str) -> None:
    """Import, load, generate a token; print times and sizes."""
    begin = time.perf_counter()
    from everlong import load  # the package imports lazily, and this brings PyTorch

    imported = time.perf_counter()
    bare = resident()
    llm = load(path, weights=weights)  # type: ignore[arg-type]
    loaded = time.perf_counter()
    llm.generate([[1, 2, 3, 4]], max_tokens=1, temperature=0.0, ignore_eos=True)
    first_token = time.perf_counter()
    after = resident()
    result = {
        "import_seconds": imported - begin,
        "load_seconds": loaded - imported,
        "first_token_seconds": first_token - loaded,
        "resident_after_import": bare["all"],
        "resident": after["all"],
        "resident_peak": after["peak"],
        "resident_of_model_file": resident_of(str(Path(path).resolve())),
        "weight_bytes": llm.engine.call(lambda runner: weight_bytes(runner.model)).result(),
    }
    llm.close()
    print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
