"""ARC-easy (Clark et al. 2018): questions of science exams, four answers each."""

from everlong.evaluation.likelihood import LikelihoodTask
from everlong.evaluation.tasks.understanding.multiple_choice import reader

TASK = LikelihoodTask("arc_easy", 1, reader("lm_eval/arc_easy.jsonl", "\nAnswer:"))
