"""From files to token shards: text, JSON lines, conversations; made once and kept.

What a set of files becomes is kept in a folder whose name is a digest of their contents, the
tokenizer and the way they are read, so a run that is started again reads shards at once.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from everlong.data.conversations import encode_answer, encode_conversation
from everlong.data.token_shards import INDEX, ShardWriter, TokenShards
from everlong.errors import ConfigError, DataError, MissingDataError, RequestError, TemplateError
from everlong.files import FileLock, named_files, sha256_file
from everlong.tokenizer import Tokenizer

Reading = Literal["text", "chat", "pairs", "preferences", "shards"]

_NAME = re.compile(r"\w[\w .,:+()-]{0,99}")
_VERSION = 2
"""Of how files become tokens, and tokens shards; another one makes shards anew."""
_LINE_BYTES = 64 << 20
_JSON_LINES = (".jsonl", ".jsonl.gz")


@dataclass(frozen=True)
class Corpus:
    """Files that are a source of documents."""

    name: str
    paths: tuple[Path, ...]
    """Files, folders (all files in them, in the order of their names) and patterns such as
    ``books/*.txt.gz``; with ``shards`` one folder."""
    kind: Reading = "text"
    """``text``: a file is a document, and so is each line of a ``.jsonl`` with its ``text``.
    ``chat``: lines of ``.jsonl`` with ``messages``, or with ``prompt`` and ``response``; answers
    are learned, the rest is context. ``pairs``: lines of ``.jsonl`` with ``query`` and ``passage``,
    of which the one is to find the other. ``preferences``: lines with ``prompt`` (or ``messages``),
    ``chosen`` and ``rejected``, answers of which the first is the better one. ``shards``: a folder
    of token shards."""

    def __post_init__(self) -> None:
        if not self.paths:
            raise ConfigError(f"the corpus {self.name!r} needs paths")
        if not _NAME.fullmatch(self.name):
            raise ConfigError(
                "a corpus has a name of up to 100 letters, digits, spaces and -_.,:+() that begins "
                f"with a letter or digit, not {self.name!r}: folders are named after it"
            )
        if self.kind == "shards" and len(self.paths) > 1:
            raise ConfigError(f"{self.name}: shards are one folder, not {len(self.paths)}")


def corpus_names(labels: Sequence[str]) -> list[str]:
    """Names for corpora, as near to their labels as names may be, and each another.

    ``web/1`` becomes ``web:1``; what has no place in a name becomes ``_``.
    """
    names: list[str] = []
    for label in labels:
        name = re.sub(r"[^\w .,:+()-]", "_", label.replace("/", ":"))[:90]
        name = name if re.match(r"\w", name) else f"_{name}"
        others = sum(one == name or one.startswith(f"{name} (") for one in names)
        names.append(f"{name} ({others + 1})" if others else name)
    return names


def open_corpus(
    corpus: Corpus,
    tokenizer: Tokenizer,
    kept: Path,
    say: Callable[[str], None] = lambda text: None,
) -> TokenShards:
    """The token shards of a corpus, made if they are not there yet.

    Args:
        corpus: what to read.
        tokenizer: of the model.
        kept: folder for shards that are made.
        say: told how far it is.

    Raises:
        MissingDataError: a path is not there, or a pattern has no files.
        DataError: a file cannot be read as it should be; shards are of another tokenizer.
    """
    wanted = tokenizer.fingerprint().hex()
    if corpus.kind == "shards":
        shards = TokenShards(corpus.paths[0])
        if shards.index.tokenizer != wanted:
            raise DataError(
                f"{corpus.paths[0]} was made with another tokenizer than the model's; make the "
                "shards anew from their texts"
            )
        return shards
    files = _files(corpus)
    folder = kept / f"{corpus.name}-{_digest(corpus, files, wanted)}"
    kept.mkdir(parents=True, exist_ok=True)
    with FileLock(kept / f".{folder.name}.lock"):  # other processes of the run wait for it
        if (folder / INDEX).exists():
            try:
                return TokenShards(folder)
            except DataError as error:
                say(f"{error}; that is done now")
        shutil.rmtree(folder, ignore_errors=True)
        _make(corpus, files, tokenizer, folder, say)
    return TokenShards(folder)


def texts_of(corpus: Corpus) -> Iterator[str]:
    """The texts of a corpus one after the other, of conversations each message.

    Raises:
        MissingDataError, DataError: as :func:`open_corpus`; or it is shards, whose texts are gone.
    """
    if corpus.kind == "shards":
        raise DataError(f"{corpus.name}: shards have no texts; name the files that they are of")
    for path in _files(corpus):
        for place, document in _documents(corpus, path):
            if corpus.kind == "text":
                yield document
                continue
            if corpus.kind == "pairs":
                yield from document
                continue
            if corpus.kind == "preferences":
                yield from document[1:]
            for message in document[0] if corpus.kind == "preferences" else document:
                content = message.get("content")
                if content is None and message.get("tool_calls"):
                    continue
                if not isinstance(content, str):
                    raise DataError(f"{place}: a message has no text as its content")
                yield content


def digest_of(corpora: Sequence[Corpus], more: str) -> str:
    """What files say and how they are read, and something else, in 16 letters."""
    parts = [_digest(corpus, _files(corpus), more) for corpus in corpora]
    return hashlib.blake2b(" ".join(parts).encode(), digest_size=8).hexdigest()


def _make(
    corpus: Corpus,
    files: Sequence[Path],
    tokenizer: Tokenizer,
    folder: Path,
    say: Callable[[str], None],
) -> None:
    end = end_of_text(tokenizer)
    with ShardWriter(
        folder,
        tokenizer=tokenizer.fingerprint().hex(),
        vocab_size=tokenizer.vocab_size,
        partly_learned=corpus.kind in ("chat", "pairs", "preferences"),
    ) as writer:
        for number, path in enumerate(files, start=1):
            for place, document in _documents(corpus, path):
                try:
                    if corpus.kind == "chat":
                        writer.add(*encode_conversation(tokenizer, document))
                    elif corpus.kind == "preferences":
                        both = [encode_answer(tokenizer, document[0], one) for one in document[1:]]
                        writer.add(*([*one, *other] for one, other in zip(*both, strict=True)))
                    elif corpus.kind == "pairs":
                        # What is "learned" of a pair is its passage: so both can be told apart.
                        query, passage = (
                            [*tokenizer.encode(text, special=False, bos=False), end]
                            for text in document
                        )
                        told = [False] * len(query) + [True] * len(passage)
                        writer.add([*query, *passage], told)
                    else:
                        writer.add([*tokenizer.encode(document, special=False, bos=False), end])
                except (DataError, TemplateError, RequestError) as error:
                    raise DataError(f"{place}: {error}") from None
            say(f"{corpus.name}: {number:,} of {len(files):,} files read")


def end_of_text(tokenizer: Tokenizer) -> int:
    """The token with which documents end.

    Raises:
        DataError: there is none.
    """
    ends = sorted(tokenizer.eos_token_ids)
    if not ends:
        raise DataError("the tokenizer has no end of sequence, with which documents end")
    named = tokenizer.token_id(tokenizer.named_tokens.get("eos_token", ""))
    return ends[0] if named is None else named


def _files(corpus: Corpus) -> list[Path]:
    """All files of a corpus, in order."""
    found: list[Path] = []
    for path in corpus.paths:
        inside = path.is_dir()
        try:
            for root, one in named_files(path):
                hidden = any(part.startswith(".") for part in one.relative_to(root).parts)
                if not (inside and hidden):
                    found.append(one)
        except FileNotFoundError as error:
            raise MissingDataError(f"{corpus.name}: {error}; change its paths") from None
    if not found:
        named = ", ".join(map(str, corpus.paths))
        raise MissingDataError(f"{corpus.name}: there are no files in {named}; change its paths")
    return found


def _digest(corpus: Corpus, files: Sequence[Path], tokenizer: str) -> str:
    digest = hashlib.blake2b(f"{_VERSION} {corpus.kind} {tokenizer}".encode(), digest_size=8)
    for path in files:
        # Contents, not names and times: a checkout or a copy is the same corpus.
        digest.update(f"{_is_lines(path)} {sha256_file(path)}".encode())
    return digest.hexdigest()


def _is_lines(path: Path) -> bool:
    return path.name.endswith(_JSON_LINES)


def _documents(corpus: Corpus, path: Path) -> Iterator[tuple[str, Any]]:
    """Where a document stands, for messages, and its text or messages."""
    with _opened(path) as file:
        if not _is_lines(path):
            if corpus.kind != "text":
                raise DataError(f"{path}: conversations and pairs are lines of a .jsonl file")
            yield str(path), _decoded(path, file.read())
            return
        number = 0
        while line := file.readline(_LINE_BYTES):
            number += 1
            place = f"{path}, line {number:,}"
            if len(line) == _LINE_BYTES:
                raise DataError(f"{place}: longer than {_LINE_BYTES >> 20} MiB; split it")
            if not line.strip():
                continue
            try:
                value = json.loads(_decoded(path, line))
            except (ValueError, RecursionError) as error:
                raise DataError(f"{place}: not JSON: {error}") from None
            yield place, _document(corpus, place, value)


def _document(corpus: Corpus, place: str, value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise DataError(f"{place}: must be an object, not {type(value).__name__}")
    if corpus.kind == "text":
        if not isinstance(text := value.get("text"), str):
            raise DataError(f"{place}: has no text; its fields: {', '.join(map(str, value))}")
        return text
    if corpus.kind == "pairs":
        pair = value.get("query"), value.get("passage")
        if not all(isinstance(one, str) and one for one in pair):
            raise DataError(
                f"{place}: needs query and passage; its fields: {', '.join(map(str, value))}"
            )
        return pair
    if corpus.kind == "preferences":
        answers = value.get("chosen"), value.get("rejected")
        asked = value.get("messages", value.get("prompt"))
        if asked is None or not all(isinstance(one, str) and one for one in answers):
            raise DataError(
                f"{place}: needs prompt or messages, chosen and rejected; its fields: "
                f"{', '.join(map(str, value))}"
            )
        if isinstance(asked, str):
            return [{"role": "user", "content": asked}], *answers
        return _messages(asked, place), *answers
    if "messages" in value:
        return _messages(value["messages"], place)
    prompt, response = value.get("prompt"), value.get("response")
    if not (isinstance(prompt, str) and isinstance(response, str)):
        raise DataError(
            f"{place}: has neither messages nor prompt and response; its fields: "
            f"{', '.join(map(str, value))}"
        )
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]


def _messages(value: Any, place: str) -> list[Mapping[str, Any]]:
    """A conversation; what is learned or read must be text."""
    if not isinstance(value, list) or not value:
        raise DataError(f"{place}: messages must be a list with one or more")
    for number, one in enumerate(value):
        if not isinstance(one, Mapping) or not isinstance(one.get("role"), str):
            raise DataError(f"{place}: messages[{number}] must be an object with a role")
        # A call of a tool has no content besides.
        if not isinstance(one.get("content"), str) and not one.get("tool_calls"):
            raise DataError(
                f"{place}: messages[{number}].content must be text, not "
                f"{type(one.get('content')).__name__}"
            )
        if one["role"] == "assistant" and not one.get("content") and not one.get("tool_calls"):
            raise DataError(f"{place}: messages[{number}] is an answer without a word")
    return value


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        with path.open("rb") as file:
            if path.suffix == ".gz":
                with gzip.open(file) as inflated:
                    yield io.BufferedReader(inflated)
            else:
                yield file
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from None


def _decoded(path: Path, data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no UTF-8: {error}") from None
