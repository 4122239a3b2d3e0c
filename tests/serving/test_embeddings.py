"""POST /v1/embeddings, as OpenAI's own client sees it."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np
import openai
import pytest

from tests.serving.conftest import WINDOW, RunningServer

TEXTS = ["the quick brown fox", "a lazy dog"]


def vectors(client: openai.OpenAI, **options: Any) -> np.ndarray[Any, Any]:
    reply = client.embeddings.create(**{"model": "noise", "input": TEXTS, **options})
    assert [entry.index for entry in reply.data] == list(range(len(reply.data)))
    return np.array([entry.embedding for entry in reply.data], dtype=np.float32)


@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_unit_vectors_of_the_model(
    client: openai.OpenAI, server: RunningServer, pooling: str
) -> None:
    found = vectors(client, encoding_format="float", extra_body={"pooling": pooling})
    assert found.shape == (2, server.engine.config.hidden_size)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    expected = server.engine.llm.encode(TEXTS, pooling).numpy()  # type: ignore[arg-type]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_two_poolings_differ_and_last_is_the_default(client: openai.OpenAI) -> None:
    last, mean = (vectors(client, extra_body={"pooling": p}) for p in ("last", "mean"))
    assert np.abs(last - mean).max() > 0.01
    np.testing.assert_array_equal(vectors(client), last)


def test_base64_carries_the_same_numbers(client: openai.OpenAI, server: RunningServer) -> None:
    # The client asks for base64 by itself where numpy is installed, and decodes it.
    body = {"model": "noise", "input": TEXTS, "encoding_format": "base64"}
    reply = httpx.post(f"{server.url}/v1/embeddings", json=body).json()
    assert isinstance(reply["data"][0]["embedding"], str)
    np.testing.assert_array_equal(
        vectors(client), vectors(client, encoding_format="float").astype(np.float32)
    )


def test_four_forms_of_an_input(client: openai.OpenAI, server: RunningServer) -> None:
    ids = [server.engine.tokenizer.encode(text) for text in TEXTS]
    expected = vectors(client)
    np.testing.assert_array_equal(vectors(client, input=ids), expected)
    np.testing.assert_array_equal(vectors(client, input=TEXTS[0]), expected[:1])
    np.testing.assert_array_equal(vectors(client, input=ids[1]), expected[1:])


def test_usage(client: openai.OpenAI, server: RunningServer) -> None:
    reply = client.embeddings.create(model="noise", input=TEXTS)
    tokens = sum(len(server.engine.tokenizer.encode(text)) for text in TEXTS)
    assert reply.usage.prompt_tokens == reply.usage.total_tokens == tokens


@pytest.mark.parametrize(
    ("options", "param", "says"),
    [
        ({"input": []}, "input", "no element"),
        ({"input": ["a", ""]}, "input", "empty text"),
        ({"input": ["a"] * 2049}, "input", "at most 2048"),
        ({"dimensions": 8}, "dimensions", "64"),
        ({"model": "louder"}, "model", "adapters"),
        ({"extra_body": {"pooling": "max"}}, "pooling", "'mean' or 'last'"),
        ({"input": [5] * (WINDOW + 1)}, None, str(WINDOW)),
    ],
)
def test_refusals_name_the_field(
    client: openai.OpenAI, options: dict[str, Any], param: str | None, says: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refusal:
        vectors(client, **options)
    assert refusal.value.param == param
    assert says in refusal.value.message


def test_the_model_s_own_dimensions_are_accepted(client: openai.OpenAI) -> None:
    assert vectors(client, dimensions=64).shape == (2, 64)
