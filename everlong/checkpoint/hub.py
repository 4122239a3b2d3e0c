"""Downloading models from a hub that speaks Hugging Face's HTTP interface.

Facts of the interface: ``/api/models/REPO/revision/REV`` names the commit,
``/api/models/REPO/tree/COMMIT`` lists files with size and checksum (Git's for small files, SHA-256
for large ones), ``/REPO/resolve/COMMIT/PATH`` is a file, often behind a redirect.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import IO, Any

from everlong.checkpoint.progress import ProgressCallback
from everlong.errors import ConfigError, DownloadError
from everlong.files import sync_directory

DEFAULT_ENDPOINT = "https://huggingface.co"
ATTEMPTS = 5
"""Tries of one request before giving up; a try that brings new bytes starts the count again."""
BACKOFF_SECONDS = 1.0
"""Wait after the first failed try; doubled after each further one."""

_MAX_WAIT_SECONDS = 60.0
_TIMEOUT_SECONDS = 30.0
_CHUNK_BYTES = 1 << 20
_MAX_LISTING_BYTES = 16 << 20
_MAX_PAGES = 100
_MAX_FILE_BYTES = 1 << 42


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository, as the hub lists it."""

    path: str
    size: int
    checksum: str
    """SHA-256 (64 digits) of the content, or SHA-1 (40 digits) of it as a Git object."""

    def partial(self, target: Path) -> Path:
        """Where the bytes of this very content collect before the file is complete."""
        return target.with_name(f".{target.name}.{self.checksum[:16]}.part")

    def _digest(self) -> hashlib._Hash:
        if len(self.checksum) == 64:
            return hashlib.sha256()
        return hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)

    def matches(self, path: Path) -> bool:
        """Whether the file at ``path`` has this size and checksum."""
        if not path.is_file() or path.stat().st_size != self.size:
            return False
        digest = self._digest()
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
        return digest.hexdigest() == self.checksum


