from __future__ import annotations

import pickle

import pytest

from everlong.curation.augmentation.glossary import Glossary
from everlong.curation.augmentation.made import drawing, is_made, made, title_of, without_made
from everlong.curation.augmentation.noise import Noise
from everlong.curation.augmentation.questions import Questions
from everlong.curation.document import Document
from everlong.curation.step import MakingStep

TEXT = """# Bone fever

Bone fever is a disease of the bones that was made up for this test.

## Symptoms

People with bone fever feel cold in the morning and warm at night, and their bones hum.

## Treatment

Rest and warm milk (WM) help most people within a week; warm socks may help as well.
"""
STEPS = (
    Questions(domains={"leaflets": "medical"}, seed=3),
    Noise(seed=3),
    Glossary(fewest=1, seed=3),
)


def leaflet(id: str = "leaflets/a.md", text: str = TEXT) -> Document:
    metadata = {"title": "Bone fever", "url": "https://example.org/a"}
    return Document(id, text, "leaflets", "en", "CC-BY-4.0", dict(metadata))


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.kind)
def test_made_documents_say_where_they_are_from(step: MakingStep) -> None:
    original = leaflet()
    before = original.to_plain()
    found = list(step.make(original))
    assert found
    assert original.to_plain() == before, "the document itself stays as it is"
    assert len({one.id for one in [original, *found]}) == len(found) + 1
    for one in found:
        assert is_made(one)
        assert one.metadata["made_from"] == "leaflets/a.md"
        assert one.metadata["made_by"] == step.kind
        assert one.metadata["made_seed"] == 3
        assert one.metadata["url"] == "https://example.org/a"
        assert (one.source, one.language, one.licence) == ("leaflets", "en", "CC-BY-4.0")
        assert one.text
        assert Document.from_plain(one.to_plain()) == one
        assert list(step.make(one)) == [], "nothing is made of what was made"


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.kind)
def test_the_same_is_made_in_any_order_and_process(step: MakingStep) -> None:
    first = [one.to_plain() for one in step.make(leaflet())]
    list(step.make(leaflet("leaflets/b.md", TEXT * 3)))
    other = pickle.loads(pickle.dumps(step))
    assert isinstance(other, MakingStep)
    assert [one.to_plain() for one in other.make(leaflet())] == first


@pytest.mark.parametrize("kind", [Questions, Noise])
def test_seeds_matter(kind: type[Questions] | type[Noise]) -> None:
    more = {"domains": {"leaflets": "medical"}} if kind is Questions else {}
    texts = {
        tuple(one.text for one in kind(seed=seed, **more).make(leaflet()))  # type: ignore[arg-type]
        for seed in range(5)
    }
    assert len(texts) > 1


def test_everything_made_can_be_taken_out_again() -> None:
    originals = [leaflet(f"leaflets/{n}.md") for n in range(4)]
    every = []
    for document in originals:
        every.append(document)
        for step in STEPS:
            every += step.make(document)
    assert len(every) > 3 * len(originals)
    assert list(without_made(every)) == originals
    without_noise = list(without_made(every, by="noise"))
    assert {one.metadata.get("made_by") for one in without_noise} == {None, "questions", "glossary"}
    assert list(without_made([])) == []


def test_what_was_made_cannot_be_hidden() -> None:
    document = leaflet()
    one = made(document, "noise", 1, "0", "text", {"made_from": "elsewhere", "more": 1})
    assert one.metadata["made_from"] == document.id
    assert one.metadata["more"] == 1
    with pytest.raises(AssertionError):
        made(one, "noise", 1, "0", "text")


def test_drawing_depends_on_all_of_its_parts() -> None:
    same = {drawing(leaflet(), "noise", 1).random() for _ in range(3)}
    assert len(same) == 1
    others = {
        drawing(leaflet(id), by, seed).random()
        for id in ("a", "b", "\ud800")
        for by in ("noise", "questions")
        for seed in (1, 2)
    }
    assert len(others) == 12


@pytest.mark.parametrize(
    ("metadata", "text", "title"),
    [
        ({"title": " A \n b "}, "# C", "A b"),
        ({"title": ""}, "\n# C d\n\ntext", "C d"),
        ({"title": 3}, "## C", None),
        ({}, "text", None),
        ({}, "# ", None),
    ],
)
def test_titles(metadata: dict[str, str], text: str, title: str | None) -> None:
    assert title_of(Document("a", text, "s", metadata=dict(metadata))) == title
