"""Messages with tools, made ready for templates: those that know tools and those that do not."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

Message = dict[str, Any]

# What SmolLM2 was tuned to read and write: functions as JSON inside <tools>, and a list of calls
# inside one <tool_call> (its published function-calling instructions; the wording is ours).
_INSTRUCTIONS = """\
You can call functions. You are given a question and the functions that may be called. Decide \
which function calls, one or more, the question needs. If none of the functions helps, say so. If \
the question leaves out a parameter that a function requires, say which one.

You have access to the following tools:
<tools>{tools}</tools>

A call must have exactly this form, with arguments of the declared types and no other text. If no \
call is needed, give the empty list [].
<tool_call>[
{{"name": "function_1", "arguments": {{"parameter_1": "value_1", "parameter_2": "value_2"}}}},
... (more calls where they are needed)
]</tool_call>"""


def with_argument_objects(messages: Sequence[Mapping[str, Any]]) -> list[Message]:
    """Replace arguments of tool calls that are JSON text by what the text says.

    OpenAI's clients send them as text; templates expect objects and would quote the text once
    more. Text that is not a JSON object stays as it is.
    """
    return [
        {**message, "tool_calls": [_with_argument_object(call) for call in calls]}
        if isinstance(calls := message.get("tool_calls"), list)
        else dict(message)
        for message in messages
    ]


def _with_argument_object(call: Any) -> Any:
    if not isinstance(call, Mapping):
        return call
    if isinstance(call.get("function"), Mapping):
        return {**call, "function": _with_argument_object(call["function"])}
    arguments = call.get("arguments")
    if not isinstance(arguments, str):
        return call
    try:
        value = json.loads(arguments) if arguments.strip() else {}
    except (ValueError, RecursionError):
        return call
    return {**call, "arguments": value} if isinstance(value, dict) else call


def describe_tools(
    messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None
) -> list[Message]:
    """Write tools, calls and results as text, for a template that knows none of them.

    The tools are presented at the end of the system message, which is added where there is
    none; a call becomes the assistant's text in the form that :class:`ToolCallParser` reads,
    and consecutive results become one message of the user, each inside ``<tool_response>``.
    """
    chat: list[Message] = []
    previous_role = None
    for message in messages:
        role = message.get("role")
        if role == "tool":
            result = f"<tool_response>\n{message.get('content', '')}\n</tool_response>"
            if previous_role == "tool":
                chat[-1]["content"] += f"\n{result}"
            else:
                chat.append({"role": "user", "content": result})
        elif message.get("tool_calls"):
            chat.append(_calls_as_text(message))
        else:
            chat.append(message)
        previous_role = role
    if tools:
        text = _INSTRUCTIONS.format(tools=json.dumps(list(tools), ensure_ascii=False))
        if chat and chat[0].get("role") == "system":
            chat[0] = {**chat[0], "content": f"{chat[0].get('content', '')}\n\n{text}".lstrip()}
        else:
            chat.insert(0, {"role": "system", "content": text})
    return chat


def _calls_as_text(message: Message) -> Message:
    functions = [call.get("function", call) for call in message["tool_calls"]]
    calls = [{"name": f.get("name"), "arguments": f.get("arguments", {})} for f in functions]
    text = f"<tool_call>{json.dumps(calls, ensure_ascii=False)}</tool_call>"
    content = message.get("content")
    rest = {k: v for k, v in message.items() if k != "tool_calls"}
    return {**rest, "content": f"{content}\n{text}" if content else text}
