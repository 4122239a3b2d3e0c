import io
import json
import random
from typing import Any

import numpy as np
import pytest

from everlong.errors import CheckpointError, UnsupportedError
from everlong.tokenizer import StreamDecoder, Tokenizer, tokenizer_from_gguf
from tests.tokenizer.conftest import TEXTS

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6


def _metadata(tokenizer: Tokenizer, **changes: Any) -> dict[str, Any]:
    """What a converter would write for a byte-level tokenizer."""
    model = json.loads(tokenizer._backend.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    metadata = {
        "model": "gpt2",
        "pre": "smollm",
        "tokens": tokens,
        "token_type": [CONTROL] * 3 + [NORMAL] * (len(tokens) - 3),
        "merges": [" ".join(merge) for merge in model["merges"]],
        "bos_token_id": 1,
        "eos_token_id": 2,
        "add_bos_token": False,
    }
    return {f"tokenizer.ggml.{key}": value for key, value in {**metadata, **changes}.items()}


def test_byte_level(trained: Tokenizer):
    metadata = _metadata(trained)
    metadata["tokenizer.chat_template"] = trained.chat_template.source
    built = tokenizer_from_gguf(metadata)
    for text in [*TEXTS[:5], "<|im_start|>a<|im_end|>"]:
        assert built.encode(text) == trained.encode(text)
        assert built.decode(built.encode(text)) == trained.decode(trained.encode(text))
    assert built.vocab_size == trained.vocab_size
    assert built.eos_token_ids == trained.eos_token_ids
    assert built.bos_token_id == 1
    chat = [{"role": "user", "content": "hi"}]
    assert built.encode_chat(chat) == trained.encode_chat(chat)


def test_arrays_may_be_numpy(trained: Tokenizer):
    metadata = _metadata(trained)
    metadata["tokenizer.ggml.token_type"] = np.array(
        metadata["tokenizer.ggml.token_type"], dtype=np.int32
    )
    assert tokenizer_from_gguf(metadata).encode("hello") == trained.encode("hello")


def test_bos_and_eos_are_added_where_the_file_says_so(trained: Tokenizer):
    plain = trained.encode("a b")
    both = tokenizer_from_gguf(_metadata(trained, add_bos_token=True, add_eos_token=True))
    assert both.encode("a b") == [1, *plain, 2]
    assert both.encode("a b", bos=False) == plain
    unsaid = _metadata(trained)
    del unsaid["tokenizer.ggml.add_bos_token"]
    assert tokenizer_from_gguf(unsaid).encode("a b") == plain
    assert tokenizer_from_gguf({**unsaid, "tokenizer.ggml.pre": "llama-bpe"}).encode("a")[0] == 1


def test_tokens_by_type(trained: Tokenizer):
    metadata = _metadata(trained)
    extra = ["<note>", "<tool_call>", "[PAD]", "<|im_end|>"]  # the last one for the second time
    metadata["tokenizer.ggml.tokens"] += extra
    metadata["tokenizer.ggml.token_type"] += [USER_DEFINED, CONTROL, UNUSED, CONTROL]
    built = tokenizer_from_gguf(metadata)
    assert built.vocab_size == 404
    assert built.encode("<note><tool_call>[PAD]")[:2] == [400, 401]
    assert built.decode([400, 401, 402, 403, 2]) == "<note><tool_call>", "both delimit output"
    assert [built.is_special(i) for i in (400, 401, 402, 403, 2)] == [
        False,
        False,
        True,
        True,
        True,
    ]
    assert built.token_bytes(400) == b"<note>"
    assert built.encode("[PAD]") == trained.encode("[PAD]")
    assert built.encode("<|im_end|>") == [2]


@pytest.mark.parametrize(
    ("words", "text", "pieces"),
    [
        ("gpt-2", "We've 1234 €  x", ["We", "'ve", " 1234", " €", " ", " x"]),
        ("smollm", "We've 1234", ["We", "'ve", " ", "1", "2", "3", "4"]),
        ("qwen2", "WE'VE 1234\n\n x", ["WE", "'VE", " ", "1", "2", "3", "4", "\n\n", " x"]),
        ("llama-bpe", "WE'VE 1234?!\n", ["WE", "'VE", " ", "123", "4", "?!\n"]),
        ("tekken", "camelCase 12/", ["camel", "Case", " ", "1", "2", "/"]),
        ("default", "a=b 12345", ["a", "=", "b", " ", "123", "45"]),
    ],
)
def test_where_words_end(trained: Tokenizer, words: str, text: str, pieces: list[str]):
    built = tokenizer_from_gguf(_metadata(trained, pre=words))
    found = built._backend.pre_tokenizer.pre_tokenize_str(text)
    assert [text[start:end] for _, (start, end) in found] == pieces


def test_qwen_normalises_characters_and_others_do_not(trained: Tokenizer):
    decomposed, composed = "e\u0301", "é"
    qwen = tokenizer_from_gguf(_metadata(trained, pre="qwen2"))
    assert qwen.encode(decomposed) == qwen.encode(composed)
    llama = tokenizer_from_gguf(_metadata(trained, pre="llama3"))
    assert llama.encode(decomposed) != llama.encode(composed)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"model": "t5"}, UnsupportedError, "is 't5'; supported: gpt2, llama"),
        ({"model": None}, UnsupportedError, "is None"),
        ({"model": ["gpt2"]}, UnsupportedError, "supported"),
        ({"pre": "unheard-of"}, UnsupportedError, "'unheard-of'; supported: default, gpt-2"),
        ({"pre": 3}, UnsupportedError, "is 3"),
        ({"tokens": []}, CheckpointError, "missing or empty"),
        ({"tokens": None}, CheckpointError, "missing or empty"),
        ({"tokens": "abc"}, CheckpointError, "must be an array"),
        ({"tokens": [1, 2]}, CheckpointError, "must hold str"),
        ({"token_type": [3]}, CheckpointError, "1 entries for 400 tokens"),
        ({"token_type": ["a"] * 400}, CheckpointError, "must hold int"),
        ({"merges": ["ab"]}, CheckpointError, "pairs of tokens"),
        ({"merges": ["a b c"]}, CheckpointError, "pairs of tokens"),
        ({"merges": ["no such"]}, CheckpointError, "out of vocabulary"),
        ({"merges": [b"a b"]}, CheckpointError, "must hold str"),
        ({"eos_token_id": 400}, CheckpointError, "is 400; the file has 400 tokens"),
        ({"bos_token_id": -7}, CheckpointError, "is -7"),
        ({"eos_token_id": "x"}, CheckpointError, "invalid"),
        ({"model": "llama"}, CheckpointError, "scores is missing"),
        ({"model": "llama", "scores": [0.0]}, CheckpointError, "1 entries for 400"),
    ],
)
def test_malformed_metadata(
    trained: Tokenizer, changes: dict[str, Any], error: type[Exception], message: str
):
    with pytest.raises(error, match=message):
        tokenizer_from_gguf(_metadata(trained, **changes))


