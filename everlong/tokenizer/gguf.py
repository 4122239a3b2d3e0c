"""Tokenizers out of the metadata of a GGUF file (``tokenizer.ggml.*``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tokenizers import AddedToken, decoders, normalizers
from tokenizers import Tokenizer as Backend
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing

from everlong.errors import CheckpointError, UnsupportedError
from everlong.tokenizer.chat_template import ChatTemplate
from everlong.tokenizer.pre_tokenizers import WORD_SPLITS
from everlong.tokenizer.tokenizer import Tokenizer

# tokenizer.ggml.token_type
_UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = 2, 3, 4, 5, 6

# Some files call these control tokens. They delimit what a model writes for the program to read,
# so they must appear in decoded text.
_NEVER_CONTROL = frozenset(
    {"<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>"}
)


def tokenizer_from_gguf(metadata: Mapping[str, Any]) -> Tokenizer:
    """Build the tokenizer that a GGUF file describes.

    Args:
        metadata: keys and values of the file; arrays are sequences of ``str``, ``int``,
            ``float`` (lists or numpy arrays).

    Raises:
        CheckpointError: an entry is missing or malformed.
        UnsupportedError: a model or pre-tokeniser that is not implemented.
    """
    kind = metadata.get("tokenizer.ggml.model")
    builders: dict[str, Callable[[_Vocabulary, Mapping[str, Any]], Backend]] = {
        "gpt2": _byte_level,
        "llama": _sentencepiece,
    }
    if not isinstance(kind, str) or kind not in builders:
        raise UnsupportedError(
            f"tokenizer.ggml.model is {kind!r}; supported: {', '.join(builders)}"
        )
    vocabulary = _Vocabulary(metadata)
    try:
        backend = builders[kind](vocabulary, metadata)
        backend.add_tokens(vocabulary.added())
        named = vocabulary.named_tokens()
        _add_bos_and_eos(backend, vocabulary, metadata)
    except (CheckpointError, AssertionError):
        raise
    except Exception as error:  # the library raises Exception itself
        raise CheckpointError(f"the tokenizer in the GGUF metadata is invalid: {error}") from None
    return Tokenizer(
        backend,
        named_tokens=named,
        eos_token_ids=vocabulary.ids("eos_token_id", "eot_token_id", "eom_token_id"),
        num_ids=len(vocabulary.tokens),
        chat_template=_chat_template(metadata, named),
    )


class _Vocabulary:
    """The token list of a file, checked."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        self._metadata = metadata
        self.tokens: list[str] = _list(metadata, "tokens", str)
        if not self.tokens:
            raise CheckpointError("tokenizer.ggml.tokens is missing or empty")
        self.types: list[int] = _list(metadata, "token_type", int) or [1] * len(self.tokens)
        self.scores: list[float] = _list(metadata, "scores", float)
        for name, values in (("token_type", self.types), ("scores", self.scores)):
            if values and len(values) != len(self.tokens):
                raise CheckpointError(
                    f"tokenizer.ggml.{name} has {len(values)} entries for {len(self.tokens)} tokens"
                )
        # Tokens that only fill up the embedding are left out; of two with the same text, the
        # second.
        self.id_of: dict[str, int] = {}
        for token_id, token in enumerate(self.tokens):
            if self.types[token_id] != _UNUSED:
                self.id_of.setdefault(token, token_id)

    def added(self) -> list[AddedToken]:
        """Tokens that are found in text before any rule applies, by id."""
        return [
            AddedToken(
                self.tokens[token_id],
                normalized=False,
                special=kind != _USER_DEFINED and self.tokens[token_id] not in _NEVER_CONTROL,
            )
            for token_id, kind in enumerate(self.types)
            if kind in (_UNKNOWN, _CONTROL, _USER_DEFINED)
            and self.id_of[self.tokens[token_id]] == token_id
        ]

    def ids(self, *names: str) -> list[int]:
        """The token ids that ``tokenizer.ggml.NAME`` entries give; what is missing is left out."""
        found = []
        for name in names:
            value = self._metadata.get(f"tokenizer.ggml.{name}")
            if value is None or int(value) in (-1, 0xFFFFFFFF):  # both are written for "none"
                continue
            if not 0 <= int(value) < len(self.tokens):
                raise CheckpointError(
                    f"tokenizer.ggml.{name} is {value}; the file has {len(self.tokens)} tokens"
                )
            found.append(int(value))
        return found

    def named_tokens(self) -> dict[str, str]:
        """Texts of the special tokens by the role that Hugging Face gives them."""
        roles = {
            "bos_token": "bos_token_id",
            "eos_token": "eos_token_id",
            "unk_token": "unknown_token_id",
            "pad_token": "padding_token_id",
        }
        return {
            role: self.tokens[token_id] for role, key in roles.items() for token_id in self.ids(key)
        }


