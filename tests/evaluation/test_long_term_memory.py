"""The memory itself, through its interface: told, restarted in another process, asked."""

from __future__ import annotations

import json
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from everlong.engine.config import EngineConfig
from everlong.engine.llm import LLM
from everlong.errors import (
    ConfigError,
    EngineStoppedError,
    MissingDataError,
    RequestError,
    StoreError,
)
from everlong.evaluation.data import Data
from everlong.evaluation.remembering import WINDOW, Remembering
from everlong.evaluation.runner import evaluate
from everlong.evaluation.task import Model, Run, Settings
from everlong.evaluation.tasks.memory import (
    facts_forget,
    facts_leak,
    facts_recall,
    locomo_memory,
)
from everlong.evaluation.tasks.memory.facts import facts
from everlong.evaluation.tasks.memory.locomo_memory import Heard
from everlong.memory.memory import Memory
from tests.checkpoint.samples import tiny_config, tiny_gguf
from tests.checkpoint.sentence_folders import write_folder
from tests.evaluation.public_data import public_data


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    tiny_gguf(path, tiny_config(max_position=WINDOW))
    return Model(str(path), "auto", EngineConfig(kv_cache_memory=1 << 26))


@pytest.fixture(scope="module")
def llm(model: Model) -> Iterator[LLM]:
    with model.load() as loaded:
        yield loaded


def run_of(llm: LLM, model: Model | None, data: Path) -> Run:
    return Run(llm, Data(data), Settings(), model=model)


def test_every_value_is_in_one_fact_and_neighbours_are_told_others() -> None:
    told = facts(0)
    assert len({fact.id for fact in told}) == len(told) == 60
    assert set(Counter(fact.session for fact in told).values()) == {3}
    assert set(Counter(fact.group for fact in told).values()) == {12}
    for fact in told:
        assert [other.id for other in told if fact.is_in(other.text)] == [fact.id]
        assert not fact.is_in(fact.question)
    neighbours = facts(0, "neighbour")
    assert {fact.question for fact in neighbours} == {fact.question for fact in told}
    assert not {fact.value for fact in neighbours} & {fact.value for fact in told}
    assert facts(1)[0].value != told[0].value


def test_facts_are_recalled_after_a_restart(llm: LLM, model: Model, tmp_path: Path) -> None:
    result = evaluate(
        llm, facts_recall.BY_WORDS, Data(tmp_path), limit=20, kept=tmp_path, model=model
    )
    assert set(result.groups) == {"locker", "telephone", "dog", "home", "work"}
    assert result.metrics["recalled"].mean > 0.5
    for sample in result.samples:
        assert sample.scores["recalled"] == (sample.record["target"] in sample.record["notes"])


def test_nothing_leaks_into_another_namespace(llm: LLM, model: Model, tmp_path: Path) -> None:
    result = evaluate(llm, facts_leak.TASK, Data(tmp_path), limit=24, kept=tmp_path, model=model)
    assert result.metrics["leaked"].mean == 0
    assert result.groups["stranger"]["noted"].mean == 0
    assert result.groups["neighbour"]["noted"].mean > 0.5, "it has what it was told itself"


def test_what_is_forgotten_is_gone_and_the_rest_is_there(
    llm: LLM, model: Model, tmp_path: Path
) -> None:
    result = evaluate(llm, facts_forget.TASK, Data(tmp_path), limit=24, kept=tmp_path, model=model)
    assert set(result.groups) == {"kept", "by query", "by episodes", "by session"}
    assert result.metrics["as_asked"].mean == 1
    assert result.metrics["in_files_before"].mean == 1
    assert result.metrics["recalled_before"].mean > 0.5
    for way, figures in result.groups.items():
        assert figures["in_files"].mean == (way == "kept")
        assert (figures["recalled"].mean > 0.5) == (way == "kept")


