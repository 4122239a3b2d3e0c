"""Forced calls: the grammars accept what the parser reads, and nothing else."""

from __future__ import annotations

import json

import pytest
from llguidance import LLMatcher, LLTokenizer

from everlong.serving.protocol import Tool
from everlong.serving.tools import forced_calls
from everlong.tokenizer import ChatTemplate, parse_tool_calls

WEATHER = Tool.model_validate(
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"$ref": "#/$defs/city"}, "days": {"type": "integer"}},
                "required": ["city"],
                "additionalProperties": False,
                "$defs": {"city": {"type": "string", "maxLength": 8}},
            },
        },
    }
)
CLOCK = Tool.model_validate({"type": "function", "function": {"name": "clock"}})

QWEN = ChatTemplate("{{ tools }} <tool_call>")
OURS = ChatTemplate("{{ messages }}")
LLAMA = ChatTemplate("{{ tools }}")

OSLO = '{"name": "weather", "arguments": {"city": "Oslo", "days": 3}}'
TIME = '{"name": "clock", "arguments": {}}'


def accepts(grammar: str, text: str) -> bool:
    """Whether ``text``, byte for byte, is a complete output."""
    matcher = LLMatcher(LLTokenizer("byte"), LLMatcher.grammar_from_lark(grammar), log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    return all(matcher.consume_token(b) for b in text.encode()) and matcher.is_accepting()


@pytest.mark.parametrize(
    ("template", "one", "two"),
    [
        (
            QWEN,
            f"<tool_call>\n{OSLO}\n</tool_call>",
            f"<tool_call>\n{OSLO}\n</tool_call>\n<tool_call>\n{TIME}\n</tool_call>",
        ),
        (OURS, f"<tool_call>[{OSLO}]</tool_call>", f"<tool_call>[{OSLO}, {TIME}]</tool_call>"),
        (LLAMA, OSLO.replace("arguments", "parameters"), None),
    ],
)
def test_the_model_s_own_form(template: ChatTemplate, one: str, two: str | None) -> None:
    tools = [WEATHER, CLOCK]
    single = forced_calls(template, tools, parallel=False).lark
    parallel = forced_calls(template, tools, parallel=True).lark
    assert single is not None
    assert parallel is not None
    assert accepts(single, one)
    assert accepts(parallel, one)
    for text in (one, two):
        if text is not None:
            names = [call.name for call in parse_tool_calls(text, template.tool_format).calls]
            assert names == ["weather", "clock"][: len(names)]
            assert names, "the parser reads what the grammar writes"
    if two is not None:
        assert accepts(parallel, two)
        assert not accepts(single, two)
    for wrong in ("", "no", one[:-1], f"{one} and more", one.replace("Oslo", "a" * 9)):
        assert not accepts(parallel, wrong)


def test_arguments_follow_the_schema_of_their_own_function() -> None:
    grammar = forced_calls(OURS, [WEATHER, CLOCK], parallel=True).lark
    assert grammar is not None
    for name, arguments, right in (
        ("weather", {"city": "Rome"}, True),
        ("weather", {}, False),
        ("weather", {"city": 1}, False),
        ("clock", {}, True),
        ("clock", {"city": "Rome"}, False),
        ("weathe", {"city": "Rome"}, False),
    ):
        call = json.dumps([{"name": name, "arguments": arguments}])
        assert accepts(grammar, f"<tool_call>{call}</tool_call>") == right


def test_undeclared_arguments_are_only_written_where_the_schema_speaks_of_them() -> None:
    properties = {"city": {"type": "string"}}
    for schema, open_ended in (
        ({"type": "object", "properties": properties}, False),
        ({"type": "object", "properties": properties, "additionalProperties": True}, True),
        ({"type": "object"}, True),
        ({"type": "object", "properties": {}, "anyOf": [{"properties": properties}]}, True),
    ):
        function = {"name": "f", "parameters": schema}
        tool = Tool.model_validate({"type": "function", "function": function})
        grammar = forced_calls(LLAMA, [tool], parallel=False).lark
        assert grammar is not None
        call = '{"name": "f", "parameters": {"city": "Oslo", "mood": 1}}'
        assert accepts(grammar, call) == open_ended


def test_an_answer_may_be_allowed_instead() -> None:
    schema = {"type": "object", "required": ["answer"]}
    grammar = forced_calls(QWEN, [CLOCK], parallel=True, or_schema=schema).lark
    assert grammar is not None
    assert accepts(grammar, '{"answer": 1}')
    assert accepts(grammar, f"<tool_call>\n{TIME}\n</tool_call>")
    assert not accepts(grammar, '{"question": 1}')


def test_names_and_schemas_cannot_break_out_of_the_grammar() -> None:
    hostile = {"type": "object", "properties": {'"} | /.*/ //': {"const": '\\"\n} | start'}}}
    function = {"name": "a.b-c", "parameters": hostile}
    tool = Tool.model_validate({"type": "function", "function": function})
    grammar = forced_calls(OURS, [tool], parallel=False).lark
    assert grammar is not None
    call = json.dumps([{"name": "a.b-c", "arguments": {'"} | /.*/ //': '\\"\n} | start'}}])
    assert accepts(grammar, f"<tool_call>{call}</tool_call>")
    assert not accepts(grammar, "anything")
