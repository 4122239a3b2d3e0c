"""What a run begins with: model, tokenizer and sources, checked before the first step."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from everlong.data.corpora import Corpus, digest_of, open_corpus, texts_of
from everlong.data.streams import Source
from everlong.device import machine_memory
from everlong.errors import ConfigError, DataError
from everlong.files import FileLock, cache_dir
from everlong.model.config import ModelConfig
from everlong.model.cost import parameters
from everlong.model.growth import grown_config
from everlong.model.init import initialized
from everlong.model.transformer import Transformer
from everlong.tokenizer import Tokenizer, train_tokenizer
from everlong.training.models import open_dense, tokenizer_of
from everlong.training.plan import kept_of
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

    @property
    def mask_token(self) -> int:
        """Stands for masked tokens: the tokenizer's own, or as LLM2Vec has it an underscore."""
        for name in ("<|mask|>", "<mask>", "[MASK]"):
            if (known := self.tokenizer.token_id(name)) is not None:
                return known
        return self.tokenizer.encode("_", bos=False)[0]


def open_start(recipe: Recipe, say: Callable[[str], None]) -> Start:
    """Open what a recipe names.

    Raises:
        ConfigError: it names what cannot be together, such as sequences beyond the window.
        CheckpointError, DataError: the model or the data cannot be read.
    """
    named = recipe.model
    opened = None if named.checkpoint is None else open_dense(named.checkpoint, say)
    config = named.shape if opened is None else opened.config
    assert config is not None
    configs = configs_of(recipe, config)
    check_memory(recipe, configs)
    if opened is None:
        tokenizer = _tokenizer(recipe, config, say)
        weights = parameters_of(initialized(config, recipe.seed))
    else:
        tokenizer, weights = opened.tokenizer, opened.weights

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


def check_memory(recipe: Recipe, configs: Sequence[ModelConfig]) -> None:
    """See that a process can hold what it must, whatever it computes.

    Raises:
        ConfigError: a model is larger than the machine, or the GPU.
    """
    gpu = torch.cuda.is_available()
    there = torch.cuda.get_device_properties(0).total_memory if gpu else machine_memory()
    for number, config in enumerate(configs):
        kept = kept_of(recipe, config)
        # Divided, only the weights are ever whole: before they are, and one at a time behind that.
        divided = recipe.sharding == "divided"
        least = 4 * parameters(config).total if divided else kept.least_bytes
        if there is not None and least > there:
            raise ConfigError(
                f"phases[{number}]: {parameters(config).total:,} parameters, of which "
                f"{kept.trained:,} learn, take {least / 1e9:,.0f} GB before anything is computed, "
                f"and there are {there / 1e9:,.0f}; make the model smaller, learn by an adapter, "
                "or look with everlong plan for devices that can"
            )


def check_pairs(recipe: Recipe, start: Start) -> None:
    """See that all pairs fit whole into a sequence, for the objectives that read them whole.

    Raises:
        DataError: one does not.
    """
    for number, phase in enumerate(recipe.phases):
        if phase.objective not in ("contrastive", "preference"):
            continue
        read = [one for one in start.sources if phase.weights.get(one.name)]
        for source in (*read, *start.held_out):
            document, tokens = source.shards.longest()
            if tokens - 1 > phase.sequence_length:
                raise DataError(
                    f"{source.name}: pair {document:,} has {tokens - 1:,} tokens to be read, and "
                    f"phases[{number}].sequence_length is {phase.sequence_length:,}; set it to "
                    f"{tokens - 1:,} or more, or leave out the longer ones"
                )


def _tokenizer(recipe: Recipe, config: ModelConfig, say: Callable[[str], None]) -> Tokenizer:
    """Of a model that has learned nothing yet."""
    if recipe.model.tokenizer is not None:
        tokenizer = tokenizer_of(recipe.model.tokenizer)
    else:
        tokenizer = _trained_tokenizer(recipe.corpora, config.vocab_size, say)
    if config.vocab_size < tokenizer.vocab_size:
        raise ConfigError(
            f"model.shape.vocab_size is {config.vocab_size:,}, and the tokenizer has "
            f"{tokenizer.vocab_size:,} tokens; make it at least as large"
        )
    return tokenizer


def _trained_tokenizer(
    corpora: Sequence[Corpus], vocab_size: int, say: Callable[[str], None]
) -> Tokenizer:
    """Trained on these corpora, or kept from the last time."""
    kept = cache_dir() / "tokenizers"
    kept.mkdir(parents=True, exist_ok=True)
    folder = kept / digest_of(corpora, f"{vocab_size}")
    with FileLock(kept / f".{folder.name}.lock"):
        if not folder.exists():
            say(f"training a tokenizer of {vocab_size:,} tokens")
            texts = itertools.chain.from_iterable(map(texts_of, corpora))
            made = folder.with_name(f".{folder.name}.new")
            made.mkdir(exist_ok=True)
            train_tokenizer(texts, vocab_size).save(made)
            made.rename(folder)
    return tokenizer_of(str(folder))


def parameters_of(model: Transformer) -> dict[str, Tensor]:
    """Parameters that learn, by name; a tied head, which is the embedding, is not among them."""
    return {name: one.detach() for name, one in model.named_parameters() if one.requires_grad}


def built(config: ModelConfig, weights: Mapping[str, Tensor]) -> Transformer:
    """A model that trains, with copies of these weights."""
    model = Transformer(config)
    tied = {"lm_head.weight": weights["embed_tokens.weight"]} if config.tied_head else {}
    model.load_state_dict({**weights, **tied})
    return model


def configs_of(recipe: Recipe, config: ModelConfig) -> tuple[ModelConfig, ...]:
    """The model's shape in each phase, from that before the first.

    Raises:
        ConfigError: sequences are longer than its window, or it would have to shrink.
    """
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
