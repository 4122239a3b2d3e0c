"""From the fields of a request to the engine's sampling parameters and constraint."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from everlong.engine.request import Constraint, SamplingParams
from everlong.errors import RequestError
from everlong.serving.protocol import (
    GenerationRequest,
    JsonObjectFormat,
    JsonSchemaFormat,
    Prompts,
    ResponseFormat,
    StructuredOutputs,
)
from everlong.tokenizer.tokenizer import Tokenizer

MAX_PROMPTS = 2048
"""Most texts of one request (OpenAI's bound for embeddings)."""


def read_prompts(field: str, prompts: Prompts, tokenizer: Tokenizer) -> list[list[int]]:
    """Token ids of each prompt, in whichever of the four forms they came.

    Args:
        field: the request's field, for messages.

    Raises:
        RequestError: there is no prompt, one is empty, or a token id is not in the vocabulary.
    """
    several = prompts_as_list(prompts)
    if not several:
        raise RequestError(f"{field} has no element; send at least one text")
    if len(several) > MAX_PROMPTS:
        raise RequestError(f"{field} has {len(several)} elements; at most {MAX_PROMPTS} at once")
    read: list[list[int]] = []
    for number, prompt in enumerate(several):
        if isinstance(prompt, str):
            ids = tokenizer.encode(prompt)
        else:
            ids = prompt
            check_token_ids(field, ids, tokenizer.vocab_size)
        if not ids:
            at = f" ({number} of {len(several)})" if len(several) > 1 else ""
            raise RequestError(f"{field} has an empty text{at}; it needs at least one token")
        read.append(ids)
    return read


def sampling_params(
    request: GenerationRequest,
    *,
    defaults: SamplingParams,
    vocab_size: int,
    max_tokens: int | None,
    logprobs: int | None,
    constraint: Constraint | None,
) -> SamplingParams:
    """The sampling parameters of the first choice; ``for_choice`` makes those of the others.

    Args:
        defaults: how the model samples where the request does not say it.
        vocab_size: token ids must be below it.
        max_tokens: most tokens to generate, as the endpoint reads its fields.
        logprobs: as in ``SamplingParams``.
        constraint: the form of the output, as the endpoint reads its fields.

    Raises:
        RequestError: a value is out of its range.
    """
    given = {
        name: value
        for name in (
            "temperature",
            "top_k",
            "top_p",
            "min_p",
            "presence_penalty",
            "frequency_penalty",
            "repetition_penalty",
            "min_tokens",
            "ignore_eos",
            "seed",
        )
        if (value := getattr(request, name)) is not None
    }
    stop = request.stop or ()
    stop_token_ids = tuple(request.stop_token_ids or ())
    check_token_ids("stop_token_ids", stop_token_ids, vocab_size)
    if given.get("top_k") == -1:  # vLLM's spelling of "keep all"
        given["top_k"] = 0
    return replace(
        defaults,
        max_tokens=max_tokens,
        logit_bias=_logit_bias(request.logit_bias or {}, vocab_size),
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        stop_token_ids=stop_token_ids,
        logprobs=logprobs,
        constraint=constraint,
        **given,
    )


def prompts_as_list(prompts: Prompts) -> Sequence[str | list[int]]:
    """The four forms as two: one text, or one list of token ids, is a list of one."""
    if isinstance(prompts, str):
        return [prompts]
    if prompts and isinstance(prompts[0], int):
        return [prompts]
    return cast("list[str | list[int]]", prompts)


def for_choice(sampling: SamplingParams, number: int) -> SamplingParams:
    """The parameters of choice ``number`` of n: with a seed of its own, if one was given."""
    if sampling.seed is None or number == 0:
        return sampling
    return replace(sampling, seed=sampling.seed + number)


def check_token_ids(field: str, ids: Sequence[int], vocab_size: int) -> None:
    """Raises RequestError if one of ``ids`` is not a token's."""
    for bad in (min(ids, default=0), max(ids, default=0)):
        if not 0 <= bad < vocab_size:
            raise RequestError(
                f"{field} has the token id {bad}; the vocabulary's are 0 to {vocab_size - 1}"
            )


def _logit_bias(bias: Mapping[str, float], vocab_size: int) -> dict[int, float]:
    try:
        by_id = {int(token): value for token, value in bias.items()}
    except ValueError:
        raise RequestError('logit_bias needs token ids as its keys, such as "15"') from None
    check_token_ids("logit_bias", tuple(by_id), vocab_size)
    return by_id


def structured_constraint(request: GenerationRequest) -> Constraint | None:
    """The constraint that ``structured_outputs`` or ``guided_regex`` ask for, if any.

    Raises:
        RequestError: both were given, or a schema is not JSON.
    """
    if request.guided_regex is not None:
        if request.structured_outputs is not None:
            raise RequestError("guided_regex and structured_outputs exclude each other")
        return Constraint(regex=request.guided_regex)
    if request.structured_outputs is None:
        return None
    return _constraint(request.structured_outputs)


def _constraint(form: StructuredOutputs) -> Constraint:
    if form.choice is not None:
        return Constraint(lark="start: " + " | ".join(lark_string(text) for text in form.choice))
    if form.json_schema is None:
        return Constraint(regex=form.regex, lark=form.grammar)
    if isinstance(form.json_schema, dict):
        return Constraint(json_schema=schema_text(form.json_schema))
    try:
        json.loads(form.json_schema)
    except (ValueError, RecursionError):
        raise RequestError("structured_outputs.json is not JSON") from None
    return Constraint(json_schema=form.json_schema)


def response_schema(form: ResponseFormat | None) -> Any | None:
    """The JSON schema that ``response_format`` asks for, or None for free text."""
    match form:
        case JsonObjectFormat():
            return {"type": "object"}
        case JsonSchemaFormat():
            # true, the schema of anything, is spelled {} in a Constraint.
            schema = form.json_schema.json_schema
            return {} if schema is True else schema
    return None


def schema_text(schema: Any) -> str:
    """A schema as compact JSON, keys in the order they were sent."""
    return json.dumps(schema, separators=(",", ":"))


def lark_string(text: str) -> str:
    """``text`` as a string literal of llguidance's Lark dialect, which is that of JSON."""
    return json.dumps(text)
