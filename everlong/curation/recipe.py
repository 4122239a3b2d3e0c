"""Recipes of curation: what is read, the steps it goes through, and what is written; YAML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from everlong.curation.augmentation.glossary import Glossary
from everlong.curation.augmentation.noise import Noise
from everlong.curation.augmentation.paraphrase import Paraphrase
from everlong.curation.augmentation.questions import Questions
from everlong.curation.decontamination.removal import Decontamination
from everlong.curation.duplicates.exact import ExactDuplicates
from everlong.curation.duplicates.near import NearDuplicates
from everlong.curation.duplicates.spans import RepeatedSpans
from everlong.curation.harm.blocks import HardBlocks
from everlong.curation.harm.hate import Hate
from everlong.curation.harm.toxicity import Toxicity
from everlong.curation.language.codes import canonical, is_canonical
from everlong.curation.language.identification import LanguageFilter
from everlong.curation.mixture import NO_LANGUAGE, Mixture
from everlong.curation.personal_data.masking import PersonalData
from everlong.curation.quality.c4 import C4Quality
from everlong.curation.quality.classifier import QualityClassifier
from everlong.curation.quality.fineweb import FineWebQuality
from everlong.curation.quality.gopher import GopherQuality
from everlong.curation.quality.perplexity import Perplexity
from everlong.curation.quality.repetition import GopherRepetition
from everlong.curation.step import CorpusStep
from everlong.curation.tasks import Source
from everlong.curation.workers import WorkerLimits
from everlong.documents.extracted import Limits
from everlong.errors import ConfigError

Step: TypeAlias = (
    LanguageFilter
    | GopherQuality
    | GopherRepetition
    | C4Quality
    | FineWebQuality
    | QualityClassifier
    | Perplexity
    | Toxicity
    | HardBlocks
    | Hate
    | PersonalData
    | Decontamination
    | ExactDuplicates
    | NearDuplicates
    | RepeatedSpans
    | Questions
    | Glossary
    | Noise
    | Paraphrase
)
"""All steps there are, each told by its ``kind``."""


@dataclass(frozen=True)
class Tokens:
    """Token shards of what is kept, a folder for each part of the mixture."""

    tokenizer: str
    """A folder with a ``tokenizer.json``, or a model whose it is."""
    shard_tokens: int = 1 << 25
    """Tokens of a shard, about."""

    def __post_init__(self) -> None:
        if self.shard_tokens < 1:
            raise ConfigError(f"shard_tokens is 1 or more, not {self.shard_tokens}")


@dataclass(frozen=True)
class Workers:
    """Who does the work; the result does not depend on it."""

    count: int | None = None
    """Processes; None: one for each core."""
    executor: Literal["local", "ray"] = "local"
    limits: WorkerLimits = field(default_factory=WorkerLimits)

    def __post_init__(self) -> None:
        if self.count is not None and self.count < 1:
            raise ConfigError(f"count of workers is 1 or more, not {self.count}")


@dataclass(frozen=True)
class Curation:
    """A run."""

    run: Path
    """Folder of what it writes."""
    sources: tuple[Source, ...]
    steps: tuple[Step, ...] = ()
    """In this order."""
    mixture: Mixture = field(default_factory=Mixture)
    tokens: Tokens | None = None
    """None: only documents are written."""
    reading: Limits = field(default_factory=Limits)
    """Of files and documents."""
    task_bytes: int = 4 << 20
    """Of files that are read as one task, about."""
    workers: Workers = field(default_factory=Workers)
    seed: int = 0
    """Of the examples in the data card; steps that draw something have seeds of their own."""

    def __post_init__(self) -> None:
        names = [source.name for source in self.sources]
        if not names or len(set(names)) < len(names):
            raise ConfigError(f"sources have different names, and there is one, not {names}")
        if self.task_bytes < 1:
            raise ConfigError(f"task_bytes is 1 or more, not {self.task_bytes}")
        kinds = [step.kind for step in self.steps]
        if twice := sorted({kind for kind in kinds if kinds.count(kind) > 1}):
            raise ConfigError(f"every step is there once at most, and {', '.join(twice)} is twice")
        single = {step.kind for step in self.steps if not isinstance(step, CorpusStep)}
        for source in self.sources:
            if unknown := sorted(set(source.skips) - single):
                raise ConfigError(
                    f"{source.name} skips {', '.join(unknown)}; the recipe's steps that can be "
                    f"skipped are {', '.join(sorted(single)) or 'none'}"
                )
        self._check_names(names)
        stores = [
            step.store.resolve()
            for step in self.steps
            if isinstance(step, ExactDuplicates | NearDuplicates) and step.store is not None
        ]
        if len(set(stores)) < len(stores):
            raise ConfigError(
                f"two steps have their store in {stores[0]}; give each a folder of its own"
            )

    def _check_names(self, sources: Sequence[str]) -> None:
        """Refuse names of sources, and of languages, that are none."""
        named: dict[str, Iterable[str]] = {}
        if self.mixture.by == "source":
            named["mixture.weights"] = self.mixture.weights
        elif wrong := [
            name for name in self.mixture.weights if name != NO_LANGUAGE and not is_canonical(name)
        ]:
            called = [one for one in map(canonical, wrong) if is_canonical(one)]
            hint = f"; here it is called {', '.join(called)}" if called else ""
            raise ConfigError(
                f"mixture.weights names {', '.join(wrong)}, which is no language{hint}; give codes "
                f"such as en and yue, or {NO_LANGUAGE}"
            )
        for step in self.steps:
            if isinstance(step, Glossary | Noise | Paraphrase):
                named[f"sources of {step.kind}"] = step.sources
            elif isinstance(step, Questions):
                named[f"domains of {step.kind}"] = step.domains
        for what, some in named.items():
            if unknown := sorted({*some} - {*sources}):
                raise ConfigError(
                    f"{what} names {', '.join(unknown)}; sources are {', '.join(sources)}"
                )
