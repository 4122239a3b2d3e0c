from __future__ import annotations

import pytest

from everlong.data.conversations import encode_conversation
from everlong.errors import DataError, TemplateError
from everlong.tokenizer import ChatTemplate, Tokenizer, train_tokenizer

TEXTS = ["user asks, assistant answers: yes no maybe 0123456789\n" * 20]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TEXTS, 300)


def said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def test_answers_and_their_ends_are_learned(tokenizer: Tokenizer) -> None:
    messages = [
        said("system", "be brief"),
        said("user", "asks <|im_end|> a lot"),
        said("assistant", "yes"),
        said("user", "sure?"),
        said("assistant", "no, maybe"),
    ]
    tokens, learned = encode_conversation(tokenizer, messages)
    assert tokens == tokenizer.encode_chat(messages, add_generation_prompt=False)
    runs, run = [], []
    for token, one in zip([*tokens, 0], [*learned, False], strict=True):
        if one:
            run.append(token)
        elif run:
            runs.append(tokenizer.decode(run, skip_special=False))
            run = []
    assert runs == ["yes<|im_end|>\n", "no, maybe<|im_end|>\n"]
    # What is learned follows the very prompt that the model is given when it is used.
    begin = learned.index(True)
    assert tokens[:begin] == tokenizer.encode_chat(messages[:2])


def test_without_an_answer_there_is_nothing_to_learn(tokenizer: Tokenizer) -> None:
    for messages in ([said("user", "hi")], [said("assistant", "hi")]):
        with pytest.raises(DataError, match="needs an answer of the assistant"):
            encode_conversation(tokenizer, messages)


def with_template(tokenizer: Tokenizer, source: str | None) -> Tokenizer:
    changed = train_tokenizer(TEXTS, 300)
    changed.chat_template = None if source is None else ChatTemplate(source)
    return changed


def test_a_template_that_rewrites_earlier_turns_is_refused(tokenizer: Tokenizer) -> None:
    source = (
        "{{ messages | length }}{% for m in messages %}{{ m.role }}:{{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    with pytest.raises(DataError, match="writes earlier turns anew"):
        encode_conversation(
            with_template(tokenizer, source), [said("user", "a"), said("assistant", "b")]
        )
    with pytest.raises(TemplateError, match="no chat template"):
        encode_conversation(
            with_template(tokenizer, None), [said("user", "a"), said("assistant", "b")]
        )


def test_a_seam_that_is_spelled_together_is_learned(tokenizer: Tokenizer) -> None:
    # The prompt ends in a space, which tokens like to begin with.
    source = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    changed = with_template(tokenizer, source)
    tokens, learned = encode_conversation(changed, [said("user", "a"), said("assistant", "no no")])
    begin = learned.index(True)
    assert changed.decode(tokens[begin:]).strip() == "no no"
