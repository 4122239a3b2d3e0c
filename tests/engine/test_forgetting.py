"""What is forgotten is in no file and in no answer; what is not, is as it was."""

from __future__ import annotations

import hashlib
import queue
import struct
import threading
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pytest

from everlong.engine.request import Chunk, Constraint, SamplingParams
from everlong.errors import EverlongError, RequestError, StoreError
from everlong.memory.block_id import BlockId
from everlong.memory.disk import Disk
from everlong.memory.forget import Forgetting, Selection
from everlong.memory.memory import Memory
from everlong.memory.record import decode
from everlong.memory.segment import Segment
from tests.engine.tiny import tiny_llm, tokenizer

SIZE = 64 << 20
LETTERS = Constraint(regex="[a-z ]{100}")
GREEDY = SamplingParams(temperature=0, max_tokens=40, ignore_eos=True, constraint=LETTERS)
FILLER = "a small model writes words of its own, and " * 6
SECRET = "the zebra hides 4711 under the quokka"


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    with Memory(tmp_path / "memory", SIZE) as opened:
        yield opened


def told(memory: Memory) -> None:
    """Three sessions: one that begins harmlessly and tells the secret then, one that shares that
    beginning, one that has nothing to do with it; and a request of no session."""
    with tiny_llm(deterministic=True, memory=memory) as llm:
        for text in (FILLER, FILLER + SECRET, FILLER):
            llm.chat([user(text)], GREEDY, session="secret")
        llm.chat([user(FILLER)], GREEDY, session="shared")
        llm.chat([user(FILLER + "again")], GREEDY, session="shared")
        llm.chat([user("else " * 80)], GREEDY, session="other")
        llm.chat([user(FILLER + SECRET)], GREEDY)
    memory.blocks.flush()


def bytes_of_all_files(memory: Memory) -> bytes:
    return b"".join(p.read_bytes() for p in memory.folder.rglob("*") if p.is_file())


def texts_of_all_blocks(memory: Memory) -> list[str]:
    """What any record that can be found in a segment says, named by the ledger or not."""
    found = []
    for path in (memory.folder / "blocks").glob("*.segment"):
        segment = Segment(path, Disk())
        content = path.read_bytes()
        at = content.find(b"EVLBLOCK")
        while at >= 0:
            head = decode(memoryview(content)[at:]).head
            found.append(tokenizer().decode(head.token_ids))
            at = content.find(b"EVLBLOCK", at + 1)
        segment.close()
    return found


def the_secret(memory: Memory) -> list[bytes]:
    return [e.id for e in memory.episodes.matching(memory.namespace().id, query="zebra quokka")]


def test_no_byte_of_a_forgotten_text_is_left(memory: Memory) -> None:
    told(memory)
    assert any("quokka" in text for text in texts_of_all_blocks(memory))
    receipt = memory.forget(memory.namespace(), Selection(episodes=tuple(the_secret(memory))))
    assert (receipt.episodes, receipt.messages, receipt.sessions) == (1, 1, 0)
    assert receipt.blocks > 0
    assert receipt.overwritten_bytes > 0
    salted = hashlib.sha256(bytes.fromhex(receipt.salt) + (FILLER + SECRET).encode()).hexdigest()
    assert receipt.hashes == (salted,)
    held = bytes_of_all_files(memory)
    for word in (b"zebra", b"4711", b"quokka", b"quokk"):
        assert word not in held
    inner = tokenizer().encode(SECRET)[2:-2]
    assert struct.pack(f"<{len(inner)}i", *inner) not in held
    left = texts_of_all_blocks(memory)
    assert left
    assert not any("quokka" in text or "zebra" in text for text in left)


def test_what_others_have_is_still_found_and_computed_from_the_same_values(memory: Memory) -> None:
    told(memory)
    owner = memory.namespace().id
    shared = memory.sessions.find(owner, "shared")
    assert shared is not None
    notes = [m.notes for m in memory.sessions.messages(shared)]
    assert any("quokka" in note for note in notes), "it was recalled there"
    receipt = memory.forget(memory.namespace(), Selection(episodes=tuple(the_secret(memory))))
    assert receipt.notes == sum("quokka" in note for note in notes)
    with tiny_llm(deterministic=True, memory=memory) as llm:
        for session in ("shared", "other"):
            found = memory.sessions.find(owner, session)
            assert found is not None
            known = memory.sessions.transcript(found, tokenizer().fingerprint())
            done = llm.chat([user("go on")], GREEDY, session=session)
            # The last token of a transcript is computed with what follows it.
            assert done.usage.cached_tokens >= (len(known) - 1) // 64 * 64
        assert done.usage.cached_tokens > 64


def test_answers_are_those_of_a_memory_that_never_had_it(memory: Memory, tmp_path: Path) -> None:
    with tiny_llm(deterministic=True, memory=memory) as llm:
        first = llm.chat([user(FILLER)], GREEDY, session="s")
        llm.chat([user(SECRET)], GREEDY, session="s")
        owner = memory.namespace()
        session = memory.sessions.find(owner.id, "s")
        assert session is not None
        last = [e for m, es in memory.sessions.episodes(session).items() if m >= 2 for e in es]
        memory.forget(owner, Selection(episodes=tuple(last)))
        after = llm.chat([user("go on")], GREEDY, session="s")
    with (
        Memory(tmp_path / "never", SIZE) as other,
        tiny_llm(deterministic=True, memory=other) as llm,
    ):
        assert llm.chat([user(FILLER)], GREEDY, session="s").token_ids == first.token_ids
        never = llm.chat([user("go on")], GREEDY, session="s")
    assert after.usage.prompt_tokens == never.usage.prompt_tokens
    assert after.token_ids == never.token_ids


