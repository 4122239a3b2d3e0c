"""SST-2 (Socher et al. 2013): whether a sentence of a film review is positive."""

from everlong.evaluation.classification import HeadTask
from everlong.evaluation.likelihood import LikelihoodTask
from everlong.evaluation.tasks.understanding.labelled import LabelledSet, leading_label

SET = LabelledSet(
    leading_label("sentence_classification/stsa.binary.train.txt"),
    leading_label("sentence_classification/stsa.binary.test.txt"),
    "Sentiment",
    {"0": "negative", "1": "positive"},
)
TASK = LikelihoodTask("sst2", 1, SET.choices, SET.solved)
HEAD = HeadTask("sst2_head", 1, SET)
