"""Log-probabilities in OpenAI's two forms: of chat completions and of text completions."""

from __future__ import annotations

import codecs
from collections.abc import Collection, Sequence

from everlong.engine.request import Chunk, TokenLogprob
from everlong.serving.replies import (
    ChatLogprobs,
    ChatTokenLogprob,
    CompletionLogprobs,
    TopLogprob,
)
from everlong.tokenizer.tokenizer import Tokenizer

LOWEST = -9999.0
"""Stands for a probability of zero, whose logarithm JSON cannot carry (OpenAI's value)."""


def told(chunk: Chunk, eos_token_ids: Collection[int]) -> Sequence[TokenLogprob]:
    """Those of a chunk's log-probabilities that a client sees.

    The token that ends an answer is not part of it, so it is left out, as OpenAI does.
    """
    logprobs = chunk.logprobs or ()
    if chunk.finish_reason == "stop" and logprobs and logprobs[-1].token_id in eos_token_ids:
        return logprobs[:-1]
    return logprobs


def chat_logprobs(tokenizer: Tokenizer, logprobs: Sequence[TokenLogprob]) -> ChatLogprobs:
    """The form of /v1/chat/completions: per token its text, bytes and likeliest others."""

    def entry(token_id: int, logprob: float) -> TopLogprob:
        content = _bytes(tokenizer, token_id)
        return TopLogprob(
            token=content.decode(errors="replace"),
            logprob=max(logprob, LOWEST),
            bytes=list(content),
        )

    return ChatLogprobs(
        content=[
            ChatTokenLogprob(
                **dict(entry(item.token_id, item.logprob)),
                top_logprobs=[entry(*other) for other in item.top],
            )
            for item in logprobs
        ],
        refusal=None,
    )


class CompletionLogprobWriter:
    """The form of /v1/completions, whose offsets go on from chunk to chunk.

    Args:
        tokenizer: of the model.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._offset = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def write(
        self, logprobs: Sequence[TokenLogprob], first: int | None = None
    ) -> CompletionLogprobs:
        """The next tokens of the choice.

        Args:
            logprobs: of the tokens.
            first: token before them that begins the text, and so has no probability.

        A token that is not text by itself is named ``bytes:\\xe2\\x82``, so that tokens stay
        different from each other.
        """
        reply = CompletionLogprobs(tokens=[], token_logprobs=[], top_logprobs=[], text_offset=[])
        if first is not None:
            reply.tokens.append(self._name(first))
            reply.token_logprobs.append(None)
            reply.top_logprobs.append(None)
            reply.text_offset.append(self._advance(self._tokenizer.token_bytes(first)))
        for item in logprobs:
            reply.tokens.append(self._name(item.token_id))
            reply.token_logprobs.append(max(item.logprob, LOWEST))
            top: dict[str, float] = {}
            for token_id, logprob in item.top:
                top.setdefault(self._name(token_id), max(logprob, LOWEST))
            if item.top:  # OpenAI's: the chosen token is always among them
                top.setdefault(self._name(item.token_id), max(item.logprob, LOWEST))
            reply.top_logprobs.append(top)
            reply.text_offset.append(self._advance(self._tokenizer.token_bytes(item.token_id)))
        return reply

    def _advance(self, content: bytes) -> int:
        """Where the next token begins in the text: at its first character, or inside one."""
        if content and not 0x80 <= content[0] < 0xC0:
            # An unfinished character before it stays so, and shows as U+FFFD.
            self._offset += len(self._decoder.decode(b"", final=True))
        start = self._offset
        self._offset += len(self._decoder.decode(content))
        return start

    def _name(self, token_id: int) -> str:
        content = _bytes(self._tokenizer, token_id)
        try:
            return content.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in content)


def _bytes(tokenizer: Tokenizer, token_id: int) -> bytes:
    """A token's bytes; those of its name for a control token, which has none of its own."""
    return tokenizer.token_bytes(token_id) or tokenizer.token_text(token_id).encode()
