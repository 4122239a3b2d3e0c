from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlong.curation.augmentation.structure import (
    Answered,
    Section,
    Task,
    answered,
    definitions,
    plain,
    sections,
    tables,
    tasks,
)


def test_sections_stand_under_headings() -> None:
    text = (
        "before\n# One\n\n## 1.2 Two **bold**\ntext of two\n\n### Three ###\ntext\nof three\n"
        "```sh\n# no heading\n```\n## [Four](http://a.b/c)\ntext of four\n# Five\n"
    )
    assert list(sections(text)) == [
        Section("Two bold", 2, "One", "text of two"),
        Section("Three", 3, "Two bold", "text\nof three\n```sh\n# no heading\n```"),
        Section("Four", 2, "One", "text of four"),
    ]
    assert list(sections("no headings #here")) == []


@pytest.mark.parametrize(
    ("heading", "expected"),
    [
        ("1. Scope", "Scope"),
        ("2.3.1 Scope of it", "Scope of it"),
        ("Section 12. Termination", "Termination"),
        ("ARTICLE IV - Liability", "Liability"),
        ("(a) Notices", "(a) Notices"),
        ("b) Notices", "Notices"),
        ("IV. Results", "Results"),
        ("A guide to bones", "A guide to bones"),
        ("3 ways to cook", "3 ways to cook"),
        ("I am here", "I am here"),
        ("Section 3", "Section 3"),
        ("`code` and *more*", "code and more"),
    ],
)
def test_headings_lose_their_numbers(heading: str, expected: str) -> None:
    assert plain(heading) == expected


@pytest.mark.parametrize(
    ("text", "term", "article", "plural"),
    [
        ("A femur is a bone of the leg that is 48.5 cm long.", "femur", "a", False),
        ("Insulin (a hormone) is the key that opens cells for sugar.", "Insulin", "", False),
        ("First. Vaccines are the best known means against it.", "Vaccines", "", True),
        (
            "The gross margin refers to the share of sales that is kept.",
            "gross margin",
            "the",
            False,
        ),
        ("Net income is defined\nas the profit after all costs.", "Net income", "", False),
        ("“Affiliate” means any company that controls a party.", "Affiliate", "", False),
    ],
)
def test_definitions(text: str, term: str, article: str, plural: bool) -> None:
    (found,) = definitions(text)
    assert (found.term, found.article, found.plural) == (term, article, plural)
    assert found.sentence == " ".join(text.removeprefix("First. ").split())
    assert found.quoted == text.startswith("“")


@pytest.mark.parametrize(
    "text",
    [
        "It is a long way from here to the next village.",
        "This means that the whole of the village is empty.",
        "There are those who think that it will never end.",
        "He said the femur is a bone of the leg that is long.",
        "A femur is a bone.",
        "Who knows that the\nfemur is a bone of the leg that is long?",
        "A femur is long and was found in the garden of a house.",
        "The problem is the number of people who live there.",
        "A femur is a bone of the leg\n\nthat is long.",
        "",
    ],
)
def test_what_defines_nothing(text: str) -> None:
    assert list(definitions(text)) == []


def test_tables() -> None:
    text = (
        "text\n| Item | **2019** | 2018 |\n| --- | ---: | :-: |\n| Sales | 5 | 4 |\n"
        "| Costs \\| all | 2 |  |\n| odd | 1 |\n\n| no | rule |\n| a | b |\n"
    )
    (table,) = tables(text)
    assert table.head == ("Item", "2019", "2018")
    assert table.rows == (("Sales", "5", "4"), ("Costs | all", "2", ""))
    assert table.text.startswith("| Item") and table.text.endswith("| 1 |")  # noqa: PT018


def test_heads_of_two_rows() -> None:
    above = "|  |  | Years |\n| --- | --- | --- |\n"
    (table,) = tables(above + "|  | 2019 | 2018 |\n| Sales | 5 | 4 |")
    assert table.head == ("", "2019", "2018")
    assert table.rows == (("Sales", "5", "4"),)
    (table,) = tables(above + "| (in €) | Sum | Sum |\n| Sales | 5 | 4 |")
    assert table.head == ("(in €)", "Sum", "Years Sum")
    (table,) = tables(above + "| Sales | 5 | 4 |\n| Costs | 1 | 2 |")
    assert table.head == ("", "", "Years")


def test_tasks_and_their_commands() -> None:
    text = (
        "- Convert a `file` quickly:\n\nno code\n\n- Show the *current* host:\n\n`hostname -f`\n\n"
        "To list all files:\n\n```sh\nls -a\nls -b\n```\n"
    )
    assert list(tasks(text)) == [
        Task("Show the current host", "hostname -f"),
        Task("To list all files", "ls -a\nls -b"),
    ]


def test_questions_that_are_answered() -> None:
    text = (
        "Q: Where is my parcel?\nA: In the\nstation.\n\nOther text.\n\n"
        "**Question:** What does it cost?\n\n**Answer:** Nothing.\nQ: Is it so?\nA: Yes"
    )
    assert list(answered(text)) == [
        Answered("Where is my parcel?", "In the\nstation."),
        Answered("What does it cost?", "Nothing."),
        Answered("Is it so?", "Yes"),
    ]


@given(st.text("#|-`:.? AaQ\n*~", max_size=200) | st.text(max_size=100))
def test_any_text_has_some_structure(text: str) -> None:
    for find in (sections, definitions, tables, tasks, answered):
        for one in find(text):
            assert one
    for section in sections(text):
        assert section.text in text
        assert section.heading


@pytest.mark.parametrize(
    "text",
    [
        "# a\n" * 50_000,
        "| a |\n" * 50_000,
        "|---|" * 50_000,
        "```\n" * 50_001,
        "A " * 100_000,
        "A bone is a " * 20_000,
        "Ab" * 100_000,
        "- Aaaaaaaaaa:\n" * 20_000,
        "Q: aaaaaaaaaa\n" * 20_000,
        "[" * 100_000,
        "# " + "*_" * 50_000,
        "A\n \n" * 50_000,
        "A" + " " * 200_000,
        "# a" + " " * 100_000 + "b",
        "# a" + "#" * 100_000 + "b",
    ],
    ids=range(15),
)
def test_hostile_texts_take_no_time(text: str) -> None:
    begin = time.process_time()
    for find in (sections, definitions, tables, tasks, answered):
        for _ in find(text):
            pass
    assert time.process_time() - begin < 2
