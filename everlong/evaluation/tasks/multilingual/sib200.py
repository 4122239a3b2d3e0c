"""SIB-200 (Adelani et al. 2024): the topic of a sentence, 7 topics in 205 languages.

Asked in English about sentences in every language; chance is 14 %, and always naming the commonest
topic gives 25 %.
"""

from __future__ import annotations

from collections.abc import Mapping

from everlong.evaluation.data import Data
from everlong.evaluation.likelihood import Choice, LikelihoodTask, choice


def _read_part(part: str, data: Data) -> list[Choice]:
    def parse(row: Mapping[str, str]) -> tuple[str, str, str, str]:
        return row["lang"], row["index_id"], row["category"], row["text"]

    rows = data.rows(f"sib200/{part}.tsv", parse)
    topics = sorted({topic for _, _, topic, _ in rows})
    return [
        choice(
            f"{language}:{index}",
            [(f"Text: {text}\nTopic:", f" {topic}") for topic in topics],
            topics.index(own),
            language,
        )
        for language, index, own, text in rows
    ]


TASK = LikelihoodTask(
    "sib200",
    1,
    lambda data: _read_part("test", data),
    lambda data: _read_part("train", data),
)
