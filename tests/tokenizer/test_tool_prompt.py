import json

import pytest

from everlong.tokenizer import ChatTemplate, Tokenizer, parse_tool_calls
from everlong.tokenizer.tool_prompt import describe_tools, with_argument_objects

TOOL = {
    "type": "function",
    "function": {"name": "weather", "description": "北京", "parameters": {}},
}
USER = {"role": "user", "content": "hi"}


def test_tools_join_the_system_message():
    chat = describe_tools([USER], [TOOL])
    assert [m["role"] for m in chat] == ["system", "user"]
    assert f"<tools>{json.dumps([TOOL], ensure_ascii=False)}</tools>" in chat[0]["content"]
    assert '<tool_call>[\n{"name": "function_1"' in chat[0]["content"]
    system = {"role": "system", "content": "Be brief."}
    chat = describe_tools([system, USER], [TOOL])
    assert [m["role"] for m in chat] == ["system", "user"]
    assert chat[0]["content"].startswith("Be brief.\n\nYou can call functions.")
    assert system["content"] == "Be brief.", "the caller's messages are left alone"


@pytest.mark.parametrize("tools", [None, []])
def test_without_tools_nothing_changes(tools: list[dict[str, str]] | None):
    assert describe_tools([USER], tools) == [USER]


def test_calls_and_results_become_text_that_the_parser_reads():
    call = {"id": "1", "function": {"name": "weather", "arguments": {"city": "北京"}}}
    chat = describe_tools(
        [
            USER,
            {"role": "assistant", "content": "Let me see.", "tool_calls": [call, call]},
            {"role": "tool", "tool_call_id": "1", "content": "-3"},
            {"role": "tool", "tool_call_id": "2", "content": "sun"},
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "content": "7"},
            USER,
        ],
        None,
    )
    assert [m["role"] for m in chat] == ["user", "assistant", "user", "assistant", "user", "user"]
    parsed = parse_tool_calls(chat[1]["content"])
    assert parsed.content == "Let me see."
    assert [c.name for c in parsed.calls] == ["weather", "weather"]
    assert parsed.calls[0].arguments == '{"city": "北京"}'
    assert "tool_calls" not in chat[1]
    assert chat[2]["content"] == (
        "<tool_response>\n-3\n</tool_response>\n<tool_response>\nsun\n</tool_response>"
    )
    assert chat[3]["content"].startswith("<tool_call>[")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ('{"a": 1}', {"a": 1}),
        ("", {}),
        ({"a": 1}, {"a": 1}),
        ("not json", "not json"),
        ("[1]", "[1]"),
        (None, None),
    ],
)
def test_arguments_as_text(given: object, expected: object):
    for wrap in (lambda call: {"function": call}, lambda call: call):
        message = {"role": "assistant", "tool_calls": [wrap({"name": "f", "arguments": given})]}
        [changed] = with_argument_objects([message])
        assert changed["tool_calls"] == [wrap({"name": "f", "arguments": expected})]
        assert message["tool_calls"] == [wrap({"name": "f", "arguments": given})]
    assert with_argument_objects([USER, {"tool_calls": None}, {"tool_calls": ["odd"]}])


def test_templates_that_know_tools_get_messages_as_they_are():
    template = ChatTemplate("{{ messages | tojson }}{% if tools %}!{% endif %}")
    chat = [USER, {"role": "tool", "content": "x"}]
    assert template.render(chat, tools=[TOOL]) == json.dumps(chat) + "!"


def test_the_template_of_smollm2_presents_tools(smollm2: Tokenizer):
    text = smollm2.chat_template.render([USER], tools=[TOOL])
    assert text.startswith("<|im_start|>system\nYou can call functions.")
    assert text.count("<|im_start|>system") == 1
    assert '"description": "北京"' in text
