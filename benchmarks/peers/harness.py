"""lm-evaluation-harness with a model in it: its own ``hf``, or Everlong's adapter.

Runs in an interpreter that has the extra ``eval``.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.worker import Command, serve

PACKAGES = ("lm_eval", "transformers", "torch", "everlong")


def _commands() -> Mapping[str, Command]:
    state: dict[str, Any] = {}

    def load(
        path: str, threads: int, kind: str, dtype: str, tasks: list[Mapping[str, Any]]
    ) -> dict[str, Any]:
        import torch
        from lm_eval.tasks import TaskManager

        torch.set_num_threads(threads)
        if kind == "everlong":
            from everlong.evaluation.lm_eval import EverlongLM

            # As hf below: the checkpoint's values, and activations, in bfloat16.
            assert dtype == "bfloat16", dtype
            state["model"] = EverlongLM(path, weights="bf16")
        else:
            from lm_eval.models.huggingface import HFLM

            file = Path(path)
            state["model"] = HFLM(
                pretrained=str(file.parent),
                gguf_file=file.name,
                dtype=dtype,
                device="cpu",
                batch_size=1,
            )
        # The harness reads tasks from files; JSON is YAML.
        with tempfile.TemporaryDirectory() as folder:
            for task in tasks:
                (Path(folder) / f"{task['task']}.yaml").write_text(json.dumps(task))
            state["tasks"] = TaskManager(include_path=folder, include_defaults=False)
            state["tasks"].all_tasks  # noqa: B018 (read while the files are there)
            state["loaded"] = {t["task"]: dict(t) for t in tasks}
        from importlib.metadata import version

        return {"versions": {name: version(name) for name in PACKAGES}}

    def run(task: str, shots: int, limit: int | None, batch_size: int) -> dict[str, Any]:
        from lm_eval import simple_evaluate

        model = state["model"]
        model.batch_size_per_gpu = batch_size  # what hf reads; Everlong batches by itself
        taken = [0.0, 0]
        scored = model._loglikelihood_tokens

        def timed(requests: Any, **options: Any) -> Any:
            begin = time.perf_counter()
            found = scored(requests, **options)
            taken[0] += time.perf_counter() - begin
            taken[1] += len(requests)
            return found

        llm = getattr(model, "llm", None)
        if llm is not None:
            llm.engine.forget_cached()  # a round finds nothing of the rounds before it
        before = _tokens(model)
        model._loglikelihood_tokens = timed
        try:
            done = simple_evaluate(
                model,
                tasks=[state["loaded"][task]],
                num_fewshot=shots,
                limit=limit,
                bootstrap_iters=0,
                log_samples=False,
                task_manager=state["tasks"],
            )
        finally:
            model._loglikelihood_tokens = scored
        figures = done["results"][task]
        after = _tokens(model)
        return {
            "seconds": taken[0],
            "requests": taken[1],
            "examples": done["n-samples"][task]["effective"],
            "scores": {
                k: v for k, v in figures.items() if k.startswith("acc") and "stderr" not in k
            },
            "tokens": after[0] - before[0],
            "found": after[1] - before[1],
        }

    return {"load": load, "run": run}


def _tokens(model: Any) -> tuple[int, int]:
    """Prompt tokens so far, and how many of them were found instead of computed."""
    llm = getattr(model, "llm", None)
    if llm is None:
        return 0, 0
    stats = llm.engine.stats()
    return stats.prompt_tokens, stats.cached_tokens


if __name__ == "__main__":
    serve(_commands())
