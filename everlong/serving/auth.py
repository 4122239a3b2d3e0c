"""Who is asking: API keys, and the namespace that each of them opens."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Sequence

from everlong.errors import ConfigError
from everlong.memory.namespaces import LOCAL


class Credentials:
    """The keys that are let in, each with a namespace of its own.

    A namespace is a random id and never derived from the key, so that a key can be replaced
    without losing what it opened. A request cannot choose it.

    Args:
        keys: the secrets that a client may send as ``Authorization: Bearer KEY``; empty lets
            everyone in, under ``LOCAL``.
        opened: names the namespace that a key opens, as a memory knows it; None: a new one with
            every start.

    Raises:
        ConfigError: a key is empty, has spaces or non-ASCII characters (a header could not
            carry it), or is given twice.
    """

    def __init__(
        self, keys: Sequence[str] = (), opened: Callable[[str], str] | None = None
    ) -> None:
        for number, key in enumerate(keys, 1):
            if not key or not key.isascii() or not key.isprintable() or " " in key:
                raise ConfigError(
                    f"api key {number} of {len(keys)} must be printable ASCII without spaces, "
                    "at least one character"
                )
        if len(set(keys)) != len(keys):
            raise ConfigError("two api keys are equal; each needs its own")
        opened = opened or (lambda key: secrets.token_hex(16))
        self._namespaces = [(_digest(key), opened(key)) for key in keys]

    def namespace(self, authorization: str | None) -> str | None:
        """Namespace of a request, or None if it is not let in.

        Args:
            authorization: value of the header of that name, if there was one.

        The time taken does not depend on which key matches, or how much of one.
        """
        if not self._namespaces:
            return LOCAL
        scheme, _, key = (authorization or "").partition(" ")
        given = _digest(key.strip())
        found = None
        for digest, namespace in self._namespaces:
            if hmac.compare_digest(digest, given):
                found = namespace
        return found if scheme.lower() == "bearer" else None


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
