"""Quality rules in a worker process: datatrove's or Everlong's, on the same documents."""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.curation_pages import page_of
from benchmarks.worker import package_version, serve

Rule = Callable[[Any], bool]
"""Whether a document is kept."""


@dataclass(frozen=True)
class Side:
    """How one of both does it."""

    rules: Mapping[str, Rule]
    make: Callable[[str], Any]
    """A document of a text."""
    extract: Callable[[bytes], str | None]
    """The text of a web page."""


def everlong() -> Side:
    """Everlong's steps and reader."""
    from everlong.curation.document import Document
    from everlong.curation.quality.c4 import C4Quality
    from everlong.curation.quality.fineweb import FineWebQuality
    from everlong.curation.quality.gopher import GopherQuality
    from everlong.curation.quality.repetition import GopherRepetition
    from everlong.documents.extracted import Limits
    from everlong.documents.html import read_html
    from everlong.errors import DataError

    steps = (GopherQuality(), GopherRepetition(), C4Quality(), FineWebQuality())

    def rule(step: Any) -> Rule:
        return lambda document: step(document) is None

    def extract(page: bytes) -> str | None:
        try:
            return read_html(page, limits).text
        except DataError:
            return None

    limits = Limits()
    rules: dict[str, Rule] = {step.kind: rule(step) for step in steps}
    return Side(rules, lambda text: Document("", text, ""), extract)


def datatrove() -> Side:
    """Datatrove's filters and extractor, without the process that its pipeline puts around it."""
    from datatrove.data import Document  # type: ignore[import-not-found]
    from datatrove.pipeline.extractors import Trafilatura  # type: ignore[import-not-found]
    from datatrove.pipeline.filters import (  # type: ignore[import-not-found]
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
    )

    filters = {
        "gopher_quality": GopherQualityFilter(),
        "gopher_repetition": GopherRepetitionFilter(),
        "c4_quality": C4QualityFilter(),
        "fineweb_quality": FineWebQualityFilter(),
    }

    def rule(one: Any) -> Rule:
        def kept(document: Any) -> bool:
            found = one.filter(document)
            return bool(found[0] if isinstance(found, tuple) else found)

        return kept

    extractor = Trafilatura()
    return Side(
        {name: rule(one) for name, one in filters.items()},
        lambda text: Document(text, ""),
        lambda page: extractor.extract(page.decode()),
    )


def main(name: str, corpus: str) -> None:
    """Serve one side: ``decide`` and ``time``."""
    side = everlong() if name == "everlong" else datatrove()
    rules, make = side.rules, side.make
    with open(corpus, encoding="utf-8") as file:
        samples = [json.loads(line) for line in file]
    texts = [one["text"] for one in samples]
    pages = [one["page"].encode() for one in samples]
    first = "A first sentence, with words in it. " * 20
    for rule in rules.values():  # imports, patterns and models
        rule(make(first))
    side.extract(page_of(first, random.Random(0)).encode())

    def decide() -> Mapping[str, Any]:
        """Each rule by itself on whole documents, and all of them after one another."""
        alone = {name: [rule(make(text)) for text in texts] for name, rule in rules.items()}
        return {"kept": {**alone, "all": [_passes(make(text), rules) for text in texts]}}

    def timed(start: int, every: int) -> Mapping[str, Any]:
        """All rules after one another, on every so manieth document; making them is not timed."""
        # Copies, so that nothing is known of a text from a time before.
        documents = [make((text + " ")[:-1]) for text in texts[start::every]]
        began = time.perf_counter()
        for document in documents:
            _passes(document, rules)
        return {"seconds": time.perf_counter() - began, "documents": len(documents)}

    def timed_pages(start: int, every: int) -> Mapping[str, Any]:
        """The same from pages on."""
        chosen, known = pages[start::every], texts[start::every]
        began = time.perf_counter()
        found = [side.extract(page) for page in chosen]
        extracted = time.perf_counter() - began
        for text in found:
            if text:
                _passes(make(text), rules)
        seconds = time.perf_counter() - began
        return {
            "seconds": seconds,
            "documents": len(chosen),
            "extraction": extracted,
            "empty": sum(not text for text in found),
            "alike": sum(map(_alike, known, found)),
        }

    def versions() -> Mapping[str, Any]:
        names = ("datatrove", "trafilatura", "spacy", "nltk", "lxml")
        return {one: package_version(one) for one in names}

    serve({"decide": decide, "time": timed, "time_pages": timed_pages, "versions": versions})


def _alike(known: str, found: str | None) -> float:
    """F1 of the words of a text that was found in a page, and of the one that is in it."""
    words, own = Counter(known.split()), Counter((found or "").split())
    return 2 * (words & own).total() / max(1, words.total() + own.total())


def _passes(document: Any, rules: Mapping[str, Rule]) -> bool:
    return all(rule(document) for rule in rules.values())


if __name__ == "__main__":
    main(*sys.argv[1:])
