"""Sessions over a model: continued, forked, resumed to the token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlong.engine.conversations import continued, spliced
from everlong.engine.request import Constraint, SamplingParams
from everlong.errors import RequestError
from everlong.memory.episodes import NewEpisode
from everlong.memory.memory import Memory
from everlong.model.cache import BLOCK
from tests.engine.tiny import tiny_llm, tokenizer

# Letters: a random model would write halves of characters, which no text can say again.
LETTERS = Constraint(regex="[a-z ]{100}")
GREEDY = SamplingParams(temperature=0, max_tokens=30, ignore_eos=True, constraint=LETTERS)
SIZE = 64 << 20


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


QUESTIONS = [
    "a small model writes words",
    "words of its own, 0123456789 and more of them, until a block is full",
    "äöü 今日は 🦊",
    "and then?",
]


def test_a_session_goes_on_after_a_restart_as_if_nothing_had_happened(tmp_path: Path) -> None:
    with (
        Memory(tmp_path / "one", SIZE) as memory,
        tiny_llm(deterministic=True, memory=memory) as llm,
    ):
        expected = [llm.chat([user(q)], GREEDY, session="s").token_ids for q in QUESTIONS]
    answers = []
    for question in QUESTIONS:
        with (
            Memory(tmp_path / "two", SIZE) as memory,
            tiny_llm(deterministic=True, memory=memory) as llm,
        ):
            done = llm.chat([user(question)], GREEDY, session="s")
            answers.append(done.token_ids)
            owner = memory.namespace().id
            session = memory.sessions.find(owner, "s")
            assert session is not None
            transcript = memory.sessions.transcript(session, tokenizer().fingerprint())
            assert len(transcript) == done.usage.prompt_tokens + 30
    assert answers == expected
    # All blocks that were full when the answer before was whole.
    before = len(transcript) - 30 - len(tokenizer().encode_chat([user(QUESTIONS[-1])]))
    assert done.usage.cached_tokens >= before // BLOCK * BLOCK > 0


def test_the_whole_conversation_or_only_what_is_new(tmp_path: Path) -> None:
    with Memory(tmp_path, SIZE) as memory, tiny_llm(deterministic=True, memory=memory) as llm:
        first = llm.chat([user("a small model")], GREEDY, session="s")
        told = [user("a small model"), assistant(first.text), user("writes words")]
        second = llm.chat(told, GREEDY, session="s")
        assert second.session == "s"
        third = llm.chat([user("of its own")], GREEDY, session="s")
        assert third.session == "s"
        session = memory.sessions.find(memory.namespace().id, "s")
        assert session is not None
        bodies = [message.body for message in memory.sessions.messages(session)]
        assert bodies == [
            *told,
            assistant(second.text),
            user("of its own"),
            assistant(third.text),
        ]


def test_a_conversation_that_parts_from_what_was_said_is_forked(tmp_path: Path) -> None:
    with Memory(tmp_path, SIZE) as memory, tiny_llm(memory=memory) as llm:
        first = llm.chat([user("a small model")], GREEDY, session="s")
        llm.chat([user("writes words")], GREEDY, session="s")
        other = llm.chat(
            [user("a small model"), assistant(first.text), user("writes nothing")],
            GREEDY,
            session="s",
        )
        assert other.session not in ("s", None)
        owner = memory.namespace().id
        old, new = (memory.sessions.find(owner, str(n)) for n in ("s", other.session))
        assert old is not None
        assert new is not None
        assert new.origin == "s"
        texts = [m.body["content"] for m in memory.sessions.messages(old)]
        assert texts[2] == "writes words"
        assert [m.body["content"] for m in memory.sessions.messages(new)] == [
            *texts[:2],
            "writes nothing",
            other.text,
        ]


def test_what_is_paused_is_not_remembered_nor_is_what_parts_from_it(tmp_path: Path) -> None:
    with Memory(tmp_path, SIZE) as memory, tiny_llm(memory=memory) as llm:
        owner = memory.namespace().id
        llm.chat([user("the zebra is called momo")], GREEDY, session="told")
        memory.sessions.pause(memory.sessions.open(owner, "s"), True)
        llm.chat([user("what is the zebra called")], GREEDY, session="s")
        told = [user("what is the zebra called"), assistant("another"), user("the zebra")]
        forked = llm.chat(told, GREEDY, session="s").session
        assert forked is not None
        assert {e.session for e in memory.episodes.all(owner)} == {"told"}
        for name in ("s", forked):
            session = memory.sessions.find(owner, name)
            assert session is not None
            assert not any(m.notes for m in memory.sessions.messages(session))
        llm.chat([user("what is the zebra called")], GREEDY, session="open")
        session = memory.sessions.find(owner, "open")
        assert session is not None
        assert "momo" in memory.sessions.messages(session)[0].notes


def test_a_question_that_was_not_answered_is_not_said_twice(tmp_path: Path) -> None:
    with Memory(tmp_path, SIZE) as memory, tiny_llm(memory=memory) as llm:
        assert llm.conversations is not None
        llm.conversations.begin([user("a small model")], namespace="local", session="s")
        # And then the process is killed.
        done = llm.chat([user("a small model")], GREEDY, session="s")
        session = memory.sessions.find(memory.namespace().id, "s")
        assert session is not None
        assert [m.body for m in memory.sessions.messages(session)] == [
            user("a small model"),
            assistant(done.text),
        ]


def test_an_answer_that_is_broken_off_is_kept_as_far_as_it_came(tmp_path: Path) -> None:
    with Memory(tmp_path, SIZE) as memory, tiny_llm(memory=memory) as llm:
        chunks = llm.stream([user("a small model")], GREEDY, session="s")
        said = next(chunks).text + next(chunks).text
        chunks.close()  # type: ignore[attr-defined]
        session = memory.sessions.find(memory.namespace().id, "s")
        assert session is not None
        assert [m.body for m in memory.sessions.messages(session)][1:] == [assistant(said)]


def test_what_is_refused_is_not_kept(tmp_path: Path) -> None:
    with Memory(tmp_path, SIZE) as memory, tiny_llm(memory=memory) as llm:
        with pytest.raises(RequestError, match="the window has 1024 tokens"):
            llm.chat([user("word " * 2000)], GREEDY, session="s")
        with pytest.raises(RequestError, match="1 to 128 printable characters"):
            llm.chat([user("word")], GREEDY, session="")
        assert memory.sessions.find(memory.namespace().id, "s") is None
    with tiny_llm() as llm, pytest.raises(RequestError, match="there is no memory"):
        llm.chat([user("word")], session="s")


A, B, C = user("a"), assistant("b"), user("c")
SYSTEM = {"role": "system", "content": "be kind"}


@pytest.mark.parametrize(
    ("known", "told", "expected"),
    [
        ([], [A], (0, [A])),
        ([A, B], [C], (2, [C])),
        ([A, B], [A, B, C], (2, [C])),
        ([A, B], [A, assistant(" b\n"), C], (2, [C])),
        ([A, B], [A], (2, [A])),  # said again
        ([A, B, C], [C], (3, [])),  # asked again
        ([A, B, C], [A, B, C], (3, [])),
        ([A, B, C, B], [A, B, C], (3, [])),  # the answer is wanted anew
        ([A, B], [A, assistant("x"), C], (1, [assistant("x"), C])),
        ([SYSTEM, A, B], [SYSTEM, C], (3, [C])),
        ([SYSTEM, A, B], [C], (3, [C])),
        ([A, B], [SYSTEM, C], (0, [SYSTEM, C])),
    ],
)
def test_what_is_new(known: Any, told: Any, expected: Any) -> None:
    assert continued(known, told) == expected


@given(st.text("ab 0ü今<|im_end", max_size=40), st.text("ab 0ü今|>", max_size=20), st.data())
def test_spliced_tokens_spell_the_prompt(common: str, rest: str, data: Any) -> None:
    spell = tokenizer()
    # Any way to cut a text is one that a model might have written.
    cut = data.draw(st.integers(0, len(common)))
    transcript = spell.encode(common[:cut], special=False) + spell.encode(
        common[cut:], special=False
    )
    prompt = spell.encode(common + rest, special=False)
    kept, after = spliced(spell, transcript, prompt)
    assert kept <= len(transcript)

    def spelled(ids: Any) -> bytes:
        return b"".join(map(spell.token_bytes, ids))

    assert spelled([*transcript[:kept], *after]) == spelled(prompt)
    if not rest:
        assert kept == len(transcript)
        assert not after


def test_notes_keep_to_their_budget_as_they_are_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("everlong.memory.recall._THRESHOLD", 0.0)
    names = ("zebra", "heron", "otter", "lynx", "mole", "stork", "bison", "crane", "newt", "viper")
    with Memory(tmp_path, SIZE) as memory, tiny_llm(memory=memory) as llm:
        assert llm.conversations is not None
        told = [NewEpisode(f"{n} ferry", "told", speaker=f"somebody called {n}") for n in names]
        memory.episodes.add(memory.namespace().id, told)
        exchange = llm.conversations.begin([user("ferry")], namespace="local")
        (message,) = memory.sessions.messages(exchange.session)
        lines = message.notes.splitlines()[1:]
        counted = [len(tokenizer().encode(line, special=False)) for line in lines]
        budget = 512 * max(score for _, score in message.recalled)
        assert 2 <= len(lines) == len(message.recalled) < len(names)
        assert budget - 2 * max(counted) < sum(counted) <= budget


def test_a_short_question_is_not_looked_for_with_the_system_prompt(tmp_path: Path) -> None:
    with Memory(tmp_path, SIZE) as memory, tiny_llm(memory=memory) as llm:
        assert llm.conversations is not None
        owner = memory.namespace().id
        memory.episodes.add(owner, [NewEpisode("pirates speak of parrots and treasure", "told")])
        system = {"role": "system", "content": "speak as pirates speak of parrots and treasure"}
        exchange = llm.conversations.begin([system, user("hello")], namespace="local")
        assert not any(m.notes for m in memory.sessions.messages(exchange.session))
