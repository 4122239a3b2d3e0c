"""AG News (Zhang et al. 2015): the topic of a news item, four topics.

Only the published test part is there; 30 % of it, chosen by the texts' hashes, are asked here, and
the rest is what heads are trained on.
"""

from everlong.evaluation.classification import HeadTask
from everlong.evaluation.likelihood import LikelihoodTask
from everlong.evaluation.tasks.understanding.labelled import LabelledSet, part_of, table

_ALL = table("ag_news/ag_news_7600.tsv")
SET = LabelledSet(
    part_of(_ALL, test=False),
    part_of(_ALL, test=True),
    "Topic",
    {
        "World": "world news",
        "Sports": "sports",
        "Business": "business",
        "Sci/Tech": "science and technology",
    },
)
TASK = LikelihoodTask("ag_news", 1, SET.choices, SET.solved)
HEAD = HeadTask("ag_news_head", 1, SET)
