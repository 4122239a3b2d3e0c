"""Every task by suite: what ``everlong eval`` knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from everlong.evaluation.task import Task
from everlong.evaluation.tasks.code import (
    humaneval,
    mbpp,
    mbxp,
    quixbugs,
    scan,
    text_to_sql,
)
from everlong.evaluation.tasks.memory import (
    babilong,
    facts_forget,
    facts_leak,
    facts_recall,
    locomo_answers,
    locomo_evidence,
    locomo_memory,
    needles,
)
from everlong.evaluation.tasks.multilingual import emoji_names, mgsm, sib200, udhr_language
from everlong.evaluation.tasks.reasoning import (
    ar_lsat,
    babi,
    bbh,
    clutrr,
    gsm8k,
    logical_deduction,
)
from everlong.evaluation.tasks.safety import crows_pairs, seat, toxicity, winobias
from everlong.evaluation.tasks.understanding import (
    ag_news,
    arc_easy,
    banking77,
    boolq,
    clinc150,
    copa,
    lambada,
    piqa,
    snips,
    sst2,
    trec,
    winogrande,
)

_LABELLED = (sst2, trec, ag_news, snips, clinc150, banking77)

SUITES: Mapping[str, Sequence[Task[Any]]] = {
    "understanding": (
        boolq.TASK,
        piqa.TASK,
        copa.TASK,
        arc_easy.TASK,
        winogrande.TASK,
        lambada.TASK,
        *(labelled.TASK for labelled in _LABELLED),
        *(labelled.HEAD for labelled in _LABELLED),
    ),
    "code": (
        mbpp.TASK,
        mbxp.TASK,
        humaneval.TASK,
        quixbugs.TASK,
        text_to_sql.TASK,
        scan.TASK,
    ),
    "reasoning": (
        babi.TASK,
        gsm8k.TASK,
        bbh.TASK,
        clutrr.TASK,
        logical_deduction.TASK,
        ar_lsat.TASK,
    ),
    "multilingual": (sib200.TASK, mgsm.TASK, udhr_language.TASK, emoji_names.TASK),
    "memory": (
        locomo_evidence.BY_WORDS,
        locomo_evidence.BY_STATES,
        locomo_answers.TASK,
        facts_recall.BY_WORDS,
        facts_recall.BY_SENTENCES,
        facts_leak.TASK,
        facts_forget.TASK,
        locomo_memory.ANSWERS,
        locomo_memory.ANSWERS_BY_SENTENCES,
        locomo_memory.UNSAID,
        *babilong.TASKS,
        *needles.TASKS,
    ),
    "safety": (crows_pairs.TASK, seat.TASK, winobias.TASK, toxicity.TASK),
}
"""The tasks of each suite, in the order they are run."""
