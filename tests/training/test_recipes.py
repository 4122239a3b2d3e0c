"""The recipes that come with the project."""

from __future__ import annotations

from pathlib import Path

import pytest

from everlong.config import load_config
from everlong.training.recipe import Recipe

FOLDER = Path(__file__).parents[2] / "recipes"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.name)
def test_recipes_can_be_read(path: Path) -> None:
    assert load_config(Recipe, path).steps > 0
