"""Prompts: of an exact length, repeatable, and no two alike."""

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.prompts import Prompts, sentences


def words(text: str) -> list[int]:
    """One id a word: as few tokens as a tokenizer could make of a text."""
    return [hash(word) for word in text.split()]


@given(st.integers(1, 5), st.integers(1, 1200))
def test_prompts_have_the_asked_length(count: int, tokens: int) -> None:
    made = Prompts(0, words).make("key", count, tokens)
    assert [len(prompt) for prompt in made] == [tokens] * count


def test_the_same_key_gives_the_same_prompts() -> None:
    assert Prompts(3, words).make("a", 2, 50) == Prompts(3, words).make("a", 2, 50)


def test_prompts_of_other_keys_seeds_and_places_begin_differently() -> None:
    beginnings = [
        tuple(prompt[:32])
        for seed in (0, 1)
        for key in ("round 1 prefill 0", "round 2 prefill 0", "round 1 decode16 0")
        for prompt in Prompts(seed, words).make(key, 16, 32)
    ]
    assert len(set(beginnings)) == len(beginnings)


def test_sentences_are_sentences() -> None:
    text = sentences("seed", 20)
    assert text[0].isupper()
    assert text[-1] in ".?!"
    assert len(text.split()) >= 6 * 20
