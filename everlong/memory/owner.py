"""One process owns a memory; others ask it over a local socket.

The owner writes where it listens, and a secret, into a file that only its user can read. Messages
are JSON in both directions; whoever does not know the secret is refused before one is read.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import AuthenticationError
from multiprocessing.connection import (
    Client,
    Connection,
    Listener,
    answer_challenge,
    deliver_challenge,
)
from pathlib import Path
from typing import Any

import everlong.errors
from everlong.errors import EverlongError, StoreError
from everlong.files import atomic_write
from everlong.memory.memory import Memory
from everlong.memory.operations import perform

logger = logging.getLogger(__name__)

Ask = Callable[..., Any]
"""``ask(operation, namespace="local", **arguments)``: see ``operations.py``."""


class Owner:
    """Answers other processes for as long as it is open.

    Args:
        memory: belongs to this process.
    """

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._file = _address_file(memory.folder)
        self._key = secrets.token_bytes(32)
        self._listener = Listener()
        told = {"address": self._listener.address, "key": self._key.hex()}
        atomic_write(self._file, json.dumps(told).encode(), mode=0o600)
        self._closed = False
        self._thread = threading.Thread(target=self._accept, name="everlong-owner", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Answer nobody any more."""
        self._closed = True
        self._file.unlink(missing_ok=True)
        with suppress(OSError):
            # Wakes the thread, which waits for somebody.
            Client(self._listener.address).close()
        self._listener.close()
        self._thread.join(timeout=5)

    def _accept(self) -> None:
        while not self._closed:
            try:
                connection = self._listener.accept()
            except OSError:
                continue
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: Connection) -> None:
        with connection, suppress(OSError, EOFError, AuthenticationError):
            # Here and not in the listener: who connects and says nothing keeps nobody waiting.
            deliver_challenge(connection, self._key)
            answer_challenge(connection, self._key)
            while True:
                asked = json.loads(connection.recv_bytes())
                connection.send_bytes(json.dumps(self._answer(asked)).encode())

    def _answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        try:
            namespace = self._memory.namespace(asked["namespace"])
            return {
                "result": perform(self._memory, namespace, asked["operation"], asked["arguments"])
            }
        except EverlongError as error:
            return {"error": type(error).__name__, "message": str(error)}
        except Exception as error:
            logger.exception("an operation on the memory failed")
            return {"error": "EverlongError", "message": f"the memory's owner failed: {error}"}


@contextmanager
def owned(folder: Path, size: int, quota: int | None = None) -> Iterator[Memory]:
    """A memory that belongs to this process, which answers others for it; see :class:`Memory`."""
    with Memory(folder, size, quota) as memory:
        owner = Owner(memory)
        try:
            yield memory
        finally:
            owner.close()


@contextmanager
def asking(folder: Path, size: int) -> Iterator[Ask]:
    """Ask a memory: its owner, if another process is, or else this one while it is needed.

    Args:
        folder: of the memory.
        size: see :class:`Memory`, for when this process is the owner.

    Raises:
        StoreError: it belongs to a process that does not answer.
    """
    try:
        memory = Memory(folder, size)
    except StoreError:
        if (connection := _connected(folder)) is None:
            raise
        with connection:

            def ask_owner(operation: str, namespace: str = "local", **arguments: Any) -> Any:
                asked = {"operation": operation, "namespace": namespace, "arguments": arguments}
                try:
                    connection.send_bytes(json.dumps(asked).encode())
                    told = json.loads(connection.recv_bytes())
                except (OSError, EOFError):
                    raise StoreError("the process that has the memory ended; try again") from None
                if "error" in told:
                    raise getattr(everlong.errors, told["error"])(told["message"])
                return told["result"]

            yield ask_owner
        return
    with memory:

        def ask_here(operation: str, namespace: str = "local", **arguments: Any) -> Any:
            return perform(memory, memory.namespace(namespace), operation, arguments)

        yield ask_here


def _connected(folder: Path) -> Connection | None:
    """A connection to the owner; None: it does not say where, or is gone."""
    try:
        told = json.loads(_address_file(folder).read_bytes())
        return Client(told["address"], authkey=bytes.fromhex(told["key"]))
    except (OSError, ValueError, KeyError, EOFError, AuthenticationError):
        return None


def _address_file(folder: Path) -> Path:
    return folder / "owner.json"
