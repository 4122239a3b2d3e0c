"""What every request passes before a route sees it, and what every answer carries."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from everlong.serving.auth import Credentials
from everlong.serving.errors import ApiError, as_api_error

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class Gate:
    """ASGI middleware: deny by default.

    - A server on a loopback address answers only to loopback names (and ``allowed_hosts``):
      a page of another site cannot reach it by pointing its own name there (DNS rebinding).
    - A browser page of another origin is refused, unless it is in ``allowed_origins``: the
      same-origin policy stops such a page from reading answers, but not from sending.
    - Everything but ``public_paths`` needs a key, unknown paths included.
    - A failure that nothing inside caught becomes an error object, not a bare page.

    Sets ``scope["state"]["namespace"]`` for the routes.

    Args:
        app: what is guarded.
        credentials: the keys.
        public_paths: exact paths that need no key.
        host: address that the server is bound to.
        allowed_hosts: further names that a Host header may carry; ``*`` allows all.
        allowed_origins: origins, such as ``https://chat.example.org``, whose pages may call.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        credentials: Credentials,
        public_paths: Collection[str],
        host: str,
        allowed_hosts: Collection[str] = (),
        allowed_origins: Collection[str] = (),
    ) -> None:
        self._app = app
        self._credentials = credentials
        self._public_paths = frozenset(public_paths)
        self._names = {name.lower() for name in allowed_hosts}
        self._checks_host = bool(self._names) or is_loopback(host)
        self._any_host = "*" in self._names
        self._bound = host.lower()
        self._origins = frozenset(allowed_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        begun = False

        async def secured(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            self._admit(scope)
            await self._app(scope, receive, secured)
        except Exception as error:
            if begun:
                raise
            await as_api_error(error).response()(scope, receive, secured)

    def _admit(self, scope: Scope) -> None:
        """Raises ApiError (401, 403) for who is not let in."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._host_allowed(host):
            raise ApiError(
                403,
                f"Host {host!r} is not a name of this server; start it with "
                "--allowed-hosts to add one",
                code="host_not_allowed",
            )
        origin = headers.get("origin")
        if origin is not None and origin not in self._origins and _authority(origin) != host:
            raise ApiError(
                403,
                f"pages of {origin} may not call this server; start it with "
                "--allowed-origins to allow them",
                code="origin_not_allowed",
            )
        namespace = self._credentials.namespace(headers.get("authorization"))
        if namespace is None and scope["path"] not in self._public_paths:
            raise ApiError(
                401,
                "an API key is needed: send the header Authorization: Bearer KEY"
                if headers.get("authorization") is None
                else "the API key is not one of this server's",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )
        scope.setdefault("state", {})["namespace"] = namespace

    def _host_allowed(self, host: str) -> bool:
        if not self._checks_host or self._any_host:
            return True
        name = _host_name(host)
        return name in self._names or name == self._bound or is_loopback(name)


def _authority(origin: str) -> str:
    """Host and port of an origin; empty if it has none ("null") or is malformed."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _host_name(host: str) -> str:
    """The name in a Host header, without its port; empty if it is malformed."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
