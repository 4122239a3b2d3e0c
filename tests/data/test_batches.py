from __future__ import annotations

from pathlib import Path

from everlong.data.batches import read
from everlong.data.objectives import NOT_LEARNED
from everlong.data.streams import Packed, Piece, Source
from everlong.data.token_shards import ShardWriter, TokenShards


def test_tokens_predict_the_next_of_their_document(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "a", tokenizer="t", vocab_size=99) as writer:
        writer.add([10, 11, 12, 13, 14])
    with ShardWriter(tmp_path / "b", tokenizer="t", vocab_size=99, partly_learned=True) as chats:
        chats.add([20, 21, 22, 23], [False, False, True, True])
    sources = [Source("a", TokenShards(tmp_path / "a")), Source("b", TokenShards(tmp_path / "b"))]
    packed = [
        Packed(0, (Piece(1, 0, 0, 3), Piece(0, 0, 0, 2))),
        Packed(1, (Piece(0, 0, 2, 4),)),
    ]
    batch = read(packed, sources)
    assert batch.lengths == (3, 2, 2)
    assert batch.tokens.tolist() == [20, 21, 22, 10, 11, 12, 13]
    assert batch.targets.tolist() == [NOT_LEARNED, 22, 23, 11, 12, 13, 14]
    assert batch.positions.tolist() == [0, 1, 2, 0, 1, 0, 1]
    assert batch.learned == 6
