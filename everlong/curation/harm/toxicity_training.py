"""How the weights of :mod:`everlong.curation.harm.toxicity` were made: anyone can make them.

Toxic are tweets that people called hateful or offensive (Davidson et al. 2017). Harmless are those
that they called neither, and prose, manuals, medical answers and requests to assistants: tweets
alone would make a classifier for which everything else is strange. Groups of people are named in
some of the harmless sentences, in the place of "people" or "a man": words for people that are
mostly insulted where data was collected are no insults (Dixon et al. 2018, "Measuring and
Mitigating Unintended Bias in Text Classification").

A tweet is in the held-out part by the hash of its text alone, the same part that
``everlong eval`` asks models about; books, pages and answers by the hash of their name or text.
What is held out was not trained on, and no choice was made by it: choices were made on the
validation part, and on tweets that were left out of training in turn.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from everlong.curation.classifier.text_classifier import TextClassifier
from everlong.evaluation.data import Data
from everlong.evaluation.tasks.safety.toxicity import Tweet, is_toxic, tweets

Part = Literal["training", "validation", "held_out"]
_HELD_OUT_OF_256, _VALIDATION_OF_256 = 77, 38
"""30 % are held out, and of the rest 15 % are for validation."""
WITH_SLURS = "books/twain_adventures_of_huckleberry_finn.txt"
"""In no part: as a harmless text it would teach that slurs are harmless."""
_OF_EACH = 2500
"""Most passages of each kind of harmless text."""
_SWAPPED = 5000
"""Sentences in which a group of people is named."""
_PASSAGE = 100
"""Letters of a passage, and of the classifier's window."""
_NEITHER, _PLAIN, _NAMED = 0.25, 0.15, 0.1
"""What harmless tweets, other harmless text, and sentences that name groups count together; toxic
tweets count 0.5. Harmless tweets are few, and hard."""
_DESCRIPTION = {
    "class": "hateful or offensive English text, as crowd workers labelled tweets",
    "data": "hate_offensive (MIT), books (public domain), wikitext2 (CC BY-SA 3.0), sib200 "
    "(CC BY-SA 4.0), tldr (CC BY 4.0), medquad (CC BY 4.0), banking77 (CC BY 4.0), clinc150 "
    "(CC BY 3.0), snips (CC0)",
}

SINGULAR = (
    "a gay man",
    "a lesbian",
    "a bisexual woman",
    "a queer woman",
    "a trans man",
    "a transgender woman",
    "a homosexual",
    "a black man",
    "a Black woman",
    "an African American",
    "a Mexican",
    "a Latina",
    "an Asian man",
    "a Chinese woman",
    "a Pakistani",
    "an Arab",
    "a Jew",
    "a Jewish man",
    "a Muslim",
    "a Muslim woman",
    "a Christian",
    "a white man",
    "a white woman",
    "a Native American",
    "a disabled man",
    "a blind woman",
    "an autistic man",
    "an immigrant",
    "a refugee",
    "a fat woman",
    "a homeless man",
    "a feminist",
)
PLURAL = (
    "gay people",
    "gay men",
    "lesbians",
    "bisexuals",
    "queer people",
    "trans people",
    "trans women",
    "homosexuals",
    "black people",
    "Black women",
    "African Americans",
    "Mexicans",
    "Latinos",
    "Asians",
    "Asian people",
    "Chinese people",
    "Pakistanis",
    "Arabs",
    "Jews",
    "Jewish people",
    "Muslims",
    "Muslim women",
    "Christians",
    "white people",
    "white men",
    "Native Americans",
    "disabled people",
    "blind people",
    "autistic people",
    "immigrants",
    "refugees",
    "fat people",
    "homeless people",
    "feminists",
)
_ONE = re.compile(r"\b[Aa] (?:man|woman|person|boy|girl|child|friend|gentleman|lady|patient)\b")
_MANY = re.compile(r"\b(?:[Pp]eople|[Mm]en|[Ww]omen|[Cc]hildren|[Pp]atients|[Pp]ersons)\b")


