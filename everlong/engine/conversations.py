"""Sessions over a model: what is asked becomes a prompt, what is answered is kept.

The prompt of a session is its transcript, token by token as it was read and written, and then what
is new; so the blocks of its past are found again: spelled anew, a text may have other tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from everlong.errors import RequestError
from everlong.memory.memory import Memory
from everlong.memory.sessions import Message, Session
from everlong.tokenizer import Tokenizer


class Conversations:
    """The sessions of a memory, as one tokenizer writes them. Safe to use from several threads.

    Args:
        tokenizer: of the model.
        memory: where sessions are.
    """

    def __init__(self, tokenizer: Tokenizer, memory: Memory) -> None:
        self._tokenizer = tokenizer
        self._memory = memory

    def begin(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        namespace: str,
        session: str | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        variables: Mapping[str, Any] | None = None,
    ) -> Exchange:
        """What the model is asked when ``messages`` are said in a session.

        Messages may be the whole conversation, of which what is known is skipped, or only what is
        new (no answer of the assistant among them). A conversation that parts from what is known
        goes on in a new session, and the old one stays as it is.

        Args:
            messages: in OpenAI's form.
            namespace: name of the namespace.
            session: name of the session; None: a new one.
            tools, variables: for the chat template.

        Raises:
            RequestError: there is nothing to answer, or the name cannot be.
            TemplateError: the template refuses the messages.
        """
        if not messages:
            raise RequestError("there are no messages; give at least one")
        sessions = self._memory.sessions
        owner = self._memory.namespace(namespace).id
        found = sessions.open(owner, session)
        stored = sessions.messages(found)
        known, new = continued([message.body for message in stored], messages)
        if known < len(stored):
            found = sessions.fork(found, stored[:known])
            stored = sessions.messages(found)
        added = [Message(len(stored) + i, body) for i, body in enumerate(new)]
        prompt = self._tokenizer.encode_chat(
            _for_template([*stored, *added]), tools=tools, **(variables or {})
        )
        transcript = sessions.transcript(found, self._tokenizer.fingerprint())
        kept, rest = spliced(self._tokenizer, transcript, prompt)
        return Exchange(
            self._memory, found, self._tokenizer.fingerprint(), added, transcript[:kept], rest
        )


class Exchange:
    """One question to a session and its answer.

    Args:
        memory: where the session is.
        session: which.
        tokenizer: fingerprint of the tokenizer.
        new: messages that are not kept yet.
        known: tokens of the transcript that stay.
        rest: tokens of the prompt after them.
    """

    def __init__(
        self,
        memory: Memory,
        session: Session,
        tokenizer: bytes,
        new: Sequence[Message],
        known: Sequence[int],
        rest: Sequence[int],
    ) -> None:
        self.session = session
        self.prompt = [*known, *rest]
        """Token ids."""
        self._memory, self._tokenizer = memory, tokenizer
        self._new, self._known, self._rest = new, len(known), rest

    def accept(self) -> None:
        """Keep what was said: from now on it outlives the process."""
        self._new = self._memory.sessions.append(self.session, self._new)

    def finish(self, output: Sequence[int], answer: Mapping[str, Any]) -> None:
        """Keep the answer.

        Args:
            output: token ids that were generated, with the one that ended them.
            answer: the message, in OpenAI's form.
        """
        sessions = self._memory.sessions
        (told,) = sessions.append(self.session, [Message(0, answer)])
        sessions.write_transcript(
            self.session, self._tokenizer, self._known, told.place, [*self._rest, *output]
        )


def continued(
    known: Sequence[Mapping[str, Any]], told: Sequence[Mapping[str, Any]]
) -> tuple[int, Sequence[Mapping[str, Any]]]:
    """How many of a session's messages stay, and which messages are new.

    Args:
        known: messages of the session.
        told: the whole conversation; or only new messages: none of them the assistant's, and not
            the beginning of the session said again in other words.
    """
    alike = 0
    while alike < min(len(known), len(told)) and same(known[alike], told[alike]):
        alike += 1
    if alike == len(known):
        return alike, told[alike:]
    said = [message for message in told if message["role"] not in ("system", "developer")]
    system = told[: len(told) - len(said)]
    only_new = all(message["role"] != "assistant" for message in said)
    if only_new and all(same(a, b) for a, b in zip(system, known, strict=False)):
        # Asked again without an answer in between, as after a crash: it is there already.
        pending = len(known)
        while pending and known[pending - 1]["role"] != "assistant":
            pending -= 1
        waiting = known[max(pending, len(system)) :]
        if len(waiting) == len(said) and all(map(same, waiting, said)):
            return len(known), []
        return len(known), said
    return alike, told[alike:]


def same(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether two messages say the same; space around a text says nothing."""

    def said(message: Mapping[str, Any]) -> dict[str, Any]:
        text = str(message.get("content") or "").strip()
        rest = {k: v for k, v in message.items() if v and k not in ("content", "tool_calls")}
        # Names of calls are made anew for every answer.
        calls = [call["function"] for call in message.get("tool_calls") or ()]
        return rest | {"content": text, "tool_calls": calls}

    return said(a) == said(b)


def spliced(
    tokenizer: Tokenizer, transcript: Sequence[int], prompt: list[int]
) -> tuple[int, list[int]]:
    """A prompt that begins with the tokens of a transcript as far as both spell the same text.

    Args:
        tokenizer: of both.
        transcript: tokens as they were read and written.
        prompt: the whole conversation, spelled anew.

    Returns:
        How many tokens of the transcript stay, and those of the prompt that follow them.
    """
    i = 0
    most = min(len(transcript), len(prompt))
    while i < most and transcript[i] == prompt[i]:
        i += 1
    j = i
    best = i, j
    ours = theirs = b""  # what one has spelled and the other has not yet
    while i < len(transcript) or ours:
        ahead = len(ours) > len(theirs)
        tokens, at = (prompt, j) if ahead else (transcript, i)
        if at == len(tokens):
            break
        if tokenizer.is_special(tokens[at]):
            if ours or theirs or prompt[j : j + 1] != [tokens[at]]:
                break
            i, j = i + 1, j + 1
        elif ahead:
            theirs += tokenizer.token_bytes(prompt[j])
            j += 1
        else:
            ours += tokenizer.token_bytes(transcript[i])
            i += 1
        common = min(len(ours), len(theirs))
        if ours[:common] != theirs[:common]:
            break
        ours, theirs = ours[common:], theirs[common:]
        if not ours and not theirs:
            best = i, j
    return best[0], prompt[best[1] :]


def _for_template(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages as the template gets them: with notes, and without the seams of forgetting."""
    shown: list[dict[str, Any]] = []
    for message in messages:
        body = dict(message.body)
        if message.notes:
            body["content"] = f"{message.notes}\n\n{body.get('content') or ''}"
        plain = not body.get("tool_calls") and body["role"] in ("user", "assistant")
        if not shown and body["role"] == "assistant":
            continue  # what it answered is forgotten
        if plain and shown and shown[-1]["role"] == body["role"] and "tool_calls" not in shown[-1]:
            shown[-1]["content"] = f"{shown[-1]['content']}\n\n{body.get('content') or ''}"
        else:
            shown.append(body)
    return shown
