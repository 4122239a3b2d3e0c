"""Makes ``lm_eval --model everlong`` work without a wrapper.

lm-evaluation-harness has no entry points for models. A line in the environment's site-packages
imports this module whenever Python starts; it only leaves a note, and when ``lm_eval.models`` is
imported, the model is added to the harness's registry, by name, without importing it.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

NAME = "everlong"
TARGET = "everlong.evaluation.lm_eval:EverlongLM"
_MODELS = "lm_eval.models"
_LINE = "import everlong.evaluation.harness_plugin as plugin; plugin.install()\n"


def register() -> Path:
    """Tell this environment; returns the file that does it, to be removed to undo it."""
    path = Path(sysconfig.get_path("purelib")) / "everlong-lm-eval.pth"
    path.write_text(_LINE)
    return path


def install() -> None:
    """Wait for ``lm_eval.models`` to be imported."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(importlib.abc.MetaPathFinder):
    """Finds that one module where the others find it, and has its loader wrapped."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """See :class:`importlib.abc.MetaPathFinder`."""
        if name != _MODELS:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(importlib.abc.Loader):
    """Loads the module as its own loader does, then registers the model."""

    def __init__(self, own: importlib.abc.Loader) -> None:
        self._own = own

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        """See :class:`importlib.abc.Loader`."""
        return self._own.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """See :class:`importlib.abc.Loader`."""
        self._own.exec_module(module)
        from lm_eval.api.registry import model_registry

        if NAME not in model_registry:
            model_registry.register(NAME, target=TARGET)
