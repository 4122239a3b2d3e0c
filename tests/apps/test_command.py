from __future__ import annotations

import shlex
from pathlib import Path

from everlong.apps.command import command


def test_what_is_told_can_be_given() -> None:
    assert command("everlong train", Path("a.yaml")) == "everlong train a.yaml"
    told = command("everlong train", Path("my recipes/it's.yaml"), Path("$HOME/a run"))
    assert shlex.split(told) == [
        *("everlong", "train", "my recipes/it's.yaml"),
        *("--run", "$HOME/a run"),
    ]
