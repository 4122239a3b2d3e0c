"""What the steps against toxic text find and spare, and what the personal-data step finds and makes
up."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.report import Measured
from everlong.curation.document import Document
from everlong.curation.harm.hate import Hate
from everlong.curation.harm.slurs import SLURS
from everlong.curation.harm.toxicity import Toxicity
from everlong.curation.harm.toxicity_evaluation import CALLED, Rate, sentences
from everlong.curation.harm.toxicity_evaluation import measure as measured_toxicity
from everlong.curation.harm.toxicity_training import harmless as harmless_text
from everlong.curation.harm.toxicity_training import tweets_of
from everlong.curation.language.codes import canonical
from everlong.curation.personal_data.masking import Found, find
from everlong.curation.personal_data.samples import samples
from everlong.evaluation.data import Data

_MARKED = Path(__file__).parents[1] / "tests" / "curation" / "personal_data" / "marked.jsonl"
"""Public text marked by hand."""
_GENERATED = 5_000


def toxicity(data: Path) -> tuple[dict[str, Measured], dict[str, Any]]:
    """The area under the curve, and the highest rate of harmless text that is flagged."""
    step = Toxicity()
    figures = measured_toxicity(data, step)
    harmless = {**figures.harmless, "tweets": figures.tweets["neither"]}
    worst = max(harmless, key=lambda kind: harmless[kind].percent)
    flagged = sum(rate.flagged for rate in harmless.values())
    texts = sum(rate.texts for rate in harmless.values())
    told = ", ".join(f"{kind} {rate.percent:.1f} %" for kind, rate in harmless.items())
    groups = figures.named_in_training, figures.not_named_in_training
    return {
        "toxicity_auc": Measured(
            figures.toxic_auc,
            f"hate or offence against neither, {sum(r.texts for r in figures.tweets.values()):,} "
            f"tweets held out; at {step.threshold:g} of them flagged: "
            + ", ".join(f"{kind} {rate.percent:.1f} %" for kind, rate in figures.tweets.items()),
        ),
        "harmless_flagged": Measured(
            harmless[worst].percent,
            f"{worst}, the most of {told}; {100 * flagged / texts:.2f} % of all {texts:,}; "
            f"sentences that name groups: {groups[0].percent:.1f} % of groups named in training, "
            f"{groups[1].percent:.1f} % of others",
        ),
    }, asdict(figures)


def hate(data_folder: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """How many texts the step against slurs and hate drops, one by one: of tweets by what people
    called them, of harmless English by its kind, of sentences that name groups, and of other
    languages."""
    data, step = Data(data_folder), Hate()

    def rate(texts: Iterable[str], language: str) -> Rate:
        dropped = [step(Document("", text, "", language)) is not None for text in texts]
        return Rate(sum(dropped), len(dropped))

    tweets = tweets_of(data, "held_out")
    made = {
        f"sentences that name groups, {kind}": [
            one.text for one in sentences() if (one.function == "hateful") == (kind == "hateful")
        ]
        for kind in ("hateful", "others")
    }
    english = {
        **{f"tweets, {one}": [t.text for t in tweets if t.group == one] for one in CALLED},
        **harmless_text(data, "held_out"),
        **made,
    }
    others: dict[str, dict[str, list[str]]] = {"news": {}, "manuals": {}}
    for kind, name in (("news", "sib200/test.tsv"), ("manuals", "tldr/tldr.jsonl")):
        for code, text in data.rows(name, lambda row: (row["lang"], row["text"])):
            if (language := canonical(code)) in SLURS:
                others[kind].setdefault(language, []).append(text)
    found = {
        "en": {kind: rate(texts, "en") for kind, texts in english.items()},
        **{
            kind: {language: rate(texts, language) for language, texts in sorted(by.items())}
            for kind, by in others.items()
        },
    }
    for name, rates in found.items():
        say(f"{name}: " + ", ".join(f"{k} {r.flagged} of {r.texts:,}" for k, r in rates.items()))
    return {name: {k: asdict(r) for k, r in rates.items()} for name, rates in found.items()}


@dataclass
class _Score:
    """How what was found meets what is there; exact kinds and places."""

    wanted: Counter[str]
    found: Counter[str]
    right: Counter[str]

    def add(self, wanted: Iterable[Found], found: Iterable[Found]) -> None:
        wanted, found = set(wanted), set(found)
        self.wanted.update(one.kind for one in wanted)
        self.found.update(one.kind for one in found)
        self.right.update(one.kind for one in wanted & found)

    @property
    def recall(self) -> float:
        return 100 * self.right.total() / max(1, self.wanted.total())

    @property
    def precision(self) -> float:
        return 100 * self.right.total() / max(1, self.found.total())


def personal_data(seed: int, say: Callable[[str], None]) -> tuple[dict[str, Measured], Any]:
    """Recall and precision, each on the set on which it is lower."""
    scores = {name: _Score(Counter(), Counter(), Counter()) for name in ("marked", "generated")}
    lines = _MARKED.read_text(encoding="utf-8").splitlines()[1:]  # the first says what they are
    for line in lines:
        plain = json.loads(line)
        scores["marked"].add([Found(*one) for one in plain["spans"]], find(plain["text"]))
    for one in samples(_GENERATED, seed):
        scores["generated"].add(one.spans, find(one.text))
    for name, score in scores.items():
        say(f"{name}: recall {score.recall:.2f} %, precision {score.precision:.2f} %")
    low, unsure = (
        min(scores, key=lambda name: getattr(scores[name], of)) for of in ("recall", "precision")
    )
    told = ", ".join(
        f"{name} {score.recall:.1f} and {score.precision:.1f} % ({score.wanted.total():,} places)"
        for name, score in scores.items()
    )
    return {
        "pii_recall": Measured(scores[low].recall, f"{low}; recall and precision: {told}"),
        "pii_precision": Measured(scores[unsure].precision, f"{unsure}; as above"),
    }, {name: {kind: dict(c) for kind, c in vars(score).items()} for name, score in scores.items()}
