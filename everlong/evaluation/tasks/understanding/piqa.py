"""PIQA (Bisk et al. 2020): which of two ways reaches a goal in the physical world."""

from everlong.evaluation.likelihood import LikelihoodTask
from everlong.evaluation.tasks.understanding.multiple_choice import reader

TASK = LikelihoodTask("piqa", 1, reader("lm_eval/piqa.jsonl", "\nAnswer:"))
