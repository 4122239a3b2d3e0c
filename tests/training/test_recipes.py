"""The recipes that come with the project."""

from __future__ import annotations

from pathlib import Path

import pytest

from everlong.config import load_config
from everlong.errors import ConfigError
from everlong.training.recipe import ModelSource, Recipe
from everlong.training.start import open_start
from tests.home import own_home
from tests.training.small import SHAPE, recipe

FOLDER = Path(__file__).parents[2] / "recipes"


OF_TRAINING = sorted(path for path in FOLDER.rglob("*.yaml") if path.name != "curate.yaml")


@pytest.mark.parametrize("path", OF_TRAINING, ids=lambda path: path.name)
def test_recipes_can_be_read(path: Path) -> None:
    assert load_config(Recipe, path).steps > 0


def test_a_tokenizer_is_trained_for_a_shape_that_names_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERLONG_HOME", own_home(tmp_path))
    given = recipe(tmp_path, model=ModelSource(shape=SHAPE))
    told: list[str] = []
    first = open_start(given, told.append)
    assert any("training a tokenizer of 280 tokens" in line for line in told)
    assert first.tokenizer.vocab_size <= SHAPE.vocab_size
    told.clear()
    again = open_start(given, told.append)
    assert not told, "tokenizer and shards are kept"
    assert again.tokenizer.fingerprint() == first.tokenizer.fingerprint()
    (tmp_path / "texts" / "more.txt").write_text("other words, quite other words " * 20)
    assert open_start(given, told.append).tokenizer.fingerprint() != first.tokenizer.fingerprint()
    with pytest.raises(ConfigError, match="either a checkpoint or a shape"):
        ModelSource()
    with pytest.raises(ConfigError, match="a checkpoint has its own"):
        ModelSource(checkpoint="smollm2-135m", tokenizer="smollm2-135m")
