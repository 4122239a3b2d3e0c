"""BIG-Bench Hard (Suzgun et al. 2022): 27 kinds of problems that were hard for language models.

The authors' prompts are used: three problems with their chain of thought come first. The answer is
what follows "the answer is".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from everlong.evaluation.answers import normalised
from everlong.evaluation.data import Data
from everlong.evaluation.generation import GenerationTask, Question

_ANSWER = re.compile(r"the answer is (.*?)(?:\.\s*$|\.\n|\n|$)", re.IGNORECASE)


def _read(data: Data) -> list[Question]:
    found = []
    for name in data.names("bbh/*.json"):
        kind = PurePosixPath(name).stem
        # The first lines say that the data must not be trained on; they are no part of the prompt.
        shown = data.text(f"bbh/cot_prompts/{kind}.txt").split("-----\n", 1)[-1].strip()
        pairs = data.document(name, _pairs)
        for n, (asked, target) in enumerate(pairs):
            prompt = f"{shown}\n\nQ: {asked}\nA: Let's think step by step."
            found.append(Question(f"{kind}:{n}", kind.replace("_", " "), prompt, target))
    return found


def _pairs(content: Any) -> list[tuple[str, str]]:
    return [(str(e["input"]), str(e["target"])) for e in content["examples"]]


def _judge(question: Question, text: str) -> Mapping[str, float]:
    said = _ANSWER.search(text)
    right = said is not None and normalised(said[1]) == normalised(question.target)
    return {"accuracy": float(right)}


TASK = GenerationTask("bbh", 1, _read, _judge, max_tokens=400, stop=("Q:", "\n\n"))
