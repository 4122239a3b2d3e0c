import pytest

from everlong.errors import ConfigError
from everlong.tokenizer import train_tokenizer
from tests.tokenizer.conftest import TEXTS


def test_merges_shorten_text_and_bytes_remain():
    small, large = train_tokenizer(TEXTS, 259), train_tokenizer(iter(TEXTS), 400)
    assert (small.vocab_size, large.vocab_size) == (259, 400)
    text = "the lazy dog"
    assert len(small.encode(text)) == len(text)
    assert len(large.encode(text)) < len(text)
    unseen = "Þ\x00\U0010ffff"
    assert large.decode(large.encode(unseen)) == unseen


def test_special_tokens_come_first_and_are_not_trained_on():
    tokenizer = train_tokenizer(TEXTS, 300, special_tokens=("<b>", "<a>"), eos_token="<a>")
    assert [tokenizer.token_id("<b>"), tokenizer.token_id("<a>")] == [0, 1]
    assert tokenizer.eos_token_ids == {1}


def test_the_same_texts_give_the_same_tokenizer():
    assert train_tokenizer(TEXTS, 350).fingerprint() == train_tokenizer(TEXTS, 350).fingerprint()


def test_its_chat_template():
    tokenizer = train_tokenizer(TEXTS, 300)
    assert tokenizer.chat_template.render([{"role": "user", "content": "hi"}]) == (
        "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("words", ["gpt-2", "qwen2", "llama-bpe"])
def test_the_way_words_are_cut_can_be_chosen(words: str):
    tokenizer = train_tokenizer(TEXTS, 400, words=words)
    text = "They'll pay 12345"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    digits = [p for p in map(tokenizer.token_text, tokenizer.encode("12345")) if len(p) > 1]
    assert bool(digits) == (words != "qwen2")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 258}, "at least 259 .* not 258"),
        ({"special_tokens": ("<a>", "<a>")}, "different and not empty"),
        ({"special_tokens": ("<|im_end|>", "")}, "different and not empty"),
        ({"eos_token": "</s>"}, "must be one of"),
        ({"words": "bert"}, "allowed: default, gpt-2"),
    ],
)
def test_impossible_settings(changes: dict[str, object], message: str):
    with pytest.raises(ConfigError, match=message):
        train_tokenizer(**{"texts": TEXTS, "vocab_size": 300, **changes})
