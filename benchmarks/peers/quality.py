"""Quality rules in a worker process: datatrove's or Everlong's, on the same documents."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.worker import serve

Rule = Callable[[Any], bool]
"""Whether a document is kept."""


def everlong_rules() -> tuple[dict[str, Rule], Callable[[str], Any]]:
    """Everlong's steps, and how a document is made."""
    from everlong.curation.document import Document
    from everlong.curation.quality_c4 import C4Quality
    from everlong.curation.quality_fineweb import FineWebQuality
    from everlong.curation.quality_gopher import GopherQuality
    from everlong.curation.quality_repetition import GopherRepetition

    steps = (GopherQuality(), GopherRepetition(), C4Quality(), FineWebQuality())

    def rule(step: Any) -> Rule:
        return lambda document: step(document) is None

    return {step.kind: rule(step) for step in steps}, lambda text: Document("", text, "")


def datatrove_rules() -> tuple[dict[str, Rule], Callable[[str], Any]]:
    """Datatrove's filters, and how a document is made."""
    from datatrove.data import Document  # type: ignore[import-not-found]
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

    return {name: rule(one) for name, one in filters.items()}, lambda text: Document(text, "")


def main(side: str, corpus: str) -> None:
    """Serve one side: ``decide`` and ``time``."""
    rules, make = everlong_rules() if side == "everlong" else datatrove_rules()
    with open(corpus, encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in file]
    for rule in rules.values():  # imports, patterns and models
        rule(make("A first sentence, with words in it. " * 20))

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

    serve({"decide": decide, "time": timed})


def _passes(document: Any, rules: Mapping[str, Rule]) -> bool:
    return all(rule(document) for rule in rules.values())


if __name__ == "__main__":
    main(*sys.argv[1:])
