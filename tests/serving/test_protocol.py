"""Which fields a request may have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from everlong.serving import protocol
from everlong.serving.protocol import (
    REFUSED_FIELDS,
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    Ignored,
)

MINIMAL: list[tuple[type[BaseModel], dict[str, Any]]] = [
    (ChatRequest, {"messages": [{"role": "user", "content": "a"}]}),
    (CompletionRequest, {"prompt": "a"}),
    (EmbeddingRequest, {"input": "a"}),
]


@pytest.mark.parametrize(("kind", "body"), MINIMAL)
def test_fields_that_change_nothing_take_anything(
    kind: type[BaseModel], body: dict[str, Any]
) -> None:
    for name in Ignored.model_fields:
        for value in (None, "a", 1, {"a": [1]}):
            kind.model_validate({**body, name: value})


@pytest.mark.parametrize("field", REFUSED_FIELDS)
@pytest.mark.parametrize(("kind", "body"), MINIMAL[:2])
def test_what_is_refused_says_what_to_do(
    kind: type[BaseModel], body: dict[str, Any], field: str
) -> None:
    with pytest.raises(ValidationError, match=field) as refusal:
        kind.model_validate({**body, field: "x"})
    assert REFUSED_FIELDS[field] in str(refusal.value)
    kind.model_validate({**body, field: None})


@pytest.mark.parametrize(("kind", "body"), MINIMAL)
def test_everything_else_is_refused_by_name(kind: type[BaseModel], body: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="temprature"):
        kind.model_validate({**body, "temprature": 1})


@pytest.mark.parametrize("value", ["1", True, [1], {"a": 1}])
def test_types_are_not_guessed(value: Any) -> None:
    for field in ("temperature", "max_tokens", "seed", "n"):
        with pytest.raises(ValidationError, match=field):
            CompletionRequest.model_validate({"prompt": "a", field: value})


@pytest.mark.parametrize(
    "options",
    [
        {"max_tokens": 1, "max_completion_tokens": 2},
        {"tools": [], "tool_choice": "required"},
        {"tools": [{"type": "function", "function": {"name": "a"}}] * 2},
        {"tools": [{"type": "function", "function": {"name": "a b"}}]},
        {
            "tools": [{"type": "function", "function": {"name": "a"}}],
            "tool_choice": {"type": "function", "function": {"name": "b"}},
        },
        {"modalities": ["text", "audio"]},
        {"stream_options": {"include_usage": True}},
    ],
)
def test_fields_that_contradict_each_other(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ChatRequest.model_validate({**MINIMAL[0][1], **options})


def test_the_document_names_them() -> None:
    page = (Path(protocol.__file__).parents[2] / "docs" / "serving.md").read_text()
    extras = "top_k min_p repetition_penalty min_tokens ignore_eos stop_token_ids"
    for name in [*Ignored.model_fields, *extras.split(), "structured_outputs", "pooling"]:
        assert f"`{name}`" in page
