"""Tells edited prose and documentation from what else is on the web, by a trained classifier.

GPT-3 was trained on pages that a classifier took for reference text (Brown et al. 2020, appendix
A), CCNet keeps what a model of an encyclopedia finds likely (Wenzek et al. 2020), FineWeb-Edu what
a classifier finds instructive (Penedo et al. 2024). This one is small and sees the form of a text
alone (:mod:`everlong.curation.quality.form`): words of grammar, shapes of other words, marks, ends
of lines, and pairs of these. That was chosen because what is learned is about new subjects as well:
where a kind of good text was left out of training, the area under the curve of short pieces was
0.96; with the words themselves 0.92, where there was half of the data. With kinds of junk left out,
too, it was 0.86 and 0.78.

It was trained on six kinds of good text and on ten of junk, see
:mod:`everlong.curation.quality.training`. On documents that are held out, good against junk, the
area under the curve is 0.996. For eight kinds of good text of which training had nothing (medicine,
articles, reports, news, plays, a novel in dialect, manual pages, law) it is 0.976, least for plays
(0.93) and news agencies (0.94); for four kinds of junk of which it had nothing 0.949: 1.0 for
products, listings and lists of files, 0.80 for chains of words. Good and junk both of new kinds:
0.892. All but the messages and the lists of files is junk of our making, and its templates were
written by those who wrote the classifier: junk of others is told worse.
These figures are those of :mod:`everlong.curation.quality.evaluation`.

What it does not see: whether something is true, useful or well thought; style among edited texts;
sentences in any order (0.58), what is repeated (0.75; ``gopher_repetition`` finds it), text that
machines wrote or spun, advertising in whole sentences. Of notices such as those about cookies half
pass, because they are sentences.

Short texts say little: 0.991 with 200 to 500 letters, 0.973 with 80 to 200, 0.913 with 30 to 80,
and scores are nearer to the middle. Code is in neither class: of Python functions with their
docstrings 99.7 % pass, of Java 92 %, at a mean of 0.89 and 0.54; name the step in ``skips`` of a
source of code. Conversations (73 % pass) and tables (78 %) lose as well.

Such classifiers prefer the language of the powerful (Gururangan et al. 2022, "Whose Language Counts
as High Quality?"). Here spellings of dialects count as the words that they stand for. Of the
harmless tweets of training, which are junk all the same, 74 % in spellings of African American
English and 86 % of the others passed before that, and since then 81 and 86 %; of those that are
held out it is 76 % of 67 and 85 % of 1,153. Of a novel in dialect 99 % pass.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from everlong.curation.classifier.text_classifier import TextClassifier
from everlong.curation.document import Document, Dropped
from everlong.curation.quality.form import form
from everlong.errors import ConfigError

WEIGHTS = Path(__file__).parents[1] / "models" / "quality.safetensors"


@dataclass(frozen=True)
class QualityClassifier:
    """Scores a document by how much of it is like edited prose, and drops it if too little is.

    The score is in the metadata as ``quality``; None: it is in a language that is not scored.
    """

    kind: Literal["quality_classifier"] = "quality_classifier"
    threshold: float = 0.3
    """The least score that is kept, 0 to 1. Of good documents whose kind was left out of training
    0.3 lost 1.9 % (0.2: 0.7 %, 0.4: 3.3 %), and let pass 12 % of junk whose kinds were known. Of
    good documents that are held out it loses none of known kinds and 0.8 % of others, and 22 % of
    the junk passes."""
    action: Literal["drop", "annotate"] = "drop"
    """``annotate``: keep all documents, and only say how good they are."""
    languages: tuple[str, ...] = ("en",)
    """Only documents in these are scored; empty: all, whatever their language. A document's
    language is what a step before has told, else what its file or record states, if anything."""

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ConfigError(f"threshold is {self.threshold}; give 0 to 1")
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
            document.metadata["quality"] = None
            return None
        score = quality(document.text)
        document.metadata["quality"] = round(score, 4)
        if self.action == "annotate" or score >= self.threshold:
            return None
        return Dropped("quality", f"{score:.2f}, at least {self.threshold:g} is wanted")


def quality(text: str, by: TextClassifier | None = None) -> float:
    """How much of a text is like edited prose, 0 to 1: the mean of its windows.

    Args:
        text: of any length.
        by: of forms of texts, such as training makes; None: the one of the package.
    """
    return float((by or classifier()).window_scores(form(text)).mean())


@functools.cache
def classifier() -> TextClassifier:
    """The one that comes with the package, of forms of texts."""
    return TextClassifier.load(WEIGHTS)
