"""``everlong curate`` from files to training data, as a user would run it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import yaml

from everlong.apps.curate import _shown
from everlong.cli import main
from everlong.config import load_config
from everlong.curation.counts import Counts
from everlong.curation.document import Document
from everlong.curation.pipeline import Progress
from everlong.curation.recipe import Curation
from everlong.curation.workers import Done, Incident, Job, LocalExecutor
from everlong.data.token_shards import TokenShards
from everlong.tokenizer import train_tokenizer

ROOT = Path(__file__).parents[2]
PROSE = (
    "The river had been rising since the morning, and nobody in the village remembered it so high. "
    "Some of the farmers carried their hay to the barn on the hill, and their children drove the "
    "sheep before them. In the evening the bridge was gone, but the people were all on dry ground."
)


def written(folder: Path) -> Path:
    """Sources, and a recipe for them."""
    web, notes = folder / "web", folder / "notes"
    web.mkdir(parents=True)
    notes.mkdir()
    page = f"<html lang='en'><title>A flood</title><body><article><p>{PROSE}</p></article></body>"
    (web / "flood.html").write_text(page)
    (notes / "same.txt").write_text(PROSE)
    (notes / "mail.md").write_text(f"{PROSE} Write to jane.miller@example-company.com, please.")
    (notes / "german.txt").write_text(
        "Der Fluss war seit dem Morgen gestiegen, und niemand hatte ihn je so hoch gesehen. "
        "Am Abend war die Brücke fort, aber die Leute waren alle in Sicherheit auf dem Hügel."
    )
    (notes / "broken.pdf").write_bytes(b"%PDF-1.4 and nothing behind it")
    (folder / "tokenizer").mkdir()
    train_tokenizer([PROSE] * 3, 300).save(folder / "tokenizer")
    recipe = {
        "run": str(folder / "curated"),
        "sources": [
            {"name": "web", "paths": [str(web)], "licence": "CC-BY-4.0"},
            {"name": "notes", "paths": [str(notes)]},
        ],
        "steps": [
            {"kind": "exact_duplicates"},
            {"kind": "language", "keep": ["en"]},
            {"kind": "personal_data"},
        ],
        "tokens": {"tokenizer": str(folder / "tokenizer")},
        "workers": {"count": 1},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def test_from_files_to_training_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe, run = written(tmp_path), tmp_path / "curated"
    assert main(["curate", str(recipe)]) == 0
    assert "2 of 4 documents are kept" in (told := capsys.readouterr().out)
    assert "1 could not be read" in told
    lines = "".join(path.read_text() for path in sorted((run / "documents").iterdir()))
    documents = {
        one.id: one for one in map(Document.from_plain, map(json.loads, lines.splitlines()))
    }
    assert set(documents) == {"web/flood.html", "notes/mail.md"}
    flood, mail = documents["web/flood.html"], documents["notes/mail.md"]
    assert flood.text == PROSE
    assert (flood.language, flood.licence, flood.metadata["title"]) == (
        "en",
        "CC-BY-4.0",
        "A flood",
    )
    assert "jane.miller" not in mail.text
    assert [change.rule for change in mail.history] == ["email"]
    for part, one in (("web", flood), ("notes", mail)):
        shards = TokenShards(run / "tokens" / part)
        assert shards.documents == 1
        assert shards.length(0) > len(one.text) / 4
    training = yaml.safe_load((run / "tokens" / "training.yaml").read_text())
    assert sum(training["weights"].values()) == pytest.approx(1)
    card = (run / "card.md").read_text()
    for said in ("| web |", "same_text 1", "notes/german.txt", "broken.pdf", "## Mixture"):
        assert said in card
    assert (run / "flow.png").stat().st_size > 1000

    assert main(["curate", str(recipe)]) == 2
    assert "--resume" in capsys.readouterr().err
    assert main(["curate", "--reproduce", str(run / "lock.json")]) == 0
    assert "are the same to the byte" in capsys.readouterr().out
    (tmp_path / "web" / "flood.html").write_text("something else")
    again = ["curate", "--reproduce", str(run / "lock.json"), "--run", str(tmp_path / "third")]
    assert main(again) == 2
    assert "such as web/flood.html" in capsys.readouterr().err


def test_a_look_at_what_was_dropped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe, run = written(tmp_path), str(tmp_path / "curated")
    assert main(["curate", "inspect", run]) == 2
    assert "no run that is done" in capsys.readouterr().err
    assert main(["curate", str(recipe)]) == 0
    capsys.readouterr()
    assert main(["curate", "inspect", run]) == 0
    told = capsys.readouterr().out
    assert "notes/same.txt  dropped by exact_duplicates: same_text" in told
    assert "notes/german.txt  dropped by language" in told
    assert main(["curate", "inspect", run, "--step", "language", "--whole"]) == 0
    told = capsys.readouterr().out
    assert "same.txt" not in told
    assert "auf dem Hügel." in told
    assert main(["curate", "inspect", run, "--name", "mail"]) == 0
    assert "kept (changed: personal_data: email x 1)" in capsys.readouterr().out
    assert main(["curate", "inspect", run, "--rule", "nothing"]) == 0
    assert "the run dropped by" in capsys.readouterr().out


def test_what_steers_a_terminal_is_not_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    for name in ("a.txt", "b.txt"):
        (folder / name).write_text("A text \x1b[2J\x07\u202e with\ta tab.")
    recipe = tmp_path / "recipe.yaml"
    plain = {
        "run": str(tmp_path / "run"),
        "sources": [{"name": "s", "paths": [str(folder)]}],
        "steps": [{"kind": "exact_duplicates"}],
    }
    recipe.write_text(yaml.safe_dump(plain))
    assert main(["curate", str(recipe)]) == 0
    capsys.readouterr()
    for whole in ([], ["--whole"]):
        assert main(["curate", "inspect", str(tmp_path / "run"), "--name", ".txt", *whole]) == 0
        told = capsys.readouterr().out
        assert told.count(r"A text \x1b[2J\x07\u202e with") == 2
        assert not {"\x1b", "\x07", "\u202e"} & {*told}
    assert main(["curate", "inspect", str(tmp_path / "run"), "--limit", "-1"]) == 2
    assert "--limit is -1; give 1 or more" in capsys.readouterr().err
    (damaged,) = (tmp_path / "run" / "dropped").iterdir()
    for content in ("{", '{"id": "s/a"}'):
        damaged.write_text(content)
        assert main(["curate", "inspect", str(tmp_path / "run")]) == 2
        assert f"{damaged}, line 1, " in capsys.readouterr().err


def test_names_of_files_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    with _shown("everlong curate") as (tell, say):
        tell(Progress(0, 1, 1, 2, Counts(), "b[/red].txt, document 0: it took longer than 1 s"))
        say("writing [/red]")
    told = capsys.readouterr().err
    assert "b[/red].txt, document 0" in told
    assert "writing [/red]" in told


def test_made_again_from_inside_the_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, whole = written(tmp_path), LocalExecutor.map
    assert main(["curate", str(recipe)]) == 0

    def stopped(self: LocalExecutor, job: Job, tasks: Sequence[int]) -> Iterator[Done | Incident]:
        yield next(whole(self, job, tasks))
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path / "curated")
    with monkeypatch.context() as patch:
        patch.setattr(LocalExecutor, "map", stopped)
        assert main(["curate", "reproduce", "lock.json"]) == 130
    assert "everlong curate reproduce lock.json --resume" in capsys.readouterr().out
    assert main(["curate", "reproduce", "lock.json", "--resume"]) == 0
    assert f"the same to the byte as those of {tmp_path / 'curated'}" in capsys.readouterr().out
    assert (tmp_path / "curated-again" / "lock.json").exists()


def test_stopped_by_the_user(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, whole = written(tmp_path), LocalExecutor.map

    def stopped(self: LocalExecutor, job: Job, tasks: Sequence[int]) -> Iterator[Done | Incident]:
        yield next(whole(self, job, tasks))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(LocalExecutor, "map", stopped)
        assert main(["curate", str(recipe)]) == 130
    assert f"go on with: everlong curate {recipe} --resume" in capsys.readouterr().out
    assert main(["curate", str(recipe), "--resume"]) == 0
    assert "2 of 4 documents are kept" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": [{"kind": "languages"}]}, "did you mean language?"),
        ({"steps": [{"kind": "language"}] * 2}, "language is twice"),
        ({"sources": []}, "there is one"),
        ({"task_bytes": 0}, "task_bytes is 1 or more"),
        ({"workers": {"count": 0}}, "count of workers is 1 or more"),
        ({"mixture": {"weights": {"books": 1}}}, "mixture.weights names books"),
        ({"tokens": {"tokenizer": "/nowhere"}}, "/nowhere"),
        ({"sources": [{"name": "a", "paths": ["/nowhere"]}]}, "/nowhere is not there"),
        ({"sources": [{"name": "a", "paths": ["/"], "skips": ["c4_quality"]}]}, "skips c4_quality"),
        ({"sources": [{"name": "..", "paths": ["/"]}]}, "cannot be called .."),
        ({"run": ""}, "name a folder of its own"),
        ({"mixture": {"weights": {"web": float("nan")}}}, "weights are numbers of 0 or more"),
        ({"steps": [{"kind": "noise", "sources": ["book"]}]}, "sources of noise names book;"),
        ({"steps": [{"kind": "glossary", "sources": ["book"]}]}, "sources of glossary names book"),
        (
            {"steps": [{"kind": "paraphrase", "model": "m", "sources": ["book"]}]},
            "sources are web, notes",
        ),
        (
            {"steps": [{"kind": "questions", "domains": {"book": "legal"}}]},
            "domains of questions names book",
        ),
        (
            {
                "steps": [
                    {"kind": "exact_duplicates", "store": "store"},
                    {"kind": "near_duplicates", "store": "./store"},
                ]
            },
            "two steps have their store in",
        ),
    ],
)
def test_recipes_that_cannot_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, object], message: str
) -> None:
    recipe = written(tmp_path)
    recipe.write_text(yaml.safe_dump(yaml.safe_load(recipe.read_text()) | change))
    assert main(["curate", str(recipe)]) == 2
    assert message in capsys.readouterr().err


def test_the_recipe_that_comes_along_can_be_read() -> None:
    assert load_config(Curation, ROOT / "recipes" / "curate.yaml").steps
