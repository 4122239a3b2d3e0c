"""Training a byte-level BPE tokenizer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tokenizers import AddedToken, decoders, pre_tokenizers
from tokenizers import Tokenizer as Backend
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from everlong.errors import ConfigError
from everlong.tokenizer.chat_template import ChatTemplate
from everlong.tokenizer.pre_tokenizers import WORD_SPLITS
from everlong.tokenizer.tokenizer import Tokenizer

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""The plainest chat template: turns between ``<|im_start|>`` and ``<|im_end|>``."""


def train_tokenizer(
    texts: Iterable[str],
    vocab_size: int,
    *,
    special_tokens: Sequence[str] = ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    eos_token: str = "<|im_end|>",
    words: str = "smollm",
    chat_template: str | None = CHATML,
    min_frequency: int = 2,
) -> Tokenizer:
    """Learn merges from texts (Sennrich et al. 2016, over bytes as in GPT-2).

    Every text can be encoded, since each of the 256 bytes is a token. The result depends only
    on the arguments.

    Args:
        texts: read once, in order.
        vocab_size: tokens in all; fewer where the texts have no more pairs to merge.
        special_tokens: their ids are 0, 1, 2, ... in this order.
        eos_token: the special token that ends a turn.
        words: how text is cut into words, a name in ``WORD_SPLITS``.
        chat_template: Jinja source, or None.
        min_frequency: pairs that occur less often are not merged.

    Raises:
        ConfigError: a setting is impossible.
    """
    least = 256 + len(special_tokens)
    if vocab_size < least:
        raise ConfigError(
            f"vocab_size must be at least {least} (256 bytes and {len(special_tokens)} special "
            f"tokens), not {vocab_size}"
        )
    if len(set(special_tokens)) != len(special_tokens) or not all(special_tokens):
        raise ConfigError(f"special_tokens must be different and not empty: {special_tokens}")
    if eos_token not in special_tokens:
        raise ConfigError(f"eos_token {eos_token!r} must be one of {list(special_tokens)}")
    if words not in WORD_SPLITS:
        raise ConfigError(f"words {words!r} is unknown; allowed: {', '.join(WORD_SPLITS)}")
    split = WORD_SPLITS[words]
    backend = Backend(BPE(ignore_merges=split.whole_words))
    if split.normalizer is not None:
        backend.normalizer = split.normalizer()
    backend.pre_tokenizer = split.pre_tokenizer()
    backend.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=[AddedToken(t, special=True, normalized=False) for t in special_tokens],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer=trainer)
    named = {"eos_token": eos_token}
    template = None
    if chat_template is not None:
        template = ChatTemplate(chat_template, special_tokens=named)
    return Tokenizer(backend, named_tokens=named, chat_template=template)
