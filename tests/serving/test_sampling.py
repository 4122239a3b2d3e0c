"""Fields of a request as the engine's parameters."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from everlong.engine.request import Constraint, SamplingParams
from everlong.errors import RequestError
from everlong.serving.protocol import CompletionRequest
from everlong.serving.sampling import (
    for_choice,
    prompts_as_list,
    response_schema,
    sampling_params,
    structured_constraint,
)

OURS = SamplingParams()


def request(**fields: Any) -> CompletionRequest:
    return CompletionRequest.model_validate({"prompt": "a", **fields})


def params(defaults: SamplingParams = OURS, **fields: Any) -> SamplingParams:
    return sampling_params(
        request(**fields),
        defaults=defaults,
        vocab_size=100,
        max_tokens=5,
        logprobs=None,
        constraint=None,
    )


def test_defaults_are_the_engine_s() -> None:
    assert params() == SamplingParams(max_tokens=5)
    makers = SamplingParams(temperature=0.7, top_k=20, repetition_penalty=1.1)
    assert params(makers) == replace(makers, max_tokens=5)
    asked = {"temperature": 0, "top_k": -1, "repetition_penalty": 1}
    assert params(makers, **asked) == SamplingParams(max_tokens=5, temperature=0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", 0.5),
        ("top_p", 0.5),
        ("top_k", 3),
        ("min_p", 0.1),
        ("presence_penalty", 1.0),
        ("frequency_penalty", -1.0),
        ("repetition_penalty", 1.1),
        ("min_tokens", 2),
        ("ignore_eos", True),
        ("seed", -5),
    ],
)
def test_every_field_arrives(field: str, value: float) -> None:
    assert getattr(params(**{field: value}), field) == value
    assert params(**{field: None}) == params()


def test_fields_that_change_their_form() -> None:
    assert params(stop="a").stop == ("a",)
    assert params(stop=["a", "b"]).stop == ("a", "b")
    assert params(stop=[]).stop == ()
    assert params(stop_token_ids=[4]).stop_token_ids == (4,)
    assert params(logit_bias={"7": 1, "99": -1.5}).logit_bias == {7: 1.0, 99: -1.5}
    assert params(top_k=-1).top_k == 0


@pytest.mark.parametrize(
    "fields",
    [
        {"stop_token_ids": [100]},
        {"stop_token_ids": [-1]},
        {"logit_bias": {"100": 1}},
        {"logit_bias": {"-1": 1}},
        {"logit_bias": {"dog": 1}},
        {"logit_bias": {"1": 101}},
        {"top_k": -2},
        {"temperature": -0.1},
    ],
)
def test_what_is_out_of_range(fields: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=next(iter(fields))):
        params(**fields)


def test_each_choice_has_its_own_seed() -> None:
    seeded = params(seed=5)
    assert [for_choice(seeded, number).seed for number in range(3)] == [5, 6, 7]
    assert for_choice(params(), 3).seed is None


def test_structured_outputs() -> None:
    def constraint(**form: Any) -> Constraint | None:
        return structured_constraint(request(structured_outputs=form))

    assert structured_constraint(request()) is None
    assert constraint(regex="a+") == Constraint(regex="a+")
    assert constraint(grammar='start: "a"') == Constraint(lark='start: "a"')
    assert constraint(json={"type": "null"}) == Constraint(json_schema='{"type":"null"}')
    assert constraint(json='{"type": "null"}') == Constraint(json_schema='{"type": "null"}')
    assert structured_constraint(request(guided_regex="a")) == Constraint(regex="a")
    choice = constraint(choice=['say "a"', "b\n"])
    assert choice is not None
    assert choice.lark == 'start: "say \\"a\\"" | "b\\n"'
    with pytest.raises(RequestError, match="not JSON"):
        constraint(json="{")
    with pytest.raises(RequestError, match="exclude each other"):
        structured_constraint(request(guided_regex="a", structured_outputs={"regex": "a"}))


@pytest.mark.parametrize("form", [{}, {"regex": "a", "choice": ["a"]}, {"choice": []}])
def test_exactly_one_form(form: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"exactly one|at least one"):
        request(structured_outputs=form)


def test_response_formats() -> None:
    from everlong.serving.protocol import ChatRequest

    def schema(form: Any) -> Any:
        body = {"messages": [{"role": "user", "content": ""}], "response_format": form}
        return response_schema(ChatRequest.model_validate(body).response_format)

    assert schema(None) is None
    assert schema({"type": "text"}) is None
    assert schema({"type": "json_object"}) == {"type": "object"}
    given = {"type": "array"}
    named = {"type": "json_schema", "json_schema": {"name": "a", "schema": given, "strict": True}}
    assert schema(named) == given
    assert schema({"type": "json_schema", "json_schema": {"name": "a"}}) == {}


def test_four_forms_of_a_prompt_are_two() -> None:
    assert prompts_as_list("a") == ["a"]
    assert prompts_as_list(["a", "b"]) == ["a", "b"]
    assert prompts_as_list([1, 2]) == [[1, 2]]
    assert prompts_as_list([[1], [2]]) == [[1], [2]]
    assert prompts_as_list([]) == []


def test_a_long_list_of_ids_is_read_once() -> None:
    body = {"prompt": [1] * 200_000}
    assert len(json.dumps(body)) > 500_000
    assert prompts_as_list(CompletionRequest.model_validate(body).prompt) == [body["prompt"]]
