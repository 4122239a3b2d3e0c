"""Tool calls in what a model writes, found while it is being written.

Two forms are known. *Tagged* (Qwen, Hermes, SmolLM2)::

    <tool_call>
    {"name": "weather", "arguments": {"city": "Oslo"}}
    </tool_call>

with one call, several one after the other, or a list of calls inside the tags; and *bare* (Llama 3,
Mistral), where the whole answer is one such JSON object or list.

What is not exactly a call is plain text, tags included. So a call is only reported once it is
complete, and text is held back while it could still turn out to be part of one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

from everlong.tokenizer.chat_template import ToolFormat

_OPEN = "<tool_call>"
_CLOSE = "</tool_call>"
_MAX_CALL_CHARS = 256 * 1024
_MAX_DEPTH = 100
_STRING_END = re.compile(r'["\\]')
_SCALAR = frozenset("+-.0123456789aeflnrstuE")
_OPENING = {"}": "{", "]": "["}
_NOT_SPACE = re.compile(r"\S")


@dataclass(frozen=True)
class ToolCall:
    """A complete call: the function's name, and its arguments as the text of a JSON object."""

    name: str
    arguments: str


@dataclass(frozen=True)
class Parsed:
    """What some more text turned out to be: plain text, and calls that became complete."""

    content: str = ""
    calls: tuple[ToolCall, ...] = ()


class ToolCallParser:
    """Separates plain text from tool calls.

    The results of all ``push`` calls and of ``finish``, put together, do not depend on how the
    text was cut into pieces. White space next to a call belongs to neither.

    Args:
        form: how the model was asked to write calls, ``ChatTemplate.tool_format``.
        names: functions that may be called; a call to another one is plain text. None allows
            every name.
    """

    def __init__(self, form: ToolFormat = "tagged", names: Collection[str] | None = None) -> None:
        self._names = None if names is None else frozenset(names)
        self._form = form
        self._buffer = ""
        self._inside: _JsonScanner | None = None  # in tags: where the scan stands
        self._space = ""  # white space that is text only if more text follows
        self._after_call = False

    def push(self, text: str) -> Parsed:
        """What ``text``, after all that came before it, makes certain."""
        self._buffer += text
        return self._advance(final=False)

    def finish(self) -> Parsed:
        """The rest, now that nothing follows. A call whose closing tag is missing counts."""
        return self._advance(final=True)

    def _advance(self, final: bool) -> Parsed:
        content: list[str] = []
        calls: list[ToolCall] = []
        advance = self._advance_bare if self._form == "bare" else self._advance_tagged
        advance(content, calls, final)
        if final and not self._after_call:
            content.append(self._space)
            self._space = ""
        return Parsed("".join(content), tuple(calls))

    def _advance_tagged(self, content: list[str], calls: list[ToolCall], final: bool) -> None:
        while True:
            if self._inside is None:
                start = self._buffer.find(_OPEN)
                if start < 0:
                    held = 0 if final else _unfinished(self._buffer, _OPEN)
                    end = len(self._buffer) - held
                    self._emit(self._buffer[:end], content)
                    self._buffer = self._buffer[end:]
                    return
                self._emit(self._buffer[:start], content)
                self._buffer = self._buffer[start + len(_OPEN) :]
                self._inside = _JsonScanner()
            found = self._read_calls(self._inside, final)
            if found is None:
                return
            self._inside = None
            if isinstance(found, _NotACall):
                # The tag is text; what follows it is looked at again.
                self._emit(_OPEN, content)
            else:
                calls.extend(found)
                self._space = ""
                self._after_call = True

    def _read_calls(self, scanner: _JsonScanner, final: bool) -> list[ToolCall] | _NotACall | None:
        """The calls between the tags at the start of the buffer; None if more text decides."""
        while True:
            if not scanner.is_inside:
                position = _skip_space(self._buffer, scanner.position)
                rest = self._buffer[position : position + len(_CLOSE)]
                if rest == _CLOSE or (final and not rest):
                    if not scanner.values or position > _MAX_CALL_CHARS:
                        return _NotACall()
                    self._buffer = self._buffer[position + len(_CLOSE) :]
                    return [call for calls in scanner.values for call in calls]
                if not final and _CLOSE.startswith(rest):
                    break  # perhaps the beginning of the tag; nothing yet is one too
                if rest[:1] not in ("{", "["):
                    return _NotACall()
                scanner.begin(position)
            state = scanner.scan(self._buffer)
            if state == "unfinished":
                break
            calls = _calls(scanner.value(self._buffer), self._names) if state == "end" else None
            if calls is None:
                return _NotACall()
            scanner.values.append(calls)
        too_long = len(self._buffer) > _MAX_CALL_CHARS + len(_CLOSE)
        return _NotACall() if final or too_long else None

    def _advance_bare(self, content: list[str], calls: list[ToolCall], final: bool) -> None:
        begins = _NOT_SPACE.search(self._buffer)
        could_be = begins is None or begins[0] in "{["
        if could_be and len(self._buffer) <= _MAX_CALL_CHARS:
            if not final:
                return
            if found := _calls(self._buffer, self._names):
                calls.extend(found)
                self._buffer = ""
                self._after_call = True
                return
        self._form = "tagged"  # an answer in words; a call in it would be tagged
        self._advance_tagged(content, calls, final)

    def _emit(self, text: str, content: list[str]) -> None:
        kept = text.rstrip()
        if not kept:
            self._space += text
            return
        content += [self._space, kept]
        self._space = text[len(kept) :]
        self._after_call = False


