"""POST /v1/completions, as OpenAI's own client sees it."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from tests.serving.conftest import WINDOW, RunningServer

PROMPT = "the quick brown fox"


def create(client: openai.OpenAI, **options: Any) -> Any:
    return client.completions.create(
        **{"model": "noise", "prompt": PROMPT, "max_tokens": 10, "seed": 3, **options}
    )


def texts(reply: Any) -> list[str]:
    return [choice.text for choice in reply.choices]


def test_sixteen_tokens_unless_told_otherwise(client: openai.OpenAI) -> None:
    reply = create(client, max_tokens=openai.omit)
    assert reply.object == "text_completion"
    assert reply.usage.completion_tokens == 16
    assert reply.choices[0].finish_reason == "length"


def test_fewer_where_the_window_ends(client: openai.OpenAI) -> None:
    reply = create(client, prompt=[5] * (WINDOW - 3), max_tokens=openai.omit)
    assert reply.usage.completion_tokens == 3


def test_four_forms_of_a_prompt(client: openai.OpenAI, server: RunningServer) -> None:
    ids = server.engine.tokenizer.encode(PROMPT)
    (expected,) = texts(create(client))
    assert texts(create(client, prompt=ids)) == [expected]
    assert texts(create(client, prompt=[PROMPT, "a lazy dog"]))[0] == expected
    assert texts(create(client, prompt=[[5, 6], ids]))[1] == expected


def test_choices_of_several_prompts(client: openai.OpenAI) -> None:
    reply = create(client, prompt=[PROMPT, "a lazy dog"], n=2)
    first, second = (texts(create(client, prompt=p, n=2)) for p in (PROMPT, "a lazy dog"))
    assert texts(reply) == first + second
    assert [choice.index for choice in reply.choices] == [0, 1, 2, 3]
    one = [create(client, prompt=p).usage.prompt_tokens for p in (PROMPT, "a lazy dog")]
    assert reply.usage.prompt_tokens == sum(one)
    assert reply.usage.completion_tokens == 40


def test_echo(client: openai.OpenAI) -> None:
    (continued,) = texts(create(client))
    assert texts(create(client, echo=True)) == [PROMPT + continued]
    chunks = list(create(client, echo=True, stream=True))
    assert chunks[0].choices[0].text.startswith(PROMPT)
    assert "".join(chunk.choices[0].text for chunk in chunks) == PROMPT + continued


def test_an_echoed_prompt_is_scored(client: openai.OpenAI) -> None:
    no_control_tokens = dict.fromkeys(range(3), -100)
    options = {"echo": True, "logprobs": 2, "temperature": 0, "logit_bias": no_control_tokens}
    whole = create(client, **options).choices[0]
    told = whole.logprobs
    count = create(client).usage.prompt_tokens
    assert told.token_logprobs[0] is None
    assert told.top_logprobs[0] is None
    assert len(told.tokens) == count + 10
    scored = list(zip(told.token_logprobs, told.top_logprobs, strict=True))[1:]
    assert all(p <= max(top.values()) for p, top in scored)
    for name, offset in zip(told.tokens, told.text_offset, strict=True):
        if not name.startswith("bytes:") and not name.startswith("<|"):
            assert whole.text[offset : offset + len(name)] == name
    alone = create(client, max_tokens=0, **options)
    assert alone.choices[0].text == PROMPT
    assert alone.choices[0].finish_reason == "length"
    assert alone.usage.completion_tokens == 0
    assert alone.choices[0].logprobs.tokens == told.tokens[:count]
    assert alone.choices[0].logprobs.token_logprobs == told.token_logprobs[:count]
    streamed = list(create(client, stream=True, **options))
    tokens = [t for chunk in streamed for t in (chunk.choices[0].logprobs or told).tokens]
    assert tokens == told.tokens
    assert texts(create(client, echo=True, max_tokens=0)) == [PROMPT]
    with pytest.raises(openai.BadRequestError, match="nothing to tell"):
        create(client, prompt=[5], echo=True, max_tokens=0)
    with pytest.raises(openai.BadRequestError, match="max_tokens must be at least 1"):
        create(client, max_tokens=0)


def test_logprobs_and_where_they_stand_in_the_text(client: openai.OpenAI) -> None:
    no_control_tokens = dict.fromkeys(range(3), -100)
    options = {"logprobs": 2, "temperature": 0, "logit_bias": no_control_tokens}
    choice = create(client, **options).choices[0]
    told = choice.logprobs
    assert len(told.tokens) == len(told.token_logprobs) == len(told.text_offset) == 10
    for name, logprob, top in zip(told.tokens, told.token_logprobs, told.top_logprobs, strict=True):
        assert top[name] == logprob
        assert len(top) == 2 or min(top, key=top.__getitem__) == name
    assert told.text_offset[0] == 0
    for name, offset in zip(told.tokens, told.text_offset, strict=True):
        if not name.startswith("bytes:"):
            assert choice.text[offset : offset + len(name)] == name
    streamed: dict[str, list[Any]] = {"tokens": [], "text_offset": []}
    for chunk in create(client, stream=True, **options):
        if chunk.choices[0].logprobs:
            streamed["tokens"] += chunk.choices[0].logprobs.tokens
            streamed["text_offset"] += chunk.choices[0].logprobs.text_offset
    assert streamed == {"tokens": told.tokens, "text_offset": told.text_offset}


def test_streams_of_several_choices(client: openai.OpenAI) -> None:
    expected = texts(create(client, prompt=[PROMPT, "dog"], n=2))
    streamed = ["", "", "", ""]
    *chunks, last = create(
        client,
        prompt=[PROMPT, "dog"],
        n=2,
        stream=True,
        stream_options={"include_usage": True},
    )
    for chunk in chunks:
        assert chunk.usage is None
        streamed[chunk.choices[0].index] += chunk.choices[0].text
    assert streamed == expected
    assert last.choices == []
    assert last.usage.completion_tokens == 40


@pytest.mark.parametrize(
    ("options", "param", "says"),
    [
        ({"prompt": []}, "prompt", "no element"),
        ({"prompt": ""}, "prompt", "empty"),
        ({"prompt": ["a", ""]}, "prompt", "empty text (1 of 2)"),
        ({"prompt": [5, "a"]}, "prompt.0", "valid"),
        ({"prompt": [5, 99999]}, "prompt", "99999"),
        ({"prompt": [-1]}, "prompt", "-1"),
        ({"prompt": ["a"] * 65, "n": 2}, "prompt", "at most 128"),
        ({"suffix": "end"}, "suffix", "prompt"),
        ({"best_of": 2}, "best_of", "send n"),
        ({"logprobs": 21}, "logprobs", "between 0 and 20"),
        ({"extra_body": {"messages": []}}, "messages", "not a known field"),
    ],
)
def test_refusals_name_the_field(
    client: openai.OpenAI, options: dict[str, Any], param: str, says: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refusal:
        create(client, **options)
    assert refusal.value.param == param
    assert says in refusal.value.message
