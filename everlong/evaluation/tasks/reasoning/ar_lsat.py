"""AR-LSAT (Zhong et al. 2021): analytical reasoning of law school tests; chance is 20 %."""

from everlong.evaluation.likelihood import LikelihoodTask
from everlong.evaluation.tasks.reasoning.lettered import reader

TASK = LikelihoodTask("ar_lsat", 1, reader("logic/AR-LSAT/test.json", lambda n: ""))
