"""A model with a memory in a process of its own: ending it is the restart that is measured.

Commands and answers are JSON, one to a line. What the process does is what anybody's program does:
:func:`everlong.load` with a memory, :meth:`LLM.chat` with a session, and the operations.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

import everlong.errors
from everlong.checkpoint.catalog import resolve
from everlong.engine.config import EngineConfig
from everlong.engine.llm import LLM
from everlong.engine.request import SamplingParams
from everlong.errors import (
    CheckpointError,
    ConfigError,
    EngineStoppedError,
    EverlongError,
    MissingDataError,
)
from everlong.evaluation.task import E, Model, Run, Task
from everlong.memory.namespaces import LOCAL
from everlong.memory.operations import perform

WINDOW = 4096
"""Tokens of a conversation: what is told in one, and what is recalled meanwhile."""


_MEASURED = (
    "memory/*.py",
    "engine/conversations.py",
    "engine/embedders.py",
    "engine/embedding.py",
)
"""The code of the memory, in the package's folder."""


class MemoryTask(Task[E]):
    """A task whose answers are decided by the memory's code, too."""

    @property
    def program(self) -> str:
        """See :class:`Task`."""
        return _program()


@cache
def _program() -> str:
    package = Path(__file__).parents[1]
    digest = hashlib.blake2b(digest_size=16)
    for path in (path for pattern in _MEASURED for path in sorted(package.glob(pattern))):
        digest.update(path.read_bytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Reply:
    """What came back for a question."""

    text: str
    notes: str
    """What was recalled, as it stood in the prompt; empty: nothing was."""
    recalled: frozenset[str]
    """Ids of the episodes in the notes."""


class Remembering:
    """A model with a memory, loaded in a new process.

    Args:
        run: its model is loaded; the run's own copy goes on beside it.
        folder: of the memory.
        embedder: of its recall; see :func:`everlong.load`.

    Raises:
        MissingDataError: the embedder is not here.
        ConfigError: the run does not say how its model is loaded, it has no chat template, or its
            window is shorter than ``WINDOW``.
        EverlongError: as loading it raises.
    """

    def __init__(self, run: Run, folder: Path, embedder: str | None = None) -> None:
        if run.model is None:
            raise ConfigError("needs to load the model again, and is not told how; see evaluate()")
        if run.llm.tokenizer.chat_template is None:
            raise ConfigError("the model has no chat template, and sessions need one")
        if run.llm.max_model_len < WINDOW:
            raise ConfigError(
                f"needs a window of {WINDOW:,} tokens, and the model has "
                f"{run.llm.max_model_len:,}; raise --max-model-len"
            )
        if embedder is not None:
            try:
                resolve(embedder)
            except CheckpointError as error:
                raise MissingDataError(f"needs a sentence encoder: {error}") from None
        self._process = subprocess.Popen(
            [sys.executable, "-m", "everlong.evaluation.remembering"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )
        try:
            self._call("load", **asdict(run.model), memory=str(folder), embedder=embedder)
        except BaseException:
            self.close()
            raise

    def tell(self, text: str, *, session: str, namespace: str, max_tokens: int) -> None:
        """Say something in a session, and have it answered."""
        self._call("tell", text=text, session=session, namespace=namespace, max_tokens=max_tokens)

    def ask(self, text: str, *, namespace: str = LOCAL, system: str = "", max_tokens: int) -> Reply:
        """Ask in a new session, which is forgotten then: no question finds another's.

        Args:
            text: the question.
            namespace: in which it is asked.
            system: what the model is told besides.
            max_tokens: of the answer, which is the likeliest one.
        """
        told = self._call(
            "ask", text=text, namespace=namespace, system=system, max_tokens=max_tokens
        )
        return Reply(told["text"], told["notes"], frozenset(told["recalled"]))

    def perform(self, operation: str, *, namespace: str = LOCAL, **arguments: Any) -> Any:
        """See :func:`everlong.memory.operations.perform`."""
        return self._call("perform", operation=operation, namespace=namespace, arguments=arguments)

    def close(self) -> None:
        """Close the memory, and end the process."""
        self._process.communicate()

    def __enter__(self) -> Remembering:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _call(self, command: str, **arguments: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"do": command, **arguments}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:
            line = ""
        if not line:
            raise EngineStoppedError("the process that has the memory has died; see what it said")
        answer = json.loads(line)
        if "error" in answer:
            raise getattr(everlong.errors, answer["error"])(answer["message"])
        return answer["ok"]


def _commands(llm: LLM) -> Mapping[str, Callable[..., Any]]:
    memory = llm.memory
    assert memory is not None, "the model was loaded with one"

    def say(
        text: str, namespace: str, session: str, max_tokens: int, system: str = ""
    ) -> Mapping[str, Any]:
        # Vectors are made in the background; what is found shall not depend on how far that is.
        while memory.recall.embed_some():
            pass
        messages = [{"role": "system", "content": system}] if system else []
        messages += [{"role": "user", "content": text}]
        sampling = SamplingParams(temperature=0.0, max_tokens=max_tokens)
        done = llm.chat(messages, sampling, session=session, namespace=namespace)
        kept = memory.sessions.find(memory.namespace(namespace).id, session)
        assert kept is not None, "it was just used"
        asked = [m for m in memory.sessions.messages(kept) if m.body["role"] == "user"][-1]
        recalled = [identity.hex() for identity, _ in asked.recalled]
        return {"text": done.text, "notes": asked.notes, "recalled": recalled}

    def ask(namespace: str, **question: Any) -> Mapping[str, Any]:
        session = f"question-{secrets.token_hex(8)}"
        told = say(namespace=namespace, session=session, **question)
        operate(namespace, "forget", {"session": session})
        return told

    def operate(namespace: str, operation: str, arguments: Mapping[str, Any]) -> Any:
        return perform(memory, memory.namespace(namespace), operation, arguments)

    return {"tell": say, "ask": ask, "perform": operate}


def main() -> None:
    """Answer commands from standard input until it ends; the first one loads the model."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that asks tells when to end
    # Whatever libraries print goes to standard error: answers are alone in their place.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers, ExitStack() as opened:
        os.dup2(2, 1)
        commands: dict[str, Callable[..., Any]] = {}

        def load(
            path: str, weights: Any, engine: dict[str, Any], memory: str, embedder: str | None
        ) -> None:
            model = Model(path, weights, EngineConfig(**engine))
            commands.update(_commands(opened.enter_context(model.load(memory, embedder))))

        commands["load"] = load
        for line in sys.stdin:
            asked = json.loads(line)
            try:
                answer = {"ok": commands[asked.pop("do")](**asked)}
            except EverlongError as error:
                answer = {"error": type(error).__name__, "message": str(error)}
            answers.write(json.dumps(answer) + "\n")
            answers.flush()


if __name__ == "__main__":
    main()
