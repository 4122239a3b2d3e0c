"""How a byte-level BPE cuts text into words before merging, by the names that GGUF files use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tokenizers import Regex, normalizers, pre_tokenizers
from tokenizers.normalizers import Normalizer
from tokenizers.pre_tokenizers import PreTokenizer

# The expressions are facts of the published tokenizers: they decide which merges can apply.
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
_GPT2_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_UPPER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}"
_LOWER = r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
_TEKKEN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]*[{_LOWER}]+|[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]+[{_LOWER}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _gpt2() -> PreTokenizer:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


def _single_digits() -> PreTokenizer:
    """GPT-2's words, with every digit on its own."""
    return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), _gpt2()])


def _split(*expressions: str) -> PreTokenizer:
    """Cut at each expression in turn, then spell the pieces in the byte alphabet."""
    return pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(e), behavior="isolated") for e in expressions]
        + [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )


@dataclass(frozen=True)
class WordSplit:
    """One way to cut text into the words within which merges apply."""

    pre_tokenizer: Callable[[], PreTokenizer]
    normalizer: Callable[[], Normalizer] | None = None
    whole_words: bool = False
    """A word that is itself in the vocabulary becomes that token without merging."""
    adds_bos: bool = False
    """A begin-of-sequence token is prepended where the file does not say."""


_SMOLLM = WordSplit(_single_digits)
_GPT2 = WordSplit(_gpt2)
_QWEN = WordSplit(lambda: _split(_QWEN2), normalizer=normalizers.NFC)
_LLAMA = WordSplit(lambda: _split(_LLAMA3), whole_words=True, adds_bos=True)

WORD_SPLITS: dict[str, WordSplit] = {
    # What GGUF readers do with files too old to name their own way.
    "default": WordSplit(
        lambda: _split(r"[\p{P}\$\+<=>\^~\|]+", _GPT2_WORDS, r"\p{N}+", r"[0-9][0-9][0-9]")
    ),
    "gpt-2": _GPT2,
    "phi-2": _GPT2,
    "mpt": _GPT2,
    "olmo": _GPT2,
    "smollm": _SMOLLM,
    "starcoder": _SMOLLM,
    "refact": _SMOLLM,
    "codeshell": _SMOLLM,
    "qwen2": _QWEN,
    "deepseek-r1-qwen": _QWEN,
    "megrez": _QWEN,
    "llama-bpe": _LLAMA,
    "llama3": _LLAMA,
    "llama-v3": _LLAMA,
    "dbrx": WordSplit(lambda: _split(_LLAMA3)),
    "smaug-bpe": WordSplit(lambda: _split(_LLAMA3)),
    "tekken": WordSplit(lambda: _split(_TEKKEN), whole_words=True, adds_bos=True),
}
"""By the value of ``tokenizer.ggml.pre``."""
