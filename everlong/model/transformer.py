"""The backbone: one decoder of the Llama, Qwen2 and Qwen3 families, for every use.

Letters: B sequences, T tokens, M rows (tokens of a step), V vocabulary, D head size.
Names of parameters are those of the Hugging Face layout without its leading ``model.``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from everlong.model.attention import Attend, Attention, BlockAttention, SequenceAttention
from everlong.model.cache import Batch, Sight
from everlong.model.config import ModelConfig
from everlong.model.mlp import MLP
from everlong.model.norm import RMSNorm
from everlong.model.residual import Joined
from everlong.model.rope import Rope
from everlong.model.routed_blocks import RoutedBlockAttention
from everlong.model.routing import Routing


class Block(nn.Module):
    """One layer: attention, then the gated MLP, each normalised and added to what was there."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.norm_eps)
        self.self_attn = Attention(config, layer)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.norm_eps)
        self.mlp = MLP(config)
        self.attention_joined = Joined(config, layer)
        self.mlp_joined = Joined(config, layer)

    def forward(self, x: Tensor, rope: Tensor, attend: Attend) -> Tensor:
        """``x``: [..., hidden] float32; ``rope``: [..., D]; same shape and type back."""
        x = self.attention_joined(
            x, self.input_layernorm, lambda read: self.self_attn(read, rope, attend)
        )
        out: Tensor = self.mlp_joined(x, self.post_attention_layernorm, self.mlp)
        return out


class Transformer(nn.Module):
    """The model. Sums along the layers are kept in float32 whatever the weights are."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.rope = Rope(config.rope, config.head_dim, config.max_position)
        self.embed_tokens: nn.Module = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config, i) for i in range(config.num_layers))
        self.norm = RMSNorm(config.hidden_size, config.norm_eps)
        self.lm_head: nn.Module = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tied_head:
            self.lm_head.weight = self.embed_tokens.weight

    def block(self, layer: int) -> Block:
        """One layer."""
        found = self.layers[layer]
        assert isinstance(found, Block)
        return found

    @property
    def head_weight(self) -> Tensor:
        """Of the output projection of a model that trains, [V, hidden]."""
        assert isinstance(self.lm_head, nn.Linear), "weights are dense"
        return self.lm_head.weight

    def forward(
        self,
        tokens: Tensor,
        *,
        sight: Sight = "causal",
        lengths: Tensor | None = None,
    ) -> Tensor:
        """Next-token logits of whole sequences.

        Args:
            tokens: integers [B, T].
            sight: what a token may see: causal, bidirectional, or a prefix length.
            lengths: tokens of each sequence where the batch is padded, [B].

        Returns:
            [B, T, V] float32.
        """
        logits: Tensor = self.lm_head(self.states(tokens, sight=sight, lengths=lengths))
        return logits.float()

    def states(
        self,
        tokens: Tensor,
        *,
        sight: Sight = "causal",
        lengths: Tensor | None = None,
        attend: Attend | None = None,
        positions: Tensor | None = None,
        recompute: bool = False,
    ) -> Tensor:
        """Last hidden states after the final norm, float32 [..., T, hidden].

        Args:
            tokens: integers [..., T].
            sight, lengths: see ``forward``.
            attend: how queries meet keys; None: every one that ``sight`` lets it see.
            positions: of the tokens, as many; None: 0, 1, ...
            recompute: compute layers again for the backward pass, instead of keeping what is in
                them (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost").
        """
        if positions is None:
            positions = torch.arange(tokens.shape[-1]).expand(tokens.shape)
        attend = attend or SequenceAttention(sight, lengths)
        rope = self.rope(positions).to(tokens.device)
        return self._run(tokens, rope, attend, recompute)

    def step(self, batch: Batch, *, states: bool = False, routing: Routing | None = None) -> Tensor:
        """Compute a batch of spans, filling their blocks.

        Args:
            batch: what to compute.
            routing: which blocks are read; None: all.
            states: return the last hidden states of all rows instead of logits.

        Returns:
            float32 logits [W, V] of the wanted rows, or states [M, hidden].
        """
        rope = self.rope(batch.index)
        attend = (
            BlockAttention(batch, self.rope)
            if routing is None
            else RoutedBlockAttention(batch, self.rope, routing)
        )
        x = self._run(batch.tokens.long(), rope, attend)
        if states:
            return x
        logits: Tensor = self.lm_head(x[batch.wanted.long()])
        return logits.float()

    def _run(self, tokens: Tensor, rope: Tensor, attend: Attend, recompute: bool = False) -> Tensor:
        x = self.embed_tokens(tokens).float()
        for layer in self.layers:
            if recompute:
                x = checkpoint(layer, x, rope, attend, use_reentrant=False)
            else:
                x = layer(x, rope, attend)
        normed: Tensor = self.norm(x)
        return normed


def compile_rows(model: Transformer, backend: str = "inductor") -> None:
    """Fuse what a model computes row by row on a GPU: the gated parts and the norms.

    Attention has fused kernels of its own, and lengths of sequences that change from step to step,
    for which a compiler would begin anew.

    Args:
        model: its modules are compiled when they are first called, once for all layers.
        backend: of ``torch.compile``.
    """
    for module in model.modules():
        if isinstance(module, MLP | RMSNorm):
            module.compile(backend=backend)


def projections(model: Transformer) -> Sequence[tuple[nn.Module, str]]:
    """Every linear layer of the blocks as (owner, attribute), in the order of the checkpoint."""
    found: list[tuple[nn.Module, str]] = []
    for layer in map(model.block, range(model.config.num_layers)):
        found += [(layer.self_attn, name) for name in ("q_proj", "k_proj", "v_proj", "o_proj")]
        found += [(layer.mlp, name) for name in ("gate_proj", "up_proj", "down_proj")]
    return found
