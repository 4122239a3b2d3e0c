"""Windows of a text, and what a difference in loss means for the perplexity."""

import math

import pytest

from benchmarks.perplexity import WINDOW, Losses, claim, increase, windows


def test_windows_follow_each_other_and_the_rest_is_left_out() -> None:
    ids = [*range(2 * WINDOW + 5)]
    assert windows(ids, None) == [ids[:WINDOW], ids[WINDOW : 2 * WINDOW]]
    assert windows(ids, 1) == [ids[:WINDOW]]
    assert windows(ids[: WINDOW - 1], None) == []
    assert windows(ids[:WINDOW], None) == [ids[:WINDOW]]


def test_perplexity_weighs_every_token_alike() -> None:
    losses = Losses((10.0, 90.0), (10, 30))
    assert losses.perplexity == pytest.approx(math.exp(100 / 40))


def test_an_increase_is_in_per_cent_of_the_perplexity() -> None:
    reference = Losses((20.0, 40.0), (10, 10))
    worse = Losses((20.0 + 10 * math.log(1.02), 40.0 + 10 * math.log(1.02)), (10, 10))
    assert increase(worse, reference) == pytest.approx(2.0)
    assert increase(reference, worse) == pytest.approx(100 * (1 / 1.02 - 1))


def test_only_the_same_windows_are_compared() -> None:
    with pytest.raises(AssertionError, match="different windows"):
        increase(Losses((1.0,), (10,)), Losses((1.0, 1.0), (10, 10)))


def test_the_claim_is_on_the_chosen_weights_and_mentions_the_others() -> None:
    base = Losses((20.0, 20.0), (10, 10))
    losses = {
        "float32": base,
        "auto": Losses(tuple(s + 10 * math.log(1.01) for s in base.sums), base.counts),
        "int4": Losses(tuple(s + 10 * math.log(1.05) for s in base.sums), base.counts),
    }
    measured = claim(losses, "auto")
    assert measured.value == pytest.approx(1.0)
    assert "weights=int4: +5 %" in measured.detail
    assert "on 2 windows" in measured.detail
