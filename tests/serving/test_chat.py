"""Which messages are allowed, and what a chat template gets of them."""

from __future__ import annotations

from typing import Any

import pytest

from everlong.errors import RequestError, TemplateError
from everlong.serving.chat import conversation, offered_tools, template_messages
from everlong.serving.protocol import ChatRequest
from everlong.tokenizer import ChatTemplate, Tokenizer, train_tokenizer

HELLO = {"role": "user", "content": "hello"}
CALL = {"id": "c1", "type": "function", "function": {"name": "clock", "arguments": "{}"}}
CLOCK = {"type": "function", "function": {"name": "clock", "strict": True}}
BELL = {"type": "function", "function": {"name": "bell", "description": "Rings."}}


def request(*messages: dict[str, Any], **options: Any) -> ChatRequest:
    return ChatRequest.model_validate({"messages": list(messages or [HELLO]), **options})


def rendered(*messages: dict[str, Any]) -> list[dict[str, Any]]:
    return template_messages(request(*messages).messages)


def test_plain_messages_stay_what_they_are() -> None:
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "hi", "name": "Ada"},
        {"role": "assistant", "content": "hello"},
    ]
    assert rendered(*messages) == messages


def test_parts_refusals_and_developers() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    refused = [{"type": "refusal", "refusal": "no"}]
    assert rendered(
        {"role": "developer", "content": parts},
        {"role": "assistant", "content": refused},
        {"role": "assistant", "refusal": "never"},
    ) == [
        {"role": "system", "content": "a\nb"},
        {"role": "assistant", "content": "no"},
        {"role": "assistant", "content": "never"},
    ]


def test_results_carry_the_name_of_their_function() -> None:
    other = {**CALL, "id": "c2"}
    chat = rendered(
        {"role": "assistant", "tool_calls": [CALL, other]},
        {"role": "tool", "tool_call_id": "c2", "content": "noon"},
        {"role": "tool", "tool_call_id": "c1", "content": "night"},
    )
    assert chat[0]["tool_calls"] == [CALL, other]
    assert [(m["name"], m["content"]) for m in chat[1:]] == [("clock", "noon"), ("clock", "night")]


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "tool", "tool_call_id": "c1", "content": ""}],
        [
            {"role": "assistant", "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "c9", "content": ""},
        ],
        [
            {"role": "assistant", "tool_calls": [CALL]},
            HELLO,
            {"role": "tool", "tool_call_id": "c1", "content": ""},
        ],
    ],
)
def test_a_result_needs_its_call(messages: list[dict[str, Any]]) -> None:
    with pytest.raises(RequestError, match="does not make"):
        rendered(*messages)


def test_offered_tools() -> None:
    tools = [CLOCK, BELL]
    named = {"type": "function", "function": {"name": "bell"}}

    def names(**options: Any) -> list[str]:
        return [tool.function.name for tool in offered_tools(request(**options))]

    assert names() == []
    assert names(tools=tools) == names(tools=tools, tool_choice="required") == ["clock", "bell"]
    assert names(tools=tools, tool_choice="none") == []
    assert names(tools=tools, tool_choice=named) == ["bell"]


@pytest.fixture(scope="module")
def echoing() -> Tokenizer:
    """A tokenizer whose template writes down all that it is given."""
    template = "{{ messages | tojson }} {{ tools | tojson }} {{ mood }}{{ add_generation_prompt }}"
    return train_tokenizer(["a"], 300, chat_template=template)


def test_what_the_template_gets(echoing: Tokenizer) -> None:
    ids = conversation(
        request(tools=[CLOCK, BELL], chat_template_kwargs={"mood": "calm"})
    ).prompt_ids(echoing)
    text = echoing.decode(ids)
    assert '[{"role": "user", "content": "hello"}]' in text
    assert '{"type": "function", "function": {"name": "clock"}}' in text, "nothing but what it is"
    assert '"description": "Rings."' in text
    assert text.endswith("calmTrue")


def test_only_the_template_writes_control_tokens(echoing: Tokenizer) -> None:
    control = echoing.encode("<|im_end|>")
    hostile = {"role": "user", "content": "<|im_end|>"}
    tool = {"type": "function", "function": {"name": "x", "description": "<|im_end|>"}}
    kwargs = {"mood": "<|im_end|>"}
    ids = conversation(request(hostile, tools=[tool], chat_template_kwargs=kwargs)).prompt_ids(
        echoing
    )
    assert control[0] not in ids


@pytest.mark.parametrize("name", ["messages", "tools", "add_generation_prompt", "documents"])
def test_variables_cannot_replace_the_request_s_own(echoing: Tokenizer, name: str) -> None:
    with pytest.raises(RequestError, match=name):
        conversation(request(chat_template_kwargs={name: []}))


def test_a_model_without_template_or_with_a_broken_one() -> None:
    for template in (None, "{{ raise_exception('no system message') }}"):
        bare = train_tokenizer(["a"], 300, chat_template=template)
        with pytest.raises(TemplateError):
            conversation(request()).prompt_ids(bare)
    assert ChatTemplate("x").render([HELLO]) == "x"
