"""Settings of the server."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from everlong.engine.config import EngineConfig
from everlong.errors import ConfigError
from everlong.serving.config import ENGINE_SETTINGS, ServeConfig


def test_the_engine_s_settings_are_all_there() -> None:
    known = {field.name for field in fields(EngineConfig)}
    assert set(ENGINE_SETTINGS) == known - {"budget"}  # which is for research, in Python
    assert set(ENGINE_SETTINGS) < {field.name for field in fields(ServeConfig)}


def test_by_default_only_this_machine_can_ask() -> None:
    assert ServeConfig(model="m").host == "127.0.0.1"


@pytest.mark.parametrize(
    ("setting", "value"),
    [("port", -1), ("port", 65536), ("max_body_bytes", 10), ("drain_seconds", -1)],
)
def test_settings_that_cannot_be(setting: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=setting):
        ServeConfig(model="m", **{setting: value})
