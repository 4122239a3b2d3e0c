"""Folders import only from those above them; the order is the architecture."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import everlong

PACKAGE = Path(everlong.__file__).parent

LAYERS = (
    "errors",
    "config",
    "files",
    "device",
    "documents",
    "tokenizer",
    "model",
    "checkpoint",
    "memory",
    "engine",
    "data",
    "code",
    "training",
    "evaluation",
    "curation",
    "serving",
    "apps",
    "cli",
)


def imported_layers(source: str) -> set[str]:
    """Layers of Everlong that a module imports anywhere, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute, so that the order can be read"
            names = [node.module or ""]
            if node.module == "everlong":
                names = [f"everlong.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "everlong" and len(parts) > 1:
                found.add(parts[1])
    return found


def modules() -> list[Path]:
    return sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    layer = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert layer in LAYERS, f"{layer} has no place in the order"
    allowed = LAYERS[: LAYERS.index(layer) + 1]
    wrong = imported_layers(path.read_text()) - set(allowed)
    assert not wrong, f"{layer} may not import {', '.join(sorted(wrong))}"


def test_imports_inside_functions_are_seen() -> None:
    source = "def f():\n    from everlong.engine import llm\n    import everlong.cli"
    assert imported_layers(source) == {"engine", "cli"}


def test_no_module_is_a_drawer() -> None:
    drawers = {"utils", "util", "helpers", "common", "misc"}
    assert not [p for p in modules() if p.stem in drawers]
