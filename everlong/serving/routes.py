"""OpenAI's routes, and those that operators ask: /health and /metrics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response

from everlong.engine.async_engine import AsyncEngine
from everlong.errors import RequestError, UnknownModelError
from everlong.serving.chat_completions import ChatCall
from everlong.serving.completions import CompletionCall
from everlong.serving.embeddings import embed
from everlong.serving.errors import FAILURES
from everlong.serving.generation import run, unless_gone
from everlong.serving.json_body import JsonRoute
from everlong.serving.metrics import CONTENT_TYPE, Metrics
from everlong.serving.protocol import ChatRequest, CompletionRequest, EmbeddingRequest
from everlong.serving.replies import (
    ChatReply,
    CompletionReply,
    EmbeddingReply,
    Health,
    ModelCard,
    ModelList,
    Reply,
)
from everlong.serving.sse import EventStream

RequestT = TypeVar("RequestT", ChatRequest, CompletionRequest)

_OR_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {
            "text/event-stream": {
                "schema": {
                    "description": "One event. Its data is a chunk as JSON, at the end [DONE].",
                    "type": "object",
                    "properties": {"data": {"type": "string"}},
                    "required": ["data"],
                }
            }
        }
    }
}

router = APIRouter(route_class=JsonRoute, responses=FAILURES)


@dataclass
class Service:
    """What the routes share.

    Args:
        engine: runs the requests.
        model: the name under which the model is served.
    """

    engine: AsyncEngine
    model: str
    metrics: Metrics = field(default_factory=Metrics)
    remembers_all: bool = False
    """Whether a chat without a session gets one."""
    readers: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(2, thread_name_prefix="everlong-prompts")
    )
    """Render and tokenize prompts, which takes a while for long ones: streams must flow on.
    Apart from asyncio's own threads, which slow grammars may occupy."""
    started: int = field(default_factory=lambda: int(time.time()))

    def adapter(self, name: str | None) -> str | None:
        """The adapter that a request's ``model`` names; None for the model itself.

        Raises:
            UnknownModelError: it names neither.
        """
        if name is None or name == self.model:
            return None
        if name in self.engine.adapters:
            return name
        served = ", ".join([self.model, *self.engine.adapters])
        raise UnknownModelError(f"model {name!r} is not served here; these are: {served}")

    def card(self, name: str) -> ModelCard:
        """What /v1/models says of the model or of one of its adapters."""
        return ModelCard(
            id=name,
            object="model",
            created=self.started,
            owned_by="everlong",
            root=self.model,
            parent=None if name == self.model else self.model,
            max_model_len=self.engine.max_model_len,
        )


@router.get("/health", response_model=Health)
async def health(request: Request) -> Response:
    """Whether the engine runs; needs no key."""
    _service(request).engine.stats()
    return _json(Health(status="ok"))


@router.get("/metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """Counters, gauges and histograms in Prometheus' text format."""
    service = _service(request)
    text = service.metrics.exposition(service.engine.stats(), service.model)
    return Response(text, media_type=CONTENT_TYPE)


@router.get("/v1/models", response_model=ModelList)
async def models(request: Request) -> Response:
    """The model and its adapters."""
    service = _service(request)
    names = [service.model, *service.engine.adapters]
    return _json(ModelList(object="list", data=[service.card(name) for name in names]))


@router.get("/v1/models/{model:path}", response_model=ModelCard)
async def model(model: str, request: Request) -> Response:
    """One of them."""
    service = _service(request)
    return _json(service.card(service.adapter(model) or service.model))


@router.post("/v1/chat/completions", response_model=ChatReply, responses=_OR_EVENTS)
async def chat_completions(body: ChatRequest, request: Request) -> Response:
    """A message, or calls of tools, that continues a conversation."""
    call = partial(
        ChatCall,
        namespace=request.state.namespace,
        remembers_all=_service(request).remembers_all,
    )
    return await unless_gone(request, _generate(call, body, request))


@router.post("/v1/completions", response_model=CompletionReply, responses=_OR_EVENTS)
async def completions(body: CompletionRequest, request: Request) -> Response:
    """Text that continues a text."""
    return await unless_gone(request, _generate(CompletionCall, body, request))


@router.post("/v1/embeddings", response_model=EmbeddingReply)
async def embeddings(body: EmbeddingRequest, request: Request) -> Response:
    """Vectors of texts, each of length one."""
    service = _service(request)
    if service.adapter(body.model) is not None:
        raise RequestError(f"model must be {service.model!r}: adapters have no embeddings")
    answer = embed(body, service.engine, service.model, service.readers)
    return _json(await unless_gone(request, answer))


async def _generate(
    call_type: Callable[[RequestT, AsyncEngine, str], ChatCall | CompletionCall],
    body: RequestT,
    request: Request,
) -> Response:
    """Runs a request of either kind; returns when the answer, or a stream of it, begins."""
    service = _service(request)
    adapter = service.adapter(body.model)
    name = adapter or service.model
    loop = asyncio.get_running_loop()
    call = await loop.run_in_executor(service.readers, call_type, body, service.engine, name)
    chunks = run(
        call.jobs,
        service.engine,
        service.metrics,
        namespace=request.state.namespace,
        adapter=adapter,
    )
    if body.stream:
        return await EventStream(call.events(chunks)).begin()
    return _json(await call.reply(chunks))


def _service(request: Request) -> Service:
    service = request.app.state.service
    assert isinstance(service, Service)
    return service


def _json(reply: Reply) -> Response:
    return Response(reply.json_bytes(), media_type="application/json")
