"""From a chat request to a prompt: which messages are allowed, and what the template gets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from everlong.errors import RequestError
from everlong.serving.protocol import (
    AssistantMessage,
    ChatRequest,
    Message,
    NamedTool,
    RefusalPart,
    TextPart,
    Tool,
    ToolMessage,
)
from everlong.tokenizer.tokenizer import Tokenizer

_RESERVED = ("messages", "tools", "add_generation_prompt", "documents")


@dataclass(frozen=True)
class Conversation:
    """What a chat template gets."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None
    variables: dict[str, Any]

    def prompt_ids(self, tokenizer: Tokenizer) -> list[int]:
        """Token ids, ending where the assistant's answer begins.

        No text of the request can form a control token (``Tokenizer.encode_chat``).

        Raises:
            TemplateError: the model has no chat template, or its template refuses the messages.
        """
        return tokenizer.encode_chat(self.messages, tools=self.tools, **self.variables)


def conversation(request: ChatRequest) -> Conversation:
    """The conversation of a request.

    Raises:
        RequestError: a message is out of place.
    """
    variables: dict[str, Any] = dict(request.chat_template_kwargs or {})
    for name in _RESERVED:
        if name in variables:
            raise RequestError(
                f"chat_template_kwargs cannot set {name}, which the request's own fields set"
            )
    tools = offered_tools(request)
    return Conversation(
        template_messages(request.messages),
        [_tool(tool) for tool in tools] if tools else None,
        variables,
    )


def offered_tools(request: ChatRequest) -> list[Tool]:
    """The tools that the model is told of: all of them, or the one that it must call."""
    tools = request.tools or []
    match request.tool_choice:
        case "none":
            return []
        case NamedTool(function=function):
            return [tool for tool in tools if tool.function.name == function.name]
    return tools


def template_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages as chat templates expect them: one text each, keys that say something only.

    ``developer`` is the system's role under another name. The parts of a text are joined by
    line breaks.

    Raises:
        RequestError: an assistant's message is empty, or a tool's answers no call.
    """
    chat: list[dict[str, Any]] = []
    calls: dict[str, str] = {}
    for number, message in enumerate(messages):
        where = f"messages.{number}"
        role = "system" if message.role == "developer" else message.role
        entry: dict[str, Any] = {"role": role, "content": _text(message.content)}
        if isinstance(message, ToolMessage):
            if message.tool_call_id not in calls:
                raise RequestError(
                    f"{where} answers the call {message.tool_call_id!r}, which the assistant's "
                    "message before it does not make"
                )
            entry["tool_call_id"] = message.tool_call_id
            entry["name"] = calls[message.tool_call_id]
            chat.append(entry)
            continue
        if message.name is not None:
            entry["name"] = message.name
        calls = {}
        if isinstance(message, AssistantMessage):
            _add_assistant(entry, message, where)
            calls = {call.id: call.function.name for call in message.tool_calls or ()}
        chat.append(entry)
    return chat


def _add_assistant(entry: dict[str, Any], message: AssistantMessage, where: str) -> None:
    if message.content is None and message.refusal is not None:
        entry["content"] = message.refusal
    elif message.content is None and not message.tool_calls:
        raise RequestError(f"{where} is the assistant's and has neither content nor tool_calls")
    if message.tool_calls:
        entry["tool_calls"] = [call.model_dump() for call in message.tool_calls]


def _text(content: str | Sequence[TextPart | RefusalPart] | None) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    return "\n".join(part.text if isinstance(part, TextPart) else part.refusal for part in content)


def _tool(tool: Tool) -> dict[str, Any]:
    """A tool as templates present it: what it is, not how strictly it is to be followed."""
    return tool.model_dump(exclude_none=True, exclude={"function": {"strict"}})