def test_an_absent_id_may_be_written_as_minus_one(trained: Tokenizer):
    for nothing in (-1, 0xFFFFFFFF):
        built = tokenizer_from_gguf(_metadata(trained, bos_token_id=nothing))
        assert built.bos_token_id is None


def test_a_chat_template_must_be_text(trained: Tokenizer):
    with pytest.raises(CheckpointError, match="must be a text"):
        tokenizer_from_gguf({**_metadata(trained), "tokenizer.chat_template": 7})


def test_sentencepiece_against_the_library():
    """SentencePiece's own BPE is the oracle: ids, pieces and text must be the same."""
    sentencepiece = pytest.importorskip("sentencepiece")
    stream = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS),
        model_writer=stream,
        model_type="bpe",
        vocab_size=600,
        byte_fallback=True,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        split_digits=True,
        minloglevel=2,
    )
    oracle = sentencepiece.SentencePieceProcessor(model_proto=stream.getvalue())
    built = tokenizer_from_gguf(_sentencepiece_metadata(oracle))
    random.seed(3)
    alphabet = "aAbehot  \n.,!19éß北😀▁"
    texts = ["", " ", "  leading", "Hello  world 123", *TEXTS[:5]]
    texts += ["".join(random.choices(alphabet, k=random.randint(1, 30))) for _ in range(200)]
    for text in texts:
        ids = oracle.encode(text)
        assert built.encode(text) == [1, *ids], text
        # The library writes a space for each space mark, also one that was in the text.
        assert built.decode(ids) == text.replace("▁", " ")
        decoder = StreamDecoder(built)
        assert "".join(map(decoder.push, ids)) + decoder.flush() == built.decode(ids)
    assert built.eos_token_ids == {2}
    assert built.token_bytes(built.encode("\n", bos=False)[-1]) == b"\n"
    assert not any(built.is_special(i) for i in built.encode("<s>", special=False, bos=False))


