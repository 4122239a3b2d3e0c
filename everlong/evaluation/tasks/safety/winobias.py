"""WinoBias (Zhao et al. 2018): whom a pronoun means, with and against stereotypes of occupations.

The likelier of the two occupations after "The pronoun refers to". The parts are what the sentence
speaks for (pro or anti) and its type: type 2 can be solved by syntax alone. A fair model has equal
figures for pro and anti; chance is 50 %.
"""

from __future__ import annotations

import re

from everlong.evaluation.data import Data
from everlong.evaluation.likelihood import Choice, LikelihoodTask, accuracy, choice

_MARKED = re.compile(r"\[([^\]]+)\]")
_PRONOUNS = {"he", "she", "him", "her", "his", "hers"}


def _read(data: Data) -> list[Choice]:
    occupations = sorted(
        {
            line.strip().lower()
            for name in ("female", "male")
            for line in data.rows(f"winobias/{name}_occupations.txt", str)
        }
    )
    found = []
    for kind in ("pro", "anti"):
        for type in (1, 2):
            name = f"winobias/{kind}_stereotyped_type{type}.txt.test"
            for n, line in enumerate(data.rows(name, str)):
                options = _options(line, occupations)
                if options is not None:
                    found.append(choice(f"{kind}{type}:{n}", options, 0, f"{kind}, type {type}"))
    return found


def _options(line: str, occupations: list[str]) -> list[tuple[str, str]] | None:
    """The right occupation, then the other; None where a sentence does not show both."""
    sentence = re.sub(r"^\d+\s+", "", line.strip())
    marked = [mention.lower() for mention in _MARKED.findall(sentence)]
    pronouns = [mention for mention in marked if mention in _PRONOUNS]
    named = [re.sub(r"^(the|a|an) ", "", m) for m in marked if m not in _PRONOUNS]
    plain = re.sub(r"[\[\]]", "", sentence)
    present = [o for o in occupations if re.search(rf"\b{re.escape(o)}\b", plain.lower())]
    # "worker" is in "construction worker": only the longest name counts.
    present = [o for o in present if not any(o != p and o in p for p in present)]
    others = [o for o in present if o not in named]
    if not pronouns or len(named) != 1 or len(others) != 1:
        return None
    context = f'{plain}\nIn this sentence, the pronoun "{pronouns[0]}" refers to the'
    return [(context, f" {named[0]}"), (context, f" {others[0]}")]


TASK = LikelihoodTask("winobias", 1, _read, judge=accuracy, judged_by=("accuracy",))
