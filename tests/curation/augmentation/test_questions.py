from __future__ import annotations

import gzip
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everlong.config import format_config, parse_config
from everlong.curation.augmentation.questions import Questions
from everlong.curation.augmentation.templates import CELLS, DOMAINS, FORMS, OTHERWISE, RULES, Domain
from everlong.curation.document import Document
from everlong.errors import ConfigError
from tests.evaluation.public_data import public_data

ANSWER = "This is what stands in the section, and it has two sentences. This is the second one."


def pairs(domain: Domain, text: str, **metadata: str) -> dict[str, str]:
    """Answers by question."""
    name = f"s/{len(text)}"  # another one, so that other wordings are drawn
    document = Document(name, text, "s", "en", metadata=dict(metadata))
    found = {}
    for one in Questions(domains={"s": domain}, most=100).make(document):
        question, answer = str(one.metadata["question"]), str(one.metadata["answer"])
        assert question in one.text
        assert answer in one.text
        assert question not in found, "nothing is asked twice"
        found[question] = answer
    return found


@pytest.mark.parametrize(
    ("domain", "heading", "questions"),
    [
        (
            "medical",
            "Signs and symptoms",
            {"What are the symptoms of X?", "How does one notice X?"},
        ),
        (
            "medical",
            "Side effects",
            {"What are the side effects of X?"} | {"Which side effects can X have?"},
        ),
        (
            "medical",
            "3. Who is at risk",
            {"Who is at risk for X?", "What are the risk factors of X?"},
        ),
        ("medical", "Is it catching?", {"Is it catching?"}),
        ("legal", "Section 9. Governing Law", {"Which law governs X?"}),
        ("legal", "Term and termination", {"When does X end?", "How can X be terminated?"}),
        ("legal", "Pets", {"What does X say about pets?", "What is laid down about pets?"}),
        ("financial", "Risk Factors", {"Which risks does X name?"}),
        ("financial", "Dividends", {"What is paid to shareholders according to X?"}),
        ("support", "Cancelling an order", {"How do I cancel?", "How can I cancel it?"}),
        ("support", "How to change a plug", {"How do I change a plug?"}),
        ("code", "Installation", {"How do I install X?", "How do I build X?"}),
        ("code", "LICENSE", {"Under which licence is X?"}),
    ],
)
def test_headings_are_asked_about(domain: Domain, heading: str, questions: set[str]) -> None:
    found = pairs(domain, f"## {heading}\n\n{ANSWER}", title="X")
    ((question, answer),) = found.items()
    assert question in questions
    assert answer == ANSWER


def test_without_a_title_the_heading_above_is_the_topic() -> None:
    found = pairs("medical", f"## Bone fever\n\n### Causes\n\n{ANSWER}")
    assert set(found) <= {"What causes Bone fever?", "What are the causes of Bone fever?"}
    assert len(found) == 1
    assert pairs("medical", f"## Causes\n\n{ANSWER}") == {}, "the causes of what?"


def test_long_sections_are_cut_at_paragraphs_or_sentences() -> None:
    step = Questions(domains={"s": "legal"}, longest=100)

    def answer(text: str) -> str:
        (one,) = step.make(Document("a", f"## Pets\n\n{text}", "s", metadata={"title": "X"}))
        return str(one.metadata["answer"])

    assert answer(f"{ANSWER}\n\n{ANSWER}") == ANSWER
    assert answer(f"{ANSWER} {ANSWER}") == ANSWER
    nothing = Document("a", "## Pets\n\n" + "word " * 50, "s", metadata={"title": "X"})
    assert list(step.make(nothing)) == []
    short = Document("a", "## Pets\n\nNone.", "s", metadata={"title": "X"})
    assert list(step.make(short)) == []


@pytest.mark.parametrize(
    ("text", "question"),
    [
        (
            "Bronchitis is a condition of the lungs. People with bronchitis cough.",
            "What is bronchitis?",
        ),
        ("Parkinson is a disease of the nerves that comes late.", "What is Parkinson?"),
        ("An aneurysm is a bulge in the wall of a vessel.", "What is an aneurysm?"),
        ("COPD is a disease of the lungs that stays.", "What is COPD?"),
        ("Vaccines are the means by which it is prevented. Get vaccines.", "What are vaccines?"),
        ('"Affiliate" means any company that controls a party.', 'What does "Affiliate" mean?'),
    ],
)
def test_definitions_are_asked_for(text: str, question: str) -> None:
    found = pairs("medical", text)
    assert list(found) == [question]
    assert text.startswith(found[question])


def test_tables_come_with_their_questions() -> None:
    table = (
        "|  | 2019 | 2018 |\n| --- | --- | --- |\n| Sales | 5.1 | — |\n| Costs | 2 | 1 |\n"
        "| Same | 3 | 4 |\n| Same | 5 | 6 |"
    )
    document = Document("a", f"Text.\n\n{table}\n\nMore.", "s")
    (made,) = Questions(domains={"s": "financial"}).make(document)
    assert made.text.startswith(table)
    asked = made.text.removeprefix(table)
    for row, column, cell in (("Sales", 2019, "5.1"), ("Costs", 2019, "2"), ("Costs", 2018, "1")):
        assert any(
            form.format(question=one.format(row=row, column=column), answer=cell) in asked
            for one in CELLS["financial"]
            for form in FORMS
        )
    assert "Same" not in asked, "which of the two?"
    assert "—" not in asked
    assert asked.count("?") == 3


