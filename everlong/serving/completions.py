"""POST /v1/completions: text in, text out, no chat template."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from everlong.engine.async_engine import AsyncEngine
from everlong.engine.request import Chunk, SamplingParams
from everlong.errors import RequestError
from everlong.serving.generation import Job, UsageSum, finish_reason
from everlong.serving.logprobs import CompletionLogprobWriter, told
from everlong.serving.protocol import MAX_CHOICES, CompletionRequest
from everlong.serving.replies import (
    CompletionChoice,
    CompletionLogprobs,
    CompletionReply,
    UsageReply,
)
from everlong.serving.sampling import (
    for_choice,
    read_prompts,
    sampling_params,
    structured_constraint,
)
from everlong.serving.sse import event

DEFAULT_MAX_TOKENS = 16
"""OpenAI's, for this endpoint only; fewer where the window has no more."""


class CompletionCall:
    """One request of this endpoint: what it asks of the engine, and how it is answered.

    Streamed and unstreamed answers are made of the same pieces, so that they cannot differ.

    Args:
        request: the body.
        engine: whose tokenizer and window are used.
        model: name to answer with.

    Raises:
        RequestError: something in the request cannot be served.
    """

    def __init__(self, request: CompletionRequest, engine: AsyncEngine, model: str) -> None:
        self._request = request
        tokenizer = self._tokenizer = engine.tokenizer
        self._n = request.n or 1
        self._id = f"cmpl-{uuid.uuid4().hex}"
        self._created = int(time.time())
        self._model = model
        prompts = read_prompts("prompt", request.prompt, tokenizer)
        if len(prompts) * self._n > MAX_CHOICES:
            raise RequestError(
                f"prompt has {len(prompts)} elements, times n = {self._n}; at most "
                f"{MAX_CHOICES} choices are allowed"
            )
        max_tokens = request.max_tokens
        if max_tokens is None:
            room = engine.max_model_len - max(map(len, prompts))
            max_tokens = max(1, min(DEFAULT_MAX_TOKENS, room))
        sampling = sampling_params(
            request,
            defaults=engine.default_sampling,
            vocab_size=tokenizer.vocab_size,
            # 0 is for what is scored only, which each prompt decides for itself below.
            max_tokens=None if request.echo and max_tokens == 0 else max_tokens,
            logprobs=request.logprobs,
            constraint=structured_constraint(request),
        )
        self.jobs = [
            Job(prompt, for_choice(self._scoring(sampling, prompt), number))
            for prompt in prompts
            for number in range(self._n)
        ]
        """One per choice, those of the first prompt first."""

    def _scoring(self, sampling: SamplingParams, prompt: Sequence[int]) -> SamplingParams:
        """Of an echoed prompt, log-probabilities are told too, and nothing has to follow it."""
        told, nothing = self._request.logprobs is not None, self._request.max_tokens == 0
        if not self._request.echo or not (told or nothing):
            return sampling
        if len(prompt) > 1:
            sampling = replace(sampling, prompt_logprobs_from=1 if told else len(prompt) - 1)
        elif nothing:
            raise RequestError("max_tokens is 0, and a prompt of one token has nothing to tell")
        return replace(sampling, max_tokens=0) if nothing else sampling

    async def reply(self, chunks: AsyncGenerator[tuple[int, Chunk], None]) -> CompletionReply:
        """The whole answer, once all choices are finished."""
        usage = UsageSum(self._n)
        choices = [
            CompletionChoice(index=index, text="", logprobs=None, finish_reason=None)
            for index in range(len(self.jobs))
        ]
        async with aclosing(self._pieces(chunks, usage)) as pieces:
            async for piece in pieces:
                choice = choices[piece.index]
                choice.text += piece.text
                choice.finish_reason = piece.finish_reason
                if choice.logprobs is None:
                    choice.logprobs = piece.logprobs
                elif piece.logprobs is not None:
                    _extend(choice.logprobs, piece.logprobs)
        return self._reply(choices=choices, usage=usage.reply())

    async def events(
        self, chunks: AsyncGenerator[tuple[int, Chunk], None]
    ) -> AsyncGenerator[bytes, None]:
        """The answer as server-sent events."""
        usage = UsageSum(self._n)
        extra: Mapping[str, Any] = {"usage": None} if self._request.include_usage else {}
        async with aclosing(self._pieces(chunks, usage)) as pieces:
            async for piece in pieces:
                if piece.text or piece.logprobs is not None or piece.finish_reason is not None:
                    yield event(self._reply(choices=[piece], **extra).json_bytes())
        if self._request.include_usage:
            yield event(self._reply(choices=[], usage=usage.reply()).json_bytes())

    async def _pieces(
        self, chunks: AsyncGenerator[tuple[int, Chunk], None], usage: UsageSum
    ) -> AsyncGenerator[CompletionChoice, None]:
        echoed: dict[int, str] = {}
        if self._request.echo:
            echoed = {i: self._tokenizer.decode(job.prompt_ids) for i, job in enumerate(self.jobs)}
        writers = [CompletionLogprobWriter(self._tokenizer) for _ in self.jobs]
        async with aclosing(chunks) as source:
            async for index, chunk in source:
                usage.update(index, chunk.usage)
                shown, first = told(chunk, self._tokenizer.eos_token_ids), None
                if self._request.logprobs is not None and chunk.prompt_logprobs is not None:
                    shown = [*chunk.prompt_logprobs, *shown]
                    first = self.jobs[index].prompt_ids[0]
                yield CompletionChoice(
                    index=index,
                    text=echoed.pop(index, "") + chunk.text,
                    logprobs=writers[index].write(shown, first) if shown else None,
                    finish_reason=finish_reason(chunk),
                )

    def _reply(
        self, *, choices: list[CompletionChoice], **usage: UsageReply | None
    ) -> CompletionReply:
        return CompletionReply(
            id=self._id,
            object="text_completion",
            created=self._created,
            model=self._model,
            choices=choices,
            **usage,
        )


def _extend(logprobs: CompletionLogprobs, more: CompletionLogprobs) -> None:
    logprobs.tokens += more.tokens
    logprobs.token_logprobs += more.token_logprobs
    logprobs.top_logprobs += more.top_logprobs
    logprobs.text_offset += more.text_offset
