"""The OpenAPI document says what the server does: requests made from it are answered as it says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")

from schemathesis import GenerationMode  # noqa: E402
from schemathesis.checks import not_a_server_error  # noqa: E402
from schemathesis.specs.openapi.checks import (  # noqa: E402
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from everlong.memory.memory import Memory  # noqa: E402
from everlong.tokenizer import Tokenizer  # noqa: E402
from tests.serving.conftest import random_llm, running  # noqa: E402

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
NO_BODY = ("POST", "/v1/memory/verify")
OPERATIONS = [
    ("GET", "/health"),
    ("GET", "/metrics"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/{model}"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/completions"),
    ("POST", "/v1/embeddings"),
    ("GET", "/v1/memory/stats"),
    ("GET", "/v1/memory/sessions"),
    ("GET", "/v1/memory/sessions/{name}"),
    ("POST", "/v1/memory/sessions/{name}"),
    ("GET", "/v1/memory/episodes"),
    ("POST", "/v1/memory/episodes"),
    ("GET", "/v1/memory/episodes/{id}"),
    ("POST", "/v1/memory/search"),
    ("POST", "/v1/memory/forget"),
    NO_BODY,
    ("GET", "/v1/memory/export"),
]


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Iterator[Any]:
    with (
        Memory(tmp_path_factory.mktemp("memory"), 64 << 20) as memory,
        running(random_llm(tokenizer, memory=memory, max_num_seqs=8)) as server,
    ):
        yield schemathesis.openapi.from_url(f"{server.url}/openapi.json")


def test_every_route_is_described(described: Any) -> None:
    found = {(op.ok().method.upper(), op.ok().path) for op in described.get_all_operations()}
    assert found == set(OPERATIONS)


@pytest.mark.parametrize(
    ("method", "path", "mode"),
    [(*operation, GenerationMode.POSITIVE) for operation in OPERATIONS]
    + [
        (*operation, GenerationMode.NEGATIVE)
        for operation in OPERATIONS
        if operation[0] == "POST" and operation != NO_BODY
    ],
)
def test_requests_made_from_the_description(
    described: Any, method: str, path: str, mode: GenerationMode
) -> None:
    @settings(
        max_examples=25, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck)
    )
    @given(described[path][method].as_strategy(generation_mode=mode))
    def check(case: Any) -> None:
        if "completions" in path and mode is GenerationMode.POSITIVE:
            # Noise would fill the window, many times over.
            case.body.pop("max_completion_tokens", None)
            for name, most in (("max_tokens", 3), ("n", 2)):
                given_value = case.body.get(name)
                if given_value is None or (isinstance(given_value, int) and given_value > most):
                    case.body[name] = most
        case.call_and_validate(checks=CHECKS, timeout=30)

    check()
