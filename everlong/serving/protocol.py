"""What a client may send: OpenAI's request bodies, checked before anything else sees them.

Three kinds of fields are told apart, so that no request is answered as if it had asked for
something else:

- fields that are served, those of OpenAI and the extras that vLLM made usual (``top_k``,
  ``min_p``, ``repetition_penalty``, ``min_tokens``, ``ignore_eos``, ``stop_token_ids``,
  ``structured_outputs``, ``chat_template_kwargs``) and our ``session``;
- fields that OpenAI defines about accounting, billing and speed (``Ignored``): accepted and
  not read, because they could not change an answer;
- everything else is refused with its name; ``REFUSED_FIELDS`` says what to do instead.

Ranges of the sampling parameters are not repeated here: ``SamplingParams`` checks them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from everlong.memory.sessions import MOST_NAME

REFUSED_FIELDS = {
    "audio": "audio cannot be generated; leave it out",
    "functions": "functions is deprecated; send tools",
    "function_call": "function_call is deprecated; send tool_choice",
    "web_search_options": "web_search_options is not available; send what was found as a message",
    "reasoning_effort": "reasoning_effort has no effect here; use chat_template_kwargs",
    "verbosity": "verbosity has no effect here; ask for it in a message",
    "suffix": "suffix (filling in the middle) is not available; put all text in prompt",
    "best_of": "best_of is not available; send n and choose",
}
"""OpenAI's fields that would change the answer and that are not implemented."""

MAX_CHOICES = 128
"""Most choices of one request (``n``, times the prompts of a completion request)."""


class Body(BaseModel):
    """Base of everything that is read from a request: strict types, no unknown keys."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


Texts = Annotated[list[str], Field(fail_fast=True)]
TokenIds = Annotated[list[int], Field(fail_fast=True)]
# fail_fast: a million token ids must not leave a million errors of the branch for texts.
Prompts = str | Texts | TokenIds | Annotated[list[TokenIds], Field(fail_fast=True)]
"""One text, several, the token ids of one prompt, or those of several."""


# ---------------------------------------------------------------------------- messages


class TextPart(Body):
    type: Literal["text"]
    text: str

    @model_validator(mode="before")
    @classmethod
    def _text_only(cls, part: Any) -> Any:
        if isinstance(part, dict) and part.get("type") in ("image_url", "input_audio", "file"):
            raise ValueError(
                f"{part['type']} parts cannot be read by this model, only text: "
                '{"type": "text", "text": ...}'
            )
        return part


TextParts = Annotated[list[TextPart], Field(fail_fast=True)]


class RefusalPart(Body):
    type: Literal["refusal"]
    refusal: str


class CalledFunction(Body):
    name: str
    arguments: str
    """A JSON object, as text."""


class ToolCall(Body):
    id: str
    type: Literal["function"] = "function"
    function: CalledFunction


class SystemMessage(Body):
    role: Literal["system", "developer"]
    content: str | TextParts
    name: str | None = None


class UserMessage(Body):
    role: Literal["user"]
    content: str | TextParts
    name: str | None = None


class AssistantMessage(Body):
    role: Literal["assistant"]
    content: str | Annotated[list[TextPart | RefusalPart], Field(fail_fast=True)] | None = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None
    name: str | None = None


class ToolMessage(Body):
    role: Literal["tool"]
    content: str | TextParts
    tool_call_id: str


Message = Annotated[
    SystemMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")
]


# ------------------------------------------------------------------------------- tools


class FunctionDefinition(Body):
    name: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    description: str | None = None
    parameters: dict[str, JsonValue] | None = None
    """JSON schema of the arguments; None: there are none."""
    strict: bool | None = None
    """Accepted; where a call is forced, its arguments always follow the schema."""


class Tool(Body):
    type: Literal["function"]
    function: FunctionDefinition


class FunctionName(Body):
    name: str


class NamedTool(Body):
    type: Literal["function"]
    function: FunctionName


# ------------------------------------------------------------------- form of the answer


class JsonSchema(Body):
    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    description: str | None = None
    json_schema: dict[str, JsonValue] | bool = Field(default=True, alias="schema")
    strict: bool | None = None


class TextFormat(Body):
    type: Literal["text"]


class JsonObjectFormat(Body):
    type: Literal["json_object"]


class JsonSchemaFormat(Body):
    type: Literal["json_schema"]
    json_schema: JsonSchema


ResponseFormat = Annotated[
    TextFormat | JsonObjectFormat | JsonSchemaFormat, Field(discriminator="type")
]


class StructuredOutputs(Body):
    """vLLM's extra: exactly one form that the whole output must have."""

    json_schema: dict[str, JsonValue] | str | None = Field(default=None, alias="json")
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    """In llguidance's Lark dialect."""

    @model_validator(mode="after")
    def _one(self) -> StructuredOutputs:
        given = [self.json_schema, self.regex, self.choice, self.grammar]
        if sum(value is not None for value in given) != 1:
            raise ValueError("give exactly one of json, regex, choice, grammar")
        if self.choice is not None and not all(self.choice):
            raise ValueError("choice needs non-empty strings")
        if self.choice == []:
            raise ValueError("choice needs at least one string")
        return self


