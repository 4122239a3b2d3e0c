"""What a run begins with: model, tokenizer and sources, checked before the first step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from everlong.checkpoint import open_checkpoint
from everlong.checkpoint.catalog import resolve
from everlong.checkpoint.checkpoint import Checkpoint
from everlong.data.corpora import Corpus, open_corpus
from everlong.data.streams import Source
from everlong.errors import ConfigError
from everlong.files import cache_dir
from everlong.model.config import ModelConfig
from everlong.model.growth import grown_config
from everlong.model.init import initialized
from everlong.model.transformer import Transformer
from everlong.tokenizer import Tokenizer, load_tokenizer
from everlong.training.finished import is_run, open_run
from everlong.training.recipe import Recipe


@dataclass(frozen=True)
class Start:
    """All that a recipe names, opened."""

    tokenizer: Tokenizer
    configs: tuple[ModelConfig, ...]
    """The model's shape in each phase."""
    weights: dict[str, Tensor]
    """Float32, by name, in the shape of ``config``; a tied head is not among them."""
    config: ModelConfig
    """The model's shape before the first phase."""
    sources: tuple[Source, ...]
    held_out: tuple[Source, ...]


def open_start(recipe: Recipe, say: Callable[[str], None]) -> Start:
    """Open what a recipe names.

    Raises:
        ConfigError: it names what cannot be together, such as sequences beyond the window.
        CheckpointError, DataError: the model or the data cannot be read.
    """
    named = recipe.model
    if named.checkpoint is not None and is_run(Path(named.checkpoint)):
        trained = open_run(Path(named.checkpoint))
        tokenizer, config, weights = trained.tokenizer, trained.config, trained.weights
    elif named.checkpoint is not None:
        opened = open_checkpoint(resolve(named.checkpoint))
        tokenizer, config = opened.tokenizer(), opened.config
        weights = weights_of(opened)
    else:
        assert named.shape is not None
        assert named.tokenizer is not None
        tokenizer = _tokenizer(named.tokenizer)
        config = named.shape
        if config.vocab_size < tokenizer.vocab_size:
            raise ConfigError(
                f"model.shape.vocab_size is {config.vocab_size:,}, and the tokenizer has "
                f"{tokenizer.vocab_size:,} tokens; make it at least as large"
            )
        weights = parameters_of(initialized(config, recipe.seed))
    configs = _configs(recipe, config)

    def sources(corpora: tuple[Corpus, ...]) -> tuple[Source, ...]:
        kept = cache_dir() / "shards"
        return tuple(Source(one.name, open_corpus(one, tokenizer, kept, say)) for one in corpora)

    return Start(
        tokenizer,
        configs,
        weights,
        config,
        sources(recipe.corpora),
        sources(recipe.validation.corpora),
    )


def _tokenizer(name: str) -> Tokenizer:
    """Of a folder that needs to have nothing else, or of a model."""
    folder = Path(name)
    return load_tokenizer(folder) if folder.is_dir() else open_checkpoint(resolve(name)).tokenizer()


def parameters_of(model: Transformer) -> dict[str, Tensor]:
    """Parameters by name; a tied head, which is the embedding, is not among them."""
    return {name: one.detach() for name, one in model.named_parameters()}


def weights_of(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The weights of a checkpoint by the names of :class:`Transformer`, float32."""
    return {
        name.removeprefix("model."): stored.dense().clone()
        for name, stored in checkpoint.tensors.items()
        if not (checkpoint.config.tied_head and name.startswith("lm_head."))
    }


def built(config: ModelConfig, weights: dict[str, Tensor]) -> Transformer:
    """A model that trains, with these weights."""
    model = Transformer(config)
    model.load_state_dict(weights, strict=not config.tied_head)
    return model


def _configs(recipe: Recipe, config: ModelConfig) -> tuple[ModelConfig, ...]:
    found = []
    for number, phase in enumerate(recipe.phases):
        if phase.sequence_length > config.max_position:
            raise ConfigError(
                f"phases[{number}].sequence_length is {phase.sequence_length:,}, beyond the "
                f"model's window of {config.max_position:,}"
            )
        try:
            config = grown_config(config, phase.layers, phase.heads)
        except ConfigError as error:
            raise ConfigError(f"phases[{number}]: {error}") from None
        found.append(config)
    return tuple(found)
