"""How surprising a document is to a small language model.

CCNet (Wenzek et al. 2020, section 3.4) tells good web pages from bad ones by their perplexity under
a model of Wikipedia, and keeps the head, the middle or the tail. Both ends are suspicious: what is
very easy to guess repeats itself, what is very hard is noise. Here the model is a small Transformer
instead of one of n-grams, so it sees repetition that is hundreds of tokens apart.

The bounds were chosen on one half of 774 public texts of up to 512 tokens (SmolLM2-135M in 4 bits)
and hold on the other: of 166 texts of 100 tokens or more from books, encyclopedias, medicine,
manuals, finance, chats and code none is dropped, also if all are cut after 100, 128, 192 or
256 tokens. Dropped are all of 20 with their words shuffled, 20 with 15 % wrong letters and 10 of
random ones, 16 of 20 with 5 % wrong letters, and what repeats 80 letters (20 of 20), 300 (19 of 20)
or a notice (4 of 4). Not found are menus, lists of keywords, shuffled sentences, and a paragraph
that is there three times: other steps look for them. Texts of 25 tweets are three times as
surprising as prose and pass, but half of them do not if they are cut after 100 tokens: who writes
otherwise than the texts that the model has learned from comes nearer to the bound.

Perplexity is a mean over tokens, and so compares documents under one model only; bits per letter
compare models, too. A core (AMD EPYC, AVX-512) reads 1,670 tokens a second: 3.3 documents a second
of 512 tokens or more, which is 0.007 MB of what is read. So the step is one for the end of a
recipe, or for a sample, and is not in the usual ones.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from everlong.curation.document import Document, Dropped
from everlong.curation.local_model import digests, one_thread, path_of, unusable
from everlong.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from everlong.engine.runner import Runner
    from everlong.tokenizer import Tokenizer

_LETTERS_A_TOKEN = 16
"""No more of a document is tokenized. English has 4; runs of spaces or signs may have more."""
_CHUNK = 512
"""Tokens that go through the model at once."""
_ROWS = 128
"""Tokens whose logits are in memory at once: 25 MB for 49,152 ids."""


@dataclass(frozen=True)
class Perplexity:
    """Drops documents that a small language model finds too easy or too hard to guess.

    The perplexity of a token and the bits of a letter are in the metadata as ``perplexity`` and
    ``bits_per_letter``; None: the document has no letters, or is in a language that is not scored.
    """

    kind: Literal["perplexity"] = "perplexity"
    model: str = "smollm2-135m"
    """A name of the catalog, or a folder or GGUF file with a causal language model."""
    tokens: int = 512
    """Of a document's beginning, that are read at most."""
    least_tokens: int = 100
    """A document with fewer is scored and kept: the beginning of any text is hard to guess."""
    lowest: float | None = 2.5
    """Least perplexity that is kept; None: any."""
    highest: float | None = 200
    """Most perplexity that is kept; None: any."""
    action: Literal["drop", "annotate"] = "drop"
    """``annotate``: keep all documents, and only say how surprising they are."""
    languages: tuple[str, ...] = ("en",)
    """Only documents in these are scored: those that the model knows. Empty: all, whatever their
    language. A document's language is what a step before has told, else what its file or record
    states, if anything."""

    def __post_init__(self) -> None:
        if not self.model:
            raise ConfigError("model is empty; name a model of the catalog, or a folder")
        if not 1 <= self.least_tokens <= self.tokens:
            raise ConfigError(
                f"least_tokens is {self.least_tokens} and tokens {self.tokens}; give 1 <= "
                "least_tokens <= tokens"
            )
        for name in ("lowest", "highest"):
            value = getattr(self, name)
            if value is not None and not value >= 1:
                raise ConfigError(f"{name} is a perplexity of 1 or more, or null, not {value}")
        if self.lowest is not None and self.highest is not None and self.lowest > self.highest:
            raise ConfigError(
                f"lowest is {self.lowest}, more than highest, which is {self.highest}: no document "
                "would be kept"
            )
        if self.action not in ("drop", "annotate"):
            raise ConfigError(f"action is {self.action!r}; give drop or annotate")

    def prepare(self) -> None:
        """Load the model, and compile what it computes with: that may take longer than a process
        may stay at a document.

        Raises:
            ConfigError: the model is not there, or its window has fewer than ``tokens``.
        """
        _scorer(self.model).check(self.tokens)

    def reads(self) -> Mapping[str, str]:
        """See :class:`everlong.curation.step.ReadingStep`."""
        return digests(self.model, self.kind)

    def __call__(self, document: Document) -> Dropped | None:
        """See :class:`everlong.curation.step.DocumentStep`.

        Raises:
            ConfigError: see :meth:`prepare`.
        """
        surprise = None
        if not self.languages or document.language in self.languages:
            surprise = surprise_of(document.text, self.model, self.tokens)
        if surprise is None:
            document.metadata |= {"perplexity": None, "bits_per_letter": None}
            return None
        perplexity = round(surprise.perplexity, 2)
        document.metadata["perplexity"] = perplexity
        document.metadata["bits_per_letter"] = round(surprise.bits_per_letter, 4)
        if self.action == "annotate" or surprise.tokens < self.least_tokens:
            return None
        if self.lowest is not None and perplexity < self.lowest:
            return Dropped("too_easy", f"perplexity {perplexity:g}, at least {self.lowest:g}")
        if self.highest is not None and perplexity > self.highest:
            return Dropped("too_hard", f"perplexity {perplexity:g}, at most {self.highest:g}")
        return None


