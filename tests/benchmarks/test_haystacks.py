"""Haystacks hold what is asked about them, at all depths, and what follows from answers."""

import itertools
import json
from pathlib import Path

import pytest
import torch

from benchmarks import haystacks
from benchmarks.haystacks import QUESTIONS, TASKS, Haystack, Part, Question, haystack
from benchmarks.routing_model import Steps
from benchmarks.routing_retrieval import Answered, Way, _keep, _kept, answer, claims
from everlong.errors import ConfigError
from everlong.model.cache import EVERYWHERE, Batch, Span
from everlong.model.native import library
from everlong.model.native.step import NativeStep
from tests.engine.tiny import config, model, tokenizer

BOOK = " ".join(f"The {n}. mile of the road led past a mill, a pond and a barn." for n in range(90))
TOKENS = 5000


def made(seed: str = "0", tokens: int = TOKENS) -> Haystack:
    return haystack(BOOK, tokens, count, seed)


def count(text: str) -> int:
    return len(text.split())


def of(task: str) -> list[Question]:
    return [question for question in made().questions if question.task == task]


def test_there_are_as_many_questions_of_every_task() -> None:
    assert [q.task for q in made().questions] == [t for t in TASKS for _ in range(QUESTIONS)]
    assert len({q.text for q in made().questions}) == len(TASKS) * QUESTIONS


def test_a_text_is_as_long_as_asked_and_made_anew_from_its_seed() -> None:
    longest = max(map(count, haystacks.sentences(BOOK)))
    for tokens in (TOKENS, 2 * TOKENS):
        assert tokens - longest < count(made(tokens=tokens).text) <= tokens
    assert made() == made()
    assert {q.expected for q in made("0").questions if q.task == "single"}.isdisjoint(
        q.expected for q in made("1").questions if q.task == "single"
    )


def test_a_text_too_short_for_what_is_planted_is_refused() -> None:
    with pytest.raises(ConfigError, match="ask longer ones"):
        made(tokens=1000)
    with pytest.raises(ConfigError, match="no sentences"):
        haystack("", TOKENS, count, "0")


def test_depths_are_where_the_sentences_are() -> None:
    text = made().text
    sentences = {
        "single": "{0.opening} {0.expected[0]}.",
        "keys": "{0.opening} {0.expected[0]}.",
        "variables": "{0.opening} {0.expected[0]}.",
    }
    for task, form in sentences.items():
        for question in of(task):
            before, found, _ = text.partition(form.format(question))
            assert found
            assert question.depths[0] == pytest.approx(count(before) / count(text), abs=1e-4)


@pytest.mark.parametrize("task", TASKS)
def test_sentences_of_a_task_are_spread_over_the_whole_text(task: str) -> None:
    depths = sorted(depth for question in of(task) for depth in question.depths)
    gaps = [b - a for a, b in itertools.pairwise([0.0, *depths, 1.0])]
    # Of the keys some are not asked.
    assert max(gaps) < (0.4 if task == "keys" else 0.2)


def test_other_keys_of_the_same_form_are_there() -> None:
    assert made().text.count("The magic number of the ") > 2 * QUESTIONS


def test_every_value_of_a_key_is_in_a_sentence_of_its_own() -> None:
    for question in of("values"):
        person = question.opening.removeprefix("The 2 lucky numbers of ").removesuffix(" are")
        for value in question.expected:
            assert f"A lucky number of {person} is {value}." in made().text
        assert len(set(question.expected)) == len(question.depths) == 2


def test_a_chain_is_told_from_its_value_on() -> None:
    for question in of("variables"):
        value = question.opening.split()[1]
        links = itertools.pairwise([value, *question.expected])
        places = [made().text.index(f"VAR {a} -> VAR {b}.") for a, b in links]
        assert places == sorted(places)
        assert list(question.depths) == sorted(question.depths)


def test_the_most_frequent_word_is_said_most_often_and_not_always_first() -> None:
    first = 0
    for question in of("frequent"):
        said = question.opening.removeprefix("Most often ")
        words = [part.split(".")[0].strip() for part in made().text.split(said)[1:]]
        (expected,) = question.expected
        assert words.count(expected) > 2 * max(words.count(w) for w in {*words} - {expected})
        first += words[0] == expected
    assert 0 < first < QUESTIONS


def test_facts_are_asked_in_other_words() -> None:
    text = made().text
    for question in of("facts"):
        assert f"{question.opening} {question.expected[0]}" not in text
        assert question.expected[0] in text


def test_a_score_is_the_share_of_what_is_expected() -> None:
    question = Question("values", "?", "", ("12", "Oak"))
    assert [question.score(said) for said in ("", "an oak", "12, 3", "oak: 12")] == [0, 0.5, 0.5, 1]


