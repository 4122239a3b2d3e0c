"""API keys and the namespaces behind them."""

from __future__ import annotations

import pytest

from everlong.errors import ConfigError
from everlong.memory.namespaces import LOCAL
from everlong.serving.auth import Credentials


def test_without_keys_everyone_is_local() -> None:
    assert Credentials().namespace(None) == LOCAL
    assert Credentials().namespace("Bearer anything") == LOCAL


def test_each_key_opens_its_own_namespace() -> None:
    table = Credentials(["one", "two"])
    one, two = table.namespace("Bearer one"), table.namespace("Bearer two")
    assert one != two
    assert LOCAL not in (one, two)
    assert table.namespace("bearer  one ") == one, "the scheme has no case, spaces do not count"


def test_a_namespace_cannot_be_computed_from_the_key() -> None:
    assert Credentials(["k"]).namespace("Bearer k") != Credentials(["k"]).namespace("Bearer k")


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Bearer On", "Basic one", "one"])
def test_nobody_else_is_let_in(header: str | None) -> None:
    assert Credentials(["one"]).namespace(header) is None


def test_a_header_that_is_not_ascii() -> None:
    assert Credentials(["one"]).namespace("Bearer \xff🦊") is None


@pytest.mark.parametrize("keys", [[""], ["a b"], ["ключ"], ["a\n"], ["k", "k"]])
def test_keys_that_no_client_could_send(keys: list[str]) -> None:
    with pytest.raises(ConfigError):
        Credentials(keys)