def train(
    data_folder: Path,
    seed: int = 0,
    *,
    parts: Sequence[Part] = ("training", "validation"),
    swapped: int = _SWAPPED,
) -> TextClassifier:
    """Train the classifier that comes with the package.

    Args:
        data_folder: has the sets that the description names, a folder each.
        seed: decides folds, and which groups of people are named where.
        parts: what is learned from; ``("training",)`` leaves something to choose by.
        swapped: sentences in which a group is named; 0 shows what they are good for.

    Raises:
        MissingDataError: a set is not there.
    """
    data = Data(data_folder)
    labelled = [tweet for part in parts for tweet in tweets_of(data, part)]
    plain = [
        passage
        for part in parts
        for passages in harmless(data, part).values()
        for passage in spread(passages, _OF_EACH)
    ]
    named = with_groups(plain, swapped, seed)
    truth = np.array([is_toxic(tweet) for tweet in labelled])
    weights = [
        np.where(truth, 0.5 / truth.sum(), _NEITHER / (~truth).sum()),
        np.full(len(plain), _PLAIN / len(plain)),
        np.full(len(named), _NAMED / max(1, len(named))),
    ]
    texts = [*(tweet.text for tweet in labelled), *plain, *named]
    return TextClassifier.train(
        texts,
        [*truth.tolist(), *[False] * (len(plain) + len(named))],
        weights=np.concatenate(weights).tolist(),
        window=_PASSAGE,
        seed=seed,
        description=_DESCRIPTION,
    )


def tweets_of(data: Data, part: Part) -> list[Tweet]:
    """Labelled tweets, in the order of their hashes.

    The first byte of a hash says what is held out, the second what is for validation.
    """
    if part == "held_out":
        return tweets(data, held_out=True)
    return [
        tweet
        for tweet in tweets(data, held_out=False)
        if (bytes.fromhex(tweet.id)[1] < _VALIDATION_OF_256) == (part == "validation")
    ]


def harmless(data: Data, part: Part) -> dict[str, list[str]]:
    """Passages of harmless text by their kind."""
    books = [name for name in data.names("books/*.txt") if name != WITH_SLURS]
    pages = data.rows("tldr/tldr.jsonl", lambda row: (row["lang"], row["text"]))
    answers = data.rows("medquad/medquad.jsonl", lambda row: (row["question"], row["answer"]))
    split = {"training": "train", "validation": "dev", "held_out": "test"}[part]
    topics = data.rows(f"sib200/{split}.tsv", lambda row: (row["lang"], row["text"]))
    articles = passages_of(
        data.text(f"wikitext2/{'test' if part == 'held_out' else 'valid'}.txt").replace("<unk>", "")
    )
    if part != "held_out":  # a file of its own
        cut = len(articles) * _VALIDATION_OF_256 // 256
        articles = articles[:cut] if part == "validation" else articles[cut:]
    requests = {
        row
        for name in ("banking", "clinc", "snips")
        for row in data.rows(f"intents/{name}_{split}.tsv", lambda row: str(row["text"]))
    }
    return {
        "books": [
            passage
            for name in books
            if _part(name) == part
            for passage in passages_of(data.text(name))
        ],
        "encyclopedia": articles,
        "news": [text for language, text in topics if language == "eng_Latn"],
        "manuals": [text for lang, text in pages if lang == "en" and _part(text) == part],
        "medicine": [
            passage
            for question, answer in sorted(set(answers))
            if _part(question) == part
            for passage in (question, *passages_of(answer))
        ],
        "requests": sorted(requests),
    }


def with_groups(passages: Sequence[str], count: int, seed: int) -> list[str]:
    """Passages that speak of people, with a group of people in the first such place.

    Args:
        passages: where to look.
        count: so many; a passage comes again, with another group, until there are.
        seed: decides the groups.
    """
    places = [
        (passage, place, groups)
        for place, groups in ((_MANY, PLURAL), (_ONE, SINGULAR))
        for passage in passages
        if place.search(passage)
    ]
    if not places:
        return []
    draw = np.random.default_rng(seed)
    found = []
    for number in draw.permutation(np.resize(np.arange(len(places)), count)):
        passage, place, groups = places[number]
        found.append(place.sub(groups[draw.integers(len(groups))], passage, count=1))
    return found


def passages_of(text: str, length: int = _PASSAGE) -> list[str]:
    """A text in passages of whole words, each just as long as ``length`` or a word longer."""
    passages: list[str] = []
    words: list[str] = []
    size = 0
    for word in text.split():
        words.append(word)
        size += len(word) + 1
        if size >= length:
            passages.append(" ".join(words))
            words, size = [], 0
    return [*passages, " ".join(words)] if words else passages


def spread(items: Sequence[str], most: int) -> list[str]:
    """Of some items so many at most, from all over them."""
    count = min(most, len(items))
    return [items[place * len(items) // count] for place in range(count)]


def _part(name: str) -> Part:
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    if digest[0] < _HELD_OUT_OF_256:
        return "held_out"
    return "validation" if digest[1] < _VALIDATION_OF_256 else "training"
