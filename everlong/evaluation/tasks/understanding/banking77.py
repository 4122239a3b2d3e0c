"""BANKING77 (Casanueva et al. 2020): what a bank's customer wants, 77 intents."""

from everlong.evaluation.classification import HeadTask
from everlong.evaluation.likelihood import LikelihoodTask
from everlong.evaluation.tasks.understanding.labelled import LabelledSet, table

SET = LabelledSet(table("intents/banking_train.tsv"), table("intents/banking_test.tsv"), "Intent")
TASK = LikelihoodTask("banking77", 1, SET.choices, SET.solved)
HEAD = HeadTask("banking77_head", 1, SET)