class _NotACall:
    """What follows an opening tag is no call."""


class _JsonScanner:
    """Finds the end of JSON objects and lists, or the first character that cannot be in one.

    It goes on where it stopped when more text is there, so no character is looked at twice. That
    it fails early matters: text that begins like a call is shown as soon as it cannot be one, and
    a text full of opening tags costs no more than another.
    """

    def __init__(self) -> None:
        self.position = 0
        self.values: list[list[ToolCall]] = []
        """Calls of the complete values so far."""
        self._start = 0
        self._open: list[str] = []  # brackets
        self._in_string = False
        self._expected = "value"

    @property
    def is_inside(self) -> bool:
        """Whether a value has begun and not ended."""
        return bool(self._open)

    def begin(self, position: int) -> None:
        """An object or list begins at ``position``."""
        self.position = self._start = position
        self._expected = "value"

    def value(self, text: str) -> str:
        """The value that ended last."""
        return text[self._start : self.position]

    def scan(self, text: str) -> Literal["end", "unfinished", "error"]:
        """Go on to the end of the value, of the text, or of what can be JSON."""
        while self.position < len(text):
            if self._in_string:
                match = _STRING_END.search(text, self.position)
                if match is None:
                    self.position = len(text)
                elif match[0] == '"':
                    self.position = match.end()
                    self._in_string = False
                    self._expected = "colon" if self._expected == "key" else "comma"
                elif match.end() == len(text):  # what is escaped has not come yet
                    self.position = match.start()
                    break
                else:
                    self.position = match.end() + 1
                continue
            character = text[self.position]
            if self._expected == "scalar":  # its form is checked when the value is complete
                if character in _SCALAR:
                    self.position += 1
                    continue
                self._expected = "comma"
            self.position += 1
            if character in " \t\r\n":
                continue
            if not self._accept(character):
                return "error"
            if not self._open:
                return "end"
        return "unfinished"

    def _accept(self, character: str) -> bool:
        """Take one character outside strings and scalars; False if it cannot be here."""
        expected, inside = self._expected, self._open[-1:]
        if expected == "comma" and character == ",":
            self._expected = "key" if inside == ["{"] else "value"
        elif expected in ("comma", "key or end", "value or end") and character in "}]":
            if [_OPENING[character]] != inside:
                return False
            self._open.pop()
            self._expected = "comma"
        elif expected == "colon" and character == ":":
            self._expected = "value"
        elif expected.startswith("key") and character == '"':
            self._expected, self._in_string = "key", True
        elif expected.startswith("value") and character == '"':
            self._expected, self._in_string = "value", True
        elif expected.startswith("value") and character in "{[" and len(self._open) < _MAX_DEPTH:
            self._open.append(character)
            self._expected = "key or end" if character == "{" else "value or end"
        elif expected.startswith("value") and character in _SCALAR:
            self._expected = "scalar"
        else:
            return False
        return True


def parse_tool_calls(
    text: str, form: ToolFormat = "tagged", names: Collection[str] | None = None
) -> Parsed:
    """Plain text and calls of a finished answer; see :class:`ToolCallParser`."""
    parser = ToolCallParser(form, names)
    first, last = parser.push(text), parser.finish()
    return Parsed(first.content + last.content, first.calls + last.calls)


def _calls(text: str, names: frozenset[str] | None) -> list[ToolCall] | None:
    """The calls that a JSON text says, or None if it says anything else."""
    try:
        value = json.loads(text, strict=False, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None
    calls = [_call(item, names) for item in (value if isinstance(value, list) else [value])]
    complete = [call for call in calls if call is not None]
    return complete if len(complete) == len(calls) else None


def _call(value: Any, names: frozenset[str] | None) -> ToolCall | None:
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = value["function"]
    if not isinstance(value, dict):
        return None
    name = value.get("name")
    arguments = value.get("arguments", value.get("parameters"))
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments, strict=False, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            return None
    if arguments is None:
        arguments = {}
    if not isinstance(name, str) or not name or not isinstance(arguments, dict):
        return None
    if names is not None and name not in names:
        return None
    if _has_surrogate(name):
        return None
    text = json.dumps(arguments, ensure_ascii=False)
    return ToolCall(name, json.dumps(arguments) if _has_surrogate(text) else text)


def _has_surrogate(text: str) -> bool:
    """Whether ``text`` has half characters, which JSON can escape and UTF-8 cannot write."""
    return re.search(r"[\ud800-\udfff]", text) is not None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _skip_space(text: str, position: int) -> int:
    match = _NOT_SPACE.search(text, position)
    return match.start() if match else len(text)


def _unfinished(text: str, tag: str) -> int:
    """Length of the longest end of ``text`` that is a proper beginning of ``tag``."""
    longest = min(len(text), len(tag) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(tag[:n])), 0)
