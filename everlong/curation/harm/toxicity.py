"""Keeps out documents that are hateful or abusive.

The classifier was trained on tweets that people labelled (Davidson et al. 2017) and on harmless
prose, see :mod:`everlong.curation.harm.toxicity_training`. It knows English alone; what it does
with other languages means nothing, so by default they pass.

It finds slurs, abuse and crude words: of held-out tweets 91 % of the offensive and 71 % of the
hateful ones. It flags 2.1 % of those that are neither, and of 17 kinds of other harmless text 0.9 %
at most. It does not find hate in other words: none of 248 sentences that say it without a slur, of
which :mod:`everlong.curation.harm.hate` finds 150. It does not know who speaks: a slur that is
quoted or reclaimed counts as one. These figures are those of
:mod:`everlong.curation.harm.toxicity_evaluation`.

Harmless tweets in spellings of African American English are flagged three times as often as others:
4.3 % of 163 and 1.3 % of 2,715, by classifiers that were trained five times, each without a fifth
of the tweets. That harmless tweets of this kind counted four times in training took away one of
seven, so it was left.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from everlong.curation.classifier.text_classifier import TextClassifier
from everlong.curation.document import Document, Dropped
from everlong.errors import ConfigError

WEIGHTS = Path(__file__).parents[1] / "models" / "toxicity.safetensors"


@dataclass(frozen=True)
class Toxicity:
    """Scores a document, and drops it if too much of it is toxic.

    The score is in the metadata as ``toxicity``; None: it is in a language that is not scored.
    """

    kind: Literal["toxicity"] = "toxicity"
    threshold: float = 0.9
    """From which probability on a passage is toxic, 0 to 1. With 0.9, 1.4 % of harmless tweets were
    flagged by classifiers that had not seen them; 0.8 finds a little more, and flags 2 %."""
    share: float = 0.02
    """Which share of a document's passages may be toxic, 0 to 1: a novel is not dropped for one
    insult. Of a document of less than 4,000 letters, by default, none may."""
    action: Literal["drop", "annotate"] = "drop"
    """``annotate``: keep all documents, and only say how toxic they are."""
    languages: tuple[str, ...] = ("en",)
    """Only documents in these are scored; empty: all, whatever their language. A document's
    language is what a step before has told, else what its file or record states, if anything."""

    def __post_init__(self) -> None:
        for name in ("threshold", "share"):
            if not 0 <= (value := getattr(self, name)) <= 1:
                raise ConfigError(f"{name} is {value}; give 0 to 1")
        if self.action not in ("drop", "annotate"):
            raise ConfigError(f"action is {self.action!r}; give drop or annotate")

    def prepare(self) -> None:
        """Load the classifier.

        Raises:
            CheckpointError: its file is missing or damaged; install the package again.
        """
        classifier()

    def __call__(self, document: Document) -> Dropped | None:
        """See :class:`everlong.curation.step.DocumentStep`."""
        if self.languages and document.language not in self.languages:
            document.metadata["toxicity"] = None
            return None
        score = self.score(document.text)
        document.metadata["toxicity"] = round(score, 4)
        if self.action == "annotate" or score < self.threshold:
            return None
        return Dropped("toxicity", f"{score:.2f}, less than {self.threshold:g} is allowed")

    def score(self, text: str) -> float:
        """How toxic a text is, 0 to 1: its most toxic passage but for ``share`` of them."""
        passages = classifier().window_scores(text)
        place = len(passages) - 1 - min(int(self.share * len(passages)), len(passages) - 1)
        return float(np.partition(passages, place)[place])


@functools.cache
def classifier() -> TextClassifier:
    """The one that comes with the package."""
    return TextClassifier.load(WEIGHTS)
