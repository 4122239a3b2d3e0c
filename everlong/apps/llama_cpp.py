"""llama.cpp's speed on the same machine and file, for comparison."""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

from everlong.apps.measure import Rates
from everlong.device import threads
from everlong.errors import MissingExtraError


def measure_llama_cpp(
    gguf: Path, *, streams: int = 16, repeats: int = 3, tokens: int = 64, prompt: int = 1000
) -> Rates:
    """The figures of :func:`everlong.apps.measure.measure`, of llama.cpp.

    Reading and one stream are what llama.cpp itself reports for a request.

    Raises:
        MissingExtraError: ``xllamacpp`` is not installed.
    """
    try:
        import xllamacpp
    except ImportError:
        raise MissingExtraError("xllamacpp", "bench") from None
    params = xllamacpp.CommonParams()
    params.model.path = str(gguf)
    params.n_ctx = streams * 2048
    params.n_parallel = streams
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads()
    params.verbosity = -1
    server = xllamacpp.Server(params)
    random = Random(1)

    def complete(length: int, count: int) -> Any:
        return server.handle_completions(
            {
                "prompt": [random.randrange(1000, 40000) for _ in range(length)],
                "n_predict": count,
                "temperature": 0,
                "ignore_eos": True,
                "cache_prompt": False,
            }
        )["timings"]

    prefill, one, many = [], [], []
    with ThreadPoolExecutor(streams) as pool:
        for _ in range(repeats):
            prefill.append(complete(prompt, 1)["prompt_per_second"])
            one.append(complete(32, tokens)["predicted_per_second"])
            start = time.perf_counter()
            list(pool.map(lambda _: complete(32, tokens), range(streams)))
            many.append(streams * tokens / (time.perf_counter() - start))
    median = statistics.median
    return Rates(median(prefill), median(one), median(many), streams)
