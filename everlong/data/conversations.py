"""From conversations to tokens, of which the model learns those that it would have to say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from everlong.errors import DataError
from everlong.tokenizer import Tokenizer

_ANSWERING = "assistant"


def encode_conversation(
    tokenizer: Tokenizer, messages: Sequence[Mapping[str, Any]]
) -> tuple[list[int], list[bool]]:
    """Tokens of a conversation by the chat template, and which of them are learned.

    Learned are the assistant's messages with what ends them. What stands before an answer is the
    prompt that the model will be given when it is used, so the header of its turn is context.

    Args:
        tokenizer: with a chat template.
        messages: as :meth:`ChatTemplate.render` takes them, with one answer at least.

    Returns:
        Token ids, and a truth value for each.

    Raises:
        DataError: there is no answer, or the template rewrites earlier turns when later ones come.
        TemplateError: there is no template, or it refuses the messages.
    """
    answers = [i for i, one in enumerate(messages) if one.get("role") == _ANSWERING]
    if not answers or answers[0] == 0:
        raise DataError("a conversation needs an answer of the assistant behind something else")
    whole = tokenizer.encode_chat(messages, add_generation_prompt=False)
    learned = [False] * len(whole)
    for i in answers:
        prompt = tokenizer.encode_chat(messages[:i])
        told = tokenizer.encode_chat(messages[: i + 1], add_generation_prompt=False)
        # At the seam the text after a prompt may be spelled together with its last character.
        begin = _common(prompt, told)
        if begin < len(prompt) - 1 or told != whole[: len(told)]:
            raise DataError(
                "the chat template writes earlier turns anew when later ones come, so what is an "
                "answer cannot be told; give it conversations of one answer each"
            )
        learned[begin : len(told)] = [True] * (len(told) - begin)
    return whole, learned


def encode_answer(
    tokenizer: Tokenizer, messages: Sequence[Mapping[str, Any]], answer: str
) -> tuple[list[int], list[bool]]:
    """Tokens of a conversation and an answer that ends it, of which the answer is learned.

    Raises:
        DataError, TemplateError: as :func:`encode_conversation`.
    """
    told = [*messages, {"role": _ANSWERING, "content": answer}]
    tokens = tokenizer.encode_chat(told, add_generation_prompt=False)
    begin = _common(tokenizer.encode_chat(messages), tokens)
    if begin == len(tokens):
        raise DataError("an answer has no tokens")
    learned = [False] * begin + [True] * (len(tokens) - begin)
    return tokens, learned


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Tokens at the beginning that are the same."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))
