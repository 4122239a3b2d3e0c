"""POST /v1/embeddings: one unit vector per text."""

from __future__ import annotations

import asyncio
import base64
from concurrent.futures import Executor

import torch

from everlong.engine.async_engine import AsyncEngine
from everlong.errors import RequestError
from everlong.serving.protocol import EmbeddingRequest
from everlong.serving.replies import Embedding, EmbeddingReply, EmbeddingUsage
from everlong.serving.sampling import read_prompts


async def embed(
    request: EmbeddingRequest, engine: AsyncEngine, model: str, readers: Executor
) -> EmbeddingReply:
    """Answers a request of this endpoint.

    Args:
        request: the body.
        engine: of the model.
        model: name to answer with.
        readers: threads that tokenize.

    Raises:
        RequestError: an input is empty, or vectors of another length are asked for.
        ContextLengthError: an input is longer than the window.
    """
    size = engine.config.hidden_size
    if request.dimensions not in (None, size):
        raise RequestError(
            f"dimensions must be {size}, the model's own, or left out, not {request.dimensions}: "
            "its vectors cannot be shortened"
        )
    prompts = await asyncio.get_running_loop().run_in_executor(
        readers, read_prompts, "input", request.input, engine.tokenizer
    )
    vectors: list[torch.Tensor] = []
    for prompt in prompts:  # one at a time: a client that leaves spares the engine the rest
        vectors += await engine.encode([prompt], request.pooling or "last")
    tokens = sum(map(len, prompts))
    return EmbeddingReply(
        object="list",
        data=[
            Embedding(
                object="embedding",
                index=index,
                embedding=_base64(vector)
                if request.encoding_format == "base64"
                else vector.tolist(),
            )
            for index, vector in enumerate(vectors)
        ],
        model=model,
        usage=EmbeddingUsage(prompt_tokens=tokens, total_tokens=tokens),
    )


def _base64(vector: torch.Tensor) -> str:
    """The numbers as little-endian float32, as OpenAI's clients read them."""
    return base64.b64encode(vector.float().numpy().astype("<f4").tobytes()).decode()
