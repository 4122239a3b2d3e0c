"""The loops that Everlong's training is timed beside, each in a worker process of its own.

All train a model of one shape on the same tokens in batches of the same size, in bfloat16 autocast
with float32 weights, AdamW, and gradients clipped to a norm of 1, which are the recipe's settings.
All keep the memory that they free (:func:`everlong.device.keep_freed_memory`), as Everlong does by
itself: others would spend a third of their time on getting it back from the system.
``python -m benchmarks.training_loops NAME`` serves one of :data:`LOOPS`.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.worker import package_version, serve

Told = dict[str, Any]
"""``times``: moments at which steps were done, in seconds; of Everlong besides ``flops``:
operations of the steps behind the first :data:`WARM`, and ``peak``: those a second of one matrix
product."""

WARM = 2
"""Steps of each turn that are not timed."""


class Everlong:
    """``Trainer`` with a recipe of one phase.

    Args:
        text: a file, all of whose tokens are one document.
        sequences, length: of a step.
        shape: of a new model: fields of ``ModelConfig``.
        tokenizer: of a new model: name of the model whose it is.
        checkpoint: of a model that exists: its name.
        rank: of an adapter that is trained beside it; 0: all weights are.
    """

    def __init__(
        self,
        text: str,
        sequences: int,
        length: int,
        shape: dict[str, Any] | None = None,
        tokenizer: str | None = None,
        checkpoint: str | None = None,
        rank: int = 0,
    ) -> None:
        from everlong.data.corpora import Corpus
        from everlong.model.adapters import LoraConfig
        from everlong.model.config import ModelConfig
        from everlong.training.recipe import ModelSource, Phase, Recipe

        self._recipe = Recipe(
            run=Path(),
            model=ModelSource(checkpoint, ModelConfig(**shape) if shape else None, tokenizer),
            corpora=(Corpus("text", (Path(text),)),),
            phases=(Phase(1, 1e-3, length, sequences, {"text": 1.0}),),
            adapter=LoraConfig(rank=rank) if rank else None,
        )

    def steps(self, count: int) -> Told:
        """Train so many steps from the beginning."""
        from everlong.device import measured_peak_flops
        from everlong.training.trainer import Trainer

        phase = replace(self._recipe.phases[0], steps=count)
        times, flops = [], []

        def tell(step: Any) -> None:
            times.append(time.perf_counter())
            flops.append(step.flops)

        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder) / "run"
            recipe = replace(self._recipe, run=run, phases=(phase,), checkpoint_every=count)
            Trainer(recipe).run(tell=tell)
        return {"times": times, "flops": sum(flops[WARM:]), "peak": measured_peak_flops("bf16")}


class PlainLoop:
    """A loop as short as nanoGPT's over a plain model, see ``plain_llama.py``; as ``Everlong``.

    Args:
        compiled: by ``torch.compile``, which is nanoGPT's default, too.
    """

    def __init__(
        self,
        text: str,
        sequences: int,
        length: int,
        shape: dict[str, Any],
        tokenizer: str,
        compiled: bool = False,
    ) -> None:
        self._shape, self._batch, self._compiled = shape, (sequences, length), compiled
        self._tokens = _tokens(text, tokenizer)

    def steps(self, count: int) -> Told:
        """Train so many steps from the beginning."""
        import torch

        from benchmarks.plain_llama import Llama
        from benchmarks.plain_step import plain_step

        torch.manual_seed(0)
        model = Llama(**self._shape)
        matrices = [one for one in model.parameters() if one.ndim > 1]
        vectors = [one for one in model.parameters() if one.ndim <= 1]
        optimizer = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": 0.1},
                {"params": vectors, "weight_decay": 0.0},
            ],
            lr=1e-3,
            betas=(0.9, 0.95),
            fused=True,
        )
        tokens = torch.tensor(self._tokens)
        sequences, length = self._batch
        called: torch.nn.Module = torch.compile(model) if self._compiled else model  # type: ignore[assignment]
        times = []
        for _ in range(count):
            plain_step(called, optimizer, tokens, sequences, length)
            times.append(time.perf_counter())
        return {"times": times}


class TransformersTrainer:
    """``transformers.Trainer`` with ``LlamaForCausalLM``, and PEFT; as ``Everlong``."""

    def __init__(
        self,
        text: str,
        sequences: int,
        length: int,
        shape: dict[str, Any] | None = None,
        tokenizer: str | None = None,
        checkpoint: str | None = None,
        rank: int = 0,
    ) -> None:
        self._shape, self._rank, self._batch = shape, rank, (sequences, length)
        self._folder = None
        if checkpoint is not None:
            from everlong.checkpoint import open_checkpoint
            from everlong.checkpoint.catalog import resolve
            from everlong.checkpoint.export import export

            self._folder = tempfile.TemporaryDirectory()
            export(
                open_checkpoint(resolve(checkpoint)),
                Path(self._folder.name) / "model",
                dtype="float32",
            )
        tokens = _tokens(text, tokenizer or checkpoint or "")
        ends = range(length, len(tokens), length)
        self._examples = [{"input_ids": tokens[end - length : end]} for end in ends]
        for one in self._examples:
            one["labels"] = one["input_ids"]

    def steps(self, count: int) -> Told:
        """Train so many steps from the beginning."""
        from transformers import (
            Trainer,
            TrainerCallback,
            TrainingArguments,
            default_data_collator,
        )

        times = []

        class Clock(TrainerCallback):
            def on_step_end(self, *_: Any, **__: Any) -> None:
                times.append(time.perf_counter())

        with tempfile.TemporaryDirectory() as folder:
            Trainer(
                model=self._model(),
                args=TrainingArguments(
                    output_dir=folder,
                    per_device_train_batch_size=self._batch[0],
                    max_steps=count,
                    learning_rate=1e-3,
                    weight_decay=0.1,
                    adam_beta2=0.95,
                    max_grad_norm=1.0,
                    lr_scheduler_type="constant",
                    optim="adamw_torch_fused",
                    bf16=True,
                    use_cpu=True,
                    save_strategy="no",
                    logging_strategy="no",
                    report_to=[],
                    disable_tqdm=True,
                ),
                train_dataset=self._examples,
                data_collator=default_data_collator,
                callbacks=[Clock()],
            ).train()
        return {"times": times}

    def _model(self) -> Any:
        from transformers import LlamaConfig, LlamaForCausalLM

        if self._shape is not None:
            s = self._shape
            return LlamaForCausalLM(
                LlamaConfig(
                    vocab_size=s["vocab_size"],
                    hidden_size=s["hidden_size"],
                    intermediate_size=s["intermediate_size"],
                    num_hidden_layers=s["num_layers"],
                    num_attention_heads=s["num_heads"],
                    num_key_value_heads=s["num_kv_heads"],
                    head_dim=s["head_dim"],
                    max_position_embeddings=s["max_position"],
                    tie_word_embeddings=s["tied_head"],
                    use_cache=False,
                )
            )
        assert self._folder is not None
        model = LlamaForCausalLM.from_pretrained(Path(self._folder.name) / "model")
        model.config.use_cache = False
        if self._rank:
            from peft import LoraConfig, get_peft_model

            matrices = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
            model = get_peft_model(
                model,
                LoraConfig(r=self._rank, lora_alpha=32, target_modules=matrices, lora_dropout=0.0),
            )
        return model


LOOPS: dict[str, Callable[..., Any]] = {
    "everlong": Everlong,
    "plain loop": PlainLoop,
    "plain loop, compiled": partial(PlainLoop, compiled=True),
    "transformers Trainer": TransformersTrainer,
}


def _tokens(text: str, tokenizer: str) -> list[int]:
    from everlong.training.models import tokenizer_of

    return tokenizer_of(tokenizer).encode(Path(text).read_text(encoding="utf-8"), bos=False)


def main(name: str) -> None:
    """Serve a loop: ``load`` with its arguments, then ``steps``."""
    commands: dict[str, Callable[..., Any]] = {}

    def load(threads: int, **given: Any) -> dict[str, Any]:
        import torch

        from everlong.device import keep_freed_memory

        keep_freed_memory()
        torch.set_num_threads(threads)
        loop = LOOPS[name](**given)
        commands["steps"] = loop.steps
        return {
            "versions": {one: package_version(one) for one in ("torch", "transformers", "peft")}
        }

    commands["load"] = load
    serve(commands)


if __name__ == "__main__":
    main(sys.argv[1])
