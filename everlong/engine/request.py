"""What is asked of the engine and what comes back: plain data, no behaviour."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from everlong.errors import RequestError

FinishReason = Literal["stop", "length", "cancelled", "error"]


@dataclass(frozen=True)
class Constraint:
    """A form that the whole output must have.

    Exactly one of the fields is set; llguidance compiles it (``engine/constraint.py``).
    """

    json_schema: str | None = None
    """A JSON schema as text; ``{}`` allows any JSON value."""
    regex: str | None = None
    """A regular expression for the whole output; ``\\d`` and ``\\w`` are ASCII."""
    lark: str | None = None
    """A grammar in llguidance's Lark dialect."""

    def __post_init__(self) -> None:
        given = [v for v in (self.json_schema, self.regex, self.lark) if v is not None]
        if len(given) != 1:
            raise RequestError("a constraint is exactly one of json_schema, regex, lark")


@dataclass(frozen=True)
class SamplingParams:
    """How the next token is chosen, and when to stop. Defaults are greedy-free OpenAI ones."""

    max_tokens: int | None = None
    """Most tokens to generate; None: whatever the window leaves."""
    min_tokens: int = 0
    """End-of-sequence and stop strings are ignored before this many tokens."""
    temperature: float = 1.0
    """0 is greedy."""
    top_k: int = 0
    """Keep the k likeliest tokens; 0 keeps all."""
    top_p: float = 1.0
    """Keep the smallest set whose probability reaches this (nucleus sampling)."""
    min_p: float = 0.0
    """Keep tokens at least this fraction as likely as the likeliest."""
    presence_penalty: float = 0.0
    """Subtracted from the logit of every token generated already (OpenAI)."""
    frequency_penalty: float = 0.0
    """Subtracted times the count in the generated tokens (OpenAI)."""
    repetition_penalty: float = 1.0
    """Divides positive and multiplies negative logits of tokens in prompt and output (CTRL)."""
    logit_bias: Mapping[int, float] = field(default_factory=lambda: MappingProxyType({}))
    seed: int | None = None
    """Same seed, same request, same tokens; None draws one from the system."""
    stop: tuple[str, ...] = ()
    """Generation ends before the first of these; it is not part of the text."""
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    logprobs: int | None = None
    """Return log-probabilities: of the chosen token, and of this many likeliest (0 to 20)."""
    prompt_logprobs_from: int | None = None
    """Return log-probabilities of the prompt's tokens too, from this place on: 1 is the second,
    and the first follows nothing. Then ``max_tokens`` may be 0. With ``logprobs`` they come with
    that many likeliest tokens."""
    constraint: Constraint | None = None

    def __post_init__(self) -> None:
        def check(ok: bool, name: str, allowed: str) -> None:
            if not ok:
                raise RequestError(f"{name} must be {allowed}, not {getattr(self, name)!r}")

        scores = self.prompt_logprobs_from is not None
        least = 0 if scores else 1
        check(
            self.max_tokens is None or self.max_tokens >= least, "max_tokens", f"at least {least}"
        )
        check(
            self.prompt_logprobs_from is None or self.prompt_logprobs_from >= 1,
            "prompt_logprobs_from",
            "at least 1",
        )
        check(self.min_tokens >= 0, "min_tokens", "at least 0")
        check(0.0 <= self.temperature <= 100.0, "temperature", "between 0 and 100")
        check(self.top_k >= 0, "top_k", "at least 0 (0 keeps all)")
        check(0.0 < self.top_p <= 1.0, "top_p", "above 0 and at most 1")
        check(0.0 <= self.min_p <= 1.0, "min_p", "between 0 and 1")
        check(-2.0 <= self.presence_penalty <= 2.0, "presence_penalty", "between -2 and 2")
        check(-2.0 <= self.frequency_penalty <= 2.0, "frequency_penalty", "between -2 and 2")
        check(0.0 < self.repetition_penalty <= 10.0, "repetition_penalty", "above 0, at most 10")
        check(self.logprobs is None or 0 <= self.logprobs <= 20, "logprobs", "between 0 and 20")
        check(len(self.stop) <= 16, "stop", "at most 16 strings")
        check(all(self.stop), "stop", "non-empty strings")
        check(
            all(-100.0 <= b <= 100.0 for b in self.logit_bias.values()),
            "logit_bias",
            "between -100 and 100 for each token",
        )


@dataclass(frozen=True)
class InSession:
    """The session of the memory that a request's prompt is of."""

    name: str
    stands: Callable[[], bool]
    """Whether nothing was forgotten that the prompt holds; else the request is refused."""


@dataclass(frozen=True)
class TokenLogprob:
    """Log-probability of one token, before temperature and truncation."""

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()
    """The likeliest tokens and their log-probabilities, best first."""


@dataclass(frozen=True)
class Reads:
    """Pieces of 16 keys and values that tokens read, and those that they could have read, summed
    over tokens, layers and kv heads; nothing is counted where attention is dense."""

    read: int = 0
    seen: int = 0

    def __add__(self, other: Reads) -> Reads:
        return Reads(self.read + other.read, self.seen + other.seen)

    @property
    def share(self) -> float | None:
        """Of what could have been read; None: nothing was counted."""
        return self.read / self.seen if self.seen else None


NOTHING_READ = Reads()


@dataclass(frozen=True)
class Usage:
    """Tokens of one request."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Prompt tokens whose keys and values were found instead of computed."""
    completion_tokens: int = 0
    reads: Reads = NOTHING_READ


@dataclass(frozen=True)
class Chunk:
    """What one step of the engine added to one request.

    The concatenated ``text`` of all chunks is exactly the text of the finished request: text
    is held back while it could still become part of a stop string or an unfinished character.
    """

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] | None = None
    """One per token id when they were asked for."""
    finish_reason: FinishReason | None = None
    """Set on the last chunk only."""
    usage: Usage = field(default_factory=Usage)
    """So far."""
    prompt_logprobs: tuple[TokenLogprob, ...] | None = None
    """On the first chunk, when they were asked for."""


@dataclass(frozen=True)
class Completion:
    """A finished request."""

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] | None
    finish_reason: FinishReason
    usage: Usage
    prompt_logprobs: tuple[TokenLogprob, ...] | None = None
    session: str | None = None
    """Name of the session that it is kept in."""
