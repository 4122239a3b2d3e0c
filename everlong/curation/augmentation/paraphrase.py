"""Documents in other words, written by a local language model.

A model that reads the same facts in several forms learns them from fewer tokens (Maini et al. 2024,
"Rephrasing the Web", sections 3 and 4, with a model of 7 billion parameters; Allen-Zhu and Li 2023,
"Physics of language models", part 3.1). What a model writes is not believed: a paragraph in other
words counts only if it is about as long, has the same numbers and names, shares enough words with
the original to be about the same, and not so many runs of words that it is a copy. Small models
fail that often; what fails is left out.

Several instructions are followed one after the other, each on the answer to the one before. So a
text can go into another language and back (Sennrich et al. 2016, "Improving neural machine
translation models with monolingual data"), or into notes and back, with a model that can do it.

So there is no model by default. SmolLM2-135M-Instruct wrote 3 of 32 paragraphs of an encyclopedia
that count, and what these say is wrong; Qwen2.5-Coder-0.5B-Instruct 4 of 24 of a medical one, which
are right but for an addition, and copied 17 (4 bits; a look, not a measurement).
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from everlong.curation.augmentation.made import drawing, is_made, made
from everlong.curation.document import Document, Plain
from everlong.curation.local_model import digests, one_thread, path_of, unusable
from everlong.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from everlong.engine.llm import LLM

_PARAGRAPHS = re.compile(r"\n\s*\n")
_SENTENCE = re.compile(r"[.!?][\"'”’)]*(?:\s|$)")
_NUMBER = re.compile(r"\d+(?:[.,:/-]\d+)*")
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_SAID = re.compile(
    r"\s*(?:sure|certainly|of course|okay|here(?:'s| is| are)|i(?:'m| am|'ll| will| can| cannot|"
    r" can't)|as an ai|the (?:text|passage|paragraph|rewritten|original)\b|rewritten|paraphrase)",
    re.IGNORECASE,
)
"""How answers begin that talk about the task."""
_RUN = 5
"""Words of a run that is a copy."""
_TOKENS_A_LETTER = 0.5
"""An answer has no more: English has a quarter."""
_TOGETHER = 16
_CACHE_BYTES = 256 << 20


@dataclass(frozen=True)
class Paraphrase:
    """Makes documents that say the same in other words, with a local language model.

    The new documents have the paragraphs in which that succeeded, and say in their metadata which
    share of the letters they were (``paraphrased``).
    """

    kind: Literal["paraphrase"] = "paraphrase"
    model: str = ""
    """A name of the catalog, or a folder or GGUF file, with a chat template. There is none by
    default: the smallest models do not write what is worth it."""
    instructions: tuple[str, ...] = (
        "Rewrite the following paragraph in your own words. Keep every fact, name and number. "
        "Answer with the rewritten paragraph only.",
    )
    """Followed one after the other, each on the answer to the one before."""
    sources: tuple[str, ...] = ()
    """Names of the sources whose documents are rewritten; empty: all."""
    languages: tuple[str, ...] = ("en",)
    """Only documents in these, those that the model writes, and those whose language is not
    known."""
    copies: int = 1
    """Of each document."""
    shortest: int = 200
    """Letters of a paragraph; shorter ones are left out."""
    longest: int = 1500
    """Letters of a paragraph; longer ones are left out."""
    paragraphs: int = 8
    """Of a document, that are rewritten at most: the first ones. A process may take only so long
    for a document (``workers.limits.seconds``)."""
    temperature: float = 0.7
    """Of what is drawn; 0: the likeliest words."""
    least_kept: float = 0.4
    """Share of the different words of the original that are in the new paragraph, too."""
    most_copied: float = 0.5
    """Share of the new paragraph's runs of five words that are in the original."""
    seed: int = 0
    """Of what is drawn."""

    def __post_init__(self) -> None:
        if not self.model:
            raise ConfigError(
                "paraphrase needs a model that follows instructions: a folder, a GGUF file or a "
                "name of the catalog"
            )
        if not self.instructions or not all(one.strip() for one in self.instructions):
            raise ConfigError("instructions has an empty one, or none; say what the model shall do")
        if self.copies < 1 or self.paragraphs < 1:
            raise ConfigError(
                f"copies is {self.copies} and paragraphs {self.paragraphs}; give 1 or more"
            )
        if not 1 <= self.shortest <= self.longest:
            raise ConfigError(
                f"shortest is {self.shortest} and longest {self.longest}; give 1 <= shortest <= "
                "longest"
            )
        if not 0 <= self.temperature <= 2:
            raise ConfigError(f"temperature is {self.temperature}; give 0 to 2")
        if self.temperature == 0 and self.copies > 1:
            raise ConfigError("at temperature 0 all copies are the same; ask for one")
        for name in ("least_kept", "most_copied"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; give 0 to 1")

    def prepare(self) -> None:
        """Load the model: that may take longer than a process may stay at a document.

        Raises:
            ConfigError: it is not there, or has no chat template, or too small a window.
        """
        self._loaded()

    def reads(self) -> Mapping[str, str]:
        """See :class:`everlong.curation.step.ReadingStep`."""
        return digests(self.model, self.kind)

    def make(self, document: Document) -> Iterator[Document]:
        """See :class:`everlong.curation.step.MakingStep`."""
        chosen = not self.sources or document.source in self.sources
        spoken = document.language is None or document.language in self.languages
        if not chosen or not spoken or is_made(document):
            return
        if not (paragraphs := [*self._paragraphs(document.text)]):
            return
        draw = drawing(document, self.kind, self.seed)
        letters = sum(len(one) for one in _PARAGRAPHS.split(document.text))
        for number in range(self.copies):
            written = self._written(paragraphs, draw.getrandbits(63))
            pairs = zip(paragraphs, written, strict=True)
            good = [
                (old, new)
                for old, new in pairs
                if new is not None and self.why_not(old, new) is None
            ]
            if good:
                share = sum(len(old) for old, _ in good) / letters
                text = "\n\n".join(new for _, new in good)
                more: dict[str, Plain] = {"paraphrased": round(share, 3)}
                yield made(document, self.kind, self.seed, str(number), text, more)

    def why_not(self, original: str, written: str) -> str | None:
        """Why a paragraph that a model wrote is no paraphrase of another; None: it is one."""
        if not 0.5 <= len(written) / len(original) <= 1.5:
            return "has another length"
        if _SAID.match(written) and not _SAID.match(original):
            return "is about the task"
        if Counter(_NUMBER.findall(original)).keys() != Counter(_NUMBER.findall(written)).keys():
            return "has other numbers"
        if _names(written) - _words(original):
            return "has other names"
        had, has = _words(original), _words(written)
        if len(had & has) < self.least_kept * len(had):
            return "has other words"
        runs, copied = _runs(written), _runs(original)
        if runs and len(runs & copied) > self.most_copied * len(runs):
            return "is a copy"
        return None

    def _paragraphs(self, text: str) -> Iterator[str]:
        """The first ones that are prose and neither too short nor too long."""
        found = 0
        for one in _PARAGRAPHS.split(text):
            paragraph = " ".join(one.split())
            fits = self.shortest <= len(paragraph) <= self.longest
            if fits and _SENTENCE.search(paragraph) and found < self.paragraphs:
                found += 1
                yield paragraph

    def _written(self, paragraphs: list[str], seed: int) -> list[str | None]:
        """What the model makes of some paragraphs; None where it comes to no end, or where the
        paragraph does not fit its window, as one of a script with more tokens than letters."""
        llm = self._loaded()
        most = int(_TOKENS_A_LETTER * self.longest)
        written: list[str | None] = [*paragraphs]
        for instruction in self.instructions:
            asked = {
                place: llm.tokenizer.encode_chat(
                    [{"role": "user", "content": f"{instruction}\n\n{one}"}]
                )
                for place, one in enumerate(written)
                if one is not None
            }
            written = [None] * len(paragraphs)
            fitting = {n: one for n, one in asked.items() if len(one) + most <= llm.max_model_len}
            done = llm.generate(
                [*fitting.values()], temperature=self.temperature, seed=seed, max_tokens=most
            )
            for place, one in zip(fitting, done, strict=True):
                text = " ".join(one.text.split()).strip('"“” ')
                written[place] = text if one.finish_reason == "stop" and text else None
        return written

    def _loaded(self) -> LLM:
        return _llm(self.model, int(2 * _TOKENS_A_LETTER * self.longest) + 256)


def _words(text: str) -> set[str]:
    return {one.casefold() for one in _WORD.findall(text)}


def _names(text: str) -> set[str]:
    """Words with a capital that do not begin a sentence."""
    found = set()
    for sentence in _SENTENCE.split(text):
        words = _WORD.findall(sentence)[1:]
        found |= {one.casefold() for one in words if one[0].isupper() and len(one) > 1}
    return found


def _runs(text: str) -> set[tuple[str, ...]]:
    words = [one.casefold() for one in _WORD.findall(text)]
    return {tuple(words[at : at + _RUN]) for at in range(len(words) - _RUN + 1)}


@functools.lru_cache(maxsize=1)
def _llm(model: str, window: int) -> LLM:
    """A model that is ready, one in each process."""
    from everlong.engine.config import EngineConfig
    from everlong.engine.loading import load

    step = Paraphrase.kind
    engine = EngineConfig(
        max_model_len=window,
        max_num_seqs=_TOGETHER,
        kv_cache_memory=_CACHE_BYTES,
        deterministic=True,  # what is written must not depend on what is written beside it
    )
    try:
        with one_thread():
            llm = load(path_of(model, step), engine=engine)
    except CheckpointError as error:
        raise unusable(error, step) from None
    if llm.tokenizer.chat_template is None:
        raise ConfigError(f"the model of the {step} step has no chat template: {model}")
    return llm
