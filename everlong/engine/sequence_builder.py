"""From a request to a sequence: what cannot be served is refused here, before it is queued."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence

from everlong.engine.constraint import ConstraintCompiler
from everlong.engine.request import InSession, SamplingParams
from everlong.engine.sampler import SequenceSampler
from everlong.engine.sequence import EngineSequence, Sink
from everlong.engine.text import TextAssembler
from everlong.errors import ContextLengthError, RequestError, UnknownModelError
from everlong.memory.memory import Memory
from everlong.memory.namespaces import Namespace
from everlong.model.adapters import Adapter
from everlong.tokenizer import Tokenizer


class SequenceBuilder:
    """Makes the sequences of one engine. Safe to use from several threads.

    Args:
        tokenizer: of the model.
        vocab_size: of the model, which may have more ids than the tokenizer.
        max_model_len: window in tokens.
        fingerprint: of the model without adapters.
        numerics: what else decides the bits of keys and values, ``Runner.numerics``.
        adapters: by the name that requests give.
        memory: has the namespaces; None: they are made here, for as long as this lives.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        vocab_size: int,
        max_model_len: int,
        fingerprint: bytes,
        numerics: str,
        adapters: Mapping[str, Adapter],
        memory: Memory | None,
    ) -> None:
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        self._max_model_len = max_model_len
        self._fingerprint = fingerprint
        self._numerics = numerics
        self._adapters = adapters
        self._memory = memory
        self._constraints = ConstraintCompiler(tokenizer)
        self._namespaces: dict[str, Namespace] = {}
        self._lock = threading.Lock()

    def build(
        self,
        prompt: Sequence[int],
        params: SamplingParams,
        sink: Sink,
        *,
        namespace: str,
        session: InSession | None,
        adapter: str | None,
    ) -> EngineSequence:
        """The sequence of a request, without its number; see ``Engine.submit``.

        Raises:
            RequestError: the prompt is empty, has ids outside the vocabulary, or the constraint
                cannot be compiled.
            UnknownModelError: no adapter of this name is loaded.
            ContextLengthError: prompt and output do not fit the window.
        """
        max_tokens = self._checked(prompt, params)
        constraint = None
        if params.constraint is not None:
            constraint = self._constraints.compile(params.constraint, namespace)
        return EngineSequence(
            number=0,
            prompt=tuple(prompt),
            params=params,
            max_tokens=max_tokens,
            namespace=self._namespace(namespace),
            session=session,
            fingerprint=self._fingerprint_with(adapter),
            adapter=adapter,
            constraint=constraint,
            sink=sink,
            sampler=SequenceSampler(
                params,
                prompt,
                self._tokenizer.vocab_size,
                self._tokenizer.eos_token_ids,
                constraint,
            ),
            assembler=TextAssembler(self._tokenizer, params.stop, min_tokens=params.min_tokens),
        )

    def _checked(self, prompt: Sequence[int], params: SamplingParams) -> int:
        """Most tokens that the output may have."""
        if not prompt:
            raise RequestError("the prompt is empty; give at least one token")
        if not (min(prompt) >= 0 and max(prompt) < self._vocab_size):
            raise RequestError(
                f"the prompt has token ids from {min(prompt)} to {max(prompt)}; "
                f"allowed are 0 to {self._vocab_size - 1}"
            )
        room = self._max_model_len - len(prompt)
        wanted = params.max_tokens
        if room < (1 if wanted is None else wanted):
            asked = f" and {wanted} for the output" if wanted is not None else ""
            raise ContextLengthError(
                f"the window has {self._max_model_len} tokens, and the request needs "
                f"{len(prompt)} for the prompt{asked}; shorten the prompt"
                + (" or lower max_tokens" if wanted is not None else "")
            )
        scored_from = params.prompt_logprobs_from
        if scored_from is not None and scored_from >= len(prompt):
            raise RequestError(
                f"prompt_logprobs_from is {scored_from}, and the prompt has {len(prompt)} tokens; "
                f"allowed are 1 to {len(prompt) - 1}"
            )
        return room if wanted is None else wanted

    def _fingerprint_with(self, adapter: str | None) -> bytes:
        """Of everything that keys and values depend on besides tokens, 32 bytes."""
        if adapter is not None and adapter not in self._adapters:
            known = ", ".join(sorted(self._adapters)) or "none"
            raise UnknownModelError(f"adapter {adapter!r} is not loaded; loaded are: {known}")
        digest = hashlib.blake2b(digest_size=32)
        changed = self._adapters[adapter].fingerprint if adapter is not None else b""
        for part in (self._fingerprint, self._numerics.encode(), changed):
            digest.update(len(part).to_bytes(4, "little") + part)
        return digest.digest()

    def _namespace(self, name: str) -> Namespace:
        with self._lock:
            if name not in self._namespaces:
                memory = self._memory
                self._namespaces[name] = memory.namespace(name) if memory else Namespace.new(name)
            return self._namespaces[name]