@pytest.mark.parametrize(
    "table",
    [
        "| a | | c |\n| --- | --- | --- |\n| r | 1 | 2 |",
        "| a | b |\n| --- | --- |\n| (in €) | x |\n| r | 2 |",
        "| a | b |\n| --- | --- |\n|  | 2 |",
        "| a | b | b |\n| --- | --- | --- |\n| r | 2 | 3 |",
    ],
)
def test_tables_that_are_not_understood_are_not_asked(table: str) -> None:
    assert pairs("financial", table) == {}


def test_commands_answer_wishes() -> None:
    text = "# gzip\n\n> Compress files.\n\n- Compress a file:\n\n`gzip {{file}}`\n"
    assert pairs("code", text)["How do I compress a file with gzip?"] == "gzip {{file}}"


def test_docstrings_ask_for_their_functions() -> None:
    source = (
        "import os\n\n@cached\ndef area(width: float, *, height: float = 1) -> float:\n"
        '    """The area of a rectangle.\n\n    More about it.\n    """\n'
        "    product = width * height  # a comment\n    return product\n\n"
        'def short():\n    """What is too short to be asked for."""\n    return 1\n\n'
        "def silent(a):\n    a += 1\n    return a\n"
    )
    found = pairs("code", source, programming_language="python")
    code = (
        "```python\n@cached\ndef area(width: float, *, height: float = 1) -> float:\n"
        "    product = width * height  # a comment\n    return product\n```"
    )
    signature = "`def area(width: float, *, height: float=1) -> float`"
    assert found == {
        f"Write a Python function with the signature {signature}. The area of a rectangle.": code,
        f"What does this Python function do?\n\n{code}": "The area of a rectangle.",
    }


@pytest.mark.parametrize(
    "source",
    [
        "def f(:",
        "\x00",
        "(" * 10_000,
        "-" * 20_000 + "1",
        "'\\d'",
        "def f(): 'a' ; b ; c",
        "\ud800",
    ],
)
def test_source_that_is_none_gives_nothing(source: str) -> None:
    assert pairs("code", source, programming_language="python") == {}


def test_a_function_whose_signature_cannot_be_written_is_left_out() -> None:
    def function(name: str, default: str) -> str:
        about = f'"""What the function {name} is for."""'
        return f"def {name}(a={default}):\n    {about}\n    a += 1\n    return a\n"

    source = function("deep", "+".join("1" * 600)) + function("flat", "1")
    found = pairs("code", source, programming_language="python")
    assert len(found) == 2
    assert all("flat" in question for question in found)


def test_only_some_documents_are_asked_about() -> None:
    text = f"## Causes\n\n{ANSWER}"
    step = Questions(domains={"s": "medical"})
    for source, language, expected in (
        ("s", "en", 1),
        ("s", None, 1),
        ("s", "de", 0),
        ("t", "en", 0),
    ):
        document = Document("a", text, source, language, metadata={"title": "X"})
        assert len(list(step.make(document))) == expected


def test_no_more_than_asked_for() -> None:
    text = "".join(f"## Is this number {n}?\n\n{ANSWER}\n\n" for n in range(30))
    document = Document("a", text, "s")
    few = [
        one.metadata["question"] for one in Questions(domains={"s": "legal"}, most=5).make(document)
    ]
    assert len(few) == 5
    numbers = [int(str(one).split()[-1][:-1]) for one in few]
    assert numbers == sorted(numbers)
    assert numbers != [0, 1, 2, 3, 4], "drawn from all"
    assert len(list(Questions(domains={"s": "legal"}, most=50).make(document))) == 30


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"domains": {}}, "leaflets: medical"),
        ({"domains": {"s": "sports"}}, "domains are medical, legal"),
        ({"most": 0}, "1 or more"),
        ({"longest": 99}, "100 or more"),
    ],
)
def test_settings_that_cannot_be(change: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Questions(**({"domains": {"s": "legal"}} | change))  # type: ignore[arg-type]


def test_goes_into_recipes() -> None:
    step = Questions(domains={"a": "legal", "b": "code"}, most=3)
    assert parse_config(Questions, format_config(step)) == step


def test_templates_can_be_filled() -> None:
    names = {"topic": "T{0}", "heading": "H}"}
    for domain in DOMAINS:
        for rule in RULES[domain]:
            assert rule.questions
            for question in rule.questions:
                assert question.format(**names)[-1] in "?.}"
        assert any("{heading}" in one for one in OTHERWISE[domain])
        assert all("{row}" in one and "{column}" in one for one in CELLS[domain])
        patterns = [rule.pattern.pattern for rule in RULES[domain]]
        assert len(set(patterns)) == len(patterns)


@settings(deadline=None)
@given(st.text("#|-`:.? AaQ\n*{}~", max_size=300), st.sampled_from(DOMAINS))
def test_any_text_can_be_asked_about(text: str, domain: Domain) -> None:
    document = Document("a", text, "s", metadata={"title": "{x}"})
    for one in Questions(domains={"s": domain}).make(document):
        assert one.text


def test_real_leaflets() -> None:
    lines = gzip.decompress((public_data() / "medquad" / "medquad.jsonl.gz").read_bytes())
    rows = [json.loads(line) for line in lines.decode().splitlines()[:400]]
    kinds = {"symptoms", "treatment", "causes", "outlook"}
    asked = [row for row in rows if row["qtype"] in kinds and len(row["answer"]) > 50]
    assert len(asked) > 30
    right = 0
    for row in asked:
        text = f"## {row['qtype'].title()}\n\n{row['answer']}"
        for question in pairs("medical", text, title=row["focus"]):
            right += question.lower() == row["question"].replace(" ?", "?").lower()
    assert right > 0.2 * len(asked), "one of two or three wordings is theirs"
