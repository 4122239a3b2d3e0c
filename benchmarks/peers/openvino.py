"""OpenVINO GenAI: ``LLMPipeline`` on the same GGUF, or on an int4 export of it.

The pipeline reads GGUF files of Q4_0, Q4_1, Q8_0 and F16 tensors; others (Q4_K_M mixes) it
refuses, and ``openvino_export.py`` makes its own int4 format from them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from benchmarks.worker import Run, serve_model

MODULE = "openvino_genai"
PACKAGES = ("openvino-genai", "openvino")

CANDIDATES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "continuous batching": {"scheduler": {}},
    "continuous batching, 512 tokens a step": {"scheduler": {"max_num_batched_tokens": 512}},
    "continuous batching, 2048 tokens a step": {"scheduler": {"max_num_batched_tokens": 2048}},
    "attention of SDPA": {"properties": {"ATTENTION_BACKEND": "SDPA"}},
    "float32 products": {"properties": {"INFERENCE_PRECISION_HINT": "f32"}},
    "bfloat16 products": {"properties": {"INFERENCE_PRECISION_HINT": "bf16"}},
    "exact activations": {"properties": {"DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}},
    "activations in groups of 64": {"properties": {"DYNAMIC_QUANTIZATION_GROUP_SIZE": 64}},
    "cache in bfloat16": {"properties": {"KV_CACHE_PRECISION": "bf16"}},
    "pinned threads": {"properties": {"PERFORMANCE_HINT": "LATENCY", "ENABLE_CPU_PINNING": True}},
}

BEST = dict.fromkeys(("prefill", "decode1", "decode16"), "cache in bfloat16")
"""Found with ``benchmarks/inference.py --tune``; the figures are in ``benchmarks/README.md``."""


class OpenVino:
    """An ``LLMPipeline`` on the CPU without prefix caching.

    Args:
        path: a GGUF file or the folder of an export.
        threads: of inference.
        scheduler: settings of ``SchedulerConfig``; None leaves the choice to the pipeline.
        properties: of the CPU plugin.
    """

    def __init__(
        self,
        path: str,
        *,
        threads: int,
        scheduler: dict[str, Any] | None = None,
        properties: dict[str, Any] | None = None,
    ) -> None:
        import openvino_genai as genai

        options = {"INFERENCE_NUM_THREADS": threads, **(properties or {})}
        if scheduler is not None:
            config = genai.SchedulerConfig()
            config.max_num_seqs = 16
            config.enable_prefix_caching = False
            config.cache_size = 1  # GB
            for name, value in scheduler.items():
                setattr(config, name, value)
            options["scheduler_config"] = config
        self._pipeline = genai.LLMPipeline(path, "CPU", **options)

    def run(self, prompts: Sequence[Sequence[int]], tokens: int) -> Run:
        """See ``worker.Model``; all prompts have the same length."""
        import numpy as np
        import openvino as ov
        import openvino_genai as genai

        config = genai.GenerationConfig()
        config.max_new_tokens = tokens
        config.ignore_eos = True
        config.do_sample = False
        ids = np.array(prompts, dtype=np.int64)
        inputs = genai.TokenizedInputs(ov.Tensor(ids), ov.Tensor(np.ones_like(ids)))
        begin = time.perf_counter()
        result = self._pipeline.generate(inputs, config)
        seconds = time.perf_counter() - begin
        metrics = result.perf_metrics
        # One of its backends counts a row of the batch, the other all rows.
        read = metrics.get_num_input_tokens()
        # Its own clock: the mean time of a token after the first.
        steps = tokens - 1
        single = len(prompts) == 1 and steps > 0
        return Run(
            seconds,
            metrics.get_tpot().mean * steps / 1000 if single else None,
            [read // len(prompts) if read == ids.size else read] * len(prompts),
            [len(generated) for generated in result.tokens],
        )


if __name__ == "__main__":
    serve_model(OpenVino, PACKAGES)