def _list(metadata: Mapping[str, Any], name: str, kind: type) -> list[Any]:
    """The array ``tokenizer.ggml.NAME``; empty where it is missing."""
    value = metadata.get(f"tokenizer.ggml.{name}")
    if value is None:
        return []
    if hasattr(value, "tolist"):
        value = value.tolist()
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise CheckpointError(f"tokenizer.ggml.{name} must be an array, not {value!r:.80}")
    allowed = (int, float) if kind is float else kind
    wrong = next((item for item in value if not isinstance(item, allowed)), None)
    if wrong is not None:
        raise CheckpointError(
            f"tokenizer.ggml.{name} must hold {kind.__name__} values, not {wrong!r:.80}"
        )
    return list(value)


def _byte_level(vocabulary: _Vocabulary, metadata: Mapping[str, Any]) -> Backend:
    name = metadata.get("tokenizer.ggml.pre", "default")
    if not isinstance(name, str) or name not in WORD_SPLITS:
        raise UnsupportedError(
            f"tokenizer.ggml.pre is {name!r}; supported: {', '.join(WORD_SPLITS)}"
        )
    split = WORD_SPLITS[name]
    merges = [tuple(merge.split(" ")) for merge in _list(metadata, "merges", str)]
    if wrong := next((m for m in merges if len(m) != 2 or not all(m)), None):
        raise CheckpointError(
            f"tokenizer.ggml.merges must hold pairs of tokens with a space between, not {wrong!r}"
        )
    backend = Backend(BPE(vocabulary.id_of, merges, ignore_merges=split.whole_words))
    if split.normalizer is not None:
        backend.normalizer = split.normalizer()
    backend.pre_tokenizer = split.pre_tokenizer()
    backend.decoder = decoders.ByteLevel()
    return backend


def _sentencepiece(vocabulary: _Vocabulary, metadata: Mapping[str, Any]) -> Backend:
    """SentencePiece's BPE: the best-scored pair is merged first, spaces are part of words."""
    if not vocabulary.scores:
        raise CheckpointError("tokenizer.ggml.scores is missing; model 'llama' needs it")
    unknown = next(
        (t for t, k in zip(vocabulary.tokens, vocabulary.types, strict=True) if k == _UNKNOWN), None
    )
    backend = Backend(
        BPE(
            vocabulary.id_of,
            _merges_by_score(vocabulary),
            unk_token=unknown,
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    spaces = normalizers.Replace(" ", "▁")
    unspaces = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if metadata.get("tokenizer.ggml.add_space_prefix", True):
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), spaces])
        backend.decoder = decoders.Sequence([*unspaces, decoders.Strip(" ", 1, 0)])
    else:
        backend.normalizer = spaces
        backend.decoder = decoders.Sequence(unspaces)
    return backend


def _merges_by_score(vocabulary: _Vocabulary) -> list[tuple[str, str]]:
    """Every way to put a token together from two others, best score first.

    SentencePiece keeps no merges: at each step it joins the neighbours whose union is the token
    with the highest score.
    """
    plain = {
        token: token_id
        for token, token_id in vocabulary.id_of.items()
        if vocabulary.types[token_id] not in (_UNKNOWN, _CONTROL, _BYTE)
    }
    found = []
    for token, token_id in plain.items():
        score = vocabulary.scores[token_id]
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            if left in plain and right in plain:
                found.append((-score, plain[left], plain[right], left, right))
    found.sort()
    return [(left, right) for *_, left, right in found]


def _add_bos_and_eos(
    backend: Backend, vocabulary: _Vocabulary, metadata: Mapping[str, Any]
) -> None:
    if metadata["tokenizer.ggml.model"] == "llama":
        adds_bos = True
    else:
        adds_bos = WORD_SPLITS[metadata.get("tokenizer.ggml.pre", "default")].adds_bos
    adds_bos = metadata.get("tokenizer.ggml.add_bos_token", adds_bos)
    bos = vocabulary.ids("bos_token_id") if adds_bos else []
    eos = vocabulary.ids("eos_token_id") if metadata.get("tokenizer.ggml.add_eos_token") else []
    if not bos and not eos:
        return
    around = {vocabulary.tokens[token_id]: token_id for token_id in bos + eos}
    backend.post_processor = TemplateProcessing(
        single=[
            *(vocabulary.tokens[i] for i in bos),
            "$A",
            *(vocabulary.tokens[i] for i in eos),
        ],
        special_tokens=list(around.items()),
    )


def _chat_template(metadata: Mapping[str, Any], named: Mapping[str, str]) -> ChatTemplate | None:
    source = metadata.get("tokenizer.chat_template")
    if source is None:
        return None
    tools_source = metadata.get("tokenizer.chat_template.tool_use")
    for text in (source, tools_source):
        if text is not None and not isinstance(text, str):
            raise CheckpointError(f"tokenizer.chat_template must be a text, not {text!r:.80}")
    return ChatTemplate(source, tools_source=tools_source, special_tokens=named)
