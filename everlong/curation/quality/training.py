"""How the weights of :mod:`everlong.curation.quality.classifier` were made, so that anyone can.

    python -m everlong.curation.quality.training DATA

Good is edited text of six kinds: novels, an encyclopedia, Python's manual, pages about commands,
sentences of news and travel, and problems of arithmetic. Junk is of ten kinds, made of these and of
messages that people wrote on Twitter (:mod:`everlong.curation.quality.junk`); only messages are
taken that are neither hateful nor offensive, so that it is not abuse that is learned. Each kind
counts as much as any other of its class.

Junk is made of each kind of good text apart. Where a kind is left out, to fit the probabilities or
to see what becomes of it, the junk made of it is left out as well: otherwise there would be words
of that kind in junk alone.

Books and pages are held out by the hash of their names, tweets as in
:mod:`everlong.curation.harm.toxicity_training`, the others as they were published; of the phrases
that junk is made of, every fourth. Choices were made on the training part, by leaving out kinds in
turn (mean area under the curve of short pieces): capitals, ends of lines and lengths of words each
gained something (0.958, 0.948 and 0.961 without, 0.963 with), longer runs than pairs nothing, and
repeated phrases as a kind of junk cost 0.01, since they are good text.
"""

from __future__ import annotations

import argparse
import hashlib
import platform
import re
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Literal

from everlong.curation.classifier.hashed_ngrams import Ngrams
from everlong.curation.classifier.text_classifier import TextClassifier
from everlong.curation.harm.toxicity_training import WITH_SLURS, spread, tweets_of
from everlong.curation.quality.classifier import WEIGHTS
from everlong.curation.quality.form import form
from everlong.curation.quality.junk import KINDS, Maker, junk
from everlong.data.python_texts import write_python_texts
from everlong.evaluation.data import Data
from everlong.evaluation.tasks.safety.toxicity import is_toxic

Part = Literal["training", "held_out"]
_HELD_OUT_OF_256 = 51
"""A fifth."""
_OF_EACH = 1500
"""Most pieces of each kind."""
_PIECE = (80, 450)
"""Letters of a piece: from a sentence up to a window."""
_SOURCE = (300, 900)
"""Letters of the texts that a piece of junk is made of."""
_SOURCES = 1000
"""Of each kind of good text."""
_WINDOW = 200
"""Characters of a form, as many as 100 words and marks have."""
_NGRAMS = Ngrams(bits=16, words=2, shortest=8, longest=8)
"""Single characters of a form and pairs of them. There are no longer words in it, so there are no
runs of letters."""
_DESCRIPTION = {
    "class": "edited English prose and documentation, by its form",
    "data": "books (public domain), wikitext2 (CC BY-SA 3.0), sib200 (CC BY-SA 4.0), tldr "
    "(CC BY 4.0), gsm8k (MIT), hate_offensive (MIT), Python's manual (PSF-2.0)",
    "python": platform.python_version(),
}

_SPACES = (
    (re.compile(r" @([-.,])@ "), r"\1"),
    (re.compile(r" ([.,;:!?%)\]])"), r"\1"),
    (re.compile(r"([(\[$£]) "), r"\1"),
    (re.compile(r" ('s|'t|'re|'ve|'d|'ll|'m|n't)\b"), r"\1"),
    (re.compile(r'" ([^"]*) "'), r'"\1"'),
)
"""WikiText has blanks around its marks, by which it would be told."""


@dataclass(frozen=True)
class Sample:
    """A piece of a text."""

    text: str
    kind: str
    """Of good text, or of junk."""
    subject: str
    """The kind of good text that it is from, or that junk was made of."""
    good: bool


def train(data_folder: Path, seed: int = 0, *, without: Collection[str] = ()) -> TextClassifier:
    """Train the classifier that comes with the package; it is one of forms of texts.

    Args:
        data_folder: has the sets that the description names, a folder each.
        seed: decides which pieces are learned from, and what junk is made.
        without: kinds of good text or of junk that are left out, to see what becomes of them.

    Raises:
        MissingDataError: a set is not there.
    """
    data = Data(data_folder)
    texts = {kind: each for kind, each in good(data, "training").items() if kind not in without}
    kinds = [kind for kind in KINDS if kind not in without]
    said = messages(data, "training")
    found = list(samples(texts, said, kinds, "training", seed, _OF_EACH, _PIECE))
    sizes = dict.fromkeys((*texts, *kinds), 0)
    for sample in found:
        sizes[sample.kind] += 1
    share = {kind: 0.5 / len(texts if kind in texts else kinds) / sizes[kind] for kind in sizes}
    return TextClassifier.train(
        [form(sample.text) for sample in found],
        [sample.good for sample in found],
        weights=[share[sample.kind] for sample in found],
        ngrams=_NGRAMS,
        window=_WINDOW,
        folds=len(texts),
        seed=seed,
        groups=[sample.subject for sample in found],
        description=_DESCRIPTION,
    )


