from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everlong.data.permutation import Permutation
from everlong.data.streams import STREAMS, Packed, Piece, Source, Streams, deal
from everlong.data.token_shards import ShardWriter, TokenShards
from everlong.errors import DataError


def source(folder: Path, lengths: list[int], name: str = "some") -> Source:
    with ShardWriter(folder / name, tokenizer="t", vocab_size=10) as writer:
        for length in lengths:
            writer.add([length % 10] * length)
    return Source(name, TokenShards(folder / name))


@given(st.integers(1, 300), st.text(max_size=5))
def test_a_permutation_has_each_number_once(count: int, key: str) -> None:
    order = Permutation(count, key)
    assert sorted(order[i] for i in range(count)) == [*range(count)]


def test_permutations_differ_by_their_key_and_are_shuffled() -> None:
    one, other = (Permutation(1000, key) for key in ("1", "2"))
    assert [one[i] for i in range(1000)] != [other[i] for i in range(1000)]
    # As many fall as rise, within four standard deviations.
    rises = sum(one[i] < one[i + 1] for i in range(999))
    assert abs(rises - 499.5) < 4 * (999 / 12) ** 0.5
    with pytest.raises(IndexError):
        one[1000]


def positions(packed: list[Packed]) -> Counter[tuple[int, int, int]]:
    """How often each token of each document is read."""
    return Counter(
        (piece.source, piece.document, at)
        for one in packed
        for piece in one.pieces
        for at in range(piece.start, piece.end)
    )


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=80), st.booleans(), st.data())
def test_nothing_is_lost_or_read_twice_in_an_epoch(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], cut: bool, data: st.DataObject
) -> None:
    if max(lengths) < 2:
        lengths[0] = 2
    streams = Streams([source(tmp_path_factory.mktemp("s"), lengths)], seed=3)
    packed = streams.take(data.draw(st.integers(1, 70)), 16, [1.0], cut)
    assert all(0 < one.tokens <= 16 for one in packed)
    if cut:
        assert all(one.tokens == 16 for one in packed)
    assert all(piece.end < lengths[piece.document] for one in packed for piece in one.pieces)
    # What was drawn is what was read and what waits, each epoch once for all streams.
    state = streams.state()
    waiting = [
        Packed(0, (Piece(*piece),)) for stream in state["streams"] for piece in stream["waiting"]
    ]
    found = positions(packed + waiting)
    drawn = Counter[int]()
    for number, stream in enumerate(state["streams"]):
        for turn in range(stream["drawn"][0]):
            epoch, place = divmod(number + STREAMS * turn, len(lengths))
            order = Permutation(len(lengths), f"3 some {epoch}")
            drawn[order[place]] += 1
    expected = {
        (0, document, at): times
        for document, times in drawn.items()
        for at in range(lengths[document] - 1)
    }
    assert found == expected


def test_a_sequence_is_filled_with_what_fits_best(tmp_path: Path) -> None:
    streams = Streams([source(tmp_path, [5, 6, 9, 12, 3, 3, 8] * 64)], seed=0)
    whole = streams.take(320, 16, [1.0], cut=False)
    assert sum(one.tokens for one in whole) / (320 * 16) > 0.95
    # Without cutting, documents that fit into a sequence are whole.
    assert all(piece.start == 0 for one in whole for piece in one.pieces)


def test_the_state_goes_on_exactly(tmp_path: Path) -> None:
    sources = [
        source(tmp_path, [7, 9, 30, 4, 18] * 9, "a"),
        source(tmp_path, [5, 50] * 20, "b"),
    ]
    whole = Streams(sources, seed=1)
    expected = whole.take(100, 24, [0.7, 0.3]) + whole.take(41, 48, [0.2, 0.8])
    first = Streams(sources, seed=1)
    found = first.take(37, 24, [0.7, 0.3])
    state = json.loads(json.dumps(first.state()))
    second = Streams(sources, seed=1)
    second.load(state)
    # However the sequences are taken.
    for count in (3, 40, 20):
        found += second.take(count, 24, [0.7, 0.3])
    found += second.take(41, 48, [0.2, 0.8])
    assert found == expected
    with pytest.raises(DataError, match="read from a, b when it stopped, and now from b"):
        Streams(sources[1:], seed=1).load(state)


