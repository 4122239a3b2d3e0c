"""Chat in the terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from rich.console import Console
from rich.markup import escape

from everlong.engine.llm import LLM
from everlong.engine.request import Chunk, SamplingParams, Usage
from everlong.errors import EverlongError, RequestError
from everlong.memory.memory import Memory

HELP = "/new begins another conversation, /exit or Ctrl-D leaves, Ctrl-C stops an answer"


OUR_SAMPLING = SamplingParams(temperature=0.7, top_p=0.95)
"""How a model answers whose makers say nothing about it: small ones lose the thread at 1."""


def chat(
    llm: LLM,
    sampling: Mapping[str, Any],
    system: str | None = None,
    session: str | None = None,
) -> None:
    """Talk to a model until the input ends.

    Args:
        llm: loaded model with a chat template.
        sampling: fields of ``SamplingParams`` that are not left to the model's makers.
        system: system prompt; None: the template's own.
        session: name of the session that goes on; None: a new one. Where the model has no memory
            the conversation ends with the program.

    Raises:
        RequestError: a session is named, and there is no memory.
    """
    makers = llm.default_sampling
    answers = replace(OUR_SAMPLING if makers == SamplingParams() else makers, **sampling)
    notes = Console(stderr=True, highlight=False)
    first: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    messages = list(first)
    notes.print(f"[dim]{llm.name}, window of {llm.max_model_len:,} tokens. {HELP}.[/dim]")
    if session is not None and llm.memory is None:
        raise RequestError(f"session {session!r} is named, and nothing is remembered here")
    if llm.memory is not None:
        session = session or _new_name()
        notes.print(f"[dim]{_about(llm.memory, session)}[/dim]", markup=True)
    while (line := _read_line()) is not None:
        if line.strip() == "/exit":
            return
        if line.strip() == "/new":
            messages = list(first)
            session = None if llm.memory is None else _new_name()
            notes.print(f"[dim]{session or 'a new conversation'}[/dim]")
        elif line.strip():
            messages.append({"role": "user", "content": line})
            try:
                told = messages if session is None else [*first, messages[-1]]
                answer, note = say(llm.stream(told, answers, session=session))
            except EverlongError as error:
                # The conversation goes on without the message that could not be answered.
                messages.pop()
                notes.print(f"[red]{error}[/red]")
                continue
            messages.append({"role": "assistant", "content": answer})
            notes.print(f"[dim]{note}[/dim]")


def say(chunks: Iterator[Chunk]) -> tuple[str, str]:
    """Print an answer as it comes; Ctrl-C ends it.

    Returns:
        The text, and a line about tokens and speed.
    """
    started, text, usage, first = time.perf_counter(), "", Usage(), 0.0
    try:
        for chunk in chunks:
            first = first or time.perf_counter()
            usage = chunk.usage
            text += chunk.text
            print(chunk.text, end="", flush=True)
    except KeyboardInterrupt:
        chunks.close()  # type: ignore[attr-defined]
    print()
    return text, speed(usage, first - started, time.perf_counter() - first)


def speed(usage: Usage, first: float, rest: float) -> str:
    """One line: tokens read and found, time to the first token, tokens per second after it."""
    found = f" ({usage.cached_tokens} found)" if usage.cached_tokens else ""
    rate = f", {(usage.completion_tokens - 1) / rest:.0f} tokens/s" if rest > 0 else ""
    return (
        f"{usage.prompt_tokens} tokens read{found} in {first:.2f} s, "
        f"{usage.completion_tokens} written{rate}"
    )


def _new_name() -> str:
    return time.strftime("chat-%Y-%m-%d-%H%M%S")


def _about(memory: Memory, session: str) -> str:
    """What a session has already, for its reader."""
    found = memory.sessions.find(memory.namespace().id, session)
    if found is None:
        return f"this conversation is kept as {session}; --session {session} goes on with it"
    messages = memory.sessions.messages(found)
    last = " ".join(str(messages[-1].body.get("content") or "").split())[-80:] if messages else ""
    return f"{session} goes on after {len(messages)} messages; the last ends with: {escape(last)}"


def _read_line() -> str | None:
    try:
        if sys.stdin.isatty():
            return input("> ")
        line = sys.stdin.readline()
        return line.rstrip("\n") if line else None
    except EOFError:
        return None
    except KeyboardInterrupt:
        print()
        return ""