def test_a_chain_goes_on_from_what_was_said() -> None:
    chain = Question("variables", "Where to?", "VAR 7 -> VAR", ("A", "B"), link=" VAR {} -> VAR")
    assert chain.rounds == 2
    assert chain.part("|", []) == Part("Where to?|VAR 7 -> VAR", ("A",))
    assert chain.part("|", ["X"]) == Part("Where to?|VAR 7 -> VAR X. VAR X -> VAR", ("B",))
    plain = Question("values", "Which?", "They are", ("1", "2"))
    assert plain.rounds == 1
    assert plain.part("|", []) == Part("Which?|They are", ("1", "2"))


def answered(task: str, way: Way, scores: tuple[float, ...], length: int = 8192) -> Answered:
    depths = tuple((0.1, 0.2) for _ in scores)
    said = tuple("" for _ in scores)
    read = 40 if way == "routed" else 100
    return Answered("key", length, "book", way, task, depths, said, scores, read, 100)


def test_tasks_that_dense_attention_fails_do_not_count() -> None:
    found = [answered(task, way, (1.0, 1.0)) for task in TASKS[3:] for way in ("dense", "routed")]
    found += [answered("single", "dense", (1.0, 1.0)), answered("single", "routed", (1.0, 0.5))]
    found += [answered("keys", "dense", (1.0, 0.0)), answered("keys", "routed", (0.6, 0.0))]
    found += [answered("values", "dense", (0.4, 0.0)), answered("values", "routed", (0.0, 0.0))]
    measured, samples = claims(found, [8192])
    assert measured["retrieval_vs_dense_8k"].value == pytest.approx((75 + 60 + 300) / 5)
    detail = measured["retrieval_vs_dense_8k"].detail
    assert "2 questions of each task about 1 haystacks" in detail
    assert "not counted, as dense answers less than half: values 0.0 of 20.0" in detail
    assert measured["worst_task_vs_dense"].value == pytest.approx(60)
    # Of two questions one lost 0.4 of 1, so the standard error is 0.2 of the 0.5 that dense has.
    assert "keys at 8,192 tokens, standard error 40.0" in measured["worst_task_vs_dense"].detail
    assert measured["retrieval_vs_dense_16k"].detail == "not asked for in this run"
    assert samples["8192"]["single"]["share_read_routed"] == 0.4
    assert samples["8192"]["single"]["by_quarter"] == [{"dense": 1.0, "routed": 0.75}, {}, {}, {}]


def test_nothing_is_claimed_where_dense_attention_fails_everything() -> None:
    found = [answered(task, way, (0.0,)) for task in TASKS for way in ("dense", "routed")]
    measured, _ = claims(found, [8192])
    assert measured["retrieval_vs_dense_8k"].value is None
    assert measured["worst_task_vs_dense"].value is None


def test_a_log_outlives_a_line_that_was_cut_off(tmp_path: Path) -> None:
    log = tmp_path / "folder" / "log.jsonl"
    one, two = answered("single", "dense", (1.0,)), answered("keys", "routed", (0.5,))
    assert _kept(log) == []
    _keep(log, [one])
    with log.open("a") as file:
        file.write("\n" + json.dumps({"key": "cut off"})[:-4])
    _keep(log, [two])
    assert _kept(log) == [one, two]


def test_questions_answered_at_once_are_answered_as_alone() -> None:
    """And what they go on from stays as it is, though it ends in the middle of a block."""
    if library.library() is None:
        pytest.skip("no native kernels on this machine")
    steps = Steps.__new__(Steps)  # without a file
    steps.config, steps.reach, steps.tokenizer = config(), EVERYWHERE, tokenizer()
    step = NativeStep(model("bf16"), deterministic=True)
    text = torch.randint(10, 300, (150,), generator=torch.Generator().manual_seed(1)).tolist()
    table = steps.table(len(text))
    step(steps.batch(text, table, 0, "none"))
    before = [block.clone() for block in table.blocks]

    parts = [Part(words, ("never said",)) for words in ("a small", "writes 12 words", "of its own")]
    answers, read, there = answer(steps, step, table, len(text), parts)
    assert all(map(torch.equal, before, table.blocks))
    assert read == there > 0
    assert len(set(answers)) > 1
    for part, said in zip(parts, answers, strict=True):
        assert answer(steps, step, table, len(text), [part])[0] == [said]
        # The first token is what follows the whole text.
        whole = [*text, *tokenizer().encode(part.text, bos=False)]
        logits = step(Batch([Span(whole, steps.table(len(whole)))]))
        assert said.startswith(tokenizer().decode([int(logits.argmax())]))