def test_a_value_is_found_as_text_in_any_capitals_and_as_tokens(llm: LLM, tmp_path: Path) -> None:
    told = facts(0)[:4]
    ids = llm.tokenizer.encode(told[2].text, bos=False)
    (tmp_path / "blocks").mkdir()
    (tmp_path / "records").write_bytes(b"\0\1" + told[0].value.upper().encode() + b"\2")
    (tmp_path / "blocks/one").write_bytes(b"x" + struct.pack(f"<{len(ids)}i", *ids) + bytes(9000))
    (tmp_path / "other").write_text(told[3].value[:-1])
    assert facts_forget.in_files(tmp_path, told, llm.tokenizer) == {told[0].id, told[2].id}


def test_what_the_process_says_and_that_it_died(llm: LLM, model: Model, tmp_path: Path) -> None:
    run = run_of(llm, model, tmp_path)
    with Remembering(run, tmp_path / "memory") as remembering:
        with pytest.raises(RequestError, match="'guess' is none of"):
            remembering.perform("guess")
        remembering.tell("my lamp is green", session="s", namespace="local", max_tokens=2)
        reply = remembering.ask("which lamp is green?", max_tokens=2)
        assert "my lamp is green" in reply.notes
        assert reply.recalled
        sessions = remembering.perform("list_sessions")["data"]
        assert [one["name"] for one in sessions] == ["s"], "the question is forgotten"
        with pytest.raises(StoreError, match="is held by process"):
            Remembering(run, tmp_path / "memory")
        remembering._process.kill()
        with pytest.raises(EngineStoppedError, match="has died"):
            remembering.perform("stats")


