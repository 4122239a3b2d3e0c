"""Folders import only from those above them; the order is the architecture."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
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


def layer_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    layer = layer_of(path)
    assert layer in LAYERS, f"{layer} has no place in the order"
    allowed = LAYERS[: LAYERS.index(layer) + 1]
    wrong = imported_layers(path.read_text()) - set(allowed)
    assert not wrong, f"{layer} may not import {', '.join(sorted(wrong))}"


WITHOUT_EXTRAS = frozenset(LAYERS[: LAYERS.index("engine") + 1]) | {"cli"}
"""What works with nothing but the package's own dependencies."""


def required(project: str) -> set[str]:
    """Modules that come with the dependencies of a pyproject.toml, extras left out."""
    lines = tomllib.loads(project)["project"]["dependencies"]
    names = (re.split(r"[^A-Za-z0-9_-]", line)[0].replace("-", "_") for line in lines)
    return {{"pyyaml": "yaml"}.get(name, name) for name in names}


def imported_at_once(source: str) -> set[str]:
    """Packages that a module imports when it is imported itself."""
    found = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0])
    return found


@pytest.mark.parametrize(
    "path",
    [path for path in modules() if layer_of(path) in WITHOUT_EXTRAS],
    ids=lambda p: str(p.relative_to(PACKAGE)),
)
def test_nothing_is_imported_that_is_not_installed(path: Path) -> None:
    there = required((PACKAGE.parent / "pyproject.toml").read_text())
    missing = imported_at_once(path.read_text()) - there - sys.stdlib_module_names - {"everlong"}
    assert not missing, f"{', '.join(sorted(missing))} is not among the dependencies"


def test_dependencies_are_read() -> None:
    project = '[project]\ndependencies = ["torch>=2", "jsonargparse[signatures]>=4", "pyyaml>=6"]'
    assert required(project) == {"torch", "jsonargparse", "yaml"}
    assert imported_at_once("import a.b\nfrom c.d import e\ndef f():\n    import g") == {"a", "c"}


def test_imports_inside_functions_are_seen() -> None:
    source = "def f():\n    from everlong.engine import llm\n    import everlong.cli"
    assert imported_layers(source) == {"engine", "cli"}


def test_no_module_is_a_drawer() -> None:
    drawers = {"utils", "util", "helpers", "common", "misc"}
    assert not [p for p in modules() if p.stem in drawers]
