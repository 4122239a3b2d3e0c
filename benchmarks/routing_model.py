"""What the parts of the routing benchmark compute with: one model's steps, dense and routed."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import torch

from everlong.checkpoint.loading import open_model
from everlong.checkpoint.projection import projection_of
from everlong.device import large
from everlong.errors import ConfigError
from everlong.model.assemble import WeightsOption
from everlong.model.cache import BLOCK, EVERYWHERE, Batch, BlockTable, Span, block_shape
from everlong.model.native.step import NativeStep, supports
from everlong.model.routing import Budget, Routing
from everlong.model.routing_index import index_shape

CHUNK = 512
"""Tokens in a step of a prompt: the engine's default."""


class Steps:
    """The steps of one model through the kernels, as the engine computes them.

    Args:
        path: of the model.
        weights: how they are kept.
        reach: blocks, see ``Batch``.

    Raises:
        ConfigError: there are no kernels for this processor or model.
    """

    def __init__(self, path: Path, weights: WeightsOption, reach: int = EVERYWHERE) -> None:
        opened = open_model(str(path), weights)
        self.tokenizer, self.model = opened.tokenizer, opened.model
        model = self.model
        if not supports(model.config):
            raise ConfigError("no native kernels for this model on this processor")
        self.config = model.config
        self.reach = reach
        self.budget = Budget()
        self.routing = Routing(projection_of(opened), self.budget)
        self.dense = NativeStep(model)
        self.routed = NativeStep(model, routing=self.routing)
        # Every token chooses for itself, as in decoding, though several are computed in one step.
        alone = replace(self.budget, rows=1, queries=1)
        self.alone = NativeStep(model, routing=replace(self.routing, budget=alone))

    def table(self, tokens: int) -> BlockTable:
        """Blocks for so many tokens, with their index."""
        made, count = BlockTable(), -(-tokens // BLOCK)
        blocks = large((count, *block_shape(self.config)), torch.bfloat16)
        codes = large((count, *index_shape(self.config)), torch.uint8)
        for number in range(count):
            made.append(blocks[number], codes[number])
        return made

    def batch(self, tokens: list[int], table: BlockTable, start: int, logits: str) -> Batch:
        """A step of one sequence; ``logits`` as in a span."""
        return Batch([Span(tokens, table, start, logits=logits)], self.reach)  # type: ignore[arg-type]

    def tokens(self, book: Path) -> list[int]:
        """Of a book, from some place behind its title pages on."""
        with gzip.open(book, "rt", encoding="utf-8") as file:
            return self.tokenizer.encode(file.read())[2000:]