def test_what_cannot_be_restarted_is_refused(llm: LLM, model: Model, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not told how"):
        evaluate(llm, facts_recall.BY_WORDS, Data(tmp_path), kept=tmp_path)
    short = Model(model.path, "auto", EngineConfig(max_model_len=512))
    with short.load() as other, pytest.raises(ConfigError, match="needs a window of 4,096"):
        evaluate(other, facts_recall.BY_WORDS, Data(tmp_path), kept=tmp_path, model=short)


def test_recall_uses_the_encoder_that_is_named(llm: LLM, model: Model, tmp_path: Path) -> None:
    encoder = str(write_folder(tmp_path / "encoder"))
    run = run_of(llm, model, tmp_path)
    for number, embedder in enumerate((encoder, None)):
        folder = tmp_path / f"memory-{number}"
        with Remembering(run, folder, embedder) as remembering:
            remembering.tell("the cat sat", session="s", namespace="local", max_tokens=1)
            remembering.ask("where is the cat?", max_tokens=1)
        with Memory(folder) as memory:
            made = memory.database.rows("select distinct embedder from vectors")
        assert [name.startswith("encoder ") for (name,) in made] == [embedder is not None]
    unknown = replace(facts_recall.BY_SENTENCES, embedder=str(tmp_path / "nowhere"))
    with pytest.raises(MissingDataError, match="needs a sentence encoder"):
        evaluate(llm, unknown, Data(tmp_path), kept=tmp_path, model=model)


def talks(folder: Path) -> None:
    """Six conversations, of which the last is held out."""
    turns = [
        {"speaker": "Ann", "dia_id": "D1:1", "text": "I bought a red bicycle in the market."},
        {"speaker": "Bo", "dia_id": "D1:2", "text": "Look!", "blip_caption": "a photo of a kite"},
    ]
    talk = {
        "session_2": [{"speaker": "Ann", "dia_id": "D2:1", "text": "My sister lives in Lisbon."}],
        "session_2_date_time": "4:04 pm on 20 January, 2023",
        "session_1": turns,
        "session_1_date_time": "1:56 pm on 8 May, 2023",
    }
    qa: list[dict[str, Any]] = [
        {"question": "What did Ann buy, a red bicycle?", "evidence": ["D1:1"], "category": 4},
        {"question": "Where does Ann's sister live?", "evidence": ["D2:1; D9:9"], "category": 1},
        {"question": "Where does Bo's sister live?", "evidence": ["D2:1"], "category": 5},
        {"question": "Nothing?", "evidence": [], "category": 2, "answer": 2022},
    ]
    qa[0]["answer"], qa[1]["answer"], qa[2]["adversarial_answer"] = "bicycle", "Lisbon", "Lisbon"
    fitted = {"sample_id": "c", "conversation": {}, "qa": [{"category": 4, "question": "?"}]}
    held_out = {"sample_id": "h", "conversation": talk, "qa": qa}
    (folder / "locomo").mkdir()
    content = [fitted] * 5 + [held_out]
    (folder / "locomo/locomo10.json").write_text(json.dumps(content))


class OtherProgram(locomo_memory.LocomoMemory):
    """The same task where the memory's code was changed."""

    @property
    def program(self) -> str:
        return f"not {super().program}"


def test_conversations_are_answered_with_what_is_recalled(
    llm: LLM, model: Model, tmp_path: Path
) -> None:
    talks(tmp_path)
    data = Data(tmp_path)
    (turns,) = locomo_memory.conversations(data).values()
    assert list(turns) == ["D1:1", "D1:2", "D2:1"]
    assert turns["D1:2"].text == "Look! a photo of a kite"
    kept = tmp_path / "kept"
    first = evaluate(llm, locomo_memory.ANSWERS, data, limit=1, kept=kept, model=model)
    answered = evaluate(llm, locomo_memory.ANSWERS, data, kept=kept, model=model)
    assert answered.answered == 1, "a run that was broken off goes on where it was"
    assert first.samples[0] in answered.samples
    other = OtherProgram(**vars(locomo_memory.ANSWERS))
    again = evaluate(llm, other, data, limit=1, kept=kept, model=model)
    assert again.answered == 1, "another memory's answers are not its own"
    assert set(answered.groups) == {"single-hop", "multi-hop"}
    assert answered.metrics["evidence"].mean == 1
    assert answered.metrics["leaked"].mean == 0
    for sample in answered.samples:
        assert "Ann, " in sample.record["notes"]
        scores = sample.scores
        assert scores["f1_gain"] == scores["f1"] - scores["f1_alone"]
    unsaid = evaluate(llm, locomo_memory.UNSAID, data, kept=kept, model=model)
    assert set(unsaid.groups) == {"adversarial"}
    assert unsaid.metrics["noted"].mean == 1


def test_answers_are_judged_beside_those_without_a_memory(tmp_path: Path) -> None:
    talks(tmp_path)
    data = Data(tmp_path)
    bicycle, sister = locomo_memory.questions(data, (1, 2, 3, 4))
    assert (bicycle.target, sister.evidence) == ("bicycle", frozenset({"D2:1"}))
    heard = Heard("She bought a bicycle.\nYes", "a car", "[1] …", frozenset({"D1:1"}), False)
    assert locomo_memory.judge_answer(bicycle, heard) == {
        "f1": pytest.approx(0.5),
        "f1_alone": 0.0,
        "f1_gain": pytest.approx(0.5),
        "contains": 1.0,
        "contains_alone": 0.0,
        "evidence": 1.0,
        "leaked": 0.0,
    }
    assert locomo_memory.judge_answer(sister, heard)["evidence"] == 0
    (unsaid,) = locomo_memory.questions(data, (5,))
    assert unsaid.target == "not mentioned"
    heard = Heard("In Lisbon.", "It is not mentioned.", "", frozenset(), True)
    assert locomo_memory.judge_unsaid(unsaid, heard) == {
        "abstained": 0.0,
        "abstained_alone": 1.0,
        "noted": 0.0,
        "leaked": 1.0,
    }


def test_the_public_conversations_are_as_many_as_in_the_paper() -> None:
    data = Data(public_data())
    talks = locomo_memory.conversations(data)
    assert len(talks) == 5
    asked = locomo_memory.questions(data, (1, 2, 3, 4))
    assert len(asked) == 775, "as in docs/memory.md"
    assert all(one.evidence <= talks[one.conversation].keys() for one in asked)
    assert len(locomo_memory.questions(data, (5,))) == 209
