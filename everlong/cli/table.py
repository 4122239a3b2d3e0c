"""All commands: what each calls, and an example of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from everlong.apps import curate as curation
from everlong.apps import memory as memories
from everlong.apps import models
from everlong.apps.plan import plan
from everlong.apps.train import train
from everlong.apps.verify_resume import verify_resume
from everlong.cli import commands


@dataclass(frozen=True)
class Command:
    """One command; its arguments are those of the function, its help the function's docstring."""

    function: Callable[..., None]
    example: str
    """What stands behind ``everlong``."""

    @property
    def about(self) -> str:
        """What it does, in a sentence."""
        assert self.function.__doc__
        return self.function.__doc__.split("\n")[0]


COMMANDS: dict[str, Command] = {
    "pull": Command(models.pull, "pull smollm2-135m"),
    "chat": Command(commands.chat, "chat --model smollm2-135m --temperature 0.3"),
    "generate": Command(commands.generate, "generate 'Once upon a time' --max-tokens 40 --seed 1"),
    "serve": Command(commands.serve, "serve smollm2-135m --port 8000 --api-key secret"),
    "convert": Command(models.convert, "convert smollm2-135m ./smollm2-hf --dtype bfloat16"),
    "grow": Command(models.grow, "grow smollm2-135m ./deep --layers 128"),
    "tokenizer": Command(
        models.tokenizer, "tokenizer ./tokenizer --texts ./texts --vocab-size 8192"
    ),
    "fertility": Command(models.fertility, "fertility smollm2-135m --texts ./sentences.tsv"),
    "corpus": Command(models.corpus, "corpus ./corpus"),
    "bench": Command(commands.bench, "bench --model ./model.gguf --llama-cpp true"),
    "calibrate": Command(commands.calibrate, "calibrate smollm2-135m --text ./our-manuals.txt"),
    "route": Command(commands.route, "route smollm2-135m --prompt-file ./book.txt --out ./routing"),
    "eval": Command(
        commands.evaluate, "eval smollm2-135m --data ./data --tasks arc_easy --limit 200"
    ),
    "eval-compare": Command(commands.compare, "eval compare ./figures/small ./figures/large"),
    "eval-report": Command(commands.report, "eval report ./figures/small --out ./report"),
    "curate": Command(curation.curate, "curate recipes/curate.yaml --workers 2"),
    "curate-inspect": Command(curation.inspect, "curate inspect ./curated --step gopher_quality"),
    "curate-forget": Command(curation.forget, "curate forget ./curated"),
    "curate-reproduce": Command(curation.reproduce, "curate reproduce ./curated/lock.json"),
    "train": Command(train, "train recipes/pretrain.yaml --run ./runs/first"),
    "verify-resume": Command(verify_resume, "verify-resume recipes/pretrain.yaml --steps 40"),
    "plan": Command(plan, "plan recipes/spec-full.yaml --tokens 100T --devices 4096xH100"),
    "demo": Command(commands.demo, "demo"),
    "memory-list": Command(memories.show_list, "memory list --limit 5"),
    "memory-search": Command(memories.search, "memory search 'my sister'"),
    "memory-show": Command(memories.show, "memory show chat-2026-11-25"),
    "memory-forget": Command(memories.forget, "memory forget --query 'credit card'"),
    "memory-remember": Command(memories.remember, "memory remember ./handbook.md"),
    "memory-export": Command(memories.export, "memory export ./memory.zip"),
    "memory-import": Command(memories.take_in, "memory import ./memory.zip"),
    "memory-rekey": Command(memories.replace_key, "memory rekey OLD NEW"),
    "memory-verify": Command(memories.verify, "memory verify"),
    "memory-stats": Command(memories.stats, "memory stats"),
}
"""By name, in the order of the help; ``memory-list`` is said as ``memory list``."""
