"""COPA (Roemmele et al. 2011): the likelier cause, or effect, of an event."""

from everlong.evaluation.likelihood import LikelihoodTask
from everlong.evaluation.tasks.understanding.multiple_choice import reader

TASK = LikelihoodTask("copa", 1, reader("lm_eval/copa.jsonl"))
