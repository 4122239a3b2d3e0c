"""Hugging Face transformers on the same GGUF, which it dequantises when it loads."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.worker import Run, serve_model

MODULE = "transformers"
PACKAGES = ("transformers", "torch")

CANDIDATES: dict[str, dict[str, Any]] = {
    "bfloat16": {},
    "bfloat16, static cache": {"cache": "static"},
    "bfloat16, eager attention": {"attention": "eager"},
    "float32": {"dtype": "float32"},
}

BEST = {
    "prefill": "bfloat16",
    "decode1": "bfloat16",
    "decode16": "bfloat16, eager attention",
}
"""Found with ``benchmarks/inference.py --tune``; the figures are in ``benchmarks/README.md``."""


class Transformers:
    """``AutoModelForCausalLM.generate``, prompts of one length in one batch.

    Args:
        path: a GGUF file.
        threads: of all products.
        dtype: of weights and products.
        cache: ``cache_implementation`` of ``generate``; None is its default.
        attention: ``attn_implementation`` of the model.
    """

    def __init__(
        self,
        path: str,
        *,
        threads: int,
        dtype: str = "bfloat16",
        cache: str | None = None,
        attention: str = "sdpa",
    ) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        torch.set_num_threads(threads)
        file = Path(path)
        model: Any = AutoModelForCausalLM.from_pretrained(
            file.parent,
            gguf_file=file.name,
            dtype=getattr(torch, dtype),
            attn_implementation=attention,
        )
        self._model = model.eval()
        config = self._model.generation_config
        config.eos_token_id = None  # nothing ends early
        config.pad_token_id = 0
        config.do_sample = False
        config.temperature = config.top_p = config.top_k = None
        config.cache_implementation = cache

    def run(self, prompts: Sequence[Sequence[int]], tokens: int) -> Run:
        """See ``worker.Model``; all prompts have the same length."""
        import torch

        ids = torch.tensor(prompts)
        arrivals = _Arrivals()
        begin = time.perf_counter()
        with torch.inference_mode():
            out = self._model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=tokens,
                streamer=arrivals if len(prompts) == 1 else None,
            )
        seconds = time.perf_counter() - begin
        new = out.shape[1] - ids.shape[1]
        times = arrivals.times
        return Run(
            seconds,
            times[-1] - times[1] if len(times) > 2 else None,
            [ids.shape[1]] * len(prompts),
            [new] * len(prompts),
        )


class _Arrivals:
    """A streamer that notes when the prompt and each token were put to it."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, value: Any) -> None:
        self.times.append(time.perf_counter())

    def end(self) -> None:
        pass


if __name__ == "__main__":
    serve_model(Transformers, PACKAGES)
