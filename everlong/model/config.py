"""The shape of a model: what a checkpoint says about its architecture, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from everlong.errors import ConfigError

RopeScaling = Literal["none", "linear", "dynamic", "yarn", "llama3"]
ResidualKind = Literal["pre", "scaled", "deepnorm", "keel"]
MOST_LAYERS = 100_000
"""What loops over layers ends."""


@dataclass(frozen=True)
class RopeConfig:
    """Rotary position embedding (Su et al. 2021, section 3.4) and how it is stretched.

    The scaling rules are those of the published families: ``linear`` (position
    interpolation, Chen et al. 2023), ``dynamic`` (NTK-aware, base grown with the length),
    ``yarn`` (Peng et al. 2023), ``llama3`` (Llama 3.1's frequency bands).
    """

    theta: float = 10_000.0
    """Base of the geometric series of wavelengths."""
    scaling: RopeScaling = "none"
    factor: float = 1.0
    """How many times the window is stretched."""
    original_max_position: int = 0
    """Window in tokens before stretching; used by ``dynamic``, ``yarn`` and ``llama3``."""
    beta_fast: float = 32.0
    """``yarn``: rotations in the original window above which a frequency is kept."""
    beta_slow: float = 1.0
    """``yarn``: rotations in the original window below which a frequency is interpolated."""
    attention_factor: float | None = None
    """``yarn``: factor on cosine and sine; None is the paper's 0.1 ln(factor) + 1."""
    low_freq_factor: float = 1.0
    """``llama3``: wavelengths longer than original_max_position / this are interpolated."""
    high_freq_factor: float = 4.0
    """``llama3``: wavelengths shorter than original_max_position / this are kept."""

    def __post_init__(self) -> None:
        if not self.theta > 0:
            raise ConfigError(f"rope theta must be positive, not {self.theta}")
        if self.scaling not in ("none", "linear", "dynamic", "yarn", "llama3"):
            raise ConfigError(
                f"rope scaling {self.scaling!r} is unknown; "
                "allowed: none, linear, dynamic, yarn, llama3"
            )
        if self.scaling != "none" and not self.factor >= 1:
            raise ConfigError(f"rope scaling factor must be at least 1, not {self.factor}")
        if self.scaling in ("dynamic", "yarn", "llama3") and self.original_max_position <= 0:
            raise ConfigError(f"rope scaling {self.scaling!r} needs original_max_position")


@dataclass(frozen=True)
class ModelConfig:
    """Architecture of a decoder of the Llama, Qwen2 and Qwen3 families (dense).

    One backbone serves all of them: RMSNorm before each part, rotary positions,
    grouped-query attention, gated SiLU MLP. What differs between families is a field here.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_position: int
    """Trained window in tokens."""
    norm_eps: float = 1e-6
    rope: RopeConfig = field(default_factory=RopeConfig)
    qkv_bias: bool = False
    """Bias on the query, key and value projections (Qwen2)."""
    output_bias: bool = False
    """Bias on the attention's output projection."""
    mlp_bias: bool = False
    qk_norm: bool = False
    """RMSNorm over each query and key head before the rotation (Qwen3)."""
    windows: tuple[int | None, ...] = ()
    """Sliding window per layer in tokens (None: all); empty means None for every layer."""
    tied_head: bool = False
    """The output projection is the embedding."""
    residual: ResidualKind = "pre"
    """How layers are normalised and added up; see ``model/residual.py``."""
    family: Literal["llama", "qwen2", "qwen3"] = "llama"
    """Whose names the checkpoint uses when it is written; the computation does not read it."""

    def __post_init__(self) -> None:
        sizes = ("vocab_size", "hidden_size", "intermediate_size", "num_layers", "max_position")
        for name in (*sizes, "num_heads", "num_kv_heads", "head_dim"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ConfigError(f"{name} must be a positive integer, not {value!r}")
        if self.num_layers > MOST_LAYERS:
            raise ConfigError(f"num_layers is at most {MOST_LAYERS:,}, not {self.num_layers:,}")
        if self.num_heads % self.num_kv_heads:
            raise ConfigError(
                f"num_heads ({self.num_heads}) must be a multiple of "
                f"num_kv_heads ({self.num_kv_heads})"
            )
        if self.head_dim % 2:
            raise ConfigError(f"head_dim must be even for rotary positions, not {self.head_dim}")
        if not self.norm_eps >= 0:
            raise ConfigError(f"norm_eps must not be negative, not {self.norm_eps}")
        if self.windows and len(self.windows) != self.num_layers:
            raise ConfigError(
                f"windows must name each of the {self.num_layers} layers, not {len(self.windows)}"
            )
        if any(w is not None and w < 1 for w in self.windows):
            raise ConfigError(f"sliding windows must be positive, not {self.windows}")
        if self.residual not in ("pre", "scaled", "deepnorm", "keel"):
            raise ConfigError(
                f"residual {self.residual!r} is unknown; allowed: pre, scaled, deepnorm, keel"
            )
        if self.family not in ("llama", "qwen2", "qwen3"):
            raise ConfigError(f"family {self.family!r} is unknown; allowed: llama, qwen2, qwen3")

    @property
    def query_size(self) -> int:
        """Width of all query heads together."""
        return self.num_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        """Width of all key (or value) heads together."""
        return self.num_kv_heads * self.head_dim

    def window(self, layer: int) -> int | None:
        """Sliding window of ``layer`` in tokens, or None where it sees everything."""
        return self.windows[layer] if self.windows else None
