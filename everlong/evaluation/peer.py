"""Another program's figures for the same weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from everlong.errors import ConfigError

_HARNESS: Mapping[str, str] = {
    "accuracy": "acc,none",
    "accuracy_by_length": "acc_norm,none",
    "strict_match": "exact_match,strict-match",
    "flexible_extract": "exact_match,flexible-extract",
}
"""Names of metrics in lm-evaluation-harness's results."""


@dataclass(frozen=True)
class Peer:
    """Figures of lm-evaluation-harness for the same weights."""

    name: str
    metrics: Mapping[str, Mapping[str, float]]
    """By task, then by the harness's name of the metric."""

    def figure(self, task: str, metric: str) -> float | None:
        """Its figure, if it has one."""
        value = self.metrics.get(task, {}).get(_HARNESS.get(metric, metric))
        return float(value) if isinstance(value, int | float) else None


def read_peer(path: Path) -> Peer:
    """A results file that ``lm_eval --output_path`` wrote.

    Raises:
        ConfigError: it is missing or something else.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
        name = content.get("config", {}).get("model", path.stem)
        return Peer(str(name), {str(task): dict(v) for task, v in content["results"].items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path} is no result of lm_eval --output_path: {error!r}") from None
