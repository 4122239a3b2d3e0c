"""CLINC150 (Larson et al. 2019): what a request to an assistant wants, 150 intents."""

from everlong.evaluation.classification import HeadTask
from everlong.evaluation.likelihood import LikelihoodTask
from everlong.evaluation.tasks.understanding.labelled import LabelledSet, table

SET = LabelledSet(table("intents/clinc_train.tsv"), table("intents/clinc_test.tsv"), "Intent")
TASK = LikelihoodTask("clinc150", 1, SET.choices, SET.solved)
HEAD = HeadTask("clinc150_head", 1, SET)
