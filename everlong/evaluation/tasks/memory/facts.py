"""Facts for the tasks of the memory itself: five things about each of twelve people.

They need no data. Every value is made up, so that nothing but the memory can know it, and stands in
one fact only, so that it can be looked for in a prompt, in an answer and in the bytes of a folder.
They are told one at a time in twenty conversations, in which the model answers as it likes.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from everlong.evaluation.remembering import Remembering, Reply
from everlong.evaluation.task import Example, Run
from everlong.evaluation.tasks.memory.needles import made_up
from everlong.memory.namespaces import LOCAL

_PEOPLE = (
    "Agnes", "Bruno", "Clara", "Dimitri", "Esther", "Fatima",
    "Gustav", "Hannah", "Ivan", "Julia", "Kofi", "Leonie",
)  # fmt: skip
_NUMBER, _WORD = "number", "word"
_KINDS = (
    (
        "locker",
        _NUMBER,
        "{name} has rented locker {value} at the swimming pool.",
        "Which locker does {name} have at the pool?",
    ),
    (
        "telephone",
        _NUMBER,
        "The new telephone number of {name} is {value}.",
        "On which number can I call {name}?",
    ),
    (
        "dog",
        _WORD,
        "{name} has a new dog, and it is called {value}.",
        "What is the name of the dog that {name} has?",
    ),
    (
        "home",
        _WORD,
        "{name} moved to a village called {value} last spring.",
        "Where does {name} live now?",
    ),
    (
        "work",
        _WORD,
        "{name} has found a job at a company called {value}.",
        "Which company does {name} work for?",
    ),
)
"""What is told, and how it is asked for: mostly in other words."""
_SESSIONS = 20
_REPLY_TOKENS = 64
"""Most replies end before: one cut off in a number would be remembered as it is."""
_ANSWER_TOKENS = 32


@dataclass(frozen=True)
class Fact(Example):
    """Something that is told, and asked for."""

    session: str
    """In which it is told."""
    text: str
    question: str
    value: str
    """A number of seven digits, or a word of eight letters."""

    def is_in(self, text: str) -> bool:
        """Whether a text has the value, in any capitals."""
        return self.value.lower() in text.lower()


def facts(seed: int, teller: str = "") -> list[Fact]:
    """All facts, in the order in which they are told.

    Args:
        seed: of values and order.
        teller: others are told the same with other values.
    """
    draw = random.Random(f"facts {seed} {teller}")
    pairs = [(name, *kind) for name in _PEOPLE for kind in _KINDS]
    draw.shuffle(pairs)
    numbers = iter(draw.sample(range(1_000_000, 10_000_000), len(pairs)))
    words = iter(made_up(draw, len(pairs)))
    found = []
    for n, (name, kind, sort, told, asked) in enumerate(pairs):
        value = str(next(numbers)) if sort == _NUMBER else next(words).capitalize()
        found.append(
            Fact(
                f"{seed}:{name}:{kind}",
                kind,
                f"talk-{n * _SESSIONS // len(pairs)}",
                told.format(name=name, value=value),
                asked.format(name=name),
                value,
            )
        )
    return found


def tell(
    run: Run,
    folder: Path,
    told: Sequence[Fact],
    namespace: str = LOCAL,
    embedder: str | None = None,
) -> None:
    """Tell facts to a memory, in a process that ends then."""
    with Remembering(run, folder, embedder) as listening:
        for n, fact in enumerate(told):
            listening.tell(
                fact.text, session=fact.session, namespace=namespace, max_tokens=_REPLY_TOKENS
            )
            run.preparing("telling facts", n + 1, len(told))


def ask(remembering: Remembering, fact: Fact, namespace: str = LOCAL) -> Reply:
    """Ask for a fact."""
    return remembering.ask(fact.question, namespace=namespace, max_tokens=_ANSWER_TOKENS)
