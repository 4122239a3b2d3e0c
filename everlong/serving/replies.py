"""What the server answers: OpenAI's response bodies.

They are written with ``exclude_unset``: a field that was set to None appears as null, one that
was left alone does not appear.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

FinishReason = Literal["stop", "length", "tool_calls"]


class Reply(BaseModel):
    def json_bytes(self) -> bytes:
        """The body as UTF-8 JSON."""
        return self.model_dump_json(exclude_unset=True).encode()


# ------------------------------------------------------------------------------ shared


class PromptTokensDetails(Reply):
    cached_tokens: int


class UsageReply(Reply):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    kv_read_share: float = 1.0
    """Of the keys and values that tokens could read, those that they did; where attention is
    routed."""


class TopLogprob(Reply):
    token: str
    logprob: float
    bytes: list[int]


class ChatTokenLogprob(TopLogprob):
    top_logprobs: list[TopLogprob]


class ChatLogprobs(Reply):
    content: list[ChatTokenLogprob]
    refusal: None = None


class CompletionLogprobs(Reply):
    tokens: list[str]
    token_logprobs: list[float | None]
    """None for the first token of an echoed prompt, which follows nothing."""
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


# ------------------------------------------------------------------------------ memory


class RecalledReply(Reply):
    """An episode that was recalled."""

    id: str
    session: str
    source: str
    speaker: str
    time: float
    text: str
    score: float
    """0 to 1: how sure it was."""


class MemoryReply(Reply):
    """What the memory did for an answer."""

    session: str
    """Where the conversation is kept: another one than was asked for where it was forked."""
    recalled: list[RecalledReply]
    """What the answer's prompt quotes, the best first."""


class Extras(Reply):
    """What OpenAI's protocol has no field for."""

    memory: MemoryReply


# ------------------------------------------------------------------- chat completions


class FunctionReply(Reply):
    name: str
    arguments: str


class ToolCallReply(Reply):
    id: str
    type: Literal["function"] = "function"
    function: FunctionReply


class MessageReply(Reply):
    role: Literal["assistant"]
    content: str | None
    refusal: None
    tool_calls: list[ToolCallReply] = []


class ChatChoice(Reply):
    index: int
    message: MessageReply
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason


class ChatReply(Reply):
    """Answer of POST /v1/chat/completions."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: UsageReply
    everlong: Extras | None = None
    """Of a request with a session."""


class FunctionDelta(Reply):
    name: str = ""
    arguments: str


class ToolCallDelta(Reply):
    index: int
    id: str = ""
    type: Literal["function"] = "function"
    function: FunctionDelta


class MessageDelta(Reply):
    role: Literal["assistant"] = "assistant"
    content: str | None = None
    tool_calls: list[ToolCallDelta] = []


class ChatChunkChoice(Reply):
    index: int
    delta: MessageDelta
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason | None


class ChatChunk(Reply):
    """One event of a streamed chat completion."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChatChunkChoice]
    usage: UsageReply | None = None
    everlong: Extras | None = None
    """In the first event of a request with a session."""


# ------------------------------------------------------------------- text completions


class CompletionChoice(Reply):
    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: FinishReason | None


class CompletionReply(Reply):
    """Answer of POST /v1/completions, and one event of it when it is streamed."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: UsageReply | None = None


# ------------------------------------------------------------------------- the others


class EmbeddingUsage(Reply):
    prompt_tokens: int
    total_tokens: int


class Embedding(Reply):
    object: Literal["embedding"]
    index: int
    embedding: list[float] | str
    """Numbers, or base64 of little-endian float32."""


class EmbeddingReply(Reply):
    """Answer of POST /v1/embeddings."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


class ModelCard(Reply):
    id: str
    object: Literal["model"]
    created: int
    owned_by: Literal["everlong"]
    root: str
    parent: str | None
    """The model that an adapter belongs to; null for the model itself."""
    max_model_len: int


class ModelList(Reply):
    """Answer of GET /v1/models."""

    object: Literal["list"]
    data: list[ModelCard]


class Health(Reply):
    status: Literal["ok"]
