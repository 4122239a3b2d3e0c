"""Chat templates: messages in, the prompt that the model was trained on out, within bounds."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from everlong.errors import TemplateError
from everlong.tokenizer.tool_prompt import describe_tools, with_argument_objects

MAX_SECONDS = 2.0
MAX_OUTPUT_CHARS = 16 << 20
_MAX_SOURCE_CHARS = 1 << 20
_MAX_REQUEST_BYTES = 64 << 20

ToolFormat = Literal["tagged", "bare"]


class ChatTemplate:
    """A Jinja template in Hugging Face's dialect.

    It is rendered in a separate process, one for all templates, that is started by the first
    use and ended when it takes too long or grows too large; see
    :mod:`everlong.tokenizer.template_worker`.

    Args:
        source: the template.
        tools_source: another one for conversations with tools, where a model has two.
        special_tokens: variables such as ``bos_token`` and ``eos_token``.

    Raises:
        TemplateError: the template is larger than any template should be.
    """

    def __init__(
        self,
        source: str,
        *,
        tools_source: str | None = None,
        special_tokens: Mapping[str, str] | None = None,
    ) -> None:
        for text in (source, tools_source or ""):
            if len(text) > _MAX_SOURCE_CHARS:
                raise TemplateError(
                    f"the chat template has {len(text):,} characters; "
                    f"at most {_MAX_SOURCE_CHARS:,} are allowed"
                )
        self.source = source
        self.tools_source = tools_source
        self.special_tokens: Mapping[str, str] = dict(special_tokens or {})

    @property
    def presents_tools(self) -> bool:
        """Whether the template itself tells the model about ``tools``."""
        return self.tools_source is not None or re.search(r"\btools\b", self.source) is not None

    @property
    def tool_format(self) -> ToolFormat:
        """How the model was asked to write calls: inside ``<tool_call>`` tags, or as bare JSON."""
        source = self.tools_source or self.source
        return "tagged" if "<tool_call>" in source or not self.presents_tools else "bare"

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        **variables: Any,
    ) -> str:
        """The prompt for a conversation, as transformers' ``apply_chat_template`` writes it.

        Two things differ, where that function would lose what was given: the arguments of
        tool calls may be JSON text, as OpenAI's clients send them; and where the template
        ignores ``tools``, a system message presents them and calls and results become text
        (:mod:`everlong.tokenizer.tool_prompt`).

        Args:
            messages: ``{"role": ..., "content": ...}`` with JSON values; keys whose value is
                None are dropped.
            tools: functions in OpenAI's form, or None.
            add_generation_prompt: end with the header of the assistant's turn.
            variables: further variables of the template, e.g. ``enable_thinking``.

        Returns:
            Text that contains its own begin-of-sequence token where the model wants one.

        Raises:
            TemplateError: the template is invalid or refuses the messages, takes longer than
                ``MAX_SECONDS``, or writes more than ``MAX_OUTPUT_CHARS``.
        """
        if not messages:
            raise TemplateError("a conversation needs at least one message")
        chat = [{k: v for k, v in message.items() if v is not None} for message in messages]
        chat = with_argument_objects(chat)
        if not self.presents_tools:
            chat = describe_tools(chat, tools)
        source = self.source
        if tools is not None and self.tools_source is not None:
            source = self.tools_source
        return _renderer.render(
            source,
            {
                **self.special_tokens,
                **variables,
                "messages": chat,
                "tools": tools,
                "documents": variables.get("documents"),
                "add_generation_prompt": add_generation_prompt,
            },
        )

    def as_config(self) -> str | list[dict[str, str]]:
        """The value of ``chat_template`` in a ``tokenizer_config.json``."""
        if self.tools_source is None:
            return self.source
        return [
            {"name": "default", "template": self.source},
            {"name": "tool_use", "template": self.tools_source},
        ]


class _Renderer:
    """The process that renders, and the pipe to it; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._abandoned: list[subprocess.Popen[bytes]] = []

    def render(self, source: str, variables: Mapping[str, Any]) -> str:
        request = {
            "source": source,
            "variables": variables,
            "max_chars": MAX_OUTPUT_CHARS,
            "seconds": MAX_SECONDS,
        }
        try:
            data = json.dumps(request).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise TemplateError(
                f"messages, tools and template variables must be JSON values: {error}"
            ) from error
        if len(data) > _MAX_REQUEST_BYTES:
            raise TemplateError(
                f"the messages take {len(data):,} bytes; at most {_MAX_REQUEST_BYTES:,} are allowed"
            )
        with self._lock:
            answer = self._ask(data)
        if "error" in answer:
            raise TemplateError(f"the chat template failed: {answer['error']}")
        return answer["text"]

    def _ask(self, data: bytes) -> dict[str, str]:
        if self._process is not None and self._process.poll() is not None:
            self.stop()  # it was ended from outside while nothing was asked of it
        process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        started = time.monotonic()
        try:
            process.stdin.write(len(data).to_bytes(8, "little") + data)
            process.stdin.flush()
            header = process.stdout.read(8)
            body = process.stdout.read(int.from_bytes(header, "little"))
            if len(header) == 8 and len(body) == int.from_bytes(header, "little"):
                answer: dict[str, str] = json.loads(body)
                return answer
        except BrokenPipeError:
            pass
        except BaseException:  # interrupted: the answer to come would be taken for the next one
            self.stop()
            raise
        took = time.monotonic() - started
        code = self.stop()
        if took >= MAX_SECONDS:
            raise TemplateError(f"the chat template was stopped: it took over {MAX_SECONDS:g} s")
        raise TemplateError(f"the chat template ended the process that rendered it (code {code})")

    def _start(self) -> subprocess.Popen[bytes]:
        script = Path(__file__).with_name("template_worker.py")
        try:
            self._process = subprocess.Popen(
                [sys.executable or "python3", "-P", str(script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                # It must find the same jinja2 as this process, however that was put on the path.
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                # An interrupt from the terminal is for the program, which closes the pipe.
                start_new_session=True,
            )
        except OSError as error:
            raise TemplateError(
                f"the process that renders chat templates cannot be started: {error}"
            ) from error
        return self._process

    def stop(self) -> int | None:
        """End the process if there is one, and return its exit code."""
        process, self._process = self._process, None
        if process is None:
            return None
        process.kill()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):  # what was not sent is not needed
                pipe.close()
        return process.wait()

    def forget(self) -> None:
        """In a forked child: leave the process and its pipe to the parent."""
        process = self._process
        self._lock = threading.Lock()
        self._process = None
        if process is None:
            return
        process.returncode = 0  # not ours to wait for
        # Another thread may have been writing when this process was forked, so the pipes cannot
        # be closed in an orderly way here. They are pointed elsewhere and kept.
        nowhere = os.open(os.devnull, os.O_RDWR)
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            os.dup2(nowhere, pipe.fileno())
        os.close(nowhere)
        self._abandoned.append(process)


_renderer = _Renderer()
atexit.register(_renderer.stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renderer.forget)
