"""Streamed text is the text of the finished request, whatever the tokens and stop strings."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everlong.engine.text import TextAssembler
from everlong.tokenizer import Tokenizer, train_tokenizer

TEXTS = ["abc abd aab ba, Äpfel 人工智能 😀 END of the end."] * 4


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TEXTS, 300)


def cut(text: str, stop: tuple[str, ...]) -> str:
    """Text before the stop string that is completed first, the longest of those."""
    for end in range(1, len(text) + 1):
        ending = [s for s in stop if text[:end].endswith(s)]
        if ending:
            return text[: end - len(max(ending, key=len))]
    return text


def pieces(assembler: TextAssembler, ids: list[int]) -> tuple[list[str], bool]:
    """What each push and the flush return, until a stop string is found."""
    out = []
    for token_id in ids:
        text, matched = assembler.push(token_id)
        out.append(text)
        if matched:
            assert assembler.flush() == ""
            return out, True
    return [*out, assembler.flush()], False


# Few letters, so that stop strings and their beginnings occur often and overlap.
alphabet = st.sampled_from(["a", "b", "ab", "aab", " ", "é", "人", "😀", "<"])
words = st.lists(alphabet, max_size=30).map("".join)
stops = st.lists(st.lists(alphabet, min_size=1, max_size=5).map("".join), max_size=5).map(tuple)


@settings(deadline=None, max_examples=200)
@given(text=words, stop=stops, data=st.data())
def test_pieces_are_the_text(
    tokenizer: Tokenizer, text: str, stop: tuple[str, ...], data: st.DataObject
) -> None:
    """For every cutting of the text into tokens, down to the bytes of a character."""
    ids: list[int] = []
    rest = text.encode()
    while rest:
        size = data.draw(st.integers(1, 6))
        part = rest[:size]
        rest = rest[size:]
        try:
            ids += tokenizer.encode(part.decode(), special=False)
        except UnicodeDecodeError:
            ids += [BYTES[byte] for byte in part]
    out, matched = pieces(TextAssembler(tokenizer, stop), ids)
    assert "".join(out) == cut(text, stop)
    assert matched == (cut(text, stop) != text)


@settings(deadline=None, max_examples=100)
@given(ids=st.lists(st.integers(0, 299), max_size=40), stop=stops, skip=st.booleans())
def test_any_tokens(
    tokenizer: Tokenizer, ids: list[int], stop: tuple[str, ...], skip: bool
) -> None:
    """Halves of characters and special tokens too."""
    out, matched = pieces(TextAssembler(tokenizer, stop, skip), ids)
    text = tokenizer.decode(ids, skip_special=skip)
    assert "".join(out) == cut(text, stop)
    # A character that is only known to be broken at the end can complete a stop string too late.
    assert matched <= (cut(text, stop) != text)
    seen = ""
    for piece in out:
        seen += piece
        assert text.startswith(seen), "nothing is taken back"


def byte_ids(tokenizer: Tokenizer) -> dict[int, int]:
    ids = range(tokenizer.vocab_size)
    return {b[0]: i for i in ids if len(b := tokenizer.token_bytes(i)) == 1}


BYTES = byte_ids(train_tokenizer(TEXTS, 300))


def test_text_comes_as_soon_as_it_is_certain(tokenizer: Tokenizer) -> None:
    assembler = TextAssembler(tokenizer, ("END", "\n\n"))
    ids = [BYTES[byte] for byte in b"aEb\nENd EN"]
    assert [assembler.push(i)[0] for i in ids] == ["a", "", "Eb", "", "\n", "", "ENd", " ", "", ""]
    assert assembler.flush() == "EN"


def test_broken_character_at_the_end_can_complete_a_stop_string(tokenizer: Tokenizer) -> None:
    assembler = TextAssembler(tokenizer, ("b\ufffd",))
    assert assembler.push(BYTES[ord("a")]) == ("a", False)
    assert assembler.push(BYTES[ord("b")]) == ("", False)
    assert assembler.push(BYTES[0xE4]) == ("", False)
    assert assembler.flush() == ""


def test_first_completed_wins_then_the_longest(tokenizer: Tokenizer) -> None:
    def text(stop: tuple[str, ...]) -> str:
        return "".join(pieces(TextAssembler(tokenizer, stop), tokenizer.encode("aabab"))[0])

    assert text(("aabab", "b")) == "aa"
    assert text(("b", "ab")) == "a"
    assert text(("bab", "aba")) == "a"


def test_stop_strings_inside_the_minimum_are_text(tokenizer: Tokenizer) -> None:
    ids = [BYTES[byte] for byte in b"ab ab ab"]
    for minimum, expected in ((0, ""), (1, ""), (2, "ab "), (4, "ab "), (5, "ab ab "), (8, None)):
        out, matched = pieces(TextAssembler(tokenizer, ("ab",), min_tokens=minimum), ids)
        assert "".join(out) == ("ab ab ab" if expected is None else expected)
        assert matched == (expected is not None)


def test_stop_string_may_begin_inside_one_that_did_not_count(tokenizer: Tokenizer) -> None:
    ids = [BYTES[byte] for byte in b"xababa"]
    out, matched = pieces(TextAssembler(tokenizer, ("aba",), min_tokens=4), ids)
    assert ("".join(out), matched) == ("xab", True)


def test_special_tokens_are_text_only_if_wanted(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("a<|im_end|>b")
    assert "".join(pieces(TextAssembler(tokenizer), ids)[0]) == "ab"
    assert "".join(pieces(TextAssembler(tokenizer, skip_special=False), ids)[0]) == "a<|im_end|>b"


def test_long_stop_strings_cost_no_more(tokenizer: Tokenizer) -> None:
    """The naive search would compare 20,000 x 20,000 characters."""
    stop = ("a" * 20_000 + "b", "a" * 19_999 + "c")
    assembler = TextAssembler(tokenizer, stop)
    a = BYTES[ord("a")]
    assert all(assembler.push(a) == ("", False) for _ in range(19_999))
    text, matched = assembler.push(BYTES[ord("d")])
    assert (text, matched) == ("a" * 19_999 + "d", False)
