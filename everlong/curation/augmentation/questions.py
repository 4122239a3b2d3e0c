"""Questions and answers from the structure of documents of a domain.

A section is the answer to what its heading asks, a definition to what something is, a cell of a
table to what its row has in its column, a command to how something is done. No model writes
anything: answers are words of the document.

Questions about a table come with the table, because a model should read its numbers and not know
them by heart. The others come without the document: what they ask is what a model of the domain
should know.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from everlong.curation.augmentation.code import instructions
from everlong.curation.augmentation.made import drawing, is_made, made, title_of
from everlong.curation.augmentation.structure import (
    Section,
    Table,
    answered,
    definitions,
    plain,
    sections,
    tables,
    tasks,
)
from everlong.curation.augmentation.templates import CELLS, DOMAINS, FORMS, OTHERWISE, RULES, Domain
from everlong.curation.document import Document
from everlong.errors import ConfigError

Pair = tuple[str, str]
"""A question and its answer."""
_CELLS_OF_TABLE = 4
"""Questions about one table."""
_LONGEST_TABLE = 4000
_SHORTEST_ANSWER = 20
"""Of a section; a definition or cell may be shorter."""
_PARAGRAPH = re.compile(r"\n\s*\n")
_SENTENCE_END = re.compile(r"[.!?。](?=\s|$)")
_EMPTY = frozenset(("", "-", "–", "—", "n/a", "na", "nil", "none"))
_NAME = re.compile(r"[A-Z]{2}|[a-z][A-Z]|[0-9_./\\]")
"""What is written so is a name, and keeps its capitals."""


@dataclass(frozen=True)
class Questions:
    """Makes questions with answers of what documents of a domain are built of."""

    kind: Literal["questions"] = "questions"
    domains: Mapping[str, Domain] = field(default_factory=dict)
    """Domain of each source, by its name; of other sources nothing is made."""
    most: int = 20
    """Made of one document; if there are more, these are drawn."""
    longest: int = 1500
    """Letters of an answer; of a longer section its first paragraphs or sentences."""
    seed: int = 0
    """Of what is drawn."""

    def __post_init__(self) -> None:
        if not self.domains:
            raise ConfigError(
                "questions needs domains, such as {leaflets: medical}; there are: "
                + ", ".join(DOMAINS)
            )
        for source, domain in self.domains.items():
            if domain not in DOMAINS:
                raise ConfigError(f"{source} is {domain!r}; domains are {', '.join(DOMAINS)}")
        if self.most < 1:
            raise ConfigError(f"most is {self.most}; give 1 or more")
        if self.longest < 100:
            raise ConfigError(f"longest is {self.longest}; give 100 or more")

    def make(self, document: Document) -> Iterator[Document]:
        """See :class:`everlong.curation.step.MakingStep`."""
        domain = self.domains.get(document.source)
        # The questions are English.
        if domain is None or is_made(document) or document.language not in (None, "en"):
            return
        draw = drawing(document, self.kind, self.seed)
        every = list(_made(document, domain, self.longest, draw))
        chosen = sorted(draw.sample(range(len(every)), min(self.most, len(every))))
        for number in chosen:
            rule, before, pairs = every[number]
            form = draw.choice(FORMS)
            texts = [form.format(question=question, answer=answer) for question, answer in pairs]
            yield made(
                document,
                self.kind,
                self.seed,
                str(number),
                "\n\n".join([before, *texts] if before else texts),
                {"made_rule": rule, "question": pairs[0][0], "answer": pairs[0][1]},
            )


def _made(
    document: Document, domain: Domain, longest: int, draw: random.Random
) -> Iterator[tuple[str, str, list[Pair]]]:
    """All that can be asked of a document.

    Returns:
        The rule, a text that comes before, and questions with answers.
    """
    text, topic = document.text, title_of(document)
    if domain == "code" and document.metadata.get("programming_language") == "python":
        for pair in instructions(text):
            yield "docstring", "", [pair]
        return
    seen: set[str] = set()

    def new(rule: str, question: str, answer: str) -> Iterator[tuple[str, str, list[Pair]]]:
        if question.lower() not in seen:
            seen.add(question.lower())
            yield rule, "", [(question, answer)]

    for asked in answered(text):
        yield from new("answered", asked.question, asked.answer[:longest])
    for section in sections(text):
        answer = _beginning(section.text, longest)
        question = _asked(section, domain, plain(topic) if topic else None, draw)
        if question is not None and len(answer) >= _SHORTEST_ANSWER:
            yield from new("section", question, answer)
    for one in definitions(text):
        yield from new(
            "definition",
            _what_is(one.term, one.article, one.plural, text, one.quoted),
            one.sentence,
        )
    for task in tasks(text):
        with_ = f" with {plain(topic)}" if domain == "code" and topic else ""
        yield from new("task", f"How do I {_small(task.wish)}{with_}?", task.code)
    for table in tables(text):
        if len(table.text) <= _LONGEST_TABLE and (pairs := _cells(table, domain, draw)):
            yield "table", table.text, pairs


def _asked(section: Section, domain: Domain, topic: str | None, draw: random.Random) -> str | None:
    """What a section answers; None: its heading does not say."""
    heading = section.heading
    if heading.endswith("?"):
        return heading
    if (how := re.match(r"how to +(.+)", heading, re.IGNORECASE)) is not None:
        return f"How do I {how[1].rstrip('.:')}?"
    about = topic or section.above
    names = {"heading": _small(heading), "topic": about}
    for rule in RULES[domain]:
        if rule.pattern.search(heading):
            fitting = [one for one in rule.questions if about or "{topic}" not in one]
            return draw.choice(fitting).format(**names) if fitting else None
    if section.level == 1 and (topic is None or heading == topic):
        # The document's own title: what comes first says what it is.
        return f"What is {heading}?" if domain in ("medical", "code") else None
    fitting = [one for one in OTHERWISE[domain] if about or "{topic}" not in one]
    return draw.choice(fitting).format(**names) if fitting else None


def _what_is(term: str, article: str, plural: bool, text: str, quoted: bool) -> str:
    if quoted:
        return f'What does "{term}" mean?'
    small = _small(term)
    # A capital that is there inside sentences, too, is a name's.
    named = small != term and re.search(rf"\b{re.escape(small)}\b", text) is None
    term = term if named and not article else small
    return f"What {'are' if plural else 'is'} {f'{article} ' if article else ''}{term}?"


def _small(words: str) -> str:
    """As it stands inside a sentence."""
    first = words.split(" ", 1)[0]
    return words if len(first) < 2 or _NAME.search(first) else words[0].lower() + words[1:]


def _beginning(text: str, longest: int) -> str:
    """As many first paragraphs, or sentences of the first, as are not too long."""
    kept = ""
    for part in _PARAGRAPH.split(text):
        longer = f"{kept}\n\n{part}" if kept else part
        if len(longer) > longest:
            break
        kept = longer
    if kept:
        return kept
    ends = [found.end() for found in _SENTENCE_END.finditer(text, 0, longest)]
    return text[: ends[-1]] if ends else ""


def _cells(table: Table, domain: Domain, draw: random.Random) -> list[Pair]:
    """Questions about some cells."""
    rows = [row[0] for row in table.rows]
    columns = table.head
    if not all(columns[1:]) or any(row.startswith("(") and row.endswith(")") for row in rows):
        return []  # a head of several rows that was not understood; some names would be wrong
    places = [
        (row, column)
        for row in range(len(table.rows))
        for column in range(1, len(columns))
        if _tells(table.rows[row][column])
        and _tells(rows[row])
        and _tells(columns[column])
        and rows.count(rows[row]) == columns.count(columns[column]) == 1
    ]
    chosen: Sequence[tuple[int, int]] = draw.sample(places, min(_CELLS_OF_TABLE, len(places)))
    return [
        (
            draw.choice(CELLS[domain]).format(row=rows[row], column=columns[column]),
            table.rows[row][column],
        )
        for row, column in sorted(chosen)
    ]


def _tells(cell: str) -> bool:
    return cell.lower() not in _EMPTY and len(cell) <= 200
