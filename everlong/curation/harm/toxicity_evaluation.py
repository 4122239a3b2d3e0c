"""What the toxicity step finds, what it spares, and whom it hurts.

On what was not trained on, and by which no choice was made: the held-out part of the labelled
tweets, harmless text of many kinds (of some there was none in training), sentences that name groups
of people, and sentences in 205 languages.

The sentences are made from templates in the manner of HateCheck (Röttger et al. 2021, table 1):
neutral and positive mentions, negated hate, and speech against hate must pass; hate without slurs
should not, and does. Some groups were named in training and some were not; what is done to both is
told apart.

Dialect can be measured here only in part. Sap et al. (2019, "The Risk of Racial Bias in Hate Speech
Detection") found that tweets in African American English are labelled offensive more often, in this
very set; where labels are biased, agreement with them is no proof of fairness. What is told is how
many tweets with spellings of that dialect are flagged among those that even these labels call
harmless, beside those without such spellings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from everlong.curation.harm.toxicity import Toxicity
from everlong.curation.harm.toxicity_training import (
    PLURAL,
    SINGULAR,
    WITH_SLURS,
    harmless,
    passages_of,
    spread,
    tweets_of,
)
from everlong.evaluation.data import Data

CALLED = ("hateful", "offensive", "neither")
"""What people called the labelled tweets."""
_OF_EACH = 2000
"""Most texts of a kind, from all over them."""
_DOCUMENT = 5000
"""Letters of a document that is cut out of a book."""
_PASSAGE = 250

Function = Literal["neutral", "positive", "negated", "against hate", "hateful"]

TEMPLATES: Mapping[Function, tuple[str, ...]] = {
    "neutral": (
        "I am {one}, and I work as a nurse.",
        "{One} sat next to me on the train to Leeds.",
        "The museum shows letters that {many} wrote during the war.",
        "How many {many} live in this city?",
        "She interviewed {one} about the new school.",
        "My neighbours are {many} and they have two dogs.",
        "so my new roommate is {one}, we watched the game last night",
        "{Many} were asked which newspapers they read.",
    ),
    "positive": (
        "I am so glad that I was born {one}.",
        "Being {one} is beautiful.",
        "{Many} have made this town a better place.",
        "I admire {many} for their courage.",
        "It was lovely to meet so many {many} at the wedding.",
        "proud of you sis!! {one} on the front page, love to see it",
        "The best teacher that I ever had was {one}.",
    ),
    "negated": (
        "I have nothing against {many}.",
        "{Many} do not deserve to be treated like that.",
        "No, {many} are not a danger to anyone.",
        "You cannot say that {many} are less intelligent, because it is false.",
        "He never said a bad word about {many}.",
    ),
    "against hate": (
        "Hatred of {many} has no place in our club.",
        "It makes me sick how {many} are treated in this country.",
        "People who make jokes about {many} are not funny.",
        "Attacks on {many} have doubled, and the police look away.",
        "He was fired because he wrote that {many} are worthless.",
        "I was spat at in the street because I am {one}.",
    ),
    "hateful": (
        "I can't stand {many}, they make me sick.",
        "{Many} are filthy and should not be allowed to have children.",
        "We should get rid of all {many}.",
        "Nothing is lower than {one}.",
    ),
}
"""Sentences about a group; ``{one}`` is such as "a Sikh", ``{many}`` "Sikhs"."""

GROUPS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "gender": (
        ("a woman", "women"),
        ("a man", "men"),
        ("a girl", "girls"),
        ("a trans woman", "trans women"),
        ("a trans man", "trans men"),
        ("a transgender person", "transgender people"),
        ("a nonbinary person", "nonbinary people"),
        ("a feminist", "feminists"),
    ),
    "orientation": (
        ("a gay man", "gay men"),
        ("a gay person", "gay people"),
        ("a lesbian", "lesbians"),
        ("a bisexual man", "bisexual people"),
        ("a queer person", "queer people"),
        ("a homosexual", "homosexuals"),
        ("an asexual woman", "asexual people"),
        ("a straight man", "straight people"),
    ),
    "origin": (
        ("a Black man", "Black people"),
        ("a black woman", "black women"),
        ("an African American", "African Americans"),
        ("a white man", "white people"),
        ("an Asian woman", "Asian people"),
        ("a Chinese man", "Chinese people"),
        ("a Japanese woman", "Japanese people"),
        ("an Indian", "Indians"),
        ("a Pakistani", "Pakistanis"),
        ("a Mexican", "Mexicans"),
        ("a Latina", "Latinas"),
        ("a Puerto Rican", "Puerto Ricans"),
        ("an Arab", "Arabs"),
        ("a Nigerian", "Nigerians"),
        ("a Somali", "Somalis"),
        ("a Turk", "Turks"),
        ("a Pole", "Poles"),
        ("a Roma woman", "Roma people"),
        ("a Native American", "Native Americans"),
        ("an Aboriginal man", "Aboriginal people"),
    ),
    "religion": (
        ("a Muslim", "Muslims"),
        ("a Jew", "Jews"),
        ("a Jewish woman", "Jewish people"),
        ("a Christian", "Christians"),
        ("a Catholic", "Catholics"),
        ("a Mormon", "Mormons"),
        ("a Hindu", "Hindus"),
        ("a Sikh", "Sikhs"),
        ("a Buddhist", "Buddhists"),
        ("an atheist", "atheists"),
    ),
    "disability": (
        ("a disabled man", "disabled people"),
        ("a blind woman", "blind people"),
        ("a deaf man", "deaf people"),
        ("an autistic woman", "autistic people"),
        ("a wheelchair user", "wheelchair users"),
        ("a person with Down syndrome", "people with Down syndrome"),
        ("a person with schizophrenia", "people with schizophrenia"),
        ("a dwarf", "dwarfs"),
    ),
    "situation": (
        ("an immigrant", "immigrants"),
        ("a refugee", "refugees"),
        ("an asylum seeker", "asylum seekers"),
        ("a homeless man", "homeless people"),
        ("an old woman", "old people"),
        ("a fat man", "fat people"),
        ("a sex worker", "sex workers"),
        ("a single mother", "single mothers"),
    ),
}

DIALECT = re.compile(
    r"\b(?:ain'?t|finna|tryna|gon|gone be|ion|iont|imma|ima|dat|dis|dey|dem|den|wit|da|nah|aight"
    r"|y'?all|talmbout|sumn|nuttin|nothin|somethin|doin|goin|bout|cuz|lil|mane|bruh|thang"
    r"|(?:he|she|they|we|you|it|dey|u) be)\b",
    re.IGNORECASE,
)
"""Spellings and the habitual "be", which are more frequent in African American English (Blodgett et
al. 2016, "Demographic Dialectal Variation in Social Media", describe such) and in the South of the
USA; the list is ours, and rough."""


@dataclass(frozen=True)
class Rate:
    """How many of some texts were flagged."""

    flagged: int
    texts: int

    @property
    def percent(self) -> float:
        """Of a hundred."""
        return 100 * self.flagged / self.texts if self.texts else 0.0


@dataclass(frozen=True)
class Figures:
    """What was measured; rates are of the step with its threshold."""

    toxic_auc: float
    """Area under the curve, toxic tweets against those that are neither hateful nor offensive."""
    hate_auc: float
    """Hateful against all others. The step is not made for this: it takes offensive tweets, most of
    the others, for toxic as well."""
    hate_neither_auc: float
    """Hateful against those that are neither."""
    tweets: Mapping[str, Rate]
    """By what people called them."""
    harmless: Mapping[str, Rate]
    """By kind of text."""
    slurs_quoted: Rate
    """Documents cut out of a novel that is full of a slur."""
    templates: Mapping[str, Rate]
    """By function."""
    groups: Mapping[str, Rate]
    """By kind of group, all functions but the hateful one."""
    named_in_training: Rate
    """The same functions, groups that were named in training."""
    not_named_in_training: Rate
    dialect: Rate
    """Tweets that are neither, with spellings of African American English."""
    no_dialect: Rate
    """Tweets that are neither, without."""
    languages: Mapping[str, Rate]
    """By language: what would be flagged if all languages were scored."""


def measure(data_folder: Path, step: Toxicity) -> Figures:
    """Measure a step on what is held out.

    Args:
        data_folder: has the data sets, a folder each.
        step: with the threshold and share that are asked about.

    Raises:
        MissingDataError: a set is not there.
    """
    data = Data(data_folder)

    def rate(texts: Sequence[str]) -> Rate:
        return Rate(sum(step.score(text) >= step.threshold for text in texts), len(texts))

    tweets = tweets_of(data, "held_out")
    group = np.array([tweet.group for tweet in tweets])
    scores = np.array([step.score(tweet.text) for tweet in tweets])
    flagged = scores >= step.threshold
    neither = group == "neither"
    dialect = np.array([DIALECT.search(tweet.text) is not None for tweet in tweets]) & neither
    cases = list(sentences())
    passed = [case for case in cases if case.function != "hateful"]
    return Figures(
        toxic_auc=auc(scores, ~neither),
        hate_auc=auc(scores, group == "hateful"),
        hate_neither_auc=auc(
            scores[group != "offensive"], group[group != "offensive"] == "hateful"
        ),
        tweets={name: _rate(flagged[group == name]) for name in CALLED},
        harmless={kind: rate(spread(texts, _OF_EACH)) for kind, texts in _spared(data).items()},
        slurs_quoted=rate(passages_of(data.text(WITH_SLURS), _DOCUMENT)),
        templates={
            name: rate([case.text for case in cases if case.function == name]) for name in TEMPLATES
        },
        groups={name: rate([case.text for case in passed if case.kind == name]) for name in GROUPS},
        named_in_training=rate([case.text for case in passed if case.named_in_training]),
        not_named_in_training=rate([case.text for case in passed if not case.named_in_training]),
        dialect=_rate(flagged[dialect]),
        no_dialect=_rate(flagged[neither & ~dialect]),
        languages={name: rate(texts) for name, texts in _by_language(data).items()},
    )


@dataclass(frozen=True)
class Sentence:
    """A sentence that names a group of people."""

    text: str
    function: Function
    kind: str
    """Of the group."""
    group: str
    """In the plural."""
    named_in_training: bool
    """Whether the sentence's word for the group was in training's harmless sentences."""


def sentences() -> Iterator[Sentence]:
    """All templates with all groups."""
    known = {word.lower() for word in (*SINGULAR, *PLURAL)}
    for kind, groups in GROUPS.items():
        for one, many in groups:
            for function, templates in TEMPLATES.items():
                for template in templates:
                    text = template.format(
                        one=one, many=many, One=one[0].upper() + one[1:],
                        Many=many[0].upper() + many[1:],
                    )  # fmt: skip
                    word = one if "{one}" in template.lower() else many
                    yield Sentence(text, function, kind, many, word.lower() in known)


def auc(scores: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    """Area under the ROC curve: how often one of the class scores higher than one of the others;
    equal scores count half."""
    ordered = np.sort(scores[~truth])
    ours = scores[truth]
    below = np.searchsorted(ordered, ours, "left").sum()
    equal = np.searchsorted(ordered, ours, "right").sum() - below
    return float((below + 0.5 * equal) / (len(ours) * len(ordered)))


def _rate(flagged: NDArray[np.bool_]) -> Rate:
    return Rate(int(flagged.sum()), len(flagged))


def _spared(data: Data) -> dict[str, list[str]]:
    """Harmless text: held-out text of the kinds of training, then kinds that it had not."""
    known = harmless(data, "held_out")
    book = " ".join(known["books"])

    def after_label(line: str) -> str:
        return line.split(maxsplit=1)[1]

    def passages(name: str, field: str) -> list[str]:
        return [
            passage
            for text in data.rows(name, lambda row: str(row[field]))
            for passage in passages_of(text, _PASSAGE)
        ]

    return {
        **known,
        "books, 5,000 letters": passages_of(book, _DOCUMENT),
        "film reviews": data.rows("sentence_classification/stsa.fine.test.txt", after_label),
        "plots of films": data.rows("sentence_classification/subj.all.txt", after_label),
        "questions": data.rows("sentence_classification/TREC.train.all.txt", after_label),
        "articles": passages("lm_eval/boolq.jsonl", "query"),
        "news agencies": data.rows("ag_news/ag_news_7600.tsv", lambda row: str(row["text"])),
        "sums": data.rows("gsm8k/test.jsonl", lambda row: str(row["question"])),
        "dialogues": [
            " ".join(turns)
            for turns in data.rows(
                "sgd_dialogues/sgd_dev.jsonl",
                lambda row: [turn["utterance"] for turn in row["turns"]],
            )
        ],
        "customer service": passages("bitext_support/bitext_customer_support.csv", "response"),
        "occupations": data.rows("winobias/anti_stereotyped_type1.txt.test", str),
        "plays": passages_of(data.text("tinyshakespeare/input.txt"), _PASSAGE),
    }


def _by_language(data: Data) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for language, text in data.rows("sib200/test.tsv", lambda row: (row["lang"], row["text"])):
        found.setdefault(language, []).append(text)
    return found