def test_sources_give_their_share_of_the_tokens(tmp_path: Path) -> None:
    sources = [
        source(tmp_path, [400, 20, 80] * 30, "long"),
        source(tmp_path, [5, 9] * 30, "short"),
        source(tmp_path, [10], "unused"),
    ]
    streams = Streams(sources, seed=0)
    for weights in ([0.25, 0.75, 0.0], [0.9, 0.1, 0.0]):
        streams.restart()
        tokens = tokens_of(streams.take(6000, 64, weights))
        assert tokens[2] == 0
        assert tokens[0] / sum(tokens.values()) == pytest.approx(weights[0], abs=0.05)


def test_shares_hold_from_the_first_step_with_documents_longer_than_sequences(
    tmp_path: Path,
) -> None:
    sources = [source(tmp_path, [3500] * 50, name) for name in ("one", "other")]
    for seed in range(3):
        tokens = tokens_of(Streams(sources, seed).take(64, 128, [0.8, 0.2]))
        assert tokens[1] / sum(tokens.values()) == pytest.approx(0.2, abs=0.11)


def test_with_other_weights_nothing_is_read_of_what_has_none(tmp_path: Path) -> None:
    """And what was drawn before is not lost: it is read when its source's turn comes again."""
    sources = [source(tmp_path, [40, 70, 20] * 2000, name) for name in ("one", "other")]
    streams = Streams(sources, seed=1)
    first = streams.take(100, 32, [1.0, 0.0])
    streams.restart()
    assert tokens_of(streams.take(100, 32, [0.0, 1.0]))[0] == 0
    state = json.loads(json.dumps(streams.state()))
    streams = Streams(sources, seed=1)
    streams.load(state)
    streams.restart()
    again = streams.take(1500, 32, [1.0, 0.0])
    read = positions([*first, *again])
    assert max(read.values()) == 1
    whole = Counter(place[:2] for place in read)
    # All but what waits in the streams has been read whole.
    assert sum(count in (39, 69, 19) for count in whole.values()) > len(whole) - 2 * STREAMS


def tokens_of(packed: list[Packed]) -> Counter[int]:
    """How many of each source are read."""
    tokens = Counter[int]()
    for one in packed:
        for piece in one.pieces:
            tokens[piece.source] += len(piece)
    return tokens


def test_sources_need_something_to_learn(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="one with two tokens is needed"):
        source(tmp_path, [1, 1, 1])


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=8), st.sampled_from([1, 2, 4]))
def test_work_is_dealt_evenly(costs: list[float], ranks: int) -> None:
    costs = costs * ranks
    dealt = deal(costs, ranks)
    assert sorted(number for numbers in dealt for number in numbers) == [*range(len(costs))]
    assert {len(numbers) for numbers in dealt} == {len(costs) // ranks}
    loads = [sum(costs[number] for number in numbers) for numbers in dealt]
    assert max(loads) - min(loads) <= max(costs) + 1e-9


def test_dealing_by_cost_is_better_than_in_turn(tmp_path: Path) -> None:
    streams = Streams([source(tmp_path, [300, 4, 6, 90, 12, 8] * 40)], seed=0)
    worst = {"dealt": 0.0, "in turn": 0.0}
    for _ in range(20):
        packed = streams.take(16, 256, [1.0])
        costs = [sum(len(piece) + 0.05 * len(piece) ** 2 for piece in one.pieces) for one in packed]
        dealt = deal(costs, 4)
        turns = [[*range(rank, 16, 4)] for rank in range(4)]
        for name, way in (("dealt", dealt), ("in turn", turns)):
            loads = [sum(costs[i] for i in numbers) for numbers in way]
            worst[name] += max(loads) / (sum(loads) / 4) - 1
    assert worst["dealt"] < 0.5 * worst["in turn"]
