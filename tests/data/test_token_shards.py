from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everlong.data.checked_array import BLOCK_BYTES
from everlong.data.token_shards import ShardWriter, TokenShards
from everlong.errors import ConfigError, DataError


def write(
    folder: Path, documents: list[list[int]], vocab_size: int = 1000, shard_tokens: int = 20
) -> TokenShards:
    writer = ShardWriter(folder, tokenizer="t", vocab_size=vocab_size, shard_tokens=shard_tokens)
    for document in documents:
        writer.add(document)
    return writer.close()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 99_999), max_size=30), max_size=12),
    st.sampled_from([100_000, 1 << 16]),
)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, documents: list[list[int]], vocab_size: int
) -> None:
    documents = [[token % vocab_size for token in document] for document in documents]
    shards = write(tmp_path_factory.mktemp("shards"), documents, vocab_size)
    assert shards.documents == len(documents)
    assert shards.tokens == sum(map(len, documents))
    for number, document in enumerate(documents):
        assert shards.length(number) == len(document)
        assert shards.read(number, 0, len(document)).tolist() == document
        assert (
            shards.read(number, len(document) // 2, len(document)).tolist()
            == (document[len(document) // 2 :])
        )
        assert shards.learned(number, 0, len(document)).all()


def test_what_is_learned_is_kept(tmp_path: Path) -> None:
    with ShardWriter(tmp_path, tokenizer="t", vocab_size=9, partly_learned=True) as writer:
        writer.add([1, 2, 3], [False, True, True])
        writer.add([4], [False])
    shards = TokenShards(tmp_path)
    assert shards.learned(0, 1, 3).tolist() == [True, True]
    assert shards.learned(1, 0, 1).tolist() == [False]
    assert shards.index.dtype == "uint16"


def test_shards_are_split_and_mapped(tmp_path: Path) -> None:
    shards = write(tmp_path, [[i] * 7 for i in range(10)])
    assert [shard.documents for shard in shards.index.shards] == [3, 3, 3, 1]
    assert isinstance(shards._shards[0].tokens.read(0, 7), np.memmap)


def test_a_token_outside_the_vocabulary_is_refused(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, tokenizer="t", vocab_size=10)
    for tokens in ([3, 10], [-1]):
        with pytest.raises(DataError, match="vocabulary of 10"):
            writer.add(tokens)


def test_a_folder_is_complete_or_refused(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, tokenizer="t", vocab_size=10, shard_tokens=2)
    writer.add([1, 2, 3])
    with pytest.raises(DataError, match="stopped before its end"):
        TokenShards(tmp_path)
    writer.close()
    assert TokenShards(tmp_path).documents == 1
    with pytest.raises(ConfigError, match="holds token shards already"):
        ShardWriter(tmp_path, tokenizer="t", vocab_size=10)


def test_an_exception_leaves_no_index(tmp_path: Path) -> None:
    def stopped() -> None:
        with ShardWriter(tmp_path, tokenizer="t", vocab_size=10) as writer:
            writer.add([1])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    with pytest.raises(DataError):
        TokenShards(tmp_path)


def test_damage_is_named(tmp_path: Path) -> None:
    write(tmp_path, [[1, 2, 3], [4, 5]], shard_tokens=100)
    tokens = tmp_path / "00000.tokens"
    whole = tokens.read_bytes()
    tokens.write_bytes(whole[:-2])
    with pytest.raises(DataError, match=r"00000\.tokens has 8 bytes, and index.json says 10"):
        TokenShards(tmp_path)
    tokens.unlink()
    with pytest.raises(DataError, match="is missing"):
        TokenShards(tmp_path)
    tokens.write_bytes(whole)
    (tmp_path / "00000.checksums").write_bytes(bytes(16))
    with pytest.raises(DataError, match=r"00000\.checksums is missing or damaged"):
        TokenShards(tmp_path)
    (tmp_path / "00000.checksums").unlink()
    with pytest.raises(DataError, match=r"00000\.checksums is missing or damaged"):
        TokenShards(tmp_path)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_bit_that_is_read_may_be_another(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    lengths = [BLOCK_BYTES // 2 - 10, 20, BLOCK_BYTES]
    with ShardWriter(folder, tokenizer="t", vocab_size=1000, partly_learned=True) as writer:
        for number, length in enumerate(lengths):
            writer.add([number] * length, [number == 1] * length)
    kind = data.draw(st.sampled_from(["tokens", "starts", "learn"]))
    path = folder / f"00000.{kind}"
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)

    def read(document: int) -> None:
        length = shards.length(document)
        assert length == lengths[document]
        assert (shards.read(document, 0, length) == document).all()
        assert (shards.learned(document, 0, length) == (document == 1)).all()

    shards = TokenShards(folder)
    told: dict[int, str] = {}
    for number in range(3):
        try:
            read(number)
        except DataError as error:
            told[number] = str(error)
    assert told, "and what is read is what was written"
    assert all(f"{path} is damaged" in one for one in told.values())
    if kind == "tokens" and at >= BLOCK_BYTES:
        assert 0 not in told, "what is whole can be read"


def test_tokens_of_another_vocabulary_are_named(tmp_path: Path) -> None:
    write(tmp_path, [[1, 999]])
    path = tmp_path / "index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"vocab_size": 10}))
    with pytest.raises(DataError, match="document 0: token 999 is not in the vocabulary of 10"):
        TokenShards(tmp_path).read(0, 0, 2)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"format": 1}, "has format 1, and this version reads 2"),
        ({"dtype": "float32"}, "dtype 'float32' is none of"),
        ({"more": 1}, "more is unknown"),
    ],
)
def test_an_index_that_cannot_be_is_refused(
    tmp_path: Path, change: dict[str, object], told: str
) -> None:
    write(tmp_path, [[1, 2]])
    path = tmp_path / "index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DataError, match=told):
        TokenShards(tmp_path)
    path.write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        TokenShards(tmp_path)
