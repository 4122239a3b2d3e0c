"""What a model costs: parameters, floating-point operations, bytes. Pure arithmetic.

A multiplication and its addition count as two operations. Only products are counted: matrices
with vectors, and the two products of attention. What is left out (norms, softmax, rotations,
biases, the lookup in the embedding) is below 1 % for the sizes that are used.

Source: Kaplan et al. 2020, "Scaling Laws for Neural Language Models", section 2.1 and table 1;
Chowdhery et al. 2022, "PaLM", appendix B, which counts attention as well. Grouped-query attention
(Ainslie et al. 2023) and sliding windows are ours; all figures are compared with what PyTorch
counts and allocates in ``tests/model/test_cost.py``.

Letters: T tokens, L layers.
"""

from __future__ import annotations

from dataclasses import dataclass

from everlong.model.config import ModelConfig
from everlong.model.quantization import GROUP, Precision


@dataclass(frozen=True)
class Parameters:
    """Numbers of a model, by kind."""

    embedding: int
    attention: int
    """Matrices of the attention's four projections."""
    mlp: int
    """Matrices of the gated MLPs."""
    head: int
    """The output projection; 0 where it is the embedding."""
    norms: int
    biases: int

    @property
    def total(self) -> int:
        """All of them, as checkpoints are named after."""
        return self.layers + self.embedding + self.head + self.norms + self.biases

    @property
    def layers(self) -> int:
        """Matrices inside the layers."""
        return self.attention + self.mlp


def parameters(config: ModelConfig) -> Parameters:
    """Count a model's parameters."""
    c = config
    embedding = c.vocab_size * c.hidden_size
    norms = (4 if c.residual == "keel" else 2) * c.hidden_size
    norms += 2 * c.head_dim if c.qk_norm else 0
    biases = 0
    if c.qkv_bias:
        biases += c.query_size + 2 * c.kv_size
    if c.output_bias:
        biases += c.hidden_size
    if c.mlp_bias:
        biases += 2 * c.intermediate_size + c.hidden_size
    return Parameters(
        embedding=embedding,
        attention=c.num_layers * c.hidden_size * 2 * (c.query_size + c.kv_size),
        mlp=c.num_layers * c.hidden_size * 3 * c.intermediate_size,
        head=0 if c.tied_head else embedding,
        norms=c.num_layers * norms + c.hidden_size,
        biases=c.num_layers * biases,
    )


def token_flops(config: ModelConfig, context: int) -> int:
    """Operations of the forward pass for one token.

    Args:
        context: tokens it sees where no window is in the way, itself included.
    """
    return forward_flops(config, 1, start=context - 1)


def forward_flops(
    config: ModelConfig,
    tokens: int,
    *,
    start: int = 0,
    logits: int | None = None,
    causal: bool = True,
) -> int:
    """Operations of the forward pass for consecutive tokens of one sequence.

    Kernels that compute the hidden half of a causal mask do more than what is counted here.

    Args:
        tokens: T.
        start: tokens before them, whose keys and values are there already.
        logits: of how many tokens the logits are computed; None: of all T.
        causal: False: each token sees all ``start + tokens`` of them.
    """
    p = parameters(config)
    seen = 0
    for layer in range(config.num_layers):
        window = config.window(layer)
        if causal:
            seen += _causal_pairs(start, tokens, window)
        else:
            assert window is None, "what a window is without a direction is not defined"
            seen += tokens * (start + tokens)
    head = p.embedding * (tokens if logits is None else logits)
    # Scores and weighted values: two products of query heads with what they see. Sharing keys
    # between heads saves bytes, not operations.
    return 2 * (p.layers * tokens + head) + 4 * config.query_size * seen


def training_flops(config: ModelConfig, tokens: int) -> int:
    """Operations of a training step on one sequence of T tokens, forward and backward.

    The backward pass has two products for each of the forward's, one for the gradient of either
    factor.
    """
    return 3 * forward_flops(config, tokens)


def _causal_pairs(start: int, tokens: int, window: int | None) -> int:
    """Sum of min(place, window) over the places start + 1 to start + tokens."""
    end = start + tokens
    if window is None or end <= window:
        return (end * (end + 1) - start * (start + 1)) // 2
    inside = max(0, window - start)  # tokens that the window does not restrict
    return _causal_pairs(start, inside, None) + (tokens - inside) * window


def kv_bytes_per_token(config: ModelConfig, bytes_per_value: int = 2) -> int:
    """Bytes of the keys and values of one token in all layers.

    Args:
        bytes_per_value: 2 for bfloat16, 4 for float32.
    """
    return 2 * config.num_layers * config.kv_size * bytes_per_value


def weight_bytes(config: ModelConfig, precision: Precision, *, many_rows: bool = False) -> int:
    """Bytes of a model's weights in memory, as :func:`everlong.model.assemble.assemble` keeps them.

    A group of 32 weights has a scale of 2 bytes in int8, and a scale and a minimum of 2 bytes each
    in int4, where the MLPs between the first and the last layer have 4 bits and the rest 8. Norms
    and biases are float32. Outputs of a matrix of integers are padded to a multiple of 16.

    Args:
        precision: of the weights.
        many_rows: include the second copy that layers in bfloat16 get on processors with matrix
            units, once they have served many rows.
    """
    p = parameters(config)
    small = 4 * (p.norms + p.biases)
    tables = p.embedding + p.head
    if precision == "float32":
        return 4 * (p.layers + tables) + small
    group_bytes = {"bf16": 2 * GROUP, "int8": GROUP + 2, "int4": GROUP // 2 + 4}
    inner = max(0, config.num_layers - 2) * 3 * config.hidden_size * config.intermediate_size
    rest = "int8" if precision == "int4" else precision
    return (
        inner // GROUP * group_bytes[precision]
        + (p.layers - inner + tables) // GROUP * group_bytes[rest]
        + (2 * p.layers if many_rows and precision == "bf16" else 0)
        + small
    )


def training_activation_bytes(config: ModelConfig, tokens: int) -> int:
    """Bytes that the forward pass keeps for the backward pass, in bfloat16 without recomputation.

    Counted on :class:`everlong.model.transformer.Transformer` with the fused kernels of training:
    for each token and layer, what both norms read (float32) and write, rotated queries and keys,
    values, the attention's output and its normaliser, and three tensors of the gated MLP; at the
    end what the last norm reads and normalises, and the gradients of its results.

    Args:
        tokens: T of all sequences of the batch together.
    """
    c = config
    heads = c.query_size + c.kv_size
    layer = 2 * (6 * c.hidden_size + 4) + 4 * heads + 4 * c.num_heads + 6 * c.intermediate_size
    if c.qk_norm:
        layer += 2 * 4 * heads + 4 * (c.num_heads + c.num_kv_heads)
    return tokens * (c.num_layers * layer + 12 * c.hidden_size + 4)
