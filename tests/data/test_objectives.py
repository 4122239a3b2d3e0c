"""What pieces become under each objective."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlong.data.objectives import NOT_LEARNED, Objective, Shaping
from everlong.data.streams import Piece
from everlong.errors import DataError

MASK = 99


def tokens_of(piece: Piece) -> np.ndarray:
    return np.arange(piece.start, piece.end + 1, dtype=np.int64) + 1000


@given(st.integers(1, 60), st.integers(0, 5), st.data())
def test_masked_tokens_are_predicted_and_no_others(
    length: int, step: int, data: st.DataObject
) -> None:
    piece = Piece(0, 3, 7, 7 + length)
    tokens = tokens_of(piece)
    flags = data.draw(st.lists(st.booleans(), min_size=length, max_size=length))
    learned = np.array(flags)
    (one,) = Shaping("denoise", seed=1, step=step, mask=MASK)(piece, tokens, learned)
    assert one.sight == "bidirectional"
    assert one.tokens[0] == tokens[0]
    predicted = one.targets != NOT_LEARNED
    assert (predicted <= learned).all()
    assert predicted.any() == learned.any()
    assert (one.targets[predicted] == tokens[1:][predicted]).all()
    # A token that is predicted is not to be seen.
    assert (one.tokens[1:][predicted[:-1]] == MASK).all()
    kept = one.tokens != MASK
    assert (one.tokens[kept] == tokens[:-1][kept]).all()


@given(st.integers(1, 60), st.integers(0, 5))
def test_what_a_prefix_shows_is_not_predicted(length: int, step: int) -> None:
    piece = Piece(0, 3, 0, length)
    tokens = tokens_of(piece)
    (one,) = Shaping("prefix", seed=1, step=step)(piece, tokens, np.ones(length, bool))
    assert isinstance(one.sight, int)
    assert 1 <= one.sight <= length
    assert (one.tokens == tokens[:-1]).all()
    predicted = np.flatnonzero(one.targets != NOT_LEARNED)
    assert predicted.tolist() == [*range(one.sight - 1, length)]
    assert (one.targets[predicted] == tokens[1:][predicted]).all()


@given(st.integers(1, 40), st.integers(0, 39), st.integers(0, 9))
def test_behind_a_prefix_something_is_learned(length: int, at: int, step: int) -> None:
    """Of texts in which an answer is learned, and nothing behind it."""
    piece = Piece(0, 3, 0, length)
    learned = np.zeros(length, bool)
    learned[at % length] = True
    (one,) = Shaping("prefix", seed=1, step=step)(piece, tokens_of(piece), learned)
    assert np.flatnonzero(one.targets != NOT_LEARNED).tolist() == [at % length]


def test_a_pair_becomes_two_sequences() -> None:
    tokens = np.array([5, 6, 1, 7, 8, 9, 1])
    learned = np.array([False, False, True, True, True, True])
    query, passage = Shaping("contrastive")(Piece(0, 0, 0, 6), tokens, learned)
    assert (query.tokens.tolist(), passage.tokens.tolist()) == ([5, 6, 1], [7, 8, 9, 1])
    assert {query.sight, passage.sight} == {"bidirectional"}
    assert {*query.targets, *passage.targets} == {NOT_LEARNED}
    for piece, told in ((Piece(0, 0, 2, 6), learned[2:]), (Piece(0, 0, 0, 6), learned & False)):
        with pytest.raises(DataError, match="whole pairs"):
            Shaping("contrastive")(piece, tokens[piece.start :], told)


@pytest.mark.parametrize("objective", ["denoise", "prefix"])
def test_draws_depend_on_seed_step_and_piece(objective: Objective) -> None:
    def drawn(seed: int, step: int, document: int) -> list[object]:
        piece = Piece(0, document, 0, 200)
        (one,) = Shaping(objective, seed, step, MASK)(
            piece, tokens_of(piece), np.ones(200, dtype=bool)
        )
        return [one.tokens.tolist(), one.targets.tolist(), one.sight]

    assert drawn(0, 0, 0) == drawn(0, 0, 0)
    others = [drawn(1, 0, 0), drawn(0, 1, 0), drawn(0, 0, 1)]
    assert all(one != drawn(0, 0, 0) for one in others)
