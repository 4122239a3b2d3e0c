"""SNIPS (Coucke et al. 2018): what a spoken request wants, seven intents."""

from everlong.evaluation.classification import HeadTask
from everlong.evaluation.likelihood import LikelihoodTask
from everlong.evaluation.tasks.understanding.labelled import LabelledSet, table

SET = LabelledSet(table("intents/snips_train.tsv"), table("intents/snips_test.tsv"), "Intent")
TASK = LikelihoodTask("snips", 1, SET.choices, SET.solved)
HEAD = HeadTask("snips_head", 1, SET)
