"""LogicalDeduction (BIG-bench; Pan et al. 2023): the order of 3, 5 or 7 objects from clues.

Chance is 33, 20 and 14 %.
"""

from everlong.evaluation.likelihood import LikelihoodTask
from everlong.evaluation.tasks.reasoning.lettered import reader

TASK = LikelihoodTask(
    "logical_deduction", 1, reader("logic/LogicalDeduction/dev.json", lambda n: f"{n} objects")
)
