"""Text to token ids and back, over the ``tokenizers`` library."""

from __future__ import annotations

import codecs
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, normalizers
from tokenizers import Tokenizer as Backend

from everlong.errors import RequestError, TemplateError
from everlong.files import atomic_write
from everlong.tokenizer.chat_template import ChatTemplate
from everlong.tokenizer.guard import MARK, ControlGuard
from everlong.tokenizer.token_bytes import spelling_of
from everlong.tokenizer.tool_prompt import with_argument_objects

_TURN_ENDS = frozenset(
    {
        "<|im_end|>",
        "<|endoftext|>",
        "<|eot_id|>",
        "<|eom_id|>",
        "<|end_of_text|>",
        "<|end|>",
        "</s>",
    }
)
"""Control tokens that end a turn or a text in the families that Everlong runs."""


class Tokenizer:
    """A vocabulary with its rules, its special tokens and its chat template.

    Immutable; safe to use from several threads. Build one with :func:`load_tokenizer`,
    :func:`tokenizer_from_gguf` or :func:`train_tokenizer`.

    Args:
        backend: the library's tokenizer. It belongs to this object from now on.
        named_tokens: texts of special tokens by role: ``bos_token``, ``eos_token``,
            ``unk_token``, ``pad_token``; what is missing does not exist.
        eos_token_ids: ids that end a turn besides ``eos_token`` and the well-known ones.
        num_ids: how many ids the model has, where the backend knows fewer.
        chat_template: how messages become a prompt.

    Raises:
        UnsupportedError: the tokenizer is neither byte-level nor SentencePiece-like.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        named_tokens: Mapping[str, str] | None = None,
        eos_token_ids: Iterable[int] = (),
        num_ids: int = 0,
        chat_template: ChatTemplate | None = None,
    ) -> None:
        # A tokenizer.json may ask for both; either would change prompts silently.
        backend.no_truncation()
        backend.no_padding()
        self._backend = backend
        self._spelling = spelling_of(backend)
        added = backend.get_added_tokens_decoder()
        self._added = {token_id: token.content for token_id, token in added.items()}
        self._control = frozenset(i for i, token in added.items() if token.special)
        self.named_tokens: Mapping[str, str] = dict(named_tokens or {})
        self.chat_template = chat_template
        self.vocab_size: int = max(num_ids, backend.get_vocab_size(with_added_tokens=True))
        self.bos_token_id: int | None = self._id_of("bos_token")
        ends = {i for i in self._control if self._added[i] in _TURN_ENDS}
        eos = self._id_of("eos_token")
        self.eos_token_ids: frozenset[int] = frozenset(
            ends | set(eos_token_ids) | (set() if eos is None else {eos})
        )
        self._guard = ControlGuard(self._added[i] for i in self._control)
        self._guarded_backend = _guarded(backend, added)
        # Normalising could turn other text, such as full-width letters, into these.
        self._always_guarded = any(added[i].normalized for i in self._control)
        self._bytes: dict[int, bytes] = {}
        self._fingerprint: bytes | None = None

    def encode(self, text: str, *, special: bool = True, bos: bool = True) -> list[int]:
        """Token ids of ``text``.

        Args:
            text: any text, empty too.
            special: text such as ``<|im_end|>`` becomes its token; False reads it as plain
                text, which is what text from users needs.
            bos: begin and end of sequence are added where the tokenizer's own configuration
                says so. False for the continuation of a text, and for a rendered chat
                template, which writes them itself.

        Raises:
            RequestError: the text has lone surrogates, which no token can spell.
        """
        if special:
            return self._ids(self._backend, text, bos)
        marked = self._guard.mark(text)
        return self._ids(self._backend_for(marked is not text), marked, bos)

    def encode_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        **variables: Any,
    ) -> list[int]:
        """Token ids of a conversation, in which only the template writes control tokens.

        The ids are those of ``encode(chat_template.render(...), bos=False)``, except that the
        texts of control tokens inside messages, tools and variables are read as plain text.
        Tokens that are not control tokens, such as Qwen's ``<tool_call>``, are still formed.

        Args:
            messages, tools, add_generation_prompt, variables: see
                :meth:`ChatTemplate.render`.

        Raises:
            TemplateError: there is no chat template, or it refuses the messages.
        """
        if self.chat_template is None:
            raise TemplateError(
                "this model has no chat template: give it a prompt instead of messages, "
                "or use its instruction-tuned variant"
            )
        # Arguments that are JSON text are read first: an escape in them could hide a token.
        chat = with_argument_objects(messages)
        given = {"messages": chat, "tools": tools, "variables": variables}
        marked = self._guard.mark(given)
        text = self.chat_template.render(
            marked["messages"],
            tools=marked["tools"],
            add_generation_prompt=add_generation_prompt,
            **marked["variables"],
        )
        return self._ids(self._backend_for(marked is not given), text, False)

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """Text of token ids; bytes that are no UTF-8 become U+FFFD.

        Args:
            ids: any ids; those that stand for no text (padding of the embedding) add nothing.
            skip_special: leave special tokens out instead of writing their names.
        """
        decoder = StreamDecoder(self, skip_special)
        return decoder.push_all(ids) + decoder.flush()

    def token_bytes(self, token_id: int) -> bytes:
        """The exact bytes that a token adds to the text; empty for special tokens."""
        found = self._bytes.get(token_id)
        if found is None:
            found = self._bytes[token_id] = self._spell(token_id)
        return found

    def token_text(self, token_id: int) -> str:
        """What identifies a token to a reader: its name if special, else its bytes as text."""
        if token_id in self._control:
            return self._added[token_id]
        return self.token_bytes(token_id).decode(errors="replace")

    def token_id(self, text: str) -> int | None:
        """Id of the special or added token that is spelled ``text``, or None."""
        token_id = self._backend.token_to_id(text)
        return token_id if token_id in self._added else None

    def is_special(self, token_id: int) -> bool:
        """Whether an id stands for no text: control tokens, and ids that are no token."""
        if token_id in self._control or not 0 <= token_id < self.vocab_size:
            return True
        return self._backend.id_to_token(token_id) is None

    def fingerprint(self) -> bytes:
        """32 bytes that change with vocabulary, merges, rules, special tokens or template."""
        if self._fingerprint is None:
            template = self.chat_template
            parts = [
                self._backend.to_str(),
                json.dumps(sorted(self.named_tokens.items())),
                json.dumps(sorted(self.eos_token_ids)),
                json.dumps(None if template is None else [template.source, template.tools_source]),
            ]
            digest = hashlib.sha256()
            for part in parts:
                data = part.encode()
                digest.update(len(data).to_bytes(8, "little") + data)
            self._fingerprint = digest.digest()
        return self._fingerprint

    def save(self, folder: Path) -> None:
        """Write ``tokenizer.json`` and ``tokenizer_config.json``, as transformers reads them.

        Args:
            folder: an existing folder.
        """
        config: dict[str, Any] = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            **self.named_tokens,
        }
        if self.chat_template is not None:
            config["chat_template"] = self.chat_template.as_config()
        rules = self._backend.to_str(pretty=False)
        atomic_write(folder / "tokenizer.json", rules.encode())
        atomic_write(
            folder / "tokenizer_config.json",
            (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode(),
        )

    @property
    def strips_space(self) -> bool:
        """Decoding drops one leading space, the one that encoding put there (SentencePiece)."""
        return self._spelling.strips_space

    def _backend_for(self, marked: bool) -> Backend:
        return self._guarded_backend if marked or self._always_guarded else self._backend

    def _id_of(self, role: str) -> int | None:
        text = self.named_tokens.get(role)
        return None if text is None else self._backend.token_to_id(text)

    def _spell(self, token_id: int) -> bytes:
        if self.is_special(token_id):
            return b""
        if token_id in self._added:
            return self._added[token_id].encode()
        token = self._backend.id_to_token(token_id)
        assert token is not None, f"id {token_id} is no token and yet not special"
        return self._spelling.to_bytes(token)

    @staticmethod
    def _ids(backend: Backend, text: str, bos: bool) -> list[int]:
        try:
            return backend.encode(text, add_special_tokens=bos).ids
        except TypeError:
            at = next((i for i, c in enumerate(text) if "\ud800" <= c <= "\udfff"), None)
            if at is None:
                raise
            raise RequestError(
                f"the text has a lone surrogate (U+{ord(text[at]):04X}) at character {at}, "
                "which is half a character; send valid Unicode"
            ) from None


class StreamDecoder:
    """Turns token ids into text as they come, never emitting half a character.

    The texts of all ``push`` calls and of ``flush`` together are ``decode`` of all ids.

    Args:
        tokenizer: whose ids they are.
        skip_special: leave special tokens out instead of writing their names.
    """

    def __init__(self, tokenizer: Tokenizer, skip_special: bool = True) -> None:
        self._tokenizer = tokenizer
        self._skip_special = skip_special
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._strip_next = tokenizer.strips_space

    def push(self, token_id: int) -> str:
        """The text that one more id completes; empty while a character is unfinished."""
        return self._decode(self._piece(token_id))

    def push_all(self, ids: Iterable[int]) -> str:
        """The text that several more ids complete."""
        return self._decode(b"".join(map(self._piece, ids)))

    def flush(self) -> str:
        """What is held back at the end: U+FFFD for a character that was never finished."""
        return self._decode(b"", final=True)

    def _piece(self, token_id: int) -> bytes:
        if not self._skip_special and self._tokenizer.is_special(token_id):
            return self._tokenizer.token_text(token_id).encode()
        return self._tokenizer.token_bytes(token_id)

    def _decode(self, data: bytes, final: bool = False) -> str:
        text = self._utf8.decode(data, final)
        if text and self._strip_next:
            self._strip_next = False
            text = text.removeprefix(" ")
        return text


def _guarded(backend: Backend, added: Mapping[int, AddedToken]) -> Backend:
    """A tokenizer with the same vocabulary, rules and ids that drops the guard's marks.

    Its normaliser removes them after control tokens have been found and before anything else
    happens. The vocabulary is shared, not copied.
    """
    twin = Backend(backend.model)
    unmark = normalizers.Replace(MARK, "")
    twin.normalizer = (
        unmark if backend.normalizer is None else normalizers.Sequence([unmark, backend.normalizer])
    )
    if backend.pre_tokenizer is not None:
        twin.pre_tokenizer = backend.pre_tokenizer
    if backend.post_processor is not None:
        twin.post_processor = backend.post_processor
    for token_id in sorted(added):
        token = added[token_id]
        # A token that is looked for after normalising would be seen once its mark is gone.
        twin.add_tokens(
            [
                AddedToken(
                    token.content,
                    single_word=token.single_word,
                    lstrip=token.lstrip,
                    rstrip=token.rstrip,
                    normalized=token.normalized and not token.special,
                    special=token.special,
                )
            ]
        )
        if twin.token_to_id(token.content) != token_id:
            raise AssertionError(f"token {token.content!r} got another id than {token_id}")
    return twin
