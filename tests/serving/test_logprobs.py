"""Log-probabilities of tokens that are no text by themselves."""

from __future__ import annotations

import math

import pytest

from everlong.engine.request import Chunk, TokenLogprob
from everlong.serving.logprobs import LOWEST, CompletionLogprobWriter, chat_logprobs, told
from everlong.tokenizer import Tokenizer, train_tokenizer


@pytest.fixture(scope="module")
def byte_tokens() -> Tokenizer:
    """One token a byte."""
    return train_tokenizer([""], 259)


def test_chat_form(byte_tokens: Tokenizer) -> None:
    a, half, end = (*byte_tokens.encode("a€")[:2], byte_tokens.encode("<|im_end|>")[0])
    given = [
        TokenLogprob(a, -0.5, ((a, -0.5), (half, -math.inf))),
        TokenLogprob(half, -1.0),
        TokenLogprob(end, -2.0),
    ]
    first, second, third = chat_logprobs(byte_tokens, given).content
    assert (first.token, first.bytes, first.logprob) == ("a", [97], -0.5)
    assert [top.logprob for top in first.top_logprobs] == [-0.5, LOWEST]
    assert (second.token, second.bytes) == ("�", [0xE2])
    assert third.token == "<|im_end|>"


def test_offsets_inside_and_behind_characters(byte_tokens: Tokenizer) -> None:
    writer = CompletionLogprobWriter(byte_tokens)
    ids = byte_tokens.encode("a€b")
    whole = writer.write([TokenLogprob(token, -1.0) for token in ids])
    assert whole.tokens == ["a", "bytes:\\xe2", "bytes:\\x82", "bytes:\\xac", "b"]
    assert whole.text_offset == [0, 1, 1, 1, 2]
    broken = writer.write([TokenLogprob(token, -1.0) for token in (ids[1], ids[0])])
    assert broken.text_offset == [3, 4], "what is unfinished becomes one U+FFFD"


def test_the_chosen_token_is_among_the_likeliest(byte_tokens: Tokenizer) -> None:
    a, b = byte_tokens.encode("ab")
    writer = CompletionLogprobWriter(byte_tokens)
    (top,) = writer.write([TokenLogprob(b, -9.0, ((a, -0.1),))]).top_logprobs
    assert top == {"a": -0.1, "b": -9.0}
    (top,) = writer.write([TokenLogprob(b, -9.0)]).top_logprobs
    assert top == {}


def test_only_the_end_of_an_answer_is_left_out() -> None:
    two = (TokenLogprob(5, -1.0), TokenLogprob(2, -1.0))
    ended = Chunk("", (5, 2), two, "stop")
    assert told(ended, {2}) == two[:1]
    assert told(ended, {3}) == two
    assert told(Chunk("", (5, 2), two, "length"), {2}) == two
    assert told(Chunk("", (5, 2)), {2}) == ()
