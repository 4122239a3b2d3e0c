"""The forward step through the native kernels."""

from __future__ import annotations

import ctypes
import weakref
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from everlong.device import native_rows, threads
from everlong.model.cache import BLOCK, EVERYWHERE, Batch, Outline, Span, frames, run
from everlong.model.config import ModelConfig
from everlong.model.native import library as native
from everlong.model.quantization import PackedEmbedding, PackedLinear
from everlong.model.routing import Routing
from everlong.model.routing_index import index_shape

if TYPE_CHECKING:
    from everlong.model.transformer import Block, Transformer


def supports(config: ModelConfig) -> bool:
    """Whether the kernels run here and have the sizes of this model."""
    sizes = (config.hidden_size, config.intermediate_size, config.query_size)
    return (
        native.library() is not None
        and config.head_dim in native.HEAD_SIZES
        and config.residual == "pre"
        and all(map(native.fits, sizes))
    )


class NativeStep:
    """Computes batches for one model whose weights are packed; twin of ``Transformer.step``.

    Args:
        model: its linear layers are ``PackedLinear``; kept alive by this object.
        deterministic: a row's result does not depend, in any bit, on the rows beside it. Reading
            long prompts with weights in bfloat16 is slower then.
        routing: which blocks are read; None: all.

    Not safe for use by several threads at once: the workspace is kept between calls.
    """

    def __init__(
        self,
        model: Transformer,
        *,
        deterministic: bool = False,
        routing: Routing | None = None,
    ) -> None:
        lib = native.library()
        assert lib is not None, "ask supports() first"
        assert supports(model.config), "ask supports() first"
        self._lib, self._model, self._deterministic = lib, model, deterministic
        self._routing = routing
        products = [m for m in model.modules() if isinstance(m, PackedLinear)]
        self._most_rows = None if all(m.integer for m in products) else native_rows()
        config = model.config
        self._kept: list[Tensor] = []
        layers = (native.Layer * config.num_layers)()
        for i in range(config.num_layers):
            self._describe(layers[i], model.block(i), config.window(i))
        assert isinstance(model.embed_tokens, PackedEmbedding)
        described = native.Model(
            layers=layers,
            embedding=model.embed_tokens.table.matrix(),
            head=_matrix(model.lm_head),
            final_norm=self._floats(model.norm.weight),
            routing=None if routing is None else ctypes.pointer(self._routed(routing)),
            num_layers=config.num_layers,
            hidden=config.hidden_size,
            intermediate=config.intermediate_size,
            heads=config.num_heads,
            kv_heads=config.num_kv_heads,
            head_dim=config.head_dim,
            eps=config.norm_eps,
        )
        self._handle = lib.everlong_create(ctypes.byref(described), threads())
        weakref.finalize(self, lib.everlong_destroy, self._handle)

    def serves(self, rows: int) -> bool:
        """Whether a step of so many rows is best computed here."""
        return self._deterministic or self._most_rows is None or rows <= self._most_rows

    def __call__(self, batch: Batch, *, states: bool = False) -> Tensor:
        """Compute ``batch``, filling its blocks.

        Returns:
            float32 logits [W, V] of the wanted rows, or all last hidden states [M, hidden].
        """
        config = self._model.config
        rope = self._model.rope(batch.index)
        tables = [span.table for span in batch.spans]
        lengths = np.array([0, *(len(t) for t in tables[:-1])], dtype=np.int64)
        first, addresses = lengths.cumsum(), np.concatenate([t.addresses for t in tables])
        codes = outlines = means = None
        if self._routing is not None:
            codes = np.concatenate([t.code_addresses for t in tables])
            outlines = (native.Outline * len(tables))(*map(self._outline, batch.spans))
            values = [self._mean_values(span) for span in batch.spans]
            means = np.array([0 if v is None else v.data_ptr() for v in values], dtype=np.uint64)
        longest = max(map(len, tables))
        turns = self._model.rope.turns(longest if longest > batch.reach else 1)
        wanted = 0 if states else len(batch.wanted)
        logits = torch.empty(wanted, config.vocab_size)
        hidden = torch.empty(batch.rows if states else 0, config.hidden_size)
        described = native.Batch(
            rows=batch.rows,
            tokens=batch.tokens.data_ptr(),
            rope=rope.data_ptr(),
            index=batch.index.data_ptr(),
            visible=batch.visible.data_ptr(),
            sequence=batch.sequence.data_ptr(),
            first=first.ctypes.data,
            blocks=addresses.ctypes.data,
            codes=None if codes is None else codes.ctypes.data,
            outlines=None if outlines is None else ctypes.addressof(outlines),
            means=None if means is None else means.ctypes.data,
            skipped=batch.skipped.data_ptr(),
            reach=batch.reach,
            run=run(batch.reach),
            turns=turns.data_ptr(),
            wanted_rows=wanted,
            wanted=batch.wanted.data_ptr(),
            logits=logits.data_ptr(),
            states=hidden.data_ptr() if states else None,
            exact=self._deterministic,
        )
        if self._lib.everlong_forward(self._handle, ctypes.byref(described)):
            raise MemoryError(f"no memory for the workspace of a step of {batch.rows} tokens")
        return hidden if states else logits

    def index(self, block: Tensor, number: int, reach: int = EVERYWHERE) -> Tensor:
        """The routing index of a full block, see :meth:`everlong.model.routing.Projection.index`.

        Args:
            block: its keys and values.
            number: its place in its sequence.
            reach: as in a batch.
        """
        made = torch.empty(index_shape(self._model.config), dtype=torch.uint8)
        before = frames(number, reach)
        turns = self._model.rope.turns(before + 1)
        self._lib.everlong_index(
            self._handle, block.data_ptr(), before, turns.data_ptr(), made.data_ptr()
        )
        return made

    def _mean_values(self, span: Span) -> Tensor | None:
        """Of what a span's tokens do not read, where they are routed."""
        assert self._routing is not None, "only what is routed leaves something out"
        end = -(-(span.start + len(span.tokens)) // BLOCK)
        if self._routing.budget.reads_all(end, "alone"):
            return None
        return span.table.mean_values(span.start // BLOCK)

    def _outline(self, span: Span) -> native.Outline:
        """The outline of what a span's sequence has already, where it is long enough."""
        assert self._routing is not None, "only what is routed is outlined"
        table, blocks = span.table, span.start // BLOCK
        if blocks <= self._routing.budget.flat:
            return native.Outline()
        config = self._model.config
        if table.outline is None:
            table.outline = Outline(config.num_layers, config.num_kv_heads)
        outline = table.outline
        outline.reserve(blocks)
        groups, capacity = outline.groups.data_ptr(), outline.groups.shape[2]
        if blocks > outline.blocks:
            self._lib.everlong_outline(
                self._handle,
                table.code_addresses.ctypes.data,
                outline.blocks,
                blocks,
                groups,
                capacity,
            )
            outline.blocks = blocks
        return native.Outline(
            groups=groups,
            capacity=capacity,
            blocks=outline.blocks,
            lately=outline.lately.data_ptr(),
            shares=outline.shares.data_ptr(),
        )

    def _routed(self, routing: Routing) -> native.Routing:
        projection, budget = routing.projection, routing.budget
        return native.Routing(
            encoder=self._floats(projection.encoder),
            offset=self._floats(
                torch.einsum("lkd,lkdr->lkr", projection.centre, projection.encoder)
            ),
            decoder=self._floats(projection.decoder),
            centre=self._floats(projection.centre),
            worth=self._floats(projection.worth),
            **asdict(budget) | {"dense": max(budget.dense, budget.first + budget.last)},
        )

    def _describe(self, out: native.Layer, layer: Block, window: int | None) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        out.query, out.key = _matrix(attention.q_proj), _matrix(attention.k_proj)
        out.value, out.output = _matrix(attention.v_proj), _matrix(attention.o_proj)
        out.gate, out.up = _matrix(mlp.gate_proj), _matrix(mlp.up_proj)
        out.down = _matrix(mlp.down_proj)
        out.attention_norm = self._floats(layer.input_layernorm.weight)
        out.mlp_norm = self._floats(layer.post_attention_layernorm.weight)
        if attention.q_norm is not None and attention.k_norm is not None:
            out.query_norm = self._floats(attention.q_norm.weight)
            out.key_norm = self._floats(attention.k_norm.weight)
        out.window = window or 0

    def _floats(self, weight: Tensor) -> int:
        self._kept.append(weight.detach().float().contiguous())
        return self._kept[-1].data_ptr()


def _matrix(layer: torch.nn.Module) -> native.Matrix:
    assert isinstance(layer, PackedLinear)
    return layer.matrix()
