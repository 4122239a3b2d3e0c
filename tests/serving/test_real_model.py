"""SmolLM2 behind the server: answers that make sense, and calls of tools."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from everlong.engine.loading import load
from tests.checkpoint.samples import smollm2_path
from tests.serving.conftest import running

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Current weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
ASKED = {"role": "user", "content": "What is the weather in Oslo right now?"}


@pytest.fixture(scope="module")
def smollm2() -> Iterator[openai.OpenAI]:
    with running(load(smollm2_path()), model="smollm2") as server:
        yield server.client()


def create(client: openai.OpenAI, *messages: Any, **options: Any) -> Any:
    return client.chat.completions.create(
        **{
            "model": "smollm2",
            "messages": list(messages),
            "temperature": 0,
            "max_tokens": 60,
            **options,
        }
    )


def test_it_knows_a_capital_and_stops(smollm2: openai.OpenAI) -> None:
    question = {"role": "user", "content": "What is the capital of Germany?"}
    choice = create(smollm2, question).choices[0]
    assert "Berlin" in choice.message.content
    assert choice.finish_reason == "stop"
    chunks = create(smollm2, question, stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == choice.message.content


def test_a_call_and_what_becomes_of_its_result(smollm2: openai.OpenAI) -> None:
    named = {"type": "function", "function": {"name": "get_weather"}}
    message = create(smollm2, ASKED, tools=[WEATHER], tool_choice=named).choices[0].message
    (call,) = message.tool_calls
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments).keys() == {"city"}
    assert "Oslo" in call.function.arguments
    answered = create(
        smollm2,
        ASKED,
        message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "It rains, 4 degrees."},
        tools=[WEATHER],
    )
    assert answered.choices[0].message.content
    assert answered.usage.prompt_tokens_details.cached_tokens >= 128, "the history was known"


def test_a_form_is_followed(smollm2: openai.OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"country": {"type": "string"}, "capital": {"type": "string"}},
        "required": ["country", "capital"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "capital", "schema": schema}}
    question = {"role": "user", "content": "What is the capital of France? Answer as JSON."}
    answer = json.loads(create(smollm2, question, response_format=form).choices[0].message.content)
    assert answer.keys() == {"country", "capital"}
    assert "Paris" in answer["capital"]
