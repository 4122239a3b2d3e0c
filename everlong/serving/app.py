"""The HTTP application, and the command that serves it.

A route translates and the engine decides: it checks the body (``protocol``), turns it into
prompts and sampling parameters (``chat_completions``, ``completions``), and puts what comes back
into OpenAI's form (``replies``).
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from everlong.errors import ConfigError, EverlongError, MissingExtraError
from everlong.serving.config import ENGINE_SETTINGS, ServeConfig

try:
    import uvicorn
    from fastapi import FastAPI, Request, Response
    from fastapi.exceptions import RequestValidationError
    from fastapi.middleware.cors import CORSMiddleware
    from fastapi.responses import PlainTextResponse
    from fastapi.staticfiles import StaticFiles
    from sse_starlette.sse import AppStatus
    from starlette.exceptions import HTTPException
    from starlette.routing import Route
except ImportError as error:
    package = (error.name or "fastapi").partition(".")[0]
    raise MissingExtraError(package, "serve") from error

from everlong.engine.async_engine import AsyncEngine
from everlong.engine.config import EngineConfig
from everlong.engine.llm import LLM
from everlong.engine.loading import load
from everlong.memory.memory import bytes_of, default_folder
from everlong.memory.owner import owned
from everlong.serving.auth import Credentials
from everlong.serving.errors import ApiError, as_api_error, invalid_body
from everlong.serving.gate import Gate, is_loopback
from everlong.serving.generation import ClientGone
from everlong.serving.memory_routes import memory_router
from everlong.serving.routes import Service, router

logger = logging.getLogger(__name__)

STATIC = Path(__file__).with_name("static")
"""The built page."""

_GRACE = 5.0
"""Seconds that requests get to say goodbye after the engine was closed under them."""


class _PageFiles(StaticFiles):
    """The page: asked for anew each time, so that an update shows; what it names by hash, never."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        hashed = Path(args[0]).parent.name == "assets"
        response.headers["Cache-Control"] = (
            "public, max-age=31536000, immutable" if hashed else "no-cache"
        )
        return response


def create_app(
    engine: AsyncEngine,
    *,
    model: str | None = None,
    api_keys: Sequence[str] = (),
    host: str = "127.0.0.1",
    allowed_hosts: Collection[str] = (),
    allowed_origins: Collection[str] = (),
    max_body_bytes: int = ServeConfig.max_body_bytes,
    page: Path = STATIC,
    remembers_all: bool = False,
) -> FastAPI:
    """OpenAI's protocol over ``engine``, which is closed when the application shuts down.

    Args:
        engine: runs the requests.
        model: name under which the model is served; None is the engine's.
        api_keys: who may ask; empty lets everyone in.
        host: address that the application will be bound to; on a loopback address the Host
            header is checked (see ``Gate``).
        allowed_hosts: further names that a Host header may carry.
        allowed_origins: origins whose pages may call, as browsers spell them.
        max_body_bytes: largest body that is read.
        page: folder of the built page, served at ``/``.
        remembers_all: whether a chat without a session gets one.

    Raises:
        ConfigError: a key cannot be used.
    """

    service = Service(engine, model or engine.name, remembers_all=remembers_all)
    memory = engine.llm.memory

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.readers.shutdown(wait=False, cancel_futures=True)
        await engine.close()

    app = FastAPI(
        title="Everlong",
        version="1",
        lifespan=lifespan,
        docs_url=None,  # both of these pages load scripts from another host
        redoc_url=None,
    )
    app.state.service = service
    app.state.max_body_bytes = max_body_bytes
    app.include_router(router)
    app.include_router(memory_router)
    for kind in (EverlongError, HTTPException, RequestValidationError, ClientGone):
        app.add_exception_handler(kind, _failed)
    public = {"/health", "/"}
    if (page / "index.html").is_file():
        public |= {f"/{f.relative_to(page).as_posix()}" for f in page.rglob("*") if f.is_file()}
        files = _PageFiles(directory=page, html=True)
        # One route a file: a mount at / would answer for every path that has another method.
        app.router.routes += [Route(path, files) for path in sorted(public - {"/health"})]
    else:
        app.get("/", include_in_schema=False)(_no_page)
    # Added last is outermost: a browser's preflight request carries no key.
    app.add_middleware(
        Gate,
        credentials=Credentials(
            api_keys, None if memory is None else lambda key: memory.namespaces.opened_by(key).name
        ),
        public_paths=public,
        host=host,
        allowed_hosts=allowed_hosts,
        allowed_origins=allowed_origins,
    )
    if allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(allowed_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
        )
    return app


