"""Grammars that make a model call tools: its own syntax, the tools' names, their schemas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from everlong.engine.request import Constraint
from everlong.serving.protocol import Tool
from everlong.serving.sampling import lark_string, schema_text
from everlong.tokenizer.chat_template import ChatTemplate

_COMPOSED = {"allOf", "anyOf", "oneOf", "if", "$ref", "patternProperties", "dependentSchemas"}
# The spacing that models were trained on (Python's), and no other: a small model that may write
# white space is quick to write nothing else.
_SPACING = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


def forced_calls(
    template: ChatTemplate,
    tools: Sequence[Tool],
    *,
    parallel: bool,
    or_schema: Any | None = None,
) -> Constraint:
    """A constraint under which the whole output is calls of ``tools``.

    The form is the one that ``template`` asks the model for (``everlong.tokenizer.tool_calls``):
    one call per pair of tags where it presents tools itself, a list of calls in one pair where
    the presentation is ours, a bare JSON object for templates without tags.

    Args:
        template: the model's.
        tools: the functions that may be called; at least one.
        parallel: whether there may be more than one call.
        or_schema: JSON schema of an answer that is allowed instead of calls.
    """
    rules = []
    for number, tool in enumerate(tools):
        function = tool.function
        key = "arguments" if template.tool_format == "tagged" else "parameters"
        # A grammar of its own for each schema, so that its references start at its own root.
        head = lark_string(f'{{"name": {lark_string(function.name)}, "{key}": ')
        body = schema_text({**_closed(function.parameters), "x-guidance": _SPACING})
        rules.append(f"call_{number}: {head} %json {body} " + r'"}"')
    rules.append("call: " + " | ".join(f"call_{number}" for number in range(len(tools))))

    if template.tool_format == "bare":
        calls = "call"
    elif template.presents_tools:
        rules.append(r'tagged: "<tool_call>\n" call "\n</tool_call>"')
        calls = r'tagged ("\n" tagged)*' if parallel else "tagged"
    else:
        some = '"[" call (", " call)* "]"' if parallel else '"[" call "]"'
        calls = f'"<tool_call>" {some} "</tool_call>"'
    if or_schema is not None:
        rules.append(f"answer: %json {schema_text(or_schema)}")
        calls = f"answer | {calls}"
    return Constraint(lark="\n".join([f"start: {calls}", *rules, ""]))


def _closed(parameters: dict[str, Any] | None) -> dict[str, Any]:
    """A schema of arguments without those that the function does not declare.

    A schema that does not say otherwise allows any further argument, and a model that is asked
    for one more is quick to invent it. What this one allows, the given one allows as well.
    """
    schema = {"type": "object", "properties": {}} if parameters is None else parameters
    if "properties" not in schema or _COMPOSED & schema.keys():
        return schema
    return {"additionalProperties": False, **schema}