def samples(
    texts: Mapping[str, Sequence[str]],
    said: Sequence[str],
    junk_kinds: Sequence[str],
    part: Part,
    seed: int,
    of_each: int,
    length: tuple[int, int],
) -> Iterator[Sample]:
    """Pieces of good texts and of junk.

    Args:
        texts: good ones, by kind.
        said: messages.
        junk_kinds: what is made.
        part: decides which phrases junk is made of.
        seed: of what is drawn.
        of_each: pieces of a kind at most.
        length: of a piece, letters.
    """
    random = Random(seed)
    for number, (subject, each) in enumerate(texts.items()):
        for text in some_pieces(each, of_each, length, random):
            yield Sample(text, subject, subject, True)
        maker = Maker(
            some_pieces(each, _SOURCES, _SOURCE, random),
            said[number :: len(texts)],
            held_out=part == "held_out",
            seed=seed + number,
        )
        count = max(1, of_each // len(texts))
        for kind in junk_kinds:
            made = junk(kind, maker, count)
            for text in some_pieces(made, count, length, random):
                yield Sample(text, kind, subject, False)


def some_pieces(
    texts: Sequence[str], count: int, length: tuple[int, int], random: Random
) -> list[str]:
    """So many pieces of some texts at most, about as many of each."""
    each = 2 * count // len(texts) + 2
    found = [
        piece
        for text in spread(texts, 2 * count)
        for piece in spread(pieces(text, length, random), each)
    ]
    return spread(found, count)


def pieces(text: str, length: tuple[int, int], random: Random) -> list[str]:
    """A text in pieces of lengths that are drawn, cut at white space, lines as they are."""
    low, high = length
    found, start = [], 0
    while start < len(text):
        end = min(start + random.randint(low, high), len(text))
        while start + low // 2 < end < len(text) and not text[end].isspace():
            end -= 1
        piece = text[start:end].strip()
        if len(piece) >= low // 2:
            found.append(piece)
        start = end
    return found


def good(data: Data, part: Part) -> dict[str, list[str]]:
    """Edited text by its kind."""
    out = part == "held_out"
    books = [
        name
        for name in data.names("books/*.txt")
        if name != WITH_SLURS and _is_held_out(name) == out
    ]
    pages = data.rows("tldr/tldr.jsonl", lambda row: (row["lang"], row["name"], row["text"]))
    topics = data.rows(
        f"sib200/{'test' if out else 'train'}.tsv", lambda row: (row["lang"], row["text"])
    )
    sentences = [text for language, text in topics if language == "eng_Latn"]
    return {
        "novels": [data.text(name).replace("\r\n", "\n") for name in books],
        "encyclopedia": paragraphs(data.text(f"wikitext2/{'test' if out else 'valid'}.txt")),
        "reference": python_manual(part),
        "commands": [
            text for language, name, text in pages
            if language == "en" and _is_held_out(name) == out
        ],
        "sentences": [" ".join(sentences[n : n + 3]) for n in range(0, len(sentences), 3)],
        "problems": data.rows(
            f"gsm8k/{'test' if out else 'train'}.jsonl", lambda row: str(row["question"])
        ),
    }  # fmt: skip


def python_manual(part: Part) -> list[str]:
    """The language reference and docstrings of this Python."""
    name = "manual-held-out.jsonl" if part == "held_out" else "manual.jsonl"
    with tempfile.TemporaryDirectory() as folder:
        write_python_texts(Path(folder))
        return Data(Path(folder)).rows(name, lambda row: str(row["text"]))


def messages(data: Data, part: Part) -> list[str]:
    """Tweets that are neither hateful nor offensive."""
    found = tweets_of(data, "held_out") if part == "held_out" else [
        *tweets_of(data, "training"), *tweets_of(data, "validation")
    ]  # fmt: skip
    return [tweet.text for tweet in found if not is_toxic(tweet)]


def paragraphs(text: str) -> list[str]:
    """Paragraphs of WikiText as people write them, without sentences that have unknown words."""
    found = []
    for line in text.split("\n"):
        if not line.strip() or line.startswith(" ="):
            continue
        sentences = re.split(r"(?<= [.!?]) ", line.strip())
        plain = " ".join(one for one in sentences if "<unk>" not in one)
        for pattern, instead in _SPACES:
            plain = pattern.sub(instead, plain)
        if plain:
            found.append(plain)
    return found


def _is_held_out(name: str) -> bool:
    return hashlib.blake2b(name.encode(), digest_size=8).digest()[0] < _HELD_OUT_OF_256


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and write the weights."""
    parser = argparse.ArgumentParser(description="Train the classifier of quality.")
    parser.add_argument("data", type=Path, help="folder of the public data sets")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="file of the weights")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    train(options.data, options.seed).save(options.out)
    print(options.out)


if __name__ == "__main__":
    main()
