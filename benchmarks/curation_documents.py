"""Documents on which rules of curation are compared: public text of many kinds, and damaged text.

Paragraphs and chapters of books, articles, news, manuals, a law in many languages, instructions,
tables, dialogues, source code; and versions of them that have what rules look for: lists, repeated
lines, shouting, notices, code, cut and glued words.
"""

from __future__ import annotations

import gzip
import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.curation_pages import page_of
from everlong.evaluation.data import Data
from everlong.files import atomic_write

_UNSPACED = re.compile("[\u0e00-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")
_LONGEST = 60_000
_NOTICES = (
    "We use cookies to make this site better.",
    "Read our privacy policy and our terms of use.",
    "Please enable javascript to view this page.",
    "All rights reserved.",
    "Log in | Sign up",
    "Lorem ipsum dolor sit amet, consectetur.",
    "Read more...",
    "Click here…",
    "[edit]",
    "The end [citation needed]. And so on [3].",
)


@dataclass(frozen=True)
class Sample:
    """A document."""

    kind: str
    text: str


def write(data: Path, path: Path, count: int, seed: int) -> int:
    """Write lines of JSON with id, kind, text and the text as a page; a third are damaged.

    Args:
        data: folder of the public data.
        path: the file.
        count: of documents, at most.
        seed: of what is drawn.

    Returns:
        How many there are.
    """
    chance = random.Random(seed)
    plain = [one for one in _plain(data, chance) if one.text.strip()]
    long = [one.text for one in plain if len(one.text) > 200]
    hurt = [_damaged(chance.choice(long), chance) for _ in range(count // 3)]
    samples = [*chance.sample(plain, min(count - len(hurt), len(plain))), *hurt]
    chance.shuffle(samples)
    lines = [
        json.dumps(
            {"id": f"{n}", "kind": one.kind, "text": one.text, "page": page_of(one.text, chance)}
        )
        for n, one in enumerate(samples)
    ]
    atomic_write(path, "\n".join(lines).encode())
    return len(samples)


def _plain(data: Path, chance: random.Random) -> Iterator[Sample]:
    books = Data(data)
    for name in books.names("books/*.txt"):
        text = books.text(name)
        chapters = [one for one in re.split(r"\n(?=#+ )", text) if one.strip()]
        for chapter in chance.sample(chapters, min(6, len(chapters))):
            yield Sample("chapter", chapter[:_LONGEST])
        paragraphs = text.split("\n\n")
        for _ in range(40):
            at = chance.randrange(len(paragraphs))
            yield Sample("paragraphs", "\n\n".join(paragraphs[at:][: chance.choice((1, 2, 3, 8))]))
    for name in ("valid.txt", "test.txt"):
        text = (data / "wikitext2" / name).read_text(encoding="utf-8")
        for section in re.split(r"\n(?= = )", text):
            yield Sample("article", section.strip())
    news = [line.split("\t", 1)[1] for line in _lines(data / "ag_news" / "ag_news_7600.tsv.gz")]
    for _ in range(1_000):
        yield Sample("news", "\n".join(chance.sample(news, chance.randrange(1, 12))))
    pages = [*_records(data / "tldr" / "tldr.jsonl.gz")]
    for page in chance.sample(pages, 1_000):
        if not _unspaced(page["text"]):
            yield Sample("manual", page["text"])
    for law in _records(data / "udhr" / "udhr.jsonl.gz"):
        if not _unspaced(text := "\n".join(law["paragraphs"])):
            yield Sample("law", text)
    asked = [*_records(data / "instructions" / "p3_sample.jsonl.gz")]
    for one in chance.sample(asked, 800):
        yield Sample("instruction", f"{one['prompt']}\n{one['completion']}")
    reports = json.loads(gzip.decompress((data / "tatqa" / "tatqa_dev.json.gz").read_bytes()))
    for report in reports:
        yield Sample("report", "\n".join(one["text"] for one in report["paragraphs"]))
        rows = ("\t".join(map(str, row)) for row in report["table"]["table"])
        yield Sample("table", "\n".join(rows))
    talks = [*_records(data / "sgd_dialogues" / "sgd_dev.jsonl.gz")]
    for talk in chance.sample(talks, 500):
        turns = (f"{turn['speaker']}: {turn['utterance']}" for turn in talk["turns"])
        yield Sample("dialogue", "\n".join(turns))
    library = Path(json.__file__).parents[1]
    files = sorted((*library.glob("*.py"), *library.glob("*/*.py")))
    for path in chance.sample(files, min(400, len(files))):
        yield Sample("source", path.read_text(encoding="utf-8", errors="replace")[:_LONGEST])


def _damaged(text: str, chance: random.Random) -> Sample:
    lines = [line for line in text.split("\n") if line.strip()]
    words = text.split()

    def cut(count: int, sign: str) -> str:
        starts = range(0, min(len(words), 400), count)
        return "\n".join(f"{sign}{' '.join(words[at : at + count])}" for at in starts)

    def among(some: Callable[[], str], share: float) -> str:
        return "\n".join(
            one
            for line in lines
            for one in ((line, some()) if chance.random() < share else (line,))
        )

    repeated = chance.choice(lines)
    kinds: dict[str, Callable[[], str]] = {
        "list": lambda: cut(6, "- "),
        "bullets": lambda: cut(4, "• "),
        "repeated line": lambda: among(lambda: repeated, 0.3),
        "repeated text": lambda: "\n".join([text[:300]] * chance.randrange(2, 6) + [text[:3000]]),
        "shouting": lambda: text.upper() + "!" * chance.randrange(1, 20),
        "notices": lambda: among(lambda: chance.choice(_NOTICES), 0.5),
        "script": lambda: text + "\nvar a = {b: 1}; document.write('javascript');",
        "hashtags": lambda: " ".join(f"#{w}" if chance.random() < 0.11 else w for w in words),
        "ellipses": lambda: "\n".join(f"{x}..." if chance.random() < 0.35 else x for x in lines),
        "short lines": lambda: cut(chance.randrange(1, 6), ""),
        "repeated phrase": lambda: " ".join(
            f"{w} {' '.join(words[:5])}" if chance.random() < 0.06 else w for w in words
        ),
        "numbers": lambda: " ".join(
            str(chance.randrange(100_000)) if chance.random() < 0.25 else w for w in words
        ),
        "cut": lambda: " ".join(words[: chance.randrange(40, 60)]),
        "glued": lambda: " ".join(
            chance.choice((",", ".", "-", "/", "")).join(words[at : at + 2])
            for at in range(0, len(words), 2)
        ),
        "one line": lambda: re.sub(r"\s+", " ", text),
    }
    kind = chance.choice([*kinds])
    return Sample(f"damaged: {kind}", kinds[kind]()[:_LONGEST])


def _unspaced(text: str) -> bool:
    """Whether a text's script has no spaces between words: how it is split is then a choice."""
    return len(_UNSPACED.findall(text)) > 0.2 * len(text)


def _lines(path: Path) -> list[str]:
    return gzip.decompress(path.read_bytes()).decode().splitlines()


def _records(path: Path) -> Iterator[dict[str, Any]]:
    for line in _lines(path):
        yield json.loads(line)
