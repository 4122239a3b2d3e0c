from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlong.config import format_config, parse_config
from everlong.curation.augmentation.glossary import Glossary, short_forms
from everlong.curation.document import Document
from everlong.curation.step import PreparedStep, ReadingStep
from everlong.errors import ConfigError, MissingDataError


def glossary(step: Glossary, text: str, title: str | None = None) -> str | None:
    metadata = {"title": title} if title else {}
    found = list(step.make(Document("a", text, "s", metadata=dict(metadata))))
    return found[0].text if found else None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a heat shock protein (HSP) is", [("heat shock protein", "HSP")]),
        ("the World Health Organization (WHO)", [("World Health Organization", "WHO")]),
        ("long-term evolution (LTE)", [("long-term evolution", "LTE")]),
        ("in vitro; magnetic resonance imaging (MRI)", [("magnetic resonance imaging", "MRI")]),
        ("Years ended (2019)", []),
        ("some other words (NASA)", []),
        ("his dog (REX)", []),
        ("the heat (see)", []),
        ("(ABC)", []),
        ("", []),
    ],
)
def test_short_forms(text: str, expected: list[tuple[str, str]]) -> None:
    assert list(short_forms(text)) == expected


def test_terms_of_a_document() -> None:
    text = (
        "A femur is a bone of the leg. Magnetic resonance imaging (MRI) shows it. A femur is the "
        "longest bone of all that people have."
    )
    assert glossary(Glossary(), text, "Bones") == (
        "# Glossary of Bones\n\n**femur**: A femur is a bone of the leg.\n\n"
        "**MRI**: Magnetic resonance imaging"
    )
    assert glossary(Glossary(fewest=3), text) is None
    assert glossary(Glossary(sources=("t",)), text) is None
    one = glossary(Glossary(fewest=1, most=1), text)
    assert one is not None
    assert one.startswith("# Glossary\n\n**")
    assert one.count("**") == 2


def test_terms_of_a_list(tmp_path: Path) -> None:
    path = tmp_path / "terms.tsv"
    path.write_text("net income\tWhat is left.\nNet\tA mesh.\n\nEBIT\tBefore interest and tax.\n")
    step = Glossary(terms=path, fewest=1)
    assert (
        glossary(step, "The NET  income, of 2019") == "# Glossary\n\n**net income**: What is left."
    )
    assert glossary(step, "a net; ebit.") == (
        "# Glossary\n\n**EBIT**: Before interest and tax.\n\n**Net**: A mesh."
    )
    assert glossary(step, "netincome") is None
    # What the document says itself comes before the list.
    own = "EBIT is the profit before interest and tax are taken."
    assert glossary(step, own) == f"# Glossary\n\n**EBIT**: {own}"


def test_lists_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="is not there"):
        glossary(Glossary(terms=tmp_path / "no.tsv"), "text")
    path = tmp_path / "terms.tsv"
    path.write_text("term\tmeaning\nonly a term\n")
    with pytest.raises(ConfigError, match="line 2"):
        glossary(Glossary(terms=path), "text")
    latin, long = tmp_path / "latin.tsv", tmp_path / "long.tsv"
    latin.write_bytes("Öl\tOil.\n".encode("latin-1"))
    long.write_text(f"term\t{'a' * 200_000}\n")
    for one in (latin, long):
        with pytest.raises(ConfigError, match=r"cannot be read: .*save it in UTF-8"):
            Glossary(terms=one).prepare()


def test_a_list_is_known_by_what_it_says(tmp_path: Path) -> None:
    step = Glossary(terms=tmp_path / "terms.tsv")
    assert isinstance(step, PreparedStep)
    assert isinstance(step, ReadingStep)
    with pytest.raises(MissingDataError, match="is not there"):
        step.reads()
    seen = []
    for meaning in ("one", "another"):
        (tmp_path / "terms.tsv").write_text(f"term\t{meaning}\n")
        seen.append(step.reads()["terms"])
    assert len(set(seen)) == 2
    assert Glossary().reads() == {}


@pytest.mark.parametrize(("fewest", "most"), [(0, 5), (3, 2)])
def test_settings_that_cannot_be(fewest: int, most: int) -> None:
    with pytest.raises(ConfigError, match="1 <= fewest <= most"):
        Glossary(fewest=fewest, most=most)


def test_goes_into_recipes() -> None:
    step = Glossary(sources=("a",), terms=Path("terms.tsv"))
    assert parse_config(Glossary, format_config(step)) == step


@given(st.text("aAB ()-\n.", max_size=100) | st.text(max_size=100))
def test_any_text_has_short_forms_or_none(text: str) -> None:
    for long_form, short in short_forms(text):
        assert len(long_form) > len(short)
        assert set(short.lower()) - {"-", "_"} <= set(long_form.lower())
        assert f"({short})" in text


def test_hostile_texts_take_no_time() -> None:
    begin = time.process_time()
    for text in ("word " * 100_000, " (AB)" * 50_000, "a" * 300_000, "( " * 100_000):
        list(short_forms(text))
    assert time.process_time() - begin < 3
