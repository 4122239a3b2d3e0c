"""llama.cpp through ``xllamacpp``: its server inside this process, on the same GGUF.

The prebuilt wheel is compiled for AVX2 and up; a build for the processor at hand was slower at
prefill and equal at decoding where both were tried (see ``benchmarks/README.md``).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.worker import Run, serve_model

MODULE = "xllamacpp"
PACKAGES = ("xllamacpp",)

CANDIDATES: dict[str, dict[str, Any]] = {
    "16 slots": {"slots": 16},
    "16 slots, flash attention": {"slots": 16, "flash_attention": 1},
    "16 slots, no flash attention": {"slots": 16, "flash_attention": 0},
    "16 slots, one cache": {"slots": 16, "unified": True},
    "16 slots, one cache, no flash attention": {
        "slots": 16,
        "unified": True,
        "flash_attention": 0,
    },
    "16 slots, batches of 128": {"slots": 16, "micro_batch": 128},
    "16 slots, batches of 1024": {"slots": 16, "micro_batch": 1024},
    "1 slot": {"slots": 1},
    "1 slot, no flash attention": {"slots": 1, "flash_attention": 0},
}

BEST = {"prefill": "16 slots", "decode1": "16 slots", "decode16": "16 slots"}
"""Found with ``benchmarks/inference.py --tune``; the figures are in ``benchmarks/README.md``."""

_CONTEXT = 1280
"""The longest prompt and its output in ``benchmarks/inference.py``."""


class LlamaCpp:
    """A server with a slot for each stream, continuous batching, and no prompt cache.

    Args:
        path: a GGUF file.
        threads: of products, for one token and for many.
        slots: sequences at once.
        flash_attention: 1 on, 0 off, -1 as llama.cpp chooses.
        unified: one key/value buffer for all slots instead of one each.
        micro_batch: tokens in one product.
        context: tokens that a slot can hold, a prompt and its output.
    """

    def __init__(
        self,
        path: str,
        *,
        threads: int,
        slots: int,
        flash_attention: int = -1,
        unified: bool = False,
        micro_batch: int = 512,
        context: int = _CONTEXT,
    ) -> None:
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = path
        params.n_parallel = slots
        params.n_ctx = slots * context
        params.n_batch = 2048
        params.n_ubatch = micro_batch
        params.kv_unified = unified
        params.flash_attn_type = flash_attention
        params.cont_batching = True
        params.cpuparams.n_threads = threads
        params.cpuparams_batch.n_threads = threads
        params.fit_params = False
        params.cache_prompt = False
        params.cache_ram_mib = 0
        params.cache_idle_slots = False
        params.verbosity = 0
        self._server = xllamacpp.Server(params)
        self._callers = ThreadPoolExecutor(slots)

    def run(self, prompts: Sequence[Sequence[int]], tokens: int) -> Run:
        """See ``worker.Model``."""

        def complete(prompt: Sequence[int]) -> dict[str, Any]:
            answer: dict[str, Any] = self._server.handle_completions(
                {
                    "prompt": list(prompt),
                    "max_tokens": tokens,
                    "temperature": 0.0,
                    "top_k": 1,
                    "samplers": ["top_k", "temperature"],  # greedy, and nothing else
                    "ignore_eos": True,
                    "cache_prompt": False,
                }
            )
            assert "usage" in answer, f"llama.cpp answered {answer}"
            return answer

        begin = time.perf_counter()
        done = list(self._callers.map(complete, prompts))
        seconds = time.perf_counter() - begin
        usage = [answer["usage"] for answer in done]
        # Its own clock, which begins when the first token is there.
        decode = done[0]["timings"]["predicted_ms"] / 1000 if len(prompts) == 1 else None
        return Run(
            seconds,
            decode,
            [one["prompt_tokens"] for one in usage],
            [one["completion_tokens"] for one in usage],
            sum(one["prompt_tokens_details"]["cached_tokens"] for one in usage),
        )


if __name__ == "__main__":
    serve_model(LlamaCpp, PACKAGES)
