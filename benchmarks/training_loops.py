"""The loops that Everlong's training is timed beside, each in a worker process of its own.

All train a model of one shape on the same tokens in batches of the same size, in bfloat16 autocast
with float32 weights, AdamW, and gradients clipped to a norm of 1, which are the recipe's settings.
``python -m benchmarks.training_loops NAME`` serves one of :data:`LOOPS`.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.worker import serve

Times = list[float]
"""Moments at which steps were done, in seconds."""


class Everlong:
    """``Trainer`` with a recipe of one phase.

    Args:
        shape: fields of ``ModelConfig``.
        text: a file, all of whose tokens are one document.
        tokenizer: name of the model whose it is.
        sequences, length: of a step.
    """

    def __init__(
        self, shape: dict[str, Any], text: str, tokenizer: str, sequences: int, length: int
    ) -> None:
        self._given = (shape, text, tokenizer, sequences, length)

    def steps(self, count: int) -> Times:
        """Train so many steps from the beginning."""
        from everlong.data.corpora import Corpus
        from everlong.model.config import ModelConfig
        from everlong.training.recipe import ModelSource, Phase, Recipe
        from everlong.training.trainer import Trainer

        shape, text, tokenizer, sequences, length = self._given
        with tempfile.TemporaryDirectory() as folder:
            recipe = Recipe(
                run=Path(folder) / "run",
                model=ModelSource(shape=ModelConfig(**shape), tokenizer=tokenizer),
                corpora=(Corpus("text", (Path(text),)),),
                phases=(Phase(count, 1e-3, length, sequences, {"text": 1.0}),),
                checkpoint_every=count,
            )
            times: Times = []
            Trainer(recipe).run(tell=lambda step: times.append(time.perf_counter()))
        return times


class PlainLoop:
    """A loop as short as nanoGPT's over a plain model, see ``plain_llama.py``; as ``Everlong``."""

    def __init__(
        self, shape: dict[str, Any], text: str, tokenizer: str, sequences: int, length: int
    ) -> None:
        self._shape, self._batch = shape, (sequences, length)
        self._tokens = _tokens(text, tokenizer)

    def steps(self, count: int) -> Times:
        """Train so many steps from the beginning."""
        import torch
        from torch.nn.functional import cross_entropy

        from benchmarks.plain_llama import Llama

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
        times: Times = []
        for _ in range(count):
            starts = torch.randint(len(tokens) - length - 1, (sequences,))
            x = torch.stack([tokens[at : at + length] for at in starts])
            y = torch.stack([tokens[at + 1 : at + length + 1] for at in starts])
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(x)
                loss = cross_entropy(logits.view(-1, logits.shape[-1]), y.view(-1))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            loss.item()
            times.append(time.perf_counter())
        return times


class TransformersTrainer:
    """``transformers.Trainer`` with ``LlamaForCausalLM``; as ``Everlong``."""

    def __init__(
        self, shape: dict[str, Any], text: str, tokenizer: str, sequences: int, length: int
    ) -> None:
        self._shape, self._batch = shape, (sequences, length)
        tokens = _tokens(text, tokenizer)
        ends = range(length, len(tokens), length)
        self._examples = [{"input_ids": tokens[end - length : end]} for end in ends]
        for one in self._examples:
            one["labels"] = one["input_ids"]

    def steps(self, count: int) -> Times:
        """Train so many steps from the beginning."""
        from transformers import (
            LlamaConfig,
            LlamaForCausalLM,
            Trainer,
            TrainerCallback,
            TrainingArguments,
            default_data_collator,
        )

        s = self._shape
        model = LlamaForCausalLM(
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
        times: Times = []

        class Clock(TrainerCallback):
            def on_step_end(self, *_: Any, **__: Any) -> None:
                times.append(time.perf_counter())

        with tempfile.TemporaryDirectory() as folder:
            Trainer(
                model=model,
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
        return times


LOOPS: dict[str, Callable[..., Any]] = {
    "everlong": Everlong,
    "plain loop": PlainLoop,
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

        torch.set_num_threads(threads)
        loop = LOOPS[name](**given)
        commands["steps"] = lambda count: {"times": loop.steps(count)}
        return {}

    commands["load"] = load
    serve(commands)


if __name__ == "__main__":
    main(sys.argv[1])
