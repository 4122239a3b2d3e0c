import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models

from everlong.errors import RequestError, TemplateError, UnsupportedError
from everlong.tokenizer import StreamDecoder, Tokenizer, train_tokenizer
from everlong.tokenizer.guard import MARK

SAMPLES = [
    "",
    " ",
    "Hello world! 123",
    "  two spaces\n\n\tand a tab\r\n",
    "naïve 北京 😀👩‍👩‍👧 ½",
    "e\u0301 is not é",
    "<|im_start|>user\nhi<|im_end|>",
    "\x00\x7f\u00a0\ufffd",
]


@pytest.mark.parametrize("text", SAMPLES)
def test_text_survives_a_round_trip(trained: Tokenizer, text: str):
    assert trained.decode(trained.encode(text), skip_special=False) == text
    plain = trained.encode(text, special=False)
    assert trained.decode(plain) == text
    assert not any(trained.is_special(i) for i in plain)


@settings(max_examples=100, deadline=None)
@given(st.text())
def test_any_text_survives_a_round_trip(trained: Tokenizer, text: str):
    assert trained.decode(trained.encode(text, special=False)) == text


def test_special_tokens_and_what_looks_like_them(trained: Tokenizer):
    end = trained.token_id("<|im_end|>")
    text = "a<|im_end|>b"
    assert trained.encode(text).count(end) == 1
    assert end not in trained.encode(text, special=False)
    # What surrounds the plain text is cut as if no such token existed.
    unaware = Backend(trained._backend.model)
    unaware.pre_tokenizer = trained._backend.pre_tokenizer
    assert trained.encode(text, special=False) == unaware.encode(text).ids
    assert trained.decode(trained.encode(text)) == "ab"
    assert trained.token_bytes(end) == b""
    assert trained.token_text(end) == "<|im_end|>"
    assert trained.is_special(end)
    assert trained.eos_token_ids == {end, trained.token_id("<|endoftext|>")}
    assert trained.token_id("the") is None, "only special and added tokens are looked up"


def test_the_guards_mark_is_kept_in_ordinary_text(trained: Tokenizer):
    assert trained.decode(trained.encode(f"a{MARK}b", special=False)) == f"a{MARK}b"


def test_token_bytes_are_the_text(trained: Tokenizer):
    ids = trained.encode("naïve 北京 😀")
    assert b"".join(map(trained.token_bytes, ids)) == "naïve 北京 😀".encode()
    single = {trained.token_bytes(i) for i in range(trained.vocab_size)}
    assert {bytes([b]) for b in range(256)} <= single


def test_ids_that_are_no_tokens_stand_for_no_text(trained: Tokenizer):
    for token_id in (-1, trained.vocab_size, 2**40):
        assert trained.is_special(token_id)
        assert trained.token_bytes(token_id) == b""
    assert trained.decode([trained.vocab_size, *trained.encode("hi"), -5]) == "hi"


def test_half_characters_are_refused(trained: Tokenizer):
    with pytest.raises(RequestError, match=r"U\+D83D.*character 3"):
        trained.encode("abc\ud83d")


# Ids 3 to 258 are the single bytes, so most random sequences are invalid UTF-8.
ids_strategy = st.lists(st.one_of(st.integers(0, 399), st.integers(3, 258), st.integers(-2, 500)))


@settings(max_examples=300, deadline=None)
@given(ids=ids_strategy, skip=st.booleans())
def test_streamed_text_is_the_decoded_text(trained: Tokenizer, ids: list[int], skip: bool):
    decoder = StreamDecoder(trained, skip)
    pieces = [decoder.push(i) for i in ids]
    # No piece ends in the middle of a character that the next id completes.
    for count in range(len(ids)):
        whole = trained.decode(ids, skip_special=skip)
        assert whole.startswith("".join(pieces[: count + 1]))
    pieces.append(decoder.flush())
    assert "".join(pieces) == trained.decode(ids, skip_special=skip)
    # The library itself decodes valid ids to the same text.
    if skip and all(0 <= i < trained.vocab_size for i in ids):
        assert "".join(pieces) == trained._backend.decode(ids)


@pytest.mark.parametrize("text", ["aé北😀", "👩\u200d👩\u200d👧", "e\u0301", "\U0010ffff\x00"])
def test_streaming_waits_for_whole_characters(trained: Tokenizer, text: str):
    id_of = {trained.token_bytes(i): i for i in range(trained.vocab_size)}
    decoder = StreamDecoder(trained)
    for character in text:
        *first, last = [id_of[bytes([byte])] for byte in character.encode()]
        assert [decoder.push(i) for i in first] == [""] * len(first)
        assert decoder.push(last) == character
    assert decoder.flush() == ""


def test_an_unfinished_character_comes_out_at_the_end(trained: Tokenizer):
    id_of = {trained.token_bytes(i): i for i in range(trained.vocab_size)}
    decoder = StreamDecoder(trained)
    assert decoder.push(id_of[b"\xf0"]) + decoder.push(id_of[b"\x9f"]) == ""
    assert decoder.flush() == "\ufffd"


def test_fingerprint_covers_everything_that_changes_ids_or_prompts():
    def make(**changes: object) -> bytes:
        settings = {"texts": ["abab abab cdcd cdcd"], "vocab_size": 265, **changes}
        return train_tokenizer(**settings).fingerprint()

    same = make()
    assert len(same) == 32
    assert same == make()
    others = [
        make(texts=["xyxy xyxy"]),
        make(vocab_size=261),
        make(special_tokens=("<|im_start|>", "<|endoftext|>", "<|im_end|>")),
        make(words="gpt-2"),
        make(chat_template="{{ messages }}"),
        make(eos_token="<|endoftext|>"),
    ]
    assert len({same, *others}) == len(others) + 1


def test_truncation_and_padding_of_the_file_are_off(trained: Tokenizer):
    backend = Backend.from_str(trained._backend.to_str())
    backend.enable_truncation(4)
    backend.enable_padding(length=100)
    text = "the quick brown fox jumps over the lazy dog"
    assert Tokenizer(backend).encode(text) == trained.encode(text)


def test_other_kinds_of_tokenizer_are_refused():
    backend = Backend(models.WordPiece({"a": 0}, unk_token="a"))
    backend.decoder = decoders.WordPiece()
    with pytest.raises(UnsupportedError, match="WordPiece"):
        Tokenizer(backend)
    backend.decoder = None
    with pytest.raises(UnsupportedError, match="missing"):
        Tokenizer(backend)


def test_chat_without_a_template_is_refused(trained: Tokenizer):
    bare = Tokenizer(Backend.from_str(trained._backend.to_str()))
    with pytest.raises(TemplateError, match="no chat template"):
        bare.encode_chat([{"role": "user", "content": "hi"}])
