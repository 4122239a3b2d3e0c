"""A stand-in for a model hub on 127.0.0.1, which can misbehave in every way that hubs do."""

import hashlib
import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = 1000
"""Files from this size on have a SHA-256, smaller ones the checksum of Git."""


@dataclass
class Behaviour:
    """What goes wrong, and what happened."""

    files: dict[str, bytes]
    cut_after: list[int] = field(default_factory=list)
    """Close the connection after so many bytes, once for each entry."""
    statuses: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    """Answer so instead, once for each entry."""
    file_statuses: list[int] = field(default_factory=list)
    """The same for files only; 200 lets one request pass."""
    moved: bool = False
    """The repository was called ``org/old`` before."""
    corrupt: int = 0
    """How many downloads have their first byte changed."""
    listed_size: dict[str, int] = field(default_factory=dict)
    announced: int = 0
    """Added to the Content-Length."""
    extra: bytes = b""
    """Sent after the file, without a Content-Length."""
    ignores_ranges: bool = False
    wrong_range: bool = False
    redirect: str = ""
    """Base address that files are redirected to."""
    page_size: int = 1000
    next_page: str = ""
    raw_list: bytes | None = None
    token: str | None = None
    slow: float = 0.0
    """Seconds before each file is sent."""
    commit: str = COMMIT
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def downloads(self) -> list[tuple[str, dict[str, str]]]:
        """The requests for files."""
        return [request for request in self.requests if "/resolve/" in request[0]]


class HubServer:
    """Serves one repository, ``org/model``, for as long as it is entered."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.behaviour = behaviour = Behaviour(files)

        class Handler(_Handler):
            hub = behaviour

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> "HubServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Behaviour
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        hub = self.hub
        hub.requests.append((self.path, dict(self.headers)))
        self.close_connection = True
        if hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
            self._send(401, b"", {})
            return
        if hub.statuses:
            status, headers = hub.statuses.pop(0)
            self._send(status, b"no", headers)
            return
        path = unquote(urlsplit(self.path).path)
        if hub.moved and "/org/old/" in path:
            self._send(307, b"", {"Location": self.path.replace("/org/old/", "/org/model/")})
        elif path.startswith("/api/models/org/model/revision/"):
            self._send(200, json.dumps({"sha": hub.commit}).encode(), {})
        elif path == f"/api/models/org/model/tree/{hub.commit}":
            self._list()
        elif path.startswith(f"/org/model/resolve/{hub.commit}/"):
            self._file(path.split("/", 5)[5])
        else:
            self._send(404, b"", {})

    def _list(self) -> None:
        hub = self.hub
        if hub.raw_list is not None:
            self._send(200, hub.raw_list, {})
            return
        start = int(urlsplit(self.path).query.partition("cursor=")[2] or 0)
        names = list(hub.files)[start : start + hub.page_size]
        entries = [{"type": "directory", "path": "sub", "oid": "0" * 40, "size": 0}]
        entries += [self._entry(name) for name in names]
        headers = {}
        if start + hub.page_size < len(hub.files):
            base = f"http://{self.headers['Host']}{urlsplit(self.path).path}?recursive=true"
            url = hub.next_page or f"{base}&cursor={start + hub.page_size}"
            headers["Link"] = f'<{url}>; rel="next"'
        self._send(200, json.dumps(entries).encode(), headers)

    def _entry(self, name: str) -> dict[str, Any]:
        data = self.hub.files[name]
        size = self.hub.listed_size.get(name, len(data))
        git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        entry: dict[str, Any] = {"type": "file", "path": name, "size": size, "oid": git}
        if len(data) >= LARGE:
            sha256 = hashlib.sha256(data).hexdigest()
            entry["lfs"] = {"oid": sha256, "size": size, "pointerSize": 130}
        return entry

    def _file(self, name: str) -> None:
        hub = self.hub
        if hub.redirect:
            self._send(302, b"", {"Location": hub.redirect + self.path})
            return
        if name not in hub.files:
            self._send(404, b"", {})
            return
        if hub.file_statuses and (status := hub.file_statuses.pop(0)) != 200:
            self._send(status, b"", {})
            return
        time.sleep(hub.slow)
        data, start, status, headers = hub.files[name], 0, 200, {}
        asked = self.headers.get("Range")
        if asked and not hub.ignores_ranges:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(data):
                self._send(416, b"", {})
                return
            status = 206
            shown = start + 1 if hub.wrong_range else start
            headers["Content-Range"] = f"bytes {shown}-{len(data) - 1}/{len(data)}"
        if hub.corrupt and not start:
            hub.corrupt -= 1
            data = bytes([data[0] ^ 1]) + data[1:]
        body = data[start:] + hub.extra
        length = None if hub.extra else len(body) + hub.announced
        if hub.cut_after:
            body = body[: hub.cut_after.pop(0)]
        self._send(status, body, headers, length)

    def _send(
        self, status: int, body: bytes, headers: dict[str, str], length: int | None = -1
    ) -> None:
        self.send_response(status)
        self.send_header("Connection", "close")
        if length is not None:
            self.send_header("Content-Length", str(len(body) if length == -1 else length))
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)