@pytest.mark.parametrize(
    ("selection", "left"),
    [
        (Selection(session="secret"), {"shared", "other"}),
        (Selection(query="quokkas"), {"secret", "shared", "other"}),
        (Selection(source="chat"), set()),
        (Selection(since=0.0), set()),
        (Selection(until=1.0), {"secret", "shared", "other"}),
        (Selection(everything=True), set()),
    ],
)
def test_what_is_selected(memory: Memory, selection: Selection, left: set[str]) -> None:
    told(memory)
    other = memory.namespace("other")
    with tiny_llm(memory=memory) as llm:
        llm.chat([user(SECRET)], GREEDY, session="s", namespace="other")
    memory.forget(memory.namespace(), selection)
    owner = memory.namespace().id
    assert {s.name for s in memory.sessions.page(owner, limit=10)} == left
    assert bool(the_secret(memory)) == (selection == Selection(until=1.0))
    assert memory.sessions.count(other.id) == (1, 2)
    assert len(memory.episodes.matching(other.id, query="zebra")) == 1


def test_a_selection_says_something() -> None:
    for wrong in ({}, {"everything": True, "session": "s"}, {"episodes": ()}):
        with pytest.raises(RequestError, match="say what is forgotten"):
            Selection(**wrong)


def test_a_request_that_is_running_ends_and_writes_nothing(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tiny_llm(memory=memory) as llm:
        llm.chat([user(FILLER + SECRET)], GREEDY, session="s")
        # Nothing of the secret is recalled there.
        memory.sessions.pause(memory.sessions.open(memory.namespace().id, "other"), True)
        running: dict[str, Any] = {}
        submitted, begun = ([threading.Event() for _ in range(3)] for _ in range(2))

        def ask(n: int, session: str | None) -> None:
            # Blocks of equal requests are one another's.
            asked = [user("tell" if session == "other" else "go on")]
            try:
                chunks = llm.stream(asked, GREEDY, session=session, max_tokens=600, constraint=None)
                submitted[n].set()
                for chunk in chunks:
                    begun[n].set()
                    running[str(session)] = chunk.finish_reason
            except EverlongError as error:
                running[str(session)] = error

        threads = [
            threading.Thread(target=ask, args=(n, session))
            for n, session in enumerate(("s", "other", None))
        ]
        # The engine waits for all of them, and then for the forgetting: none is over before it.
        llm.engine.call(lambda runner: [event.wait() for event in submitted])
        for thread in threads:
            thread.start()
        for event in begun:
            event.wait()
        forgetting, let_go = threading.Event(), llm.engine.let_go

        def awaited(namespace: bytes, sessions: Collection[str]) -> set[BlockId]:
            forgetting.set()
            return let_go(namespace, sessions)

        monkeypatch.setattr(llm.engine, "let_go", awaited)
        llm.engine.call(lambda runner: forgetting.wait())
        memory.forget(memory.namespace(), Selection(query="zebra"))
        for thread in threads:
            thread.join()
        assert "being forgotten" in str(running["s"])
        assert "being forgotten" in str(running["None"])
        assert running["other"] == "length"
        memory.blocks.flush()
        assert not any("zebra" in text for text in texts_of_all_blocks(memory))
        assert llm.engine.stats().blocks_used == 0


def test_a_question_that_was_put_together_before_is_refused(memory: Memory) -> None:
    with tiny_llm(memory=memory) as llm:
        assert llm.conversations is not None
        llm.chat([user(FILLER + SECRET)], GREEDY, session="s")
        exchange = llm.conversations.begin([user("go on")], namespace="local", session="s")
        memory.forget(memory.namespace(), Selection(query="zebra"))
        assert not exchange.stands()
        received: queue.SimpleQueue[Chunk | EverlongError] = queue.SimpleQueue()
        llm.engine.submit(exchange.prompt, GREEDY, received.put, session=exchange.in_session)
        assert "being forgotten" in str(received.get(timeout=60))
        exchange.finish([5], {"role": "assistant", "content": "zebra"})
        assert b"zebra" not in bytes_of_all_files(memory)


def test_a_forgetting_that_is_interrupted_goes_on(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(memory)

    def killed(*_: object) -> None:
        raise StoreError("the power is cut")

    with monkeypatch.context() as cut:
        cut.setattr(Forgetting, "_finish", killed)
        with pytest.raises(StoreError):
            memory.forget(memory.namespace(), Selection(query="zebra"))
    assert any("quokka" in text for text in texts_of_all_blocks(memory))
    memory.close()
    with Memory(memory.folder, SIZE) as again:
        assert not any("quokka" in text for text in texts_of_all_blocks(again))
        assert b"quokka" not in bytes_of_all_files(again)
        assert again.database.rows("select * from forgettings") == []
