"""What is remembered, over HTTP: operations of ``everlong.memory`` in the caller's namespace."""

from __future__ import annotations

import asyncio
import json
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import Field
from starlette.background import BackgroundTask
from starlette.responses import FileResponse

from everlong.errors import RequestError
from everlong.memory.memory import Memory
from everlong.memory.operations import MOST_ON_A_PAGE, perform
from everlong.serving.errors import FAILURES
from everlong.serving.json_body import JsonRoute
from everlong.serving.protocol import Body

memory_router = APIRouter(prefix="/v1/memory", route_class=JsonRoute, responses=FAILURES)


class SearchRequest(Body):
    """Body of POST /v1/memory/search."""

    query: str = Field(min_length=1)
    limit: int = Field(default=10, ge=1, le=MOST_ON_A_PAGE)


class PauseRequest(Body):
    """Body of POST /v1/memory/sessions/NAME."""

    paused: bool


class RememberRequest(Body):
    """Body of POST /v1/memory/episodes: a document, which is kept in passages."""

    text: str = Field(min_length=1)
    source: str = Field(min_length=1, max_length=1024)
    speaker: str = Field(default="", max_length=128)
    time: float = Field(default=0.0, ge=0.0)
    """Seconds since 1970; 0: now."""


class ForgetRequest(Body):
    """Body of POST /v1/memory/forget: what fits all conditions that are given."""

    episodes: list[str] | None = Field(default=None, max_length=10_000)
    session: str | None = None
    source: str | None = None
    query: str | None = None
    since: float | None = None
    until: float | None = None
    everything: bool = False
    dry_run: bool = False
    """Only say what would be forgotten."""


_THREADS = ThreadPoolExecutor(2, "everlong-memory")
"""Not those that keep answers, which would wait while a large memory is verified or exported."""


@memory_router.get("/stats")
async def stats(request: Request) -> Response:
    """How much is remembered."""
    return await _performed(request, "stats")


@memory_router.get("/sessions")
async def sessions(request: Request, limit: int = 50, after: str | None = None) -> Response:
    """Sessions, the one used last first."""
    return await _performed(request, "list_sessions", limit=limit, after=after)


@memory_router.get("/sessions/{name:path}")
async def session(name: str, request: Request) -> Response:
    """A session with its messages."""
    return await _performed(request, "show_session", name=name)


@memory_router.post("/sessions/{name:path}")
async def pause(name: str, body: PauseRequest, request: Request) -> Response:
    """Remember what is said in a session from now on, or not."""
    return await _performed(request, "pause_session", name=name, paused=body.paused)


@memory_router.get("/episodes")
async def episodes(
    request: Request,
    limit: int = 50,
    after: str | None = None,
    session: str | None = None,
    source: str | None = None,
) -> Response:
    """Episodes, the latest first."""
    return await _performed(
        request, "list_episodes", limit=limit, after=after, session=session, source=source
    )


@memory_router.get("/episodes/{id}")
async def episode(id: str, request: Request, around: int = 3) -> Response:
    """An episode, and those told before and after it."""
    return await _performed(request, "show_episode", id=id, around=around)


@memory_router.post("/episodes")
async def remember(body: RememberRequest, request: Request) -> Response:
    """Remember a document."""
    return await _performed(request, "remember", **body.model_dump())


@memory_router.post("/search")
async def search(body: SearchRequest, request: Request) -> Response:
    """Episodes that are about something, with why they were found."""
    return await _performed(request, "search", **body.model_dump())


@memory_router.post("/forget")
async def forget(body: ForgetRequest, request: Request) -> Response:
    """Forget for good; the answer is the receipt."""
    given = body.model_dump(exclude_none=True)
    if not given["everything"]:
        del given["everything"]
    return await _performed(request, "forget", **given)


@memory_router.post("/verify")
async def verify(request: Request) -> Response:
    """Read everything on the disk and take out what is damaged."""
    return await _performed(request, "verify")


@memory_router.get(
    "/export",
    response_class=Response,
    responses={200: {"content": {"application/zip": {}}, "description": "The bundle"}},
)
async def export(request: Request) -> Response:
    """All that the namespace remembers, as a bundle."""
    folder = tempfile.TemporaryDirectory(prefix="everlong-export-")
    path = Path(folder.name) / "memory.zip"
    try:
        await _asked(request, "export", path=str(path))
    except BaseException:
        folder.cleanup()
        raise
    return FileResponse(
        path,
        media_type="application/zip",
        filename="memory.zip",
        background=BackgroundTask(folder.cleanup),
    )


async def _performed(request: Request, operation: str, **arguments: Any) -> Response:
    told = await _asked(request, operation, **arguments)
    return Response(json.dumps(told, ensure_ascii=False), media_type="application/json")


async def _asked(request: Request, operation: str, **arguments: Any) -> Any:
    memory = request.app.state.service.engine.llm.memory
    if memory is None:
        raise RequestError("nothing is remembered here; start without --no-memory")
    assert isinstance(memory, Memory)
    namespace = memory.namespace(request.state.namespace)
    work = partial(perform, memory, namespace, operation, arguments)
    return await asyncio.get_running_loop().run_in_executor(_THREADS, work)
