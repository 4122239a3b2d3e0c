"""Models on disk: Hugging Face folders and GGUF files."""

from everlong.checkpoint.checkpoint import Checkpoint, GenerationDefaults, open_checkpoint
from everlong.checkpoint.stored import StoredTensor

__all__ = ["Checkpoint", "GenerationDefaults", "StoredTensor", "open_checkpoint"]
