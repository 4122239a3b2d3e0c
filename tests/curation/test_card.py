"""The data card: what it says of steps, and what it does not show."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from everlong.curation.decontamination.removal import Decontamination
from everlong.curation.duplicates.exact import ExactDuplicates
from everlong.curation.examples import NOT_SHOWN, quoted
from everlong.curation.language.identification import LanguageFilter
from everlong.curation.personal_data.masking import PersonalData
from everlong.curation.quality.gopher import GopherQuality
from everlong.curation.quality.repetition import GopherRepetition
from everlong.curation.recipe import Curation, Step
from everlong.curation.run import curate
from everlong.curation.tasks import Source
from tests.curation.steps import Echo, Same, Short
from tests.curation.test_pipeline import InThisProcess, recipe
from tests.curation.test_run import text

PROSE = (
    "The river had been rising since the morning, and nobody in the village remembered it so high. "
    "In the evening the bridge was gone, but the people were all on dry ground. "
)
MAIL = "jane.roe@corp-mail.org"


def card_of(given: Curation) -> str:
    return curate(given, InThisProcess()).card.read_text()


def given(tmp_path: Path, texts: dict[str, str], *steps: Step, skips: str = "") -> Curation:
    """Documents of a source "s", and those whose names begin with "code" of another one."""
    for name, one in texts.items():
        folder = tmp_path / ("my code" if name.startswith("code") else "s")
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(one)
    sources = [Source("s", (tmp_path / "s",))]
    if (tmp_path / "my code").exists():
        more = (skips,) if skips else ()
        sources.append(Source("my code", (tmp_path / "my code",), skips=more))
    return Curation(tmp_path / "run", tuple(sources), steps)


def test_personal_data_is_in_no_example(tmp_path: Path) -> None:
    texts = {
        f"{MAIL}.txt": f"{PROSE} Write to {MAIL}, please.",
        "same.txt": f"{PROSE} Write to {MAIL}, please.",
        "kept.txt": f"{MAIL} and 0171 2345678 are there before the step that masks. {PROSE}",
        f"{MAIL}.pdf": "%PDF-1.4 and nothing behind it",  # a reason names it
    }
    card = card_of(given(tmp_path, texts, ExactDuplicates(), PersonalData()))
    assert MAIL not in card
    assert "Write to <EMAIL>, please." in card
    assert "the same text as s/<EMAIL>.txt" in card
    without = card_of(Curation(tmp_path / "other", (Source("s", (tmp_path / "s",)),)))
    assert MAIL not in without
    assert "2345678" not in without


def test_what_is_cut_off_in_the_middle_is_not_shown() -> None:
    shown = quoted(f"{'word ' * 57}{MAIL} {PROSE}", None)
    assert "jane" not in shown
    assert shown.endswith(" …")


def test_harm_is_not_shown() -> None:
    assert quoted(f"{PROSE} Kill yourself, you worthless person.", "en") == NOT_SHOWN
    assert quoted("You stupid fucking bitch.", None) == NOT_SHOWN
    assert quoted(PROSE, "en").startswith("`The river")


def test_without_a_library_nothing_is_shown_unmasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "phonenumbers", None)
    assert MAIL not in quoted(f"{PROSE} {MAIL} 0171 2345678", None)


def test_only_what_came_to_a_step_counts(tmp_path: Path) -> None:
    repeated = "The same line is here again and again.\n" * 20
    texts = {f"{n}.txt": repeated if n < 3 else f"{PROSE} {n}" for n in range(10)}
    texts |= {f"code{n}.txt": repeated for n in range(20)}
    steps: tuple[Step, ...] = (GopherRepetition(), GopherQuality(min_words=1), ExactDuplicates())
    card = card_of(given(tmp_path, texts, *steps, skips="gopher_repetition"))
    assert "| gopher_repetition | 10 | 3 | 30.0% |" in card
    assert "| gopher_quality | 27 | " in card


def test_what_is_made_comes_to_the_steps_behind(tmp_path: Path) -> None:
    one = recipe(tmp_path, Short(), Echo(), Same())
    first, last = curate(one, InThisProcess()).counts
    assert first.came == {"short": 60, "echo": 48}
    assert last.came == {"same": 96}


def test_all_fields_of_a_step_are_told(tmp_path: Path) -> None:
    card = card_of(given(tmp_path, {"a.txt": f"{PROSE}"}, GopherQuality(min_words=5)))
    assert "min_words: 5; max_words: 100000; " in card
    assert f"everlong curate reproduce {tmp_path / 'run' / 'lock.json'}" in card


def test_why_a_language_is_not_told(tmp_path: Path) -> None:
    texts = {"a.txt": 5 * PROSE, "code.txt": 3 * PROSE}
    one = given(tmp_path, texts, LanguageFilter(), skips="language")
    card = card_of(one)
    assert "| not told | " in card
    assert "| en | " in card, "and not the second word of the source"
    assert "What skips the step `language` has none that is told: my code." in card
    silent = Curation(tmp_path / "silent", one.sources[:1])
    assert "No step tells languages" in card_of(silent)


def test_what_is_refused_is_counted_and_some_of_it_named(tmp_path: Path) -> None:
    lines = "\n".join(['{"text": "a text"}', *['{"content": "another field"}'] * 250])
    (tmp_path / "a.jsonl").write_text(lines)
    card = card_of(Curation(tmp_path / "run", (Source("s", (tmp_path / "a.jsonl",)),)))
    assert card.count("250 documents or files") == 2
    assert "- `s/a.jsonl#31`: has no text in text" in card
    assert "- and 220 more, which the files in `refused` name" in card


def test_evaluation_text_that_is_left_is_told(tmp_path: Path) -> None:
    asked = tmp_path / "asked.txt"
    asked.write_text(f"{text(99)}\n\n{' '.join(f'phrase{n}' for n in range(15))}")
    phrase = " ".join(f"phrase{n}" for n in range(15))
    texts = {f"{n}.txt": f"{text(n)} {phrase}" for n in range(11)}
    step = Decontamination(files=(asked,), most_documents=10)
    outcome = curate(given(tmp_path, texts, step), InThisProcess())
    assert outcome.counts[-1].kept == 11
    assert outcome.counts[0].noted == {"decontamination: common_phrases": 11}
    assert "| decontamination: common_phrases | 11 |" in outcome.card.read_text()
