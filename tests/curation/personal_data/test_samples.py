from __future__ import annotations

from collections import Counter

import pytest

from everlong.curation.personal_data.masking import KINDS, find
from everlong.curation.personal_data.sample_lookalikes import LOOKALIKES
from everlong.curation.personal_data.samples import TEMPLATES, samples

pytest.importorskip("phonenumbers")


def test_the_same_seed_gives_the_same_samples() -> None:
    first, again, other = list(samples(40, 1)), list(samples(40, 1)), list(samples(40, 2))
    assert first == again != other
    assert first[:20] == list(samples(20, 1))


def test_spans_are_what_was_filled_in() -> None:
    kinds: Counter[str] = Counter()
    filled: Counter[str] = Counter()
    for sample in samples(3000, 3):
        assert sample.register in TEMPLATES
        assert "«" not in sample.text
        filled.update(sample.values)
        end = 0
        for span in sample.spans:
            kinds[span.kind] += 1
            assert end <= span.start < span.end <= len(sample.text)
            value = sample.text[span.start : span.end]
            assert value == value.strip()
            assert span.kind != "email" or "@" in value or "at" in value.lower()
            assert span.kind not in ("phone", "card", "iban") or sum(map(str.isdigit, value)) > 6
            end = span.end
    assert kinds.keys() == set(KINDS)
    assert filled.keys() >= LOOKALIKES.keys()


def test_nearly_all_is_found_and_hardly_anything_else() -> None:
    marked: Counter[str] = Counter()
    told: Counter[str] = Counter()
    hit: Counter[str] = Counter()
    for sample in samples(4000, 4):
        spans, mine = set(sample.spans), set(find(sample.text))
        marked.update(one.kind for one in spans)
        told.update(one.kind for one in mine)
        hit.update(one.kind for one in spans & mine)
    for kind in KINDS:
        assert marked[kind] > 100
        assert hit[kind] >= 0.95 * marked[kind], f"{kind}: {hit[kind]} of {marked[kind]} found"
        assert hit[kind] >= 0.95 * told[kind], f"{kind}: {hit[kind]} of {told[kind]} right"
