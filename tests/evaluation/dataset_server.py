"""A stand-in on 127.0.0.1 for the hub as the library ``datasets`` asks it."""

from __future__ import annotations

import hashlib
import io
import json
import threading
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pyarrow
import pyarrow.parquet

COMMIT = "89abcdef0123456789abcdef0123456789abcdef"


class DatasetServer:
    """Serves sets of one part each for as long as it is entered.

    Args:
        sets: rows by repository and part, such as ``{("org/name", "test"): [{"text": "a"}]}``.
    """

    def __init__(self, sets: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]]) -> None:
        served = {
            repository: (f"{split}-00000-of-00001.parquet", _parquet(rows))
            for (repository, split), rows in sets.items()
        }
        self.requests: list[str] = []
        asked = self.requests

        class Handler(_Handler):
            files = served
            requests = asked

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> DatasetServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _parquet(rows: Sequence[Mapping[str, Any]]) -> bytes:
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([dict(row) for row in rows]), buffer)
    return buffer.getvalue()


class _Handler(BaseHTTPRequestHandler):
    files: Mapping[str, tuple[str, bytes]]
    requests: list[str]

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self) -> None:
        path = self.path.split("?")[0]
        self.requests.append(path)
        parts = path.removeprefix("/api").split("/")
        name, content = self.files.get("/".join(parts[2:4]), ("", b""))
        checksum = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        if not name:
            self._send(404, b"", {"X-Error-Code": "RepoNotFound"})
        elif path.endswith(f"/tree/{COMMIT}"):
            entry = {"type": "file", "path": name, "size": len(content), "oid": checksum}
            self._send(200, json.dumps([entry]).encode())
        elif "/tree/" in path:
            self._send(200, b"[]")
        elif path.startswith("/api/"):
            files = [{"rfilename": name}]
            self._send(200, json.dumps({"id": name, "sha": COMMIT, "siblings": files}).encode())
        elif path.endswith(name):
            self._send(200, content, {"ETag": f'"{checksum}"', "X-Repo-Commit": COMMIT})
        else:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/json")
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
