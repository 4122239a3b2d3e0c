"""POST /v1/chat/completions, as OpenAI's own client sees it."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.serving.conftest import WINDOW, RunningServer

HELLO = [{"role": "user", "content": "hello there"}]


def create(client: openai.OpenAI, **options: Any) -> Any:
    return client.chat.completions.create(
        **{"model": "noise", "messages": HELLO, "max_tokens": 12, "seed": 7, **options}
    )


def collected(chunks: Any) -> dict[int, dict[str, Any]]:
    """What a stream says, put together per choice."""
    choices: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        for choice in chunk.choices:
            whole = choices.setdefault(
                choice.index, {"text": "", "calls": [], "logprobs": [], "finish": None}
            )
            assert whole["finish"] is None, "nothing follows the finish reason"
            whole["text"] += choice.delta.content or ""
            for call in choice.delta.tool_calls or ():
                assert call.index == len(whole["calls"])
                whole["calls"].append((call.function.name, call.function.arguments))
            if choice.logprobs:
                whole["logprobs"] += choice.logprobs.content
            whole["finish"] = choice.finish_reason
    return choices


def test_answers_and_counts(client: openai.OpenAI) -> None:
    reply = create(client)
    assert reply.object == "chat.completion"
    assert reply.model == "noise"
    assert reply.id.startswith("chatcmpl-")
    choice = reply.choices[0]
    assert choice.message.role == "assistant"
    assert choice.finish_reason == "length"
    assert choice.logprobs is None
    assert reply.usage.completion_tokens == 12
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + 12


def test_the_prompt_is_the_rendered_template(client: openai.OpenAI, server: RunningServer) -> None:
    prompt = server.engine.tokenizer.encode_chat(HELLO)
    options = {"max_tokens": 12, "seed": 7}
    text = client.completions.create(model="noise", prompt=prompt, **options)
    assert text.choices[0].text == create(client).choices[0].message.content
    assert text.usage.prompt_tokens == len(prompt)


def test_a_message_cannot_form_control_tokens(client: openai.OpenAI) -> None:
    plain = create(client, messages=[{"role": "user", "content": "<|im_end|>"}])
    control = client.completions.create(model="noise", prompt="<|im_end|>", max_tokens=1)
    assert control.usage.prompt_tokens == 1
    empty = create(client, messages=[{"role": "user", "content": ""}])
    assert plain.usage.prompt_tokens - empty.usage.prompt_tokens > 1


def test_parts_of_a_message_are_lines(client: openai.OpenAI) -> None:
    parts = [{"type": "text", "text": "hello"}, {"type": "text", "text": "there"}]
    joined = create(client, messages=[{"role": "user", "content": "hello\nthere"}])
    separate = create(client, messages=[{"role": "user", "content": parts}])
    assert separate.choices[0].message.content == joined.choices[0].message.content


def test_the_same_seed_gives_the_same_answer(client: openai.OpenAI) -> None:
    first, again, other = (create(client, seed=s).choices[0].message.content for s in (1, 1, 2))
    assert first == again
    assert first != other


def test_choices_differ_and_the_prompt_counts_once(client: openai.OpenAI) -> None:
    one = create(client)
    reply = create(client, n=3)
    texts = [choice.message.content for choice in reply.choices]
    assert [choice.index for choice in reply.choices] == [0, 1, 2]
    assert len(set(texts)) == 3
    assert texts[0] == one.choices[0].message.content
    assert reply.usage.prompt_tokens == one.usage.prompt_tokens
    assert reply.usage.completion_tokens == 36


def test_logprobs(client: openai.OpenAI, server: RunningServer) -> None:
    reply = create(client, logprobs=True, top_logprobs=3, temperature=0)
    entries = reply.choices[0].logprobs.content
    assert len(entries) == 12
    text = b"".join(bytes(entry.bytes) for entry in entries).decode(errors="replace")
    assert text == reply.choices[0].message.content
    for entry in entries:
        assert entry.logprob <= 0
        assert len(entry.top_logprobs) == 3
        assert entry.top_logprobs[0].bytes == entry.bytes, "greedy takes the likeliest"
        logprobs = [other.logprob for other in entry.top_logprobs]
        assert logprobs == sorted(logprobs, reverse=True)


def test_logprobs_without_others(client: openai.OpenAI) -> None:
    reply = create(client, logprobs=True)
    assert all(entry.top_logprobs == [] for entry in reply.choices[0].logprobs.content)


def test_the_token_that_ends_an_answer_is_not_part_of_it(
    client: openai.OpenAI, server: RunningServer
) -> None:
    end = min(server.engine.tokenizer.eos_token_ids)
    reply = create(client, logit_bias={end: 100}, logprobs=True)
    choice = reply.choices[0]
    assert choice.finish_reason == "stop"
    assert choice.message.content == ""
    assert not choice.logprobs
    assert reply.usage.completion_tokens == 1
    ignored = create(client, logit_bias={end: 100}, extra_body={"ignore_eos": True})
    assert ignored.choices[0].finish_reason == "length"
    assert ignored.usage.completion_tokens == 12


def test_stop_strings_end_the_text_before_them(client: openai.OpenAI) -> None:
    whole = create(client).choices[0].message.content
    stop = whole[4:6]
    for form in (stop, ["no such text", stop]):
        choice = create(client, stop=form).choices[0]
        assert choice.message.content == whole[: whole.index(stop)]
        assert choice.finish_reason == "stop"


def test_logit_bias_and_top_k(client: openai.OpenAI, server: RunningServer) -> None:
    token = server.engine.tokenizer.encode("🦊")[0]
    biased = create(client, logit_bias={token: 100}, logprobs=True, max_tokens=3)
    tokens = [entry.bytes for entry in biased.choices[0].logprobs.content]
    assert tokens[0] == tokens[1] == tokens[2]
    greedy = create(client, temperature=0).choices[0].message.content
    assert create(client, extra_body={"top_k": 1}).choices[0].message.content == greedy
    assert create(client, extra_body={"top_k": -1}).choices[0].message.content != greedy


def test_both_names_of_the_bound(client: openai.OpenAI) -> None:
    options = {"max_tokens": openai.omit, "max_completion_tokens": 5}
    assert create(client, **options).usage.completion_tokens == 5


def test_developer_is_the_system(client: openai.OpenAI) -> None:
    answers = [
        create(client, messages=[{"role": role, "content": "be brief"}, *HELLO])
        for role in ("system", "developer")
    ]
    assert answers[0].choices[0].message.content == answers[1].choices[0].message.content


def test_an_adapter_is_named_by_model(client: openai.OpenAI) -> None:
    plain, adapted = create(client, temperature=0), create(client, temperature=0, model="louder")
    assert adapted.model == "louder"
    assert adapted.choices[0].message.content != plain.choices[0].message.content


def test_cached_tokens_are_told_in_both_ways(client: openai.OpenAI) -> None:
    messages = [{"role": "user", "content": "tell me of the quick brown fox " * 20}]
    first = create(client, messages=messages).usage
    assert first.prompt_tokens > 128
    again = create(client, messages=messages).usage
    assert again.prompt_tokens_details.cached_tokens >= 128
    assert again.prompt_tokens_details.cached_tokens < again.prompt_tokens
    stream = create(client, messages=messages, stream=True, stream_options={"include_usage": True})
    *_, last = stream
    assert last.choices == []
    assert last.usage == again


# ---------------------------------------------------------------------------- streaming


def test_the_order_of_a_stream(client: openai.OpenAI) -> None:
    first, *rest, last = create(client, stream=True)
    assert first.choices[0].delta.role == "assistant"
    assert first.choices[0].delta.content == ""
    assert all(chunk.choices[0].finish_reason is None for chunk in [first, *rest])
    assert last.choices[0].finish_reason == "length"
    assert last.choices[0].delta.content is None
    assert {chunk.id for chunk in [first, *rest, last]} == {first.id}


def test_usage_is_streamed_only_when_asked_for(client: openai.OpenAI) -> None:
    assert all(chunk.usage is None for chunk in create(client, stream=True))
    *before, last = create(client, stream=True, stream_options={"include_usage": True})
    assert all(chunk.usage is None for chunk in before)
    assert last.usage == create(client).usage


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    text=st.text(min_size=1, max_size=30),
    seed=st.integers(0, 2**31),
    tokens=st.integers(1, 40),
    temperature=st.sampled_from([0.0, 0.7, 1.5]),
    stop=st.lists(st.sampled_from([" ", "e", "th", "�", "🦊", "the q"]), max_size=3),
    n=st.integers(1, 3),
    logprobs=st.booleans(),
)
def test_a_stream_says_the_same_as_the_whole(
    client: openai.OpenAI,
    text: str,
    seed: int,
    tokens: int,
    temperature: float,
    stop: list[str],
    n: int,
    logprobs: bool,
) -> None:
    options = {
        "messages": [{"role": "user", "content": text}],
        "seed": seed,
        "max_tokens": tokens,
        "temperature": temperature,
        "stop": stop,
        "n": n,
        "logprobs": logprobs,
    }
    whole = create(client, **options)
    streamed = collected(create(client, stream=True, **options))
    for choice in whole.choices:
        pieces = streamed[choice.index]
        assert pieces["text"] == choice.message.content
        assert pieces["finish"] == choice.finish_reason
        assert pieces["logprobs"] == (choice.logprobs.content if choice.logprobs else [])


# --------------------------------------------------------------------- form and tools

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"enum": ["Oslo", "Rome", "今日"]},
                "days": {"$ref": "#/$defs/days"},
            },
            "required": ["city", "days"],
            "additionalProperties": False,
            "$defs": {"days": {"type": "integer", "minimum": 1, "maximum": 9}},
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "clock"}}


def test_json_schema(client: openai.OpenAI) -> None:
    schema = WEATHER["function"]["parameters"]
    form = {"type": "json_schema", "json_schema": {"name": "city", "schema": schema}}
    choice = create(client, response_format=form, max_tokens=100).choices[0]
    answer = json.loads(choice.message.content)
    assert answer.keys() == {"city", "days"}
    assert answer["city"] in ("Oslo", "Rome", "今日")
    assert 1 <= answer["days"] <= 9
    assert choice.finish_reason == "stop"


def test_json_object(client: openai.OpenAI, server: RunningServer) -> None:
    close = server.engine.tokenizer.encode("}")[0]
    choice = create(
        client, response_format={"type": "json_object"}, logit_bias={close: 100}, max_tokens=60
    ).choices[0]
    assert isinstance(json.loads(choice.message.content), dict)


@pytest.mark.parametrize(
    "form",
    [
        {"structured_outputs": {"regex": "(yes|no)!"}},
        {"structured_outputs": {"choice": ["yes!", "no!"]}},
        {"structured_outputs": {"grammar": 'start: ("yes" | "no") "!"'}},
        {"guided_regex": "(yes|no)!"},
    ],
)
def test_structured_outputs(client: openai.OpenAI, form: dict[str, Any]) -> None:
    choice = create(client, extra_body=form, max_tokens=50).choices[0]
    assert choice.message.content in ("yes!", "no!")
    assert choice.finish_reason == "stop"


@pytest.mark.parametrize("stream", [False, True])
def test_a_required_call(client: openai.OpenAI, stream: bool) -> None:
    reply = create(
        client,
        tools=[WEATHER, CLOCK],
        tool_choice="required",
        parallel_tool_calls=False,
        max_tokens=200,
        stream=stream,
    )
    if stream:
        choice = collected(reply)[0]
        calls, finish, text = choice["calls"], choice["finish"], choice["text"]
    else:
        message = reply.choices[0].message
        calls = [(call.function.name, call.function.arguments) for call in message.tool_calls]
        finish, text = reply.choices[0].finish_reason, message.content or ""
        assert message.content is None
    ((name, arguments),) = calls
    assert finish == "tool_calls"
    assert text == ""
    if name == "clock":
        assert json.loads(arguments) == {}
    else:
        assert json.loads(arguments).keys() == {"city", "days"}


def test_a_named_call(client: openai.OpenAI) -> None:
    named = {"type": "function", "function": {"name": "clock"}}
    choice = create(client, tools=[WEATHER, CLOCK], tool_choice=named, max_tokens=100).choices[0]
    (call,) = choice.message.tool_calls
    assert (call.function.name, call.function.arguments) == ("clock", "{}")
    assert call.id.startswith("call_")


CALLS = (
    "(I look. )?"
    r'<tool_call>\[\{"name": "weather", "arguments": \{"city": "Oslo", "days": [1-9]\}\}, '
    r'\{"name": "clock", "arguments": \{\}\}\]</tool_call>'
)


def test_parallel_calls_that_the_model_chose(client: openai.OpenAI) -> None:
    options: dict[str, Any] = {
        "tools": [WEATHER, CLOCK],
        "max_tokens": 200,
        "extra_body": {"structured_outputs": {"regex": CALLS}},
    }
    reply = create(client, **options).choices[0]
    calls = [(call.function.name, call.function.arguments) for call in reply.message.tool_calls]
    assert [name for name, _ in calls] == ["weather", "clock"]
    assert json.loads(calls[0][1])["city"] == "Oslo"
    assert reply.finish_reason == "tool_calls"
    streamed = collected(create(client, stream=True, **options))[0]
    assert streamed["calls"] == calls
    assert streamed["text"] == (reply.message.content or "")
    assert streamed["finish"] == "tool_calls"


def test_one_call_where_parallel_ones_are_not_wanted(client: openai.OpenAI) -> None:
    reply = create(
        client,
        tools=[WEATHER, CLOCK],
        parallel_tool_calls=False,
        max_tokens=200,
        extra_body={"structured_outputs": {"regex": CALLS}},
    )
    assert [c.function.name for c in reply.choices[0].message.tool_calls] == ["weather"]


def test_calls_stay_text_without_tools(client: openai.OpenAI) -> None:
    form = {"structured_outputs": {"regex": CALLS}}
    for options in ({}, {"tools": [WEATHER, CLOCK], "tool_choice": "none"}):
        choice = create(client, max_tokens=200, extra_body=form, **options).choices[0]
        assert choice.message.tool_calls is None
        assert "<tool_call>" in choice.message.content
        assert choice.finish_reason == "stop"


def test_calls_and_results_can_be_sent_back(client: openai.OpenAI) -> None:
    call = {"name": "weather", "arguments": '{"city": "Oslo", "days": 2}'}
    history = [
        *HELLO,
        {"role": "assistant", "tool_calls": [{"id": "a", "type": "function", "function": call}]},
        {"role": "tool", "tool_call_id": "a", "content": "rain"},
    ]
    reply = create(client, messages=history, tools=[WEATHER])
    assert reply.usage.completion_tokens == 12


# ------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("options", "param", "says"),
    [
        ({"messages": []}, "messages", "at least 1"),
        ({"messages": [{"role": "user"}]}, "messages.0.content", "is required"),
        ({"messages": [{"role": "robot", "content": ""}]}, "messages.0", "'user'"),
        ({"messages": [{"role": "assistant"}]}, "messages.0", "neither content nor tool_calls"),
        ({"temperature": -1}, "temperature", "between 0 and 100"),
        ({"temperature": "hot"}, "temperature", "valid number"),
        ({"top_p": 0}, "top_p", "above 0"),
        ({"max_tokens": 0}, "max_tokens", "at least 1"),
        ({"n": 129}, "n", "128"),
        ({"stop": [""]}, "stop", "non-empty"),
        ({"logit_bias": {"5000": 1}}, "logit_bias", "0 to"),
        ({"logit_bias": {"dog": 1}}, "logit_bias", "token ids"),
        ({"logprobs": True, "top_logprobs": 21}, "logprobs", "between 0 and 20"),
        ({"top_logprobs": 1}, "top_logprobs", "logprobs"),
        ({"functions": []}, "functions", "tools"),
        ({"stream_options": {}}, "stream_options", "stream"),
        ({"tool_choice": "required"}, "tool_choice", "tools"),
        ({"extra_body": {"wings": 2}}, "wings", "not a known field"),
        ({"extra_body": {"chat_template_kwargs": {"tools": 1}}}, "chat_template_kwargs", "tools"),
        ({"extra_body": {"structured_outputs": {"regex": "("}}}, None, "("),
        (
            {"messages": [{"role": "tool", "tool_call_id": "x", "content": ""}]},
            "messages.0",
            "does not make",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "messages.0.content.0",
            "only text",
        ),
    ],
)
def test_refusals_name_the_field(
    client: openai.OpenAI, options: dict[str, Any], param: str | None, says: str
) -> None:
    for stream in (False, True):
        if stream and "stream_options" in options:
            continue
        with pytest.raises(openai.BadRequestError) as refusal:
            create(client, stream=stream, **options)
        error = refusal.value.body
        assert isinstance(error, dict)
        assert error["type"] == "invalid_request_error"
        assert says in error["message"]
        assert error["param"] == param


def test_null_is_the_same_as_nothing(client: openai.OpenAI) -> None:
    names = "temperature top_p stop n tools tool_choice response_format logit_bias functions audio"
    nothing = create(client, extra_body=dict.fromkeys([*names.split(), "user", "store"]))
    assert nothing.choices[0].message.content == create(client).choices[0].message.content


def test_fields_that_change_nothing_are_accepted(client: openai.OpenAI) -> None:
    reply = create(client, user="me", metadata={"a": "b"}, store=False, service_tier="auto")
    assert reply.choices[0].message.content == create(client).choices[0].message.content


def test_too_long_says_both_numbers(client: openai.OpenAI) -> None:
    for options in (
        {"messages": [{"role": "user", "content": "a b" * WINDOW}]},
        {"max_tokens": WINDOW},
    ):
        with pytest.raises(openai.BadRequestError) as refusal:
            create(client, **options)
        assert refusal.value.code == "context_length_exceeded"
        assert str(WINDOW) in refusal.value.message


def test_an_unknown_model(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refusal:
        create(client, model="gpt-4o")
    assert refusal.value.code == "model_not_found"
    assert refusal.value.param == "model"
    assert "noise, louder" in refusal.value.message
