"""What the classifier of quality keeps and drops, of kinds that it was trained on and of others.

On what was not trained on, and by which no choice was made. Of the kinds of training there are the
held-out books, pages and messages, and junk of phrases that were held out. Of other kinds there is
good text by other authors for other readers, and junk of other forms; the lists of files of what is
installed are real.

Documents that are cut out of longer texts have 500 to 2,000 letters. What is neither good nor junk
is only reported: program code, tables, requests, conversations.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from random import Random

import numpy as np
from numpy.typing import NDArray

from everlong.curation.harm.toxicity_evaluation import DIALECT, auc
from everlong.curation.harm.toxicity_training import WITH_SLURS
from everlong.curation.quality.classifier import QualityClassifier, quality
from everlong.curation.quality.junk import BLIND_KINDS, KINDS, OTHER_KINDS
from everlong.curation.quality.training import good, messages, samples, some_pieces
from everlong.data.system_texts import write_system_texts
from everlong.evaluation.data import Data

_OF_EACH = 300
"""Most documents of a kind, from all over them."""
_DOCUMENT = (500, 2000)
"""Letters of a document."""
_LENGTHS = ((30, 80), (80, 200), (200, 500))
"""Of short texts."""


@dataclass(frozen=True)
class Scores:
    """How texts of a kind were scored."""

    texts: int
    mean: float
    kept: float
    """Of a hundred, those that the step keeps."""
    auc: float | None = None
    """Area under the curve, against the held-out texts of the other class whose kinds are those of
    training; None: it is neither good nor junk."""


@dataclass(frozen=True)
class Figures:
    """What was measured; rates are of the step with its threshold."""

    auc: Mapping[str, float]
    """Good documents against junk: of ``known`` kinds, ``other good`` and ``other junk`` against
    those of known kinds, and ``both other``."""
    good: Mapping[str, Scores]
    """Held-out documents of the kinds of training."""
    junk: Mapping[str, Scores]
    """Of the kinds of training, made of held-out phrases and texts."""
    other_good: Mapping[str, Scores]
    """Of kinds of which there was nothing in training."""
    other_junk: Mapping[str, Scores]
    blind: Mapping[str, Scores]
    """Junk of good sentences, which the classifier is not made for."""
    neither: Mapping[str, Scores]
    lengths: Mapping[str, Scores]
    """Good texts of known kinds by their letters, against junk that is as short."""


def measure(data_folder: Path, step: QualityClassifier) -> Figures:
    """Measure a step on what is held out.

    Args:
        data_folder: has the data sets, a folder each.
        step: with the threshold that is asked about.

    Raises:
        MissingDataError: a set is not there.
    """
    data = Data(data_folder)
    known_texts, said = good(data, "held_out"), messages(data, "held_out")
    other_texts = other_good(data)

    def scored(texts: Sequence[str], against: _Scores | None = None, sign: int = 1) -> Scores:
        found = _scores(texts)
        area = None if against is None else _auc(sign * found, sign * against)
        return Scores(
            len(found), float(found.mean()), 100 * float((found >= step.threshold).mean()), area
        )

    def made(texts: Mapping[str, list[str]], kinds: Sequence[str]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for one in samples(texts, said, kinds, "held_out", 1, _OF_EACH, _DOCUMENT):
            found.setdefault(one.kind, []).append(one.text)
        return found

    known = made(known_texts, list(KINDS))
    other = made(other_texts, list(OTHER_KINDS))
    other["file lists"] = some_pieces(file_lists(), _OF_EACH, _DOCUMENT, Random(1))
    blind = made(known_texts, list(BLIND_KINDS))
    scores = {
        name: _scores([text for kind in kinds for text in texts[kind]])
        for name, texts, kinds in (
            ("good", known, known_texts),
            ("junk", known, KINDS),
            ("other good", other, other_texts),
            ("other junk", other, [*OTHER_KINDS, "file lists"]),
        )
    }
    lengths = {}
    for length in _LENGTHS:
        short = list(samples(known_texts, said, list(KINDS), "held_out", 2, _OF_EACH, length))
        junk = _scores([one.text for one in short if not one.good])
        lengths["{} to {}".format(*length)] = scored([o.text for o in short if o.good], junk)
    return Figures(
        auc={
            "known": _auc(scores["good"], scores["junk"]),
            "other good": _auc(scores["other good"], scores["junk"]),
            "other junk": _auc(scores["good"], scores["other junk"]),
            "both other": _auc(scores["other good"], scores["other junk"]),
        },
        good={kind: scored(known[kind], scores["junk"]) for kind in known_texts},
        junk={kind: scored(known[kind], scores["good"], -1) for kind in KINDS},
        other_good={kind: scored(other[kind], scores["junk"]) for kind in other_texts},
        other_junk={
            kind: scored(other[kind], scores["good"], -1) for kind in (*OTHER_KINDS, "file lists")
        },
        blind={kind: scored(blind[kind], scores["good"], -1) for kind in BLIND_KINDS},
        neither={kind: scored(texts) for kind, texts in _neither(data).items()},
        lengths=lengths,
    )


def other_good(data: Data) -> dict[str, list[str]]:
    """Edited text of kinds that training has nothing of, as far as it is there."""
    answers = data.rows("medquad/medquad.jsonl", lambda row: str(row["answer"]))
    passages = data.rows(
        "lm_eval/boolq.jsonl", lambda row: re.sub(r"^Passage: |\nQuestion:.*$", "", row["query"])
    )
    reports = data.document(
        "tatqa/tatqa_dev.json",
        lambda rows: ["\n\n".join(one["text"] for one in row["paragraphs"]) for row in rows],
    )
    news = data.rows("ag_news/ag_news_7600.tsv", lambda row: str(row["text"]))
    rights = data.rows("udhr/udhr.jsonl", lambda row: (row["code"], row["paragraphs"]))
    law = ["\n\n".join(lines) for code, lines in rights if code == "eng"]
    found = {
        "medicine": sorted(set(answers)),
        "articles": passages,
        "reports": reports,
        "news": ["\n\n".join(news[n : n + 4]) for n in range(0, len(news), 4)],
        "plays": [data.text("tinyshakespeare/input.txt")],
        "dialect in a novel": [data.text(WITH_SLURS).replace("\r\n", "\n")],
    }
    with tempfile.TemporaryDirectory() as folder:
        written = write_system_texts(Path(folder))
        system = Data(Path(folder))
        if "pages" in written:
            found["manual pages"] = system.rows("pages.jsonl", lambda row: str(row["text"]))
        if "licences" in written:
            law += system.rows("licences.jsonl", lambda row: str(row["text"]))
    return {**found, "law": law}


def file_lists() -> list[str]:
    """Names, hashes and sizes of the files of each package that is installed."""
    records = (one.read_text("RECORD") for one in metadata.distributions())
    return sorted({record for record in records if record})


_Scores = NDArray[np.float64]


def _scores(texts: Sequence[str]) -> _Scores:
    return np.array([quality(text) for text in texts])


def _auc(good_ones: _Scores, junk: _Scores) -> float:
    truth = np.repeat([True, False], [len(good_ones), len(junk)])
    return auc(np.concatenate([good_ones, junk]), truth)


def _neither(data: Data) -> dict[str, list[str]]:
    random = Random(3)

    def cut(texts: Sequence[str]) -> list[str]:
        return some_pieces(texts, _OF_EACH, _DOCUMENT, random)

    def programs(name: str) -> list[str]:
        return data.rows(name, lambda row: f"{row['prompt']}{row['canonical_solution'] or ''}")

    tables = data.document(
        "tatqa/tatqa_dev.json",
        lambda rows: ["\n".join("\t".join(line) for line in row["table"]["table"]) for row in rows],
    )
    dialogues = data.rows(
        "sgd_dialogues/sgd_dev.jsonl",
        lambda row: "\n".join(turn["utterance"] for turn in row["turns"]),
    )
    reviews = data.rows(
        "sentence_classification/rt-polarity.all.txt", lambda line: line.split(maxsplit=1)[1]
    )
    requests = data.rows("intents/clinc_test.tsv", lambda row: str(row["text"]))
    said = messages(data, "held_out")
    dialect = [text for text in said if DIALECT.search(text)]
    return {
        "Python programs": cut(programs("mbpp/mbpp_python.jsonl")),
        "Java programs": cut(programs("mbpp/mbxp_java.jsonl")),
        "tables of reports": cut(tables),
        "conversations with a service": cut(dialogues),
        "letters to customers": cut(
            data.rows("bitext_support/bitext_customer_support.csv", lambda row: row["response"])
        ),
        "film reviews in small letters": cut(
            [" ".join(reviews[n : n + 8]) for n in range(0, len(reviews), 8)]
        ),
        "requests in small letters": cut(
            ["\n".join(requests[n : n + 20]) for n in range(0, len(requests), 20)]
        ),
        "tweets in spellings of a dialect": dialect,
        "other tweets": [text for text in said if not DIALECT.search(text)],
        "texts of companies": cut(
            data.rows("enterprise_pii/enterprise_pii_classification.jsonl", _passage)
        ),
    }


def _passage(row: Mapping[str, str]) -> str:
    return row["query"].split("'''")[1].strip()
