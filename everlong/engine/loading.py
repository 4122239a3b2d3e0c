"""Opening a model by its name: checkpoint, adapters and memory become an ``LLM``."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType

from everlong.checkpoint.adapter import read_adapter
from everlong.checkpoint.checkpoint import Checkpoint
from everlong.checkpoint.loading import open_model
from everlong.checkpoint.projection import projection_of
from everlong.engine.config import EngineConfig
from everlong.engine.embedding import BackgroundEmbedding
from everlong.engine.llm import LLM
from everlong.engine.request import SamplingParams
from everlong.errors import RequestError
from everlong.memory.memory import Memory
from everlong.model.assemble import WeightsOption

logger = logging.getLogger(__name__)


def load(
    model: str | Path,
    *,
    weights: WeightsOption = "auto",
    engine: EngineConfig | None = None,
    adapters: Mapping[str, str | Path] = MappingProxyType({}),
    memory: str | Path | Memory | None = None,
    embedder: str | None = None,
) -> LLM:
    """Load a model.

    Args:
        model: a name of the catalog such as ``smollm2-135m``, a Hugging Face folder, or a GGUF
            file.
        weights: ``auto`` keeps the checkpoint's own values; ``float32``, ``bf16``, ``int8`` and
            ``int4`` are explicit.
        engine: how much runs at once; the defaults serve 16 streams.
        adapters: PEFT folders by the name that requests give.
        memory: folder of the memory, which belongs to this process until the model is closed; or an
            open one, which stays open. None: nothing outlives the process.
        embedder: a sentence encoder that recall uses (a name of the catalog such as ``minilm-l6``,
            or a folder); None: the words of the model.

    Raises:
        CheckpointError: the model cannot be found or read.
        ConfigError: an option has a value that is not allowed.
        StoreError: the memory cannot be used, or another process uses it.
    """
    opened = open_model(str(model), weights)
    projection = None
    if engine is not None and engine.routed:
        projection = projection_of(opened, say=logger.warning)
    read = {name: read_adapter(Path(folder)) for name, folder in adapters.items()}
    ours = Memory(memory) if isinstance(memory, str | Path) else None
    try:
        llm = LLM(
            opened.model,
            opened.tokenizer,
            name=opened.path.stem if Path(model).exists() else str(model),
            fingerprint=opened.fingerprint,
            engine=engine,
            adapters=read,
            default_sampling=_makers_sampling(opened.checkpoint),
            memory=memory if isinstance(memory, Memory) else ours,
            projection=projection,
        )
    except BaseException:
        if ours is not None:
            ours.close()
        raise
    if ours is not None:
        llm.closes.callback(ours.close)
    if llm.memory is not None:
        try:
            llm.before_closing.callback(BackgroundEmbedding(llm, llm.memory, embedder).close)
        except BaseException:
            llm.close()
            raise
    return llm


def _makers_sampling(checkpoint: Checkpoint) -> SamplingParams:
    """How the makers of a checkpoint sample from it; our defaults where they say nothing."""
    said = {
        name: value for name, value in asdict(checkpoint.generation).items() if value is not None
    }
    if said.get("top_k") == -1:  # transformers' other spelling of "keep all"
        said["top_k"] = 0
    try:
        return SamplingParams(**said)
    except RequestError as error:
        logger.warning("%s: its sampling defaults are not used: %s", checkpoint.path, error)
        return SamplingParams()