def serve(config: ServeConfig) -> None:
    """Loads a model and serves it until the process is told to stop.

    On SIGINT or SIGTERM no new connection is accepted, running requests get
    ``config.drain_seconds`` to finish, and those that are left end with an error object.

    Raises:
        ConfigError: the address cannot be bound, or a setting cannot be.
        CheckpointError: the model cannot be loaded.
    """
    listener = bind(config.host, config.port)
    with listener:
        engine = AsyncEngine(_load(config))
        app = create_app(
            engine,
            model=config.served_model_name,
            api_keys=config.api_key,
            host=config.host,
            allowed_hosts=config.allowed_hosts,
            allowed_origins=config.allowed_origins,
            max_body_bytes=config.max_body_bytes,
            remembers_all=config.remember == "all",
        )
        if not config.api_key and not is_loopback(config.host):
            logger.warning(
                "%s can be reached from other machines and there is no --api-key: "
                "everyone there can use this server",
                config.host,
            )
        server(app, engine, config).run(sockets=[listener])


def _load(config: ServeConfig) -> LLM:
    sizes = {name: getattr(config, name) for name in ENGINE_SETTINGS}
    with ExitStack() as undo:
        memory = None
        if not config.no_memory:
            size = bytes_of(config.memory_size)
            quota = None if config.memory_quota is None else bytes_of(config.memory_quota)
            memory = undo.enter_context(owned(config.memory or default_folder(), size, quota))
        llm = load(
            config.model,
            weights=config.weights,
            engine=EngineConfig(**{k: size for k, size in sizes.items() if size is not None}),
            adapters=config.lora_modules,
            memory=memory,
            embedder=config.embedder,
        )
        llm.closes.push(undo.pop_all())
    return llm


def bind(host: str, port: int) -> socket.socket:
    """A socket bound to an address but not listening yet, so that a busy port is known before
    the model is loaded.

    Raises:
        ConfigError: the address cannot be bound.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise ConfigError(
            f"cannot listen on {host}:{port} ({error}); choose others with --host and --port"
        ) from error
    return listener


def server(app: FastAPI, engine: AsyncEngine, config: ServeConfig) -> uvicorn.Server:
    """A server for ``app`` that lets requests finish before it stops; see :func:`serve`."""
    # Otherwise every stream would be cut off as soon as the process is told to stop.
    AppStatus.disable_automatic_graceful_drain()  # type: ignore[no-untyped-call]
    return _Server(
        uvicorn.Config(
            app,
            log_level=config.log_level,
            server_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=round(config.drain_seconds + _GRACE),
        ),
        engine,
        config.drain_seconds,
    )


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, engine: AsyncEngine, drain_seconds: float) -> None:
        super().__init__(config)
        self._engine = engine
        self._drain_seconds = drain_seconds

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or ():
            host, port = listener.getsockname()[:2]
            address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            # uvicorn names only the addresses that it bound itself.
            logging.getLogger("uvicorn.error").info(
                "OpenAI's protocol on http://%s/v1, a page on http://%s (Ctrl+C stops)",
                address,
                address,
            )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        async def end_requests() -> None:
            await asyncio.sleep(self._drain_seconds)
            await self._engine.close()

        ending = asyncio.create_task(end_requests())
        try:
            await super().shutdown(sockets)
        finally:
            ending.cancel()


async def _failed(request: Request, error: Exception) -> Response:
    """Every failure as OpenAI's error object."""
    if isinstance(error, ClientGone):
        return Response(status_code=499)  # nobody reads it; the log does
    if isinstance(error, RequestValidationError):
        return invalid_body(error.errors(), error.body).response()
    if isinstance(error, HTTPException) and error.status_code in (404, 405):
        path = f"{request.method} {request.url.path}"
        allowed = (error.headers or {}).get("Allow")
        instead = f"; it allows {allowed}" if allowed else ""
        return ApiError(
            error.status_code, f"there is no {path} here{instead}", headers=error.headers
        ).response()
    return as_api_error(error).response()


async def _no_page() -> Response:
    return PlainTextResponse(
        "The page is not built. In the project's web/ folder run: npm ci && npm run build\n"
        "The API is at /v1 all the same.\n",
        status_code=404,
    )