class Hub:
    """A client for one hub.

    Args:
        endpoint: its address; None is ``$HF_ENDPOINT`` or the public hub.
        token: access token; None is ``$HF_TOKEN`` or none. It is sent to the hub only, never
            to the servers that the hub redirects to.

    Raises:
        ConfigError: the address is not https (plain http is allowed to this machine only).
    """

    def __init__(self, endpoint: str | None = None, token: str | None = None) -> None:
        self.endpoint = (endpoint or os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")
        self._token = token or os.environ.get("HF_TOKEN") or None
        if not _is_safe(self.endpoint):
            raise ConfigError(
                f"the hub's address must start with https://, not {self.endpoint!r}; "
                "change HF_ENDPOINT"
            )
        self._opener = urllib.request.build_opener(_Redirects())

    def commit(self, repository: str, revision: str) -> str:
        """The commit that a branch, tag or commit of a repository stands for now."""
        quoted = urllib.parse.quote(revision, safe="")
        answer, _ = self._json(f"{self.endpoint}/api/models/{repository}/revision/{quoted}")
        commit = answer.get("sha") if isinstance(answer, dict) else None
        if not isinstance(commit, str) or not re.fullmatch(r"[0-9a-f]{40}", commit):
            raise DownloadError(f"the hub gives no commit for {repository}@{revision}: {commit!r}")
        return commit

    def files(self, repository: str, commit: str) -> list[RemoteFile]:
        """The files of a repository at one commit. Paths are as the hub says: check them."""
        url: str | None = f"{self.endpoint}/api/models/{repository}/tree/{commit}?recursive=true"
        found: list[RemoteFile] = []
        for _ in range(_MAX_PAGES):
            assert url is not None
            entries, headers = self._json(url)
            if not isinstance(entries, list):
                raise DownloadError(f"the hub's list of files of {repository} is malformed")
            found += [_remote_file(entry) for entry in entries if _is_file(entry)]
            url = self._next_page(headers)
            if url is None:
                return found
        raise DownloadError(f"{repository} has more files than a model should")

    def download(
        self,
        repository: str,
        commit: str,
        file: RemoteFile,
        target: Path,
        progress: ProgressCallback,
    ) -> None:
        """Download one file; what an earlier attempt left is continued.

        The bytes collect in a hidden file beside ``target`` whose name has the checksum in it,
        and take ``target``'s name once they are verified and on the disk.

        Args:
            target: path in an existing folder.

        Raises:
            DownloadError: the file cannot be had, or is not what the hub listed.
        """
        path = urllib.parse.quote(file.path)
        url = f"{self.endpoint}/{repository}/resolve/{commit}/{path}"
        part = file.partial(target)
        for _ in range(2):  # perhaps the beginning was bad: once more, from nothing
            self._collect(url, file, part, progress)
            if file.matches(part):
                os.replace(part, target)
                sync_directory(target.parent)
                for stale in target.parent.glob(f".{target.name}.*.part"):
                    stale.unlink()  # of other contents under this name
                return
            part.unlink()
        raise DownloadError(
            f"{file.path} from {self.endpoint} does not have the checksum that the hub lists "
            f"({file.checksum}), twice; try again later"
        )

    def _collect(self, url: str, file: RemoteFile, part: Path, progress: ProgressCallback) -> None:
        """Bring ``part`` to the file's size, over as many connections as it takes."""
        part.touch()
        failures, most = 0, part.stat().st_size
        while (have := part.stat().st_size) != file.size:
            progress(file.path, min(have, file.size), file.size)
            try:
                self._append(url, file, part, have if have < file.size else 0, progress)
                error = _TryAgain(f"{url}: the connection ended early")
            except _TryAgain as failure:
                error = failure
                if failure.from_nothing:
                    part.write_bytes(b"")
            now = part.stat().st_size
            if now == file.size:
                break
            failures = 1 if now > most else failures + 1
            most = max(most, now)
            _wait(error, failures)
        progress(file.path, file.size, file.size)

    def _append(
        self, url: str, file: RemoteFile, part: Path, have: int, progress: ProgressCallback
    ) -> None:
        """Write what one connection brings, from byte ``have`` on."""
        headers = {"Range": f"bytes={have}-"} if have else {}
        with self._open(url, headers) as response, part.open("r+b") as output:
            if have and response.status == 206:
                start = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
                if start is None or int(start[1]) != have:
                    raise DownloadError(f"{url} does not continue at byte {have:,} as asked")
            else:
                have = 0  # the server sends all of it
            output.seek(have)
            output.truncate()
            announced = response.headers.get("Content-Length", "")
            if announced.isdecimal() and int(announced) != file.size - have:
                raise DownloadError(
                    f"{url} announces {int(announced):,} bytes, but by the hub's list "
                    f"{file.size - have:,} are missing"
                )
            while chunk := _read(response, _CHUNK_BYTES):
                have += len(chunk)
                if have > file.size:
                    output.truncate(0)
                    raise DownloadError(f"{url} sends more than the {file.size:,} bytes listed")
                output.write(chunk)
                progress(file.path, have, file.size)
            output.flush()
            os.fsync(output.fileno())

    def _json(self, url: str) -> tuple[Any, Message]:
        """The JSON value at an address, and the headers it came with."""
        failures = 0
        while True:
            try:
                with self._open(url, {}) as response:
                    data = _read(response, _MAX_LISTING_BYTES + 1)
                    headers = response.headers
                break
            except _TryAgain as error:
                failures += 1
                _wait(error, failures)
        if len(data) > _MAX_LISTING_BYTES:
            raise DownloadError(f"{url} sends over {_MAX_LISTING_BYTES:,} bytes")
        try:
            return json.loads(data), headers
        except (ValueError, RecursionError):
            raise DownloadError(f"{url} does not send JSON; is HF_ENDPOINT a hub?") from None

    def _next_page(self, headers: Message) -> str | None:
        match = re.search(r'<([^>]+)>;\s*rel="next"', headers.get("Link", ""))
        if match is None:
            return None
        if not match[1].startswith(self.endpoint + "/"):
            raise DownloadError(f"the hub continues its list on another server: {match[1]}")
        return match[1]

    def _open(self, url: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        request = urllib.request.Request(url, headers={"User-Agent": "everlong", **headers})
        if self._token is not None:
            request.add_unredirected_header("Authorization", f"Bearer {self._token}")
        try:
            response: http.client.HTTPResponse = self._opener.open(
                request, timeout=_TIMEOUT_SECONDS
            )
            return response
        except urllib.error.HTTPError as error:
            with error:
                raise _refusal(url, error) from None
        except urllib.error.URLError as error:
            if isinstance(error.reason, ssl.SSLCertVerificationError):
                raise DownloadError(f"{url}: {error.reason}") from None
            raise _TryAgain(f"{url} cannot be reached: {error.reason}") from None
        except (OSError, http.client.HTTPException) as error:
            raise _TryAgain(f"{url}: {error or type(error).__name__}") from None


class _TryAgain(Exception):
    """A failure that may pass.

    Args:
        message: what failed.
        after: seconds that the server asks to wait.
        from_nothing: what has arrived cannot be continued.
    """

    def __init__(self, message: str, after: float = 0.0, from_nothing: bool = False) -> None:
        super().__init__(message)
        self.after = after
        self.from_nothing = from_nothing


def _wait(error: _TryAgain, failures: int) -> None:
    """Sleep before the next try, or raise where there have been enough."""
    if failures >= ATTEMPTS:
        raise DownloadError(
            f"{error} (tried {failures} times); what has arrived is kept, run the command again"
        ) from error
    time.sleep(min(max(error.after, BACKOFF_SECONDS * 2 ** (failures - 1)), _MAX_WAIT_SECONDS))


def _refusal(url: str, error: urllib.error.HTTPError) -> Exception:
    """What an HTTP status means for the download."""
    if error.code in (408, 425, 429) or error.code >= 500:
        after = error.headers.get("Retry-After", "")
        seconds = float(after) if after.isdecimal() else 0.0
        return _TryAgain(f"{url} answers {error.code} {error.reason}", seconds)
    if error.code == 416:
        return _TryAgain(f"{url} answers 416 {error.reason}", from_nothing=True)
    if error.code in (401, 403):
        return DownloadError(
            f"{url} answers {error.code} {error.reason}: the name is wrong, or the model is "
            "private or asks for its licence to be accepted; then set HF_TOKEN to a token that "
            "may read it"
        )
    if error.code == 404:
        return DownloadError(f"{url} answers 404: no such model, revision or file")
    return DownloadError(f"{url} answers {error.code} {error.reason}")


def _read(response: http.client.HTTPResponse, count: int) -> bytes:
    try:
        return response.read(count)
    except (OSError, http.client.HTTPException) as error:
        raise _TryAgain(f"{response.geturl()}: {error or type(error).__name__}") from None


def _is_safe(url: str) -> bool:
    """Whether an address is encrypted, or on this machine."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "https":
        return bool(parts.hostname)
    return parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to safe addresses; credentials stay with the server they are for."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if not _is_safe(newurl):
            raise DownloadError(f"{req.full_url} redirects to {newurl}, which is not https")
        redirected = super().redirect_request(req, fp, code, msg, headers, newurl)
        credentials = req.unredirected_hdrs.get("Authorization")
        if redirected is not None and credentials is not None and _same_server(req, redirected):
            redirected.add_unredirected_header("Authorization", credentials)
        return redirected


def _same_server(one: urllib.request.Request, other: urllib.request.Request) -> bool:
    return one.type == other.type and one.host == other.host


def _is_file(entry: Any) -> bool:
    return isinstance(entry, dict) and entry.get("type") == "file"


def _remote_file(entry: dict[str, Any]) -> RemoteFile:
    """Read one entry of the hub's list.

    Raises:
        DownloadError: the entry is malformed.
    """
    large = entry.get("lfs")
    source = large if isinstance(large, dict) else entry
    path, size, checksum = entry.get("path"), source.get("size"), source.get("oid")
    if isinstance(checksum, str):
        checksum = checksum.removeprefix("sha256:")
    digits = 64 if source is large else 40
    if (
        not isinstance(path, str)
        or not isinstance(size, int)
        or not 0 <= size <= _MAX_FILE_BYTES
        or not isinstance(checksum, str)
        or not re.fullmatch(rf"[0-9a-f]{{{digits}}}", checksum)
    ):
        raise DownloadError(f"the hub's list has a malformed entry: {entry!r:.200}")
    return RemoteFile(path, size, checksum)
