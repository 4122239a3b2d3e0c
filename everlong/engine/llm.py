"""The synchronous front: generate, chat, stream, encode, score."""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import replace
from types import MappingProxyType, TracebackType
from typing import Any, overload

import torch
from torch import Tensor

from everlong.engine.collector import Collector
from everlong.engine.config import EngineConfig
from everlong.engine.conversations import Conversations, Exchange
from everlong.engine.engine import Engine
from everlong.engine.pooling import Pooling, in_steps, pooled
from everlong.engine.request import Chunk, Completion, SamplingParams, TokenLogprob
from everlong.engine.sequence import EngineSequence
from everlong.errors import ConfigError, ContextLengthError, EverlongError, RequestError
from everlong.memory.memory import Memory
from everlong.memory.namespaces import LOCAL
from everlong.model.adapters import Adapter
from everlong.model.config import ModelConfig
from everlong.model.routing_index import Projection
from everlong.model.transformer import Transformer
from everlong.tokenizer import Tokenizer

Prompt = str | Sequence[int]
"""Text, or token ids."""

Message = Mapping[str, Any]
"""A chat message in OpenAI's form: ``{"role": "user", "content": "..."}``."""


class LLM:
    """A loaded model with its engine. Safe to use from several threads; ``close`` it when done.

    Args:
        model: ready for inference.
        tokenizer: of the model.
        name: under which it is served.
        fingerprint: of the model as it is used.
        engine: sizes; None: the defaults.
        adapters: by the name that requests give.
        default_sampling: of requests that do not say how to sample.
        memory: where blocks are kept; it is not closed with the model.
        projection: of the model's keys, where attention is routed.
    """

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        *,
        name: str,
        fingerprint: bytes,
        engine: EngineConfig | None = None,
        adapters: Mapping[str, Adapter] = MappingProxyType({}),
        default_sampling: SamplingParams | None = None,
        memory: Memory | None = None,
        projection: Projection | None = None,
    ) -> None:
        if tokenizer.vocab_size > model.config.vocab_size:
            raise ConfigError(
                f"the tokenizer has {tokenizer.vocab_size} ids and the model "
                f"{model.config.vocab_size}; they do not belong together"
            )
        self.name = name
        self.tokenizer = tokenizer
        self.config: ModelConfig = model.config
        self.default_sampling = default_sampling or SamplingParams()
        self.memory = memory
        self.conversations = None if memory is None else Conversations(tokenizer, memory)
        """The sessions of the memory."""
        self.closes = ExitStack()
        """What is closed with the model, after its engine."""
        self.before_closing = ExitStack()
        """What is closed before its engine."""
        self.engine = Engine(
            model, tokenizer, fingerprint, engine or EngineConfig(), adapters, memory, projection
        )

    @property
    def max_model_len(self) -> int:
        """Window in tokens."""
        return self.engine.max_model_len

    @property
    def adapters(self) -> tuple[str, ...]:
        """Names of the loaded adapters."""
        return tuple(self.engine.adapters)

    @overload
    def generate(
        self, prompts: str, sampling: SamplingParams | None = ..., **params: Any
    ) -> Completion: ...

    @overload
    def generate(
        self, prompts: Sequence[Prompt], sampling: SamplingParams | None = ..., **params: Any
    ) -> list[Completion]: ...

    def generate(
        self,
        prompts: str | Sequence[Prompt],
        sampling: SamplingParams | None = None,
        **params: Any,
    ) -> Completion | list[Completion]:
        """Continue one prompt, or several at once.

        Args:
            prompts: a text, or a list whose items are texts or lists of token ids.
            sampling: how to choose tokens; None: as the makers of the model do (temperature, top-k,
                top-p, min-p and repetition penalty of its generation config).
            params: fields of ``SamplingParams`` by name, and ``adapter`` and ``namespace``; they
                override ``sampling``.

        Returns:
            A completion, or one for each prompt, in order.

        Raises:
            RequestError: a prompt or a parameter is not allowed; nothing is computed then.
        """
        single = isinstance(prompts, str)
        texts: Sequence[Prompt] = [prompts] if isinstance(prompts, str) else prompts
        options, chosen = self._options(sampling, params)
        ids = [self.tokenizer.encode(p) if isinstance(p, str) else list(p) for p in texts]
        done = list(self._run_all([(i, chosen) for i in ids], options))
        return done[0] if single else done

    def chat(
        self,
        messages: Sequence[Message],
        sampling: SamplingParams | None = None,
        *,
        session: str | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        **params: Any,
    ) -> Completion:
        """Answer a conversation; see :meth:`generate` for the parameters.

        Args:
            messages: the conversation; in a session, only what is new will do.
            session: name of the session in the memory that goes on, or begins, with them. Where
                they part from what was said there, a new session goes on: see
                ``Completion.session``.

        Raises:
            TemplateError: the model has no chat template, or it refuses the messages.
            RequestError: a session is named, and there is no memory.
        """
        options, chosen = self._options(sampling, params)
        if session is None:
            ids = self.tokenizer.encode_chat(messages, tools=tools)
            return next(self._run_all([(ids, chosen)], options))
        exchange = self._begin(messages, session, tools, options)
        collector = Collector()
        for chunk in self._answer(exchange, chosen, options):
            collector(chunk)
        return replace(collector.result(), session=exchange.session.name)

    def stream(
        self,
        prompt: Prompt | Sequence[Message],
        sampling: SamplingParams | None = None,
        *,
        session: str | None = None,
        **params: Any,
    ) -> Iterator[Chunk]:
        """Chunks of one completion as they come; closing the iterator cancels it.

        Args:
            prompt: text, token ids, or the messages of a conversation.
            session: for messages, see :meth:`chat`.
            sampling, params: see :meth:`generate`.
        """
        options, chosen = self._options(sampling, params)
        if session is not None:
            return self._answer(self._begin(prompt, session, None, options), chosen, options)
        if isinstance(prompt, str):
            ids = self.tokenizer.encode(prompt)
        elif prompt and isinstance(prompt[0], Mapping):
            ids = self.tokenizer.encode_chat(prompt)  # type: ignore[arg-type]
        else:
            ids = list(prompt)  # type: ignore[arg-type]
        return self._stream(ids, chosen, options)

    def _begin(
        self,
        messages: Any,
        session: str,
        tools: Sequence[Mapping[str, Any]] | None,
        options: Mapping[str, Any],
    ) -> Exchange:
        if self.conversations is None:
            raise RequestError(
                f"session {session!r} is named and there is no memory; load the model with memory="
            )
        return self.conversations.begin(
            messages, namespace=options.get("namespace", LOCAL), session=session, tools=tools
        )

    def _answer(
        self, exchange: Exchange, sampling: SamplingParams, options: dict[str, Any]
    ) -> Iterator[Chunk]:
        """Chunks of an answer, which is kept when it is whole or when it is broken off."""
        options = options | {"session": exchange.in_session}
        try:
            chunks = self._stream(exchange.prompt, sampling, options)
        except EverlongError:
            exchange.withdraw()
            raise

        def kept() -> Iterator[Chunk]:
            text, output = "", list[int]()
            try:
                yield _STARTED
                for chunk in chunks:
                    text += chunk.text
                    output += chunk.token_ids
                    if chunk.finish_reason is not None:
                        exchange.finish(output, {"role": "assistant", "content": text})
                        text, output = "", []
                    yield chunk
            except GeneratorExit:
                chunks.close()  # type: ignore[attr-defined]
                if output:
                    exchange.finish(output, {"role": "assistant", "content": text})
                raise

        return _entered(kept())

    def encode(self, texts: Sequence[str], pooling: Pooling = "last") -> Tensor:
        """Vectors of texts for comparing them: float32 [n, hidden], of unit length.

        Args:
            texts: any texts.
            pooling: ``last``: the last token's state under the causal mask the model was trained
                with; ``mean``: the mean of all states under a bidirectional mask.
        """
        futures = self.encode_tokens([self.tokenizer.encode(text) for text in texts], pooling)
        parts = [future.result() for future in futures]
        return torch.cat(parts) if parts else torch.empty(0, self.config.hidden_size)

    def encode_tokens(
        self, prompts: Sequence[Sequence[int]], pooling: Pooling
    ) -> list[Future[Tensor]]:
        """As :meth:`encode`, from token ids; futures of the next few: float32 [n, hidden]."""
        if pooling not in ("last", "mean"):
            raise RequestError(f"pooling {pooling!r} is unknown; allowed: last, mean")
        for ids in prompts:
            self._check_length(ids)

        def vectors(few: Sequence[Sequence[int]]) -> Future[Tensor]:
            return self.engine.call(lambda runner: pooled(runner, few, pooling))

        step = self.engine.config.max_num_batched_tokens
        return [vectors(few) for few in in_steps(prompts, step)]

    def logits(self, token_ids: Sequence[int]) -> Tensor:
        """Next-token logits after every token, float32 [T, V]."""
        self._check_length(token_ids)
        return self.engine.call(lambda runner: runner.logits(token_ids)).result()

    def score(
        self, prompts: Iterable[tuple[Sequence[int], int]]
    ) -> Iterator[tuple[TokenLogprob, ...]]:
        """Log-probabilities of given tokens, many prompts at a time.

        Args:
            prompts: token ids, and the place from which on they are scored (1 is the second).

        Yields:
            For each prompt, in order, its tokens from that place on, each with the likeliest one.

        Raises:
            RequestError: a place is not inside its prompt.
            ContextLengthError: a prompt does not fit the window.
        """
        requests = (
            (ids, SamplingParams(max_tokens=0, prompt_logprobs_from=start, logprobs=1))
            for ids, start in prompts
        )
        for done in self._run_all(requests, {}):
            assert done.prompt_logprobs is not None
            yield done.prompt_logprobs

    def complete(
        self, requests: Iterable[tuple[Sequence[int], SamplingParams]]
    ) -> Iterator[Completion]:
        """Completions of many prompts, in order, each as soon as those before it are done.

        Requests are taken from the iterable as the engine gets to them, so there may be any number.

        Args:
            requests: token ids, and how to continue them.

        Raises:
            RequestError: a prompt or a parameter is not allowed; the requests before it are done.
        """
        return self._run_all(requests, {})

    def close(self) -> None:
        """Stop the engine; unfinished requests fail."""
        self.before_closing.close()
        self.engine.close()
        self.closes.close()

    def __enter__(self) -> LLM:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _check_length(self, ids: Sequence[int]) -> None:
        if not 1 <= len(ids) <= self.max_model_len:
            raise ContextLengthError(
                f"the window has {self.max_model_len} tokens, and the text has {len(ids)}"
            )
        if min(ids) < 0 or max(ids) >= self.config.vocab_size:
            raise RequestError(f"token ids must be from 0 to {self.config.vocab_size - 1}")

    def _options(
        self, sampling: SamplingParams | None, params: dict[str, Any]
    ) -> tuple[dict[str, Any], SamplingParams]:
        options: dict[str, Any] = {
            k: params.pop(k) for k in ("adapter", "namespace") if k in params
        }
        known = SamplingParams.__dataclass_fields__
        if unknown := sorted(set(params) - set(known)):
            raise RequestError(
                f"{unknown[0]!r} is no parameter of sampling; allowed: {', '.join(known)}"
            )
        return options, replace(sampling or self.default_sampling, **params)

    def _run_all(
        self,
        requests: Iterable[tuple[Sequence[int], SamplingParams]],
        options: dict[str, Any],
    ) -> Iterator[Completion]:
        # As many at a time as the engine runs: the queue is left to others.
        pending: deque[tuple[EngineSequence, Collector]] = deque()
        at_once = self.engine.config.max_num_seqs
        try:
            for ids, sampling in requests:
                if len(pending) >= at_once:
                    yield pending[0][1].result()
                    pending.popleft()
                collector = Collector()
                pending.append((self.engine.submit(ids, sampling, collector, **options), collector))
            while pending:
                yield pending[0][1].result()
                pending.popleft()
        finally:
            for sequence, collector in pending:
                if not collector.finished:
                    self.engine.cancel(sequence)

    def _stream(
        self, ids: Sequence[int], sampling: SamplingParams, options: dict[str, Any]
    ) -> Iterator[Chunk]:
        received: queue.SimpleQueue[Chunk | EverlongError] = queue.SimpleQueue()
        handle = self.engine.submit(ids, sampling, received.put, **options)

        def chunks() -> Iterator[Chunk]:
            finished = False
            try:
                yield _STARTED
                while not finished:
                    item = received.get()
                    finished = isinstance(item, EverlongError) or item.finish_reason is not None
                    if isinstance(item, EverlongError):
                        raise item
                    yield item
            finally:
                if not finished:
                    self.engine.cancel(handle)

        return _entered(chunks())


def _entered(chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    """An iterator that is inside its ``try``: closing it from here on does what that says."""
    next(chunks)
    return chunks


_STARTED = Chunk("", ())
