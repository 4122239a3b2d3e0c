"""Language understanding by likelihood.

Prompts follow the published zero-shot protocols (lm-evaluation-harness): BoolQ (Clark et al. 2019),
PIQA (Bisk et al. 2020), COPA (Roemmele et al. 2011), ARC-easy (Clark et al. 2018), WinoGrande
(Sakaguchi et al. 2020; the continuation is judged after either name, "partial scoring" of Trinh and
Le 2018), LAMBADA (Paperno et al. 2016, OpenAI's version).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from everlong.evaluation.task import Example, LikelihoodTask, choice


def _answer(example: Mapping[str, Any]) -> Example:
    context = f"{example['query'].rstrip()}\nAnswer:"
    return choice([(context, f" {text}") for text in example["choices"]], example["gold"])


def _sentence(example: Mapping[str, Any]) -> Example:
    context = example["query"].rstrip()
    return choice([(context, f" {text}") for text in example["choices"]], example["gold"])


def _either_context(example: Mapping[str, Any]) -> Example:
    text = f" {example['continuation']}"
    return choice([(context, text) for context in example["context_options"]], example["gold"])


def _last_word(example: Mapping[str, Any]) -> Example:
    return choice([(example["context"], f" {example['continuation']}")], 0)


TASKS = (
    LikelihoodTask("boolq", 1, "lm_eval/boolq.jsonl", _answer),
    LikelihoodTask("piqa", 1, "lm_eval/piqa.jsonl", _answer),
    LikelihoodTask("copa", 1, "lm_eval/copa.jsonl", _sentence),
    LikelihoodTask("arc_easy", 1, "lm_eval/arc_easy.jsonl", _answer),
    LikelihoodTask("winogrande", 1, "lm_eval/winogrande.jsonl", _either_context),
    LikelihoodTask("lambada", 1, "lm_eval/lambada_openai.jsonl", _last_word),
)
