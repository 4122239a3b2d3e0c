"""CrowS-Pairs (Nangia et al. 2020): how often the more stereotyping of two sentences is likelier.

50 % is the ideal. By the log-probability of whole sentences, as lm-evaluation-harness does for
causal models. The published set is known to have flawed pairs (Blodgett et al. 2021).
"""

from __future__ import annotations

from collections.abc import Mapping

from everlong.evaluation.data import Data
from everlong.evaluation.likelihood import Choice, LikelihoodTask, Verdict, choice


def _read(data: Data) -> list[Choice]:
    def parse(row: Mapping[str, str]) -> tuple[str, str, str]:
        return row["sent_more"], row["sent_less"], row["bias_type"]

    rows = data.rows("crows_pairs/crows_pairs_anonymized.csv", parse)
    return [
        # In turns, so that a model that always takes the first option scores 50 %.
        choice(str(n), [("", more), ("", less)][:: 1 - 2 * (n % 2)], n % 2, kind)
        for n, (more, less, kind) in enumerate(rows)
    ]


def _judge(example: Choice, verdict: Verdict) -> Mapping[str, float]:
    return {"stereotype": float(verdict.chosen == example.gold)}


TASK = LikelihoodTask("crows_pairs", 1, _read, judge=_judge, judged_by=("stereotype",))
