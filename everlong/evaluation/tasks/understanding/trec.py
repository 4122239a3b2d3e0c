"""TREC (Li and Roth 2002): what kind of thing a question asks for, six kinds."""

from everlong.evaluation.classification import HeadTask
from everlong.evaluation.likelihood import LikelihoodTask
from everlong.evaluation.tasks.understanding.labelled import LabelledSet, leading_label

SET = LabelledSet(
    leading_label("sentence_classification/TREC.train.all.txt"),
    leading_label("sentence_classification/TREC.test.all.txt"),
    "The answer is a",
    {
        "0": "description",
        "1": "thing",
        "2": "abbreviation",
        "3": "person",
        "4": "location",
        "5": "number",
    },
)
TASK = LikelihoodTask("trec", 1, SET.choices, SET.solved)
HEAD = HeadTask("trec_head", 1, SET)
