"""BoolQ (Clark et al. 2019): a passage, and a question that is answered with yes or no."""

from everlong.evaluation.likelihood import LikelihoodTask
from everlong.evaluation.tasks.understanding.multiple_choice import reader

TASK = LikelihoodTask("boolq", 1, reader("lm_eval/boolq.jsonl", "\nAnswer:"))
