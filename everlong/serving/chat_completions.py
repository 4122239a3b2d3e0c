"""POST /v1/chat/completions: messages in, a message or tool calls out."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from everlong.engine.async_engine import AsyncEngine
from everlong.engine.request import Chunk, Constraint
from everlong.errors import RequestError
from everlong.serving.chat import conversation, offered_tools
from everlong.serving.generation import Job, UsageSum, finish_reason
from everlong.serving.kept_answer import KeptAnswer, name_of
from everlong.serving.logprobs import chat_logprobs, told
from everlong.serving.protocol import ChatRequest, NamedTool
from everlong.serving.replies import (
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatReply,
    Extras,
    FunctionDelta,
    FunctionReply,
    MessageDelta,
    MessageReply,
    ToolCallDelta,
    ToolCallReply,
)
from everlong.serving.sampling import (
    for_choice,
    response_schema,
    sampling_params,
    schema_text,
    structured_constraint,
)
from everlong.serving.sse import event
from everlong.serving.tools import forced_calls
from everlong.tokenizer.tool_calls import Parsed, ToolCall, ToolCallParser


class ChatCall:
    """One request of this endpoint: what it asks of the engine, and how it is answered.

    Streamed and unstreamed answers are made of the same pieces, so that they cannot differ.

    Args:
        request: the body.
        engine: whose tokenizer, and whose memory, is used.
        model: name to answer with.
        namespace: name of the namespace that the session is in.
        remembers_all: whether a request without a session gets one.

    Raises:
        RequestError: something in the request cannot be served.
        TemplateError: the chat template is missing or refuses the messages.
    """

    def __init__(
        self,
        request: ChatRequest,
        engine: AsyncEngine,
        model: str,
        *,
        namespace: str,
        remembers_all: bool = False,
    ) -> None:
        self._request = request
        tokenizer = self._tokenizer = engine.tokenizer
        self._tools = offered_tools(request)
        self._one_call = request.parallel_tool_calls is False or isinstance(
            request.tool_choice, NamedTool
        )
        self._id = f"chatcmpl-{uuid.uuid4().hex}"
        self._created = int(time.time())
        self._model = model
        max_tokens = request.max_completion_tokens
        sampling = sampling_params(
            request,
            defaults=engine.default_sampling,
            vocab_size=tokenizer.vocab_size,
            max_tokens=request.max_tokens if max_tokens is None else max_tokens,
            logprobs=(request.top_logprobs or 0) if request.logprobs else None,
            constraint=self._constraint(),
        )
        if self._tools and self._one_call and sampling.constraint is None:
            # The first call is the last: nothing is generated that would not be told.
            sampling = replace(sampling, stop=(*sampling.stop, "</tool_call>"))
        self.jobs: list[Job] = []
        """One per choice."""
        asked = conversation(request)
        self._kept: KeptAnswer | None = None
        session = request.session
        whole = session is None and remembers_all and request.n in (None, 1)
        if whole:
            session = name_of(asked.messages)
        if session is None:
            prompt = asked.prompt_ids(tokenizer)
            for number in range(request.n or 1):
                self.jobs.append(Job(prompt, for_choice(sampling, number)))
            return
        exchange = engine.conversations.begin(
            asked.messages,
            namespace=namespace,
            session=session,
            whole=whole,
            tools=asked.tools,
            variables=asked.variables,
        )
        self._kept = KeptAnswer(exchange)
        self.jobs.append(Job(exchange.prompt, for_choice(sampling, 0), exchange.in_session))

    async def reply(self, chunks: AsyncGenerator[tuple[int, Chunk], None]) -> ChatReply:
        """The whole answer, once all choices are finished."""
        usage = UsageSum(len(self.jobs))
        drafts = [_Draft() for _ in self.jobs]
        async with aclosing(self._pieces(chunks, usage)) as pieces:
            async for piece in pieces:
                drafts[piece.index].add(piece)
        return ChatReply(
            id=self._id,
            object="chat.completion",
            created=self._created,
            model=self._model,
            choices=[draft.choice(index) for index, draft in enumerate(drafts)],
            usage=usage.reply(),
            **self._extras(),
        )

    async def events(
        self, chunks: AsyncGenerator[tuple[int, Chunk], None]
    ) -> AsyncGenerator[bytes, None]:
        """The answer as server-sent events."""
        usage = UsageSum(len(self.jobs))
        extra: Mapping[str, Any] = {"usage": None} if self._request.include_usage else {}
        once: Mapping[str, Any] = self._extras()
        async with aclosing(self._pieces(chunks, usage)) as pieces:
            async for piece in pieces:
                yield event(self._chunk([piece], **extra, **once).json_bytes())
                once = {}
        if self._request.include_usage:
            yield event(self._chunk([], usage=usage.reply()).json_bytes())

    def _extras(self) -> dict[str, Any]:
        if self._kept is None:
            return {}
        return {"everlong": Extras(memory=self._kept.reply())}

    def _constraint(self) -> Constraint | None:
        """The form that the answer must have, from the four fields that can ask for one.

        Raises:
            RequestError: two of them exclude each other.
        """
        request = self._request
        structured = structured_constraint(request)
        schema = response_schema(request.response_format)
        if structured is not None and schema is not None:
            raise RequestError("structured_outputs and response_format exclude each other")
        forced = request.tool_choice not in (None, "none", "auto")
        if forced and (structured is not None or schema is not None):
            raise RequestError(
                "tool_choice forces a call, so the answer cannot have another form as well; "
                "leave out response_format and structured_outputs, or send tool_choice auto"
            )
        if forced or (self._tools and schema is not None):
            template = self._tokenizer.chat_template
            assert template is not None, "models without one are refused before"
            return forced_calls(
                template, self._tools, parallel=not self._one_call, or_schema=schema
            )
        if schema is not None:
            return Constraint(json_schema=schema_text(schema))
        return structured

    async def _pieces(
        self, chunks: AsyncGenerator[tuple[int, Chunk], None], usage: UsageSum
    ) -> AsyncGenerator[ChatChunkChoice, None]:
        """What every chunk adds to its choice; nothing for one whose text is still held back."""
        if self._kept is not None:
            chunks = self._kept.watch(chunks)
        readers = [self._reader() for _ in self.jobs]
        begun: set[int] = set()
        async with aclosing(chunks) as source:
            async for index, chunk in source:
                usage.update(index, chunk.usage)
                reader = readers[index]
                reason = finish_reason(chunk)
                content, calls = reader.read(chunk.text, reason is not None)
                shown = told(chunk, self._tokenizer.eos_token_ids)
                logprobs = chat_logprobs(self._tokenizer, shown) if shown else None
                if index not in begun:
                    begun.add(index)
                    yield ChatChunkChoice(
                        index=index,
                        delta=MessageDelta(role="assistant", content=""),
                        logprobs=None,
                        finish_reason=None,
                    )
                if content or calls or logprobs:
                    given: dict[str, Any] = {}
                    if content:
                        given["content"] = content
                    if calls:
                        given["tool_calls"] = calls
                    if self._kept is not None:
                        self._kept.say(content, calls)
                    yield ChatChunkChoice(
                        index=index,
                        delta=MessageDelta(**given),
                        logprobs=logprobs,
                        finish_reason=None,
                    )
                if reason is not None:
                    if self._kept is not None:
                        await self._kept.finish()
                    called = reason == "stop" and reader.calls > 0
                    yield ChatChunkChoice(
                        index=index,
                        delta=MessageDelta(),
                        logprobs=None,
                        finish_reason="tool_calls" if called else reason,
                    )

    def _reader(self) -> _Reader:
        template = self._tokenizer.chat_template
        if not self._tools or template is None:
            return _Reader(None, False)
        names = [tool.function.name for tool in self._tools]
        return _Reader(ToolCallParser(template.tool_format, names), self._one_call)

    def _chunk(self, choices: list[ChatChunkChoice], **more: Any) -> ChatChunk:
        return ChatChunk(
            id=self._id,
            object="chat.completion.chunk",
            created=self._created,
            model=self._model,
            choices=choices,
            **more,
        )


class _Reader:
    """Tells text from tool calls in one choice.

    Args:
        parser: of the model's form; None where no tool was offered.
        one_call: further calls are dropped.
    """

    def __init__(self, parser: ToolCallParser | None, one_call: bool) -> None:
        self._parser = parser
        self._one_call = one_call
        self.calls = 0

    def read(self, text: str, last: bool) -> tuple[str, list[ToolCallDelta]]:
        """Text and calls that became certain with ``text``."""
        if self._parser is None:
            return text, []
        parsed = [self._parser.push(text)]
        if last:
            parsed.append(self._parser.finish())
        content = "".join(part.content for part in parsed)
        deltas = [self._delta(call) for part in parsed for call in self._kept(part)]
        return content, deltas

    def _kept(self, parsed: Parsed) -> tuple[ToolCall, ...]:
        room = 1 - self.calls if self._one_call else None
        return parsed.calls[:room]

    def _delta(self, call: ToolCall) -> ToolCallDelta:
        index = self.calls
        self.calls += 1
        return ToolCallDelta(
            index=index,
            id=f"call_{uuid.uuid4().hex[:24]}",
            type="function",
            function=FunctionDelta(name=call.name, arguments=call.arguments),
        )


class _Draft:
    """One choice of an unstreamed answer, put together from the pieces of a streamed one."""

    def __init__(self) -> None:
        self._content: list[str] = []
        self._calls: list[ToolCallReply] = []
        self._piece: ChatChunkChoice | None = None

    def add(self, piece: ChatChunkChoice) -> None:
        self._content.append(piece.delta.content or "")
        for call in piece.delta.tool_calls:
            self._calls.append(
                ToolCallReply(
                    id=call.id,
                    type="function",
                    function=FunctionReply(
                        name=call.function.name, arguments=call.function.arguments
                    ),
                )
            )
        if self._piece is None:
            self._piece = piece
            return
        if piece.logprobs is not None:
            if self._piece.logprobs is None:
                self._piece.logprobs = piece.logprobs
            else:
                self._piece.logprobs.content += piece.logprobs.content
        self._piece.finish_reason = piece.finish_reason

    def choice(self, index: int) -> ChatChoice:
        assert self._piece is not None, "every choice has at least its last piece"
        assert self._piece.finish_reason is not None, "the last piece says why it is the last"
        content = "".join(self._content)
        calls = {"tool_calls": self._calls} if self._calls else {}
        return ChatChoice(
            index=index,
            message=MessageReply(
                role="assistant",
                content=content if content or not self._calls else None,
                refusal=None,
                **calls,
            ),
            logprobs=self._piece.logprobs,
            finish_reason=self._piece.finish_reason,
        )