def _sentencepiece_metadata(processor: Any) -> dict[str, Any]:
    count = processor.get_piece_size()
    kinds = [
        UNKNOWN
        if processor.is_unknown(i)
        else CONTROL
        if processor.is_control(i)
        else BYTE
        if processor.is_byte(i)
        else NORMAL
        for i in range(count)
    ]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [processor.id_to_piece(i) for i in range(count)],
        "tokenizer.ggml.scores": [processor.get_score(i) for i in range(count)],
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
    }


def test_no_space_is_put_in_front_where_the_file_says_so():
    tokens = [
        "<unk>",
        "<s>",
        "</s>",
        *(f"<0x{b:02X}>" for b in range(256)),
        "▁",
        "a",
        "b",
        "ab",
        "▁a",
    ]
    kinds = [UNKNOWN, CONTROL, CONTROL, *[BYTE] * 256, *[NORMAL] * 5]
    metadata = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.scores": np.array([0.0] * 259 + [-3, -4, -5, -1, -2], dtype=np.float32),
        "tokenizer.ggml.add_bos_token": False,
    }

    def pieces(text: str, **changes: Any) -> list[str]:
        named = {f"tokenizer.ggml.{key}": value for key, value in changes.items()}
        built = tokenizer_from_gguf({**metadata, **named})
        ids = built.encode(text)
        assert built.decode(ids) == text
        return [tokens[i] for i in ids]

    assert pieces("ab a") == ["▁", "ab", "▁a"]
    assert pieces("ab a", add_space_prefix=False) == ["ab", "▁a"]
    assert pieces("é", add_space_prefix=False) == ["<0xC3>", "<0xA9>"]


def test_smollm2(smollm2: Tokenizer):
    # Published ids of these texts.
    known = {
        "Hello, we can use": [19556, 28, 392, 416, 722],
        "Hello world! 123": [19556, 905, 17, 216, 33, 34, 35],
        "Café déjà vu.": [51, 1939, 2756, 32564, 90, 16739, 386, 101, 30],
        "  multiple   spaces": [216, 2701, 256, 5600],
        "\n": [198],
    }
    for text, ids in known.items():
        assert smollm2.encode(text) == ids
        assert smollm2.decode(ids) == text
    assert smollm2.vocab_size == 49152
    assert smollm2.eos_token_ids == {0, 2}
    assert smollm2.encode_chat([{"role": "user", "content": "hi"}])[-3:] == [1, 520, 9531, 198][-3:]


def test_qwen(qwen: Tokenizer):
    assert qwen.encode("Hello, we can use 12") == [9707, 11, 582, 646, 990, 220, 16, 17]
    assert qwen.vocab_size == 151936
    assert qwen.eos_token_ids == {151643, 151645}
    assert qwen.encode("<tool_call>x") == [151657, 87]
    assert qwen.decode([151657, 87]) == "<tool_call>x"
    assert qwen.is_special(151900)
    assert qwen.encode("e\u0301") == qwen.encode("é")
