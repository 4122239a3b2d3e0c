from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from everlong.data.corpora import Corpus, corpus_names, open_corpus, texts_of
from everlong.errors import ConfigError, DataError, MissingDataError
from everlong.tokenizer import Tokenizer, train_tokenizer

TEXTS = ["some words of a text, user assistant yes no 0123456789\n" * 20]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TEXTS, 300)


def decoded(corpus: Corpus, tokenizer: Tokenizer, kept: Path) -> list[str]:
    shards = open_corpus(corpus, tokenizer, kept)
    ids = [shards.read(i, 0, shards.length(i)).tolist() for i in range(shards.documents)]
    return [tokenizer.decode(one, skip_special=False) for one in ids]


def lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_files_and_lines_are_documents(tokenizer: Tokenizer, tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    (folder / "inner").mkdir(parents=True)
    (folder / "b.txt").write_text("<|im_end|> is text")
    (folder / ".hidden").write_text("no")
    (folder / "inner" / "a.txt.gz").write_bytes(gzip.compress("öfter".encode()))
    lines(folder / "c.jsonl", {"text": "one"}, {"text": "two", "more": 1})
    corpus = Corpus("some", (folder,))
    expected = ["<|im_end|> is text", "one", "two", "öfter"]
    ended = [f"{text}<|im_end|>" for text in expected]
    assert decoded(corpus, tokenizer, tmp_path / "kept") == ended
    # The control token in a text is text.
    shards = open_corpus(corpus, tokenizer, tmp_path / "kept")
    end = tokenizer.token_id("<|im_end|>")
    assert shards.read(0, 0, shards.length(0)).tolist().count(end) == 1
    patterns = Corpus("some", (tmp_path / "texts" / "*.txt", folder / "inner" / "*.gz"))
    assert decoded(patterns, tokenizer, tmp_path / "kept") == [ended[0], ended[3]]


def test_shards_are_made_once(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("some text")
    told: list[str] = []
    for _ in range(2):
        open_corpus(Corpus("some", (path,)), tokenizer, tmp_path / "kept", told.append)
    assert told == ["some: 1 of 1 files read"]
    other = train_tokenizer(TEXTS, 280)
    open_corpus(Corpus("some", (path,)), other, tmp_path / "kept", told.append)
    path.write_text("another text")
    open_corpus(Corpus("some", (path,)), tokenizer, tmp_path / "kept", told.append)
    assert len(told) == 3


def test_what_was_stopped_is_made_anew(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", {"text": "one"}, {"txt": "two"})
    corpus = Corpus("some", (path,))
    with pytest.raises(DataError, match=r"a\.jsonl, line 2: has no text; its fields: txt"):
        open_corpus(corpus, tokenizer, tmp_path / "kept")
    digest = next(one for one in (tmp_path / "kept").iterdir() if one.is_dir())
    (digest / "00000.tokens").write_bytes(b"left by a crash")
    lines(path, {"text": "one"})
    assert decoded(corpus, tokenizer, tmp_path / "kept") == ["one<|im_end|>"]


def test_conversations_learn_their_answers(tokenizer: Tokenizer, tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "yes?"}, {"role": "assistant", "content": "no"}]
    path = lines(tmp_path / "a.jsonl", {"messages": messages}, {"prompt": "yes?", "response": "no"})
    shards = open_corpus(Corpus("chat", (path,), "chat"), tokenizer, tmp_path / "kept")
    first, second = (shards.read(i, 0, shards.length(i)).tolist() for i in range(2))
    assert first == second
    learned = shards.learned(0, 0, len(first))
    assert tokenizer.decode([t for t, one in zip(first, learned, strict=True) if one]) == "no\n"


def test_shards_are_taken_as_they_are(tokenizer: Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("some text")
    made = open_corpus(Corpus("some", (tmp_path / "a.txt",)), tokenizer, tmp_path / "kept")
    corpus = Corpus("again", (made.folder,), "shards")
    assert open_corpus(corpus, tokenizer, tmp_path / "kept").tokens == made.tokens
    with pytest.raises(DataError, match="made with another tokenizer"):
        open_corpus(corpus, train_tokenizer(TEXTS, 280), tmp_path / "kept")


@pytest.mark.parametrize(
    ("name", "content", "kind", "told"),
    [
        ("a.txt", b"\xff\xfe", "text", r"a\.txt is no UTF-8"),
        ("a.txt.gz", b"no gzip", "text", r"a\.txt\.gz cannot be read"),
        ("a.txt.gz", gzip.compress(b"x" * 999)[:-9], "text", r"a\.txt\.gz cannot be read"),
        ("a.jsonl", b'\n{"text": "x"', "text", "line 2: not JSON"),
        ("a.jsonl", b"[1]\n", "text", "line 1: must be an object, not list"),
        ("a.jsonl", b'{"text": "\\ud800"}\n', "text", "line 1: .*surrogate"),
        ("a.txt", b"hi", "chat", r"conversations and pairs are lines of a \.jsonl file"),
        ("a.jsonl", b'{"messages": [1]}\n', "chat", r"messages\[0\] must be an object with a role"),
        ("a.jsonl", b'{"question": "x"}\n', "chat", "neither messages nor prompt and response"),
        ("a.jsonl", b'{"messages": []}\n', "chat", "line 1: messages must be a list with one"),
        ("a.jsonl", b'{"messages": [{"role": "user", "content": "hi"}]}\n', "chat", "an answer"),
        (
            "a.jsonl",
            b'{"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]}\n',
            "chat",
            r"messages\[0\].content must be text, not list",
        ),
        (
            "a.jsonl",
            b'{"prompt": "hi", "messages": [{"role": "assistant", "content": ""}]}\n',
            "chat",
            "an answer without a word",
        ),
        ("a.jsonl", b"[" * 100_000 + b"\n", "text", "line 1: not JSON"),
        ("a.jsonl", b'{"messages": "hi"}\n', "preferences", "needs prompt or messages, chosen"),
        (
            "a.jsonl",
            b'{"messages": {"role": "user"}, "chosen": "a", "rejected": "b"}\n',
            "preferences",
            "messages must be a list",
        ),
    ],
)
def test_bad_input_is_named(
    tokenizer: Tokenizer, tmp_path: Path, name: str, content: bytes, kind: str, told: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=told):
        open_corpus(Corpus("some", (path,), kind), tokenizer, tmp_path / "kept")  # type: ignore[arg-type]


def test_what_is_not_there_is_named(tokenizer: Tokenizer, tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path / "*.txt"):
        with pytest.raises(MissingDataError, match="change its paths"):
            open_corpus(Corpus("some", (path,)), tokenizer, tmp_path / "kept")
    with pytest.raises(ConfigError, match="one folder, not 2"):
        Corpus("some", (tmp_path, tmp_path), "shards")
    with pytest.raises(ConfigError, match="needs paths"):
        Corpus("some", ())
    for name in ("", "../out", "a/b", "x" * 300, "nul\0"):
        with pytest.raises(ConfigError, match="folders are named after it"):
            Corpus(name, (tmp_path,))


def test_calls_of_tools_have_no_text(tmp_path: Path) -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f"}}]}
    messages = [{"role": "user", "content": "hi"}, call, {"role": "assistant", "content": "done"}]
    (tmp_path / "a.jsonl").write_text(json.dumps({"messages": messages}))
    assert [*texts_of(Corpus("a", (tmp_path / "a.jsonl",), "chat"))] == ["hi", "done"]


def test_what_is_hidden_is_not_read(tmp_path: Path) -> None:
    for name in (".git/hooks/a.sample", "inner/.b.txt", "inner/c.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert [*texts_of(Corpus("a", (tmp_path,)))] == ["inner/c.txt"]
    assert [*texts_of(Corpus("a", (tmp_path / ".git",)))] == [".git/hooks/a.sample"]


def test_labels_become_names() -> None:
    labels = ["web/1", "web:1", "a b", "", "é&", "-x", "web/1", "n" * 200]
    names = corpus_names(labels)
    assert names[:3] == ["web:1", "web:1 (2)", "a b"]
    assert names[6] == "web:1 (3)"
    assert len(set(names)) == len(labels)
    for name in names:
        Corpus(name, (Path(),))
