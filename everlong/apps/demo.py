"""A scripted tour of at most two minutes on a real model."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from everlong.apps.chat import say
from everlong.apps.demo_memory import demo_memory
from everlong.apps.llama_cpp import measure_llama_cpp
from everlong.apps.measure import Rates, measure, rates_table
from everlong.engine.llm import LLM
from everlong.engine.request import Constraint, SamplingParams
from everlong.errors import MissingExtraError

QUESTIONS = (
    "What is the capital of Germany?",
    "Why is the sky blue? Answer in one sentence.",
    "Write a haiku about the sea.",
    "Name three fruits.",
    "What is 12 plus 30?",
    "Who wrote Hamlet?",
    "Give a synonym for 'happy'.",
    "What do bees make?",
    "Translate 'good morning' to Spanish.",
    "What is the boiling point of water in Celsius?",
    "Name a planet with rings.",
    "What is the opposite of 'cold'?",
    "How many days are in a week?",
    "What language is spoken in Brazil?",
    "What is the largest ocean?",
    "Finish: Roses are red, violets are",
)

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def demo(llm: LLM, gguf: Path | None, model: str) -> None:
    """Show what a model does and how fast.

    Args:
        llm: an instruct model.
        model: its name, for servers that are started and killed.
        gguf: its file, for the comparison with llama.cpp where ``xllamacpp`` is installed.
    """
    show = Console(highlight=False)
    show.rule("[bold]1. A question, streamed")
    show.print(f"[bold]> {QUESTIONS[1]}")
    greedy = SamplingParams(temperature=0, max_tokens=80)
    _, note = say(llm.stream([_user(QUESTIONS[1])], greedy))
    show.print(f"[dim]{note}")

    show.rule("[bold]2. Sixteen questions at once, continuously batched")
    start = time.perf_counter()
    prompts = [llm.tokenizer.encode_chat([_user(q)]) for q in QUESTIONS]
    answers = llm.generate(prompts, greedy, max_tokens=40)
    seconds = time.perf_counter() - start
    table = Table(show_header=False, box=None)
    for question, answer in zip(QUESTIONS, answers, strict=True):
        table.add_row(f"[bold]{question}", " ".join(answer.text.split())[:90])
    show.print(table)
    written = sum(a.usage.completion_tokens for a in answers)
    show.print(f"[dim]{written} tokens in {seconds:.1f} s: {written / seconds:.0f} tokens/s")

    show.rule("[bold]3. Output in a given form")
    question = "Invent a person. Answer in JSON with name and age."
    show.print(f"[bold]> {question}")
    person = llm.chat(
        [_user(question)], greedy, constraint=Constraint(json_schema=json.dumps(PERSON))
    )
    show.print(json.loads(person.text))

    show.rule("[bold]4. What was read once is not read again")
    story = " ".join(f"Item {i} of the list is number {i * 37 % 101}." for i in range(120))
    asked: list[dict[str, Any]] = [_user(story + " How many items does the list have?")]
    for _ in range(2):
        start = time.perf_counter()
        done = llm.chat(asked, greedy, max_tokens=1)
        show.print(
            f"{done.usage.prompt_tokens} tokens, {done.usage.cached_tokens} of them known: first "
            f"token after {time.perf_counter() - start:.3f} s"
        )

    show.rule("[bold]5. A memory that outlives its server")
    demo_memory(model, show)

    show.rule("[bold]6. Speed here")
    ours = measure(llm)
    theirs, why = _llama_cpp(gguf)
    show.print(rates_table(ours, theirs))
    if why:
        show.print(why, style="dim", markup=False)
    show.print("[dim]Next: everlong chat, everlong serve, README.md")


def _user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def _llama_cpp(gguf: Path | None) -> tuple[Rates | None, str]:
    """The same figures of llama.cpp with the same file, and a note where there are none."""
    if gguf is None:
        return None, "the comparison with llama.cpp needs a GGUF file"
    try:
        return measure_llama_cpp(gguf), ""
    except MissingExtraError as error:
        return None, f"no comparison with llama.cpp: {error}"