@dataclass(frozen=True)
class Surprise:
    """What a model says of the beginning of a text."""

    nats: float
    """Of all tokens together."""
    tokens: int
    letters: int
    """That these tokens spell."""

    @property
    def perplexity(self) -> float:
        """Among so many equally likely tokens the model would have to guess, on average."""
        return math.exp(self.nats / self.tokens)

    @property
    def bits_per_letter(self) -> float:
        """How short the model could write the text."""
        return self.nats / math.log(2) / self.letters


def surprise_of(text: str, model: str, tokens: int) -> Surprise | None:
    """How surprising the beginning of a text is; None if there is none.

    A text is scored alone and on one thread, so the result is the same to the bit whatever is
    scored before or beside it. On another processor it may differ in the last digits.

    Args:
        text: any text.
        model: see :class:`Perplexity`.
        tokens: that are read at most.

    Raises:
        ConfigError: the model is not there, or its window is too small.
    """
    # Half of a surrogate pair is in no encoding, and so in no vocabulary.
    start = text[: _LETTERS_A_TOKEN * tokens].encode("utf-8", "replace").decode()
    if not start:
        return None
    scorer = _scorer(model)
    scorer.check(tokens)
    ids = scorer.tokenizer.encode(start, special=False, bos=False)
    if len(ids) > tokens:
        ids = ids[:tokens]
        start = scorer.tokenizer.decode(ids)
    if not ids or not start:
        return None
    return Surprise(scorer.nats(ids), len(ids), len(start))


@dataclass(frozen=True)
class _Scorer:
    """A model that is ready, one in each process."""

    tokenizer: Tokenizer
    runner: Runner

    def check(self, tokens: int) -> None:
        """Raise if so many do not fit the window."""
        window = self.runner.model.config.max_position
        if tokens >= window:
            raise ConfigError(
                f"tokens is {tokens}, and the model's window has {window}, of which one begins the "
                f"text; give {window - 1} at most"
            )

    def nats(self, ids: list[int]) -> float:
        """Of all tokens; the first one follows the one that begins texts, or ends them."""
        import torch
        from torch.nn.functional import cross_entropy

        begins = self.tokenizer.bos_token_id
        if begins is None:
            begins = min(self.tokenizer.eos_token_ids, default=ids[0])
        head, following, total = self.runner.model.lm_head, torch.tensor(ids), 0.0
        with torch.inference_mode(), one_thread():
            (states,) = self.runner.states([[begins, *ids[:-1]]], "causal")  # [T, hidden]
            for start in range(0, len(ids), _ROWS):
                rows = slice(start, start + _ROWS)
                # A model may have more ids than the tokenizer; they are no text.
                logits = head(states[rows]).float()[:, : self.tokenizer.vocab_size]
                total += float(cross_entropy(logits, following[rows], reduction="sum"))
        return total


@functools.cache
def _scorer(model: str) -> _Scorer:
    from everlong.checkpoint.loading import open_model
    from everlong.engine.runner import Runner

    try:
        opened = open_model(str(path_of(model, Perplexity.kind)))
    except CheckpointError as error:
        raise unusable(error, Perplexity.kind) from None
    with one_thread():
        runner = Runner(opened.model, deterministic=False, chunk=_CHUNK, adapters={})
    return _Scorer(opened.tokenizer, runner)
