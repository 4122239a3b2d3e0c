"""What routed attention finds in long texts, beside what dense attention finds.

Questions about what is planted in books (``haystacks.py``) are answered greedily, once with all of
it dense and once with all of it routed as in the engine: the tokens of a prompt choose together,
those of an answer one by one. A text is read once for all its questions; each goes on behind it in
blocks of its own. Answers are kept in a file, so that a run that was stopped goes on.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from math import hypot, sqrt
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Literal

from benchmarks.haystacks import INSTRUCTION, TASKS, Part, Question, haystack, read_book
from benchmarks.report import Measured
from benchmarks.routing_model import CHUNK, Steps
from everlong.errors import ConfigError
from everlong.files import cache_dir, sha256_file
from everlong.model.cache import BLOCK, Batch, BlockTable, Span, pieces_seen
from everlong.model.native.build import library_path
from everlong.model.native.step import NativeStep
from everlong.tokenizer import Tokenizer

LENGTHS = (8192, 16384, 32768)
"""Tokens of a text, a question and its answer together."""
CLAIMS = (
    *(f"retrieval_vs_dense_{length // 1024}k" for length in LENGTHS),
    "worst_task_vs_dense",
)
BOOKS = (
    "swift_gulliver_s_travels",
    "verne_twenty_thousand_leagues_under_the_sea",
    "franklin_the_autobiography_of_benjamin_franklin",
    "wells_war_of_the_worlds",
    "melville_moby_dick",
    "dickens_oliver_twist",
    "shelley_frankenstein",
    "defoe_robinson_crusoe",
)
"""One for each haystack; none of them was read when the budget was chosen."""

Way = Literal["dense", "routed"]
_WAYS: tuple[Way, ...] = ("dense", "routed")
_COUNTED = 0.5
"""Tasks count where dense attention answers at least so much of them."""
_QUESTION, _ANSWER = 96, 32
"""Room for their tokens."""
_SPARE = 8
"""Tokens of an answer besides what is expected of it."""


@dataclass(frozen=True)
class Answered:
    """The questions of one task about one text, answered one way: a line of the log."""

    key: str
    """Names the text, the questions, and all of the model that the answers depend on."""
    length: int
    book: str
    way: Way
    task: str
    depths: tuple[tuple[float, ...], ...]
    """Of each question, where its sentences are."""
    answers: tuple[str, ...]
    scores: tuple[float, ...]
    read: int
    """Pieces of keys and values that the tokens of the answers read, over layers and kv heads."""
    there: int
    """Pieces that they could have read."""


@dataclass(frozen=True)
class _Asked:
    """A text in tokens, and what is asked behind it."""

    book: str
    length: int
    text: list[int]
    questions: tuple[Question, ...]
    turn: str
    """What stands between a question and its answer."""

    def digest(self, *parts: str) -> str:
        """Names all this, and some more."""
        whole = repr((self.text, self.questions, self.turn, _SPARE, parts))
        return hashlib.blake2b(whole.encode(), digest_size=12).hexdigest()


def measure(
    model: Path,
    books: Sequence[Path],
    lengths: Sequence[int],
    seed: int,
    log: Path | None,
    say: Callable[[str], None],
) -> tuple[dict[str, Measured], dict[str, Any]]:
    """The claims, and each task's figures.

    Args:
        model: a GGUF file with a chat template; its own weights are used.
        books: one for each haystack of a length.
        lengths: tokens, a multiple of 1,024 each.
        seed: of what is planted and where.
        log: answers are kept there, and those that it has are not computed again; None: in the
            cache.
        say: told how far it is.
    """
    steps = Steps(model, "auto")
    log = log or cache_dir() / "benchmarks" / "routing-retrieval.jsonl"
    known = {(one.key, one.task): one for one in _kept(log)}
    name = sha256_file(model)
    router = (repr(steps.budget), steps.routing.projection.digest(), library_path().stem)
    found: list[Answered] = []
    todo: list[tuple[_Asked, Way, str, list[str]]] = []
    for length in lengths:
        for book in books:
            asked = _asked(steps.tokenizer, book, length, seed)
            for way in _WAYS:
                key = asked.digest(name, *(router if way == "routed" else ()))
                found += [known[key, task] for task in TASKS if (key, task) in known]
                missing = [task for task in TASKS if (key, task) not in known]
                if missing:
                    todo.append((asked, way, key, missing))
    if found:
        say(f"{len(found)} of {len(found) + sum(len(one[3]) for one in todo)} are in {log}")
    work = [_work(asked.length, way) for asked, way, _, _ in todo]
    began = time.perf_counter()
    for number, (asked, way, key, tasks) in enumerate(todo):
        answered = _answer(steps, asked, way, key, tasks)
        _keep(log, answered)
        found += answered
        told = ", ".join(f"{one.task} {100 * mean(one.scores):.0f}" for one in answered)
        done = sum(work[: number + 1])
        left = (time.perf_counter() - began) * (sum(work) - done) / done
        say(f"{asked.length:,} {asked.book} {way}: {told} %; {left / 60:.0f} minutes left")
    return claims(found, lengths)


def claims(
    found: Iterable[Answered], lengths: Sequence[int]
) -> tuple[dict[str, Measured], dict[str, Any]]:
    """What follows from answers: the claims, and figures for each length and task."""
    by_task: dict[tuple[int, str, Way], list[Answered]] = defaultdict(list)
    for one in found:
        by_task[one.length, one.task, one.way].append(one)
    measured = {name: Measured(None, "not asked for in this run") for name in CLAIMS}
    samples: dict[str, Any] = {}
    ratios: dict[tuple[int, str], float] = {}
    errors: dict[tuple[int, str], float] = {}
    for length in lengths:
        figures = {
            task: _figures(by_task[length, task, "dense"], by_task[length, task, "routed"])
            for task in TASKS
        }
        samples[str(length)] = figures
        counted = [task for task in TASKS if figures[task]["dense"] >= _COUNTED]
        for task in counted:
            dense = figures[task]["dense"]
            ratios[length, task] = 100 * figures[task]["routed"] / dense
            errors[length, task] = 100 * figures[task]["standard_error"] / dense
        name = f"retrieval_vs_dense_{length // 1024}k"
        if name in measured:
            value = mean(ratios[length, task] for task in counted) if counted else None
            error = hypot(*(errors[length, task] for task in counted)) / max(1, len(counted))
            detail = f"standard error {error:.1f}; {_detail(figures, counted)}"
            measured[name] = Measured(value, detail)
    if ratios:
        length, task = min(ratios, key=lambda one: ratios[one])
        told = (
            f"{task} at {length:,} tokens, standard error {errors[length, task]:.1f}; lowest of "
            f"{len(ratios)} tasks and lengths that count"
        )
        measured["worst_task_vs_dense"] = Measured(ratios[length, task], told)
    return measured, samples


def _figures(dense: Sequence[Answered], routed: Sequence[Answered]) -> dict[str, Any]:
    """Of one task at one length."""
    dense, routed = (sorted(one, key=lambda a: a.book) for one in (dense, routed))
    before, after = ([score for a in one for score in a.scores] for one in (dense, routed))
    changes = [b - a for a, b in zip(before, after, strict=True)]
    spread = stdev(changes) if len(changes) > 1 else 0.0
    # By the quarter of the text in which the sentences of a question are, in the mean.
    quarters: list[dict[str, list[float]]] = [defaultdict(list) for _ in range(4)]
    for one in (*dense, *routed):
        for depths, score in zip(one.depths, one.scores, strict=True):
            quarters[min(3, int(4 * mean(depths)))][one.way].append(score)
    return {
        "dense": mean(before),
        "routed": mean(after),
        "standard_error": spread / sqrt(len(changes)),
        "questions": len(changes),
        "haystacks": len(dense),
        "share_read_dense": _share_read(dense),
        "share_read_routed": _share_read(routed),
        "by_quarter": [{way: round(mean(of), 4) for way, of in q.items()} for q in quarters],
    }


def _share_read(answered: Sequence[Answered]) -> float | None:
    """Of keys and values; None where no token of an answer read any."""
    there = sum(one.there for one in answered)
    return sum(one.read for one in answered) / there if there else None


def _detail(figures: dict[str, dict[str, Any]], counted: Sequence[str]) -> str:
    def told(tasks: Iterable[str]) -> str:
        return ", ".join(
            f"{task} {100 * figures[task]['routed']:.1f} of {100 * figures[task]['dense']:.1f}"
            for task in tasks
        )

    some = figures[TASKS[0]]
    lines = [
        f"{some['questions']} questions of each task about {some['haystacks']} haystacks",
        f"% routed of % dense: {told(counted) or 'none'}",
    ]
    if others := [task for task in figures if task not in counted]:
        lines.append(f"not counted, as dense answers less than half: {told(others)}")
    if shares := [of["share_read_routed"] for of in figures.values() if of["share_read_routed"]]:
        lines.append(f"{100 * mean(shares):.1f} % of keys and values read by tokens of answers")
    return "; ".join(lines)


def opening_of(tokenizer: Tokenizer) -> tuple[str, str]:
    """What stands before a text, and between a question and its answer."""
    if tokenizer.chat_template is None:
        raise ConfigError("the model has no chat template; name one that follows instructions")
    shown = tokenizer.chat_template.render([{"role": "user", "content": "\0"}])
    before, turn = shown.split("\0")
    return f"{before}{INSTRUCTION}\n\n", turn


def _asked(tokenizer: Tokenizer, book: Path, length: int, seed: int) -> _Asked:
    """A haystack of a book and its questions, that have so many tokens with their answers."""

    def encode(text: str) -> list[int]:
        return tokenizer.encode(text, bos=False)

    before, turn = opening_of(tokenizer)
    hay = haystack(
        read_book(book),
        length - len(encode(f"{before}\n\n")) - _QUESTION - _ANSWER,
        lambda sentence: len(encode(f" {sentence}")),
        f"{seed} {length} {book.name}",
    )
    text = encode(f"{before}{hay.text}\n\n")
    assert len(text) + _QUESTION + _ANSWER <= length, f"a text of {len(text)} tokens"
    return _Asked(book.name.removesuffix(".txt.gz"), length, text, hay.questions, turn)


def _answer(
    steps: Steps, asked: _Asked, way: Way, key: str, tasks: Sequence[str]
) -> list[Answered]:
    """Read a text and answer its questions of some tasks."""
    step = steps.dense if way == "dense" else steps.routed
    table, text = steps.table(len(asked.text)), asked.text
    for at in range(0, len(text), CHUNK):
        step(steps.batch(text[at : at + CHUNK], table, at, "none"))
    found = []
    for task in tasks:
        questions = [q for q in asked.questions if q.task == task]
        said: list[list[str]] = [[] for _ in questions]
        read = there = 0
        for _ in range(questions[0].rounds):
            parts = [q.part(asked.turn, before) for q, before in zip(questions, said, strict=True)]
            answers, read_now, there_now = answer(steps, step, table, len(text), parts)
            read, there = read + read_now, there + there_now
            for question, before, one in zip(questions, said, answers, strict=True):
                before.append(_first_word(one) if question.link else one)
        whole = [" ".join(parts) for parts in said]
        scores = tuple(q.score(one) for q, one in zip(questions, whole, strict=True))
        depths = tuple(q.depths for q in questions)
        found.append(
            Answered(
                key, asked.length, asked.book, way, task, depths, tuple(whole), scores, read, there
            )
        )
    return found


def _first_word(answer: str) -> str:
    found = re.search(r"\w+", answer)
    return found[0] if found else ""


def answer(
    steps: Steps, step: NativeStep, table: BlockTable, start: int, parts: Sequence[Part]
) -> tuple[list[str], int, int]:
    """Answer what is asked behind the same tokens, all at once, greedily.

    Args:
        steps: of the model.
        step: dense or routed.
        table: holds the tokens before; it stays as it is.
        start: how many they are.
        parts: what is asked.

    Returns:
        The answers, up to where all that is expected was said or a line ends; the pieces of keys
        and values that their tokens read, and could have read. The first token of an answer comes
        with its question and is not among them.
    """
    tokenizer = steps.tokenizer
    asked = [tokenizer.encode(part.text, bos=False) for part in parts]
    most = [
        len(tokenizer.encode(" " + ", ".join(part.expected), bos=False)) + _SPARE for part in parts
    ]
    assert max(map(len, asked)) <= _QUESTION, f"a question of {max(map(len, asked))} tokens"
    assert max(most) <= _ANSWER, f"an answer of {max(most)} tokens"
    tables = [_branch(steps, table, start, len(tokens) + _ANSWER) for tokens in asked]
    spans = [Span(tokens, own, start) for tokens, own in zip(asked, tables, strict=True)]
    logits = step(Batch(spans, steps.reach))
    said: list[list[int]] = [[] for _ in parts]
    answers = ["" for _ in parts]
    going = list(range(len(parts)))
    read = there = 0
    while True:
        for i, token in zip(going, logits.argmax(1).tolist(), strict=True):
            said[i].append(token)
            answers[i] = tokenizer.decode(said[i])
        going = [
            i
            for i in going
            if len(said[i]) < most[i]
            and "\n" not in answers[i]
            and said[i][-1] not in tokenizer.eos_token_ids
            and not all(one in answers[i] for one in parts[i].expected)
        ]
        if not going:
            return [one.split("\n")[0] for one in answers], read, there
        places = [start + len(asked[i]) + len(said[i]) - 1 for i in going]
        spans = [Span(said[i][-1:], tables[i], at) for i, at in zip(going, places, strict=True)]
        batch = Batch(spans, steps.reach)
        logits = step(batch)
        seen = pieces_seen(steps.config, places)
        there += seen
        read += seen - int(batch.skipped.sum())


def _branch(steps: Steps, table: BlockTable, start: int, room: int) -> BlockTable:
    """Blocks for tokens behind the first ``start`` of a table: whole ones are shared."""
    made = BlockTable()
    made.outline = deepcopy(table.outline)  # each question remembers for itself
    whole, part = divmod(start, BLOCK)
    for block, codes in zip(table.blocks[:whole], table.codes[:whole], strict=True):
        made.append(block, codes)
    own = steps.table(part + room)
    if part:
        own.blocks[0].copy_(table.blocks[whole])
        own.codes[0].copy_(table.codes[whole])
    for block, codes in zip(own.blocks, own.codes, strict=True):
        made.append(block, codes)
    return made


def _work(length: int, way: Way) -> float:
    """Time that a text takes, in proportion."""
    # So many tokens take as long for what they attend to as for all else.
    return length * (1 + length / (10_000 if way == "dense" else 46_000))


def _kept(log: Path) -> list[Answered]:
    """The answers that a log has; a line that was cut off by a crash is none."""
    found = []
    for line in log.read_text(encoding="utf-8").splitlines() if log.exists() else ():
        try:
            one = json.loads(line)
        except ValueError:
            continue
        depths = tuple(map(tuple, one.pop("depths")))
        answers, scores = tuple(one.pop("answers")), tuple(one.pop("scores"))
        found.append(Answered(depths=depths, answers=answers, scores=scores, **one))
    return found


def _keep(log: Path, answered: Sequence[Answered]) -> None:
    """Append to a log; on lines of their own, whatever stands before them."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:
        for one in answered:
            file.write("\n" + json.dumps(asdict(one)))