class StreamOptions(Body):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None
    """Accepted and not read: no padding is ever added."""


# ---------------------------------------------------------------------------- requests


class Ignored(Body):
    """Fields that never change what is generated."""

    user: JsonValue = None
    metadata: JsonValue = None
    store: JsonValue = None
    service_tier: JsonValue = None
    safety_identifier: JsonValue = None
    prompt_cache_key: JsonValue = None
    prompt_cache_retention: JsonValue = None
    prediction: JsonValue = None


class GenerationRequest(Ignored):
    """Fields that chat and text completions share."""

    model: str | None = None
    """Name of the model or of one of its adapters; None is the model."""
    n: int | None = Field(default=None, ge=1, le=MAX_CHOICES)
    stop: str | Texts | None = None
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    """Choice i of n uses seed + i, so that the choices differ."""
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    min_tokens: int | None = None
    ignore_eos: bool | None = None
    stop_token_ids: TokenIds | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_regex: str | None = None
    """Older spelling of structured_outputs.regex."""

    @model_validator(mode="before")
    @classmethod
    def _refuse(cls, body: Any) -> Any:
        """Names what to do about fields that would change the answer; null ones are dropped."""
        if not isinstance(body, dict):
            return body
        refused = REFUSED_FIELDS.keys() & body.keys() - cls.model_fields.keys()
        for name in sorted(refused):
            if body[name] is not None:
                raise ValueError(REFUSED_FIELDS[name])
        return {name: value for name, value in body.items() if name not in refused}

    @model_validator(mode="after")
    def _stream_options_need_stream(self) -> GenerationRequest:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options is only allowed with stream: true")
        return self

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with a chunk that carries the usage."""
        return bool(self.stream_options and self.stream_options.include_usage)


class ChatRequest(GenerationRequest):
    """Body of POST /v1/chat/completions."""

    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: int | None = None
    """OpenAI's newer name of max_tokens; both may be given if they agree."""
    logprobs: bool | None = None
    top_logprobs: int | None = None
    response_format: ResponseFormat | None = None
    tools: list[Tool] | None = Field(default=None, max_length=128)
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    modalities: list[Literal["text"]] | None = None
    chat_template_kwargs: dict[str, JsonValue] | None = None
    """Variables for the chat template, e.g. enable_thinking."""
    session: str | None = Field(default=None, min_length=1, max_length=MOST_NAME)
    """Extra: the session in the memory that these messages continue, or begin. Messages that it has
    are skipped, so that only new ones need be sent; where they differ a new session goes on."""

    @model_validator(mode="after")
    def _consistent(self) -> ChatRequest:
        if self.session is not None and self.n not in (None, 1):
            raise ValueError(f"n is {self.n}, and a session has one answer; send n: 1")
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs is only allowed with logprobs: true")
        both = (self.max_tokens, self.max_completion_tokens)
        if None not in both and both[0] != both[1]:
            raise ValueError(
                f"max_tokens ({both[0]}) and max_completion_tokens ({both[1]}) are the same "
                "setting and differ; send one"
            )
        names = [tool.function.name for tool in self.tools or ()]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"tools has two functions named {name!r}")
        if self.tool_choice not in (None, "none", "auto") and not names:
            raise ValueError("tool_choice is only allowed with tools")
        if isinstance(self.tool_choice, NamedTool) and self.tool_choice.function.name not in names:
            raise ValueError(
                f"tool_choice names {self.tool_choice.function.name!r}, "
                f"which is not among the tools: {', '.join(names)}"
            )
        return self


class CompletionRequest(GenerationRequest):
    """Body of POST /v1/completions."""

    prompt: Prompts
    logprobs: int | None = None
    echo: bool | None = None


class EmbeddingRequest(Ignored):
    """Body of POST /v1/embeddings."""

    model: str | None = None
    input: Prompts
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None
    """Refused unless it is the model's own: vectors are not shortened."""
    pooling: Literal["mean", "last"] | None = None
    """Extra: mean of all tokens, each seeing all others, or the last token (the default)."""
