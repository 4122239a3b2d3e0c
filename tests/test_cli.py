"""The command line as a person meets it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from everlong.apps import chat as chat_app
from everlong.cli import main
from everlong.cli.program import build_parser
from everlong.cli.spelling import as_parsed
from everlong.cli.table import COMMANDS
from everlong.errors import RequestError
from everlong.memory.memory import Memory
from tests.engine.tiny import tiny_llm
from tests.engine.tiny import tokenizer as tiny_tokenizer

README = Path(__file__).parents[1] / "README.md"


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "everlong.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        **options,
    )


def commands() -> list[str]:
    return list(COMMANDS)


def spellings(command: str) -> tuple[str, str]:
    """``eval-compare`` may be written as two words."""
    return f"everlong {command}", f"everlong {command.replace('-', ' ')}"


def test_words_that_people_leave_out() -> None:
    for given, meant in (
        ("chat ./model", "chat --model ./model"),
        ("chat --session a", "chat --session a"),
        ("serve m --deterministic", "serve m --deterministic=true"),
        ("eval m --download false", "eval m --download false"),
    ):
        assert as_parsed(given.split(), COMMANDS) == meant.split()


@pytest.mark.parametrize("command", commands())
def test_help_has_an_example_that_parses(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    example = re.sub(r"\s+", " ", shown[shown.index("example: ") + 9 :]).strip()
    assert example.startswith(spellings(command))
    import shlex

    arguments = as_parsed(shlex.split(example)[1:], COMMANDS)
    assert build_parser().parse_args(arguments).command == command
    assert "_" not in "".join(re.findall(r"--[a-z_-]+", shown))


@pytest.mark.parametrize("command", commands())
def test_every_command_is_in_the_readme(command: str) -> None:
    assert any(spelled in README.read_text() for spelled in spellings(command))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["generate", "x", "--model", "nowhere"], "there is no model 'nowhere'"),
        (["generate", "x", "--temperature", "-1"], "temperature must be between 0 and 100"),
        (["serve", "nowhere", "--port", "99999"], "port must be between 0 and 65535"),
        (["convert", "nowhere", "out"], "there is no model 'nowhere'"),
    ],
)
def test_bad_input_is_one_clear_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert len(shown.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "arguments", [["generate"], ["nonsense"], ["generate", "x", "--nonsense", "1"]]
)
def test_what_does_not_parse_exits_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2


def test_help_does_not_wait_for_torch() -> None:
    code = "import sys; import everlong.cli.program as p; p.build_parser()"
    code += "; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_convert_and_generate_from_the_folder(tmp_path: Path) -> None:
    """A converted model continues a text as its source does."""
    from everlong.checkpoint.catalog import resolve
    from everlong.errors import CheckpointError

    try:
        model = os.environ.get("EVERLONG_SMOLLM2_GGUF") or str(resolve("smollm2-135m"))
    except CheckpointError as missing:
        pytest.skip(str(missing))
    done = run("convert", model, str(tmp_path / "hf"), "--dtype", "float32")
    assert done.returncode == 0, done.stderr
    asked = ("generate", "The capital of France is", "--temperature", "0", "--max-tokens", "5")
    texts = [
        run(*asked, "--model", m, "--weights", "float32").stdout
        for m in (model, str(tmp_path / "hf"))
    ]
    assert "Paris" in texts[0]
    assert texts[0] == texts[1]


def test_chat_keeps_the_conversation(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = iter(["hello\n", "again\n", "/new\n", "fresh\n", ""])
    monkeypatch.setattr("sys.stdin.readline", lambda: next(lines), raising=False)
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    tokenizer = tiny_tokenizer()
    asked: list[list[dict[str, str]]] = []

    def remember(messages: list[dict[str, str]], **_: Any) -> list[int]:
        asked.append([dict(m) for m in messages])
        return tokenizer.encode(messages[-1]["content"])

    monkeypatch.setattr(tokenizer, "encode_chat", remember)
    with tiny_llm() as llm:
        chat_app.chat(llm, {"max_tokens": 4, "seed": 0}, "be brief")
    roles = [[m["role"] for m in messages] for messages in asked]
    assert roles == [
        ["system", "user"],
        ["system", "user", "assistant", "user"],
        ["system", "user"],
    ]
    assert "tokens read" in capsys.readouterr().err


def test_chat_goes_on_where_it_was(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    for said in ("hello", "again"):
        lines = iter([f"{said}\n", ""])
        monkeypatch.setattr("sys.stdin.readline", lambda lines=lines: next(lines), raising=False)
        with Memory(tmp_path, 64 << 20) as memory, tiny_llm(memory=memory) as llm:
            chat_app.chat(llm, {"max_tokens": 4, "seed": 0}, None, "evening")
            session = memory.sessions.find(memory.namespace().id, "evening")
            assert session is not None
            told = [m.body["content"] for m in memory.sessions.messages(session)]
    assert told[::2] == ["hello", "again"]
    assert "evening goes on after 2 messages" in capsys.readouterr().err
    with tiny_llm() as llm, pytest.raises(RequestError, match="nothing is remembered here"):
        chat_app.chat(llm, {}, None, "evening")


def test_memory_s_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(tmp_path / "memory")

    def everlong(command: str, *more: str) -> str:
        status = main(["memory", command, *more, "--memory", folder])
        told = capsys.readouterr()
        return told.out if status == 0 else told.err

    assert "there is no memory in" in everlong("list")
    with Memory(folder, 64 << 20) as memory, tiny_llm(memory=memory) as llm:
        asked = [{"role": "user", "content": "The zebra is called Momo."}]
        # Some seeds say nothing, which is no episode.
        llm.chat(asked, max_tokens=4, session="zoo", seed=0)
    text = tmp_path / "notes.txt"
    text.write_text("Ferns need water.")
    assert everlong("remember", str(text)) == "1 passages\n"
    assert "zoo" in everlong("list")
    assert "Ferns need water." in everlong("list", "--sessions", "false")
    assert "zebra" in everlong("show", "zoo")
    assert "zebra" in everlong("search", "who is Momo")
    assert json.loads(everlong("search", "who is Momo", "--as-json"))["data"][0]["why"]
    assert json.loads(everlong("stats"))["episodes"] == 3
    bundle = str(tmp_path / "memory.zip")
    assert json.loads(everlong("export", bundle))["episodes"] == 3
    assert "say --yes true" in everlong("forget", "--query", "zebra")
    assert json.loads(everlong("forget", "--query", "zebra", "--yes"))["episodes"] == 1
    assert "zebra" not in everlong("show", "zoo")
    assert json.loads(everlong("import", bundle))["episodes"] == 1
    assert json.loads(everlong("verify"))["records"] == "ok"
    assert "2026-11-25T14:30, not 'soon'" in everlong("forget", "--since", "soon", "--yes")
    assert json.loads(everlong("forget", "--everything", "--yes"))["episodes"] == 3
