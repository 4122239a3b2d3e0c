"""What routed attention reads of a text: a picture, figures, the passages that are read most."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import Tensor
from torch.nn.functional import cross_entropy

from everlong.checkpoint.loading import open_model
from everlong.checkpoint.projection import projection_of
from everlong.errors import ConfigError, MissingExtraError
from everlong.files import read_text
from everlong.model.assemble import WeightsOption
from everlong.model.attention import Attend, SequenceAttention
from everlong.model.cache import BLOCK
from everlong.model.config import ModelConfig
from everlong.model.routed_sequence import RoutedAttention
from everlong.model.routing import Budget
from everlong.model.transformer import Transformer
from everlong.tokenizer import Tokenizer

_ROWS_AT_ONCE = 1024
_MOST_READ = 10
_LEAST_TOKENS = 2


@dataclass
class Reads:
    """Which blocks a text's queries read, in each layer, as far as they were told."""

    config: ModelConfig
    budget: Budget
    tokens: int
    chosen: list[Tensor] = field(init=False)
    """For each layer, share of a block (column) that the kv heads of the tokens of a block (row)
    read, float32 [blocks, blocks]."""

    @property
    def blocks(self) -> int:
        """Of the text."""
        return -(-self.tokens // BLOCK)

    def __post_init__(self) -> None:
        shape = self.blocks, self.blocks
        self.chosen = [torch.zeros(shape) for _ in range(self.config.num_layers)]

    def observe(self, layer: int, places: range, chosen: Tensor) -> None:
        """See :class:`RoutedAttention`."""
        block = places.start // BLOCK
        rows = min(self.tokens - block * BLOCK, BLOCK)
        share = chosen.float().mean(0).view(block + 1, -1).mean(1)
        self.chosen[layer][block, : block + 1] += len(places) / rows * share

    def share(self, layer: int | None = None) -> float:
        """Blocks that are read, of those that dense attention reads."""
        layers = self.chosen if layer is None else [self.chosen[layer]]
        dense = self.blocks * (self.blocks + 1) / 2
        return float(sum(of.sum() for of in layers)) / (dense * len(layers))

    def per_query_block(self) -> Tensor:
        """Blocks that each block of queries reads, mean of layers and kv heads, [blocks]."""
        return torch.stack([of.sum(1) for of in self.chosen]).mean(0)

    def popularity(self) -> Tensor:
        """How many of the later blocks of queries read each block, as a share, [layers, blocks].

        Those that read it because it is near are none of them.
        """
        far = torch.ones(self.blocks, self.blocks).tril(-self.budget.last)
        read = torch.stack([(of * far).sum(0) for of in self.chosen])
        return read / far.sum(0).clamp_min(1)


def route(
    model: str,
    prompt: Path,
    out: Path,
    *,
    weights: WeightsOption = "auto",
    budget: Budget,
    text: Path | None = None,
    tokens: int | None = None,
) -> None:
    """Read a text with routed and with dense attention, and write what was read.

    Args:
        model: name, folder or file.
        prompt: a text file.
        out: folder for ``reads.png``, ``routing.json`` and ``blocks.md``.
        weights: see ``everlong.load``.
        budget: how many blocks a block of queries reads.
        text: file to calibrate on; None: see :func:`projection_of`.
        tokens: read so many of the prompt; None: as the window holds.

    Raises:
        ConfigError: a file cannot be read, or has no text.
        CheckpointError: the model cannot be found or read.
        MissingExtraError: matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401, before anything is computed
    except ImportError:
        raise MissingExtraError("matplotlib", "eval") from None
    console = Console()
    content = read_text(prompt)
    opened = open_model(model, weights)
    loaded, tokenizer = opened.model, opened.tokenizer
    projection = projection_of(opened, text=text, say=console.print)
    ids = tokenizer.encode(content)[: min(tokens or 1 << 30, loaded.config.max_position)]
    if len(ids) < _LEAST_TOKENS:
        raise ConfigError(f"{prompt} has {len(ids)} tokens; give a text of some")
    reads = Reads(loaded.config, budget, len(ids))
    with Progress(console=console, transient=True) as progress:

        def shown(name: str, attend: Attend) -> Attend:
            """The same, layer by layer in the progress."""
            task = progress.add_task(f"{len(ids):,} tokens, {name}", total=loaded.config.num_layers)

            def layer_by_layer(
                layer: int, q: Tensor, k: Tensor, v: Tensor, window: int | None
            ) -> Tensor:
                out = attend(layer, q, k, v, window)
                progress.advance(task)
                return out

            return layer_by_layer

        dense = losses(loaded, ids, shown("dense", SequenceAttention()))
        attend = RoutedAttention(projection, budget, reads.observe)
        routed = losses(loaded, ids, shown("routed", attend))
    out.mkdir(parents=True, exist_ok=True)
    told = _told(reads, dense, routed)
    (out / "routing.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    (out / "blocks.md").write_text(_most_read(reads, tokenizer, ids), encoding="utf-8")
    _draw(reads, out / "reads.png", prompt.name)
    table = Table("", "dense", "routed")
    table.add_row("loss (nats a token)", f"{told['loss_dense']:.4f}", f"{told['loss_routed']:.4f}")
    table.add_row("keys and values read", "100 %", f"{100 * told['share_read']:.1f} %")
    console.print(table)
    console.print(f"written to {out}: reads.png, routing.json, blocks.md")


def losses(model: Transformer, ids: list[int], attend: Attend) -> Tensor:
    """Natural-log losses of a text's tokens but the first, float32 [T - 1]."""
    tokens = torch.tensor(ids)
    found = []
    with torch.inference_mode():
        states = model.states(tokens[None], attend=attend)[0, :-1]
        for start in range(0, len(states), _ROWS_AT_ONCE):
            logits = model.lm_head(states[start : start + _ROWS_AT_ONCE]).float()
            wanted = tokens[1 + start : 1 + start + len(logits)]
            found.append(cross_entropy(logits, wanted, reduction="none"))
    return torch.cat(found)


def _told(reads: Reads, dense: Tensor, routed: Tensor) -> dict[str, Any]:
    layers = range(reads.config.num_layers)
    return {
        "tokens": len(dense) + 1,
        "budget": asdict(reads.budget),
        "share_read": reads.share(),
        "share_read_by_layer": [round(reads.share(layer), 4) for layer in layers],
        "blocks_read_by_query_block": [round(n, 2) for n in reads.per_query_block().tolist()],
        "loss_dense": float(dense.mean()),
        "loss_routed": float(routed.mean()),
    }


def _most_read(reads: Reads, tokenizer: Tokenizer, ids: list[int]) -> str:
    popular = reads.popularity().mean(0)
    lines = ["# The blocks that are read most from afar", ""]
    for block in popular.argsort(descending=True)[:_MOST_READ].tolist():
        if popular[block] <= 0:
            break
        shown = tokenizer.decode(ids[block * BLOCK : (block + 1) * BLOCK])
        lines += [
            f"## Tokens {block * BLOCK:,} to {(block + 1) * BLOCK - 1:,}: read by "
            f"{100 * float(popular[block]):.1f} % of the later ones",
            "",
            *(f"    {line}" for line in shown.splitlines()),
            "",
        ]
    return "\n".join(lines)


def _draw(reads: Reads, path: Path, name: str) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7), layout="constrained")
    upper, lower = figure.subplots(2, 1, height_ratios=(3, 1.4))
    ends = 0, reads.blocks * BLOCK
    picture = upper.imshow(
        reads.popularity().sqrt().numpy(),  # most are read seldom: the root shows them, too
        aspect="auto",
        cmap="magma",
        vmin=0,
        vmax=1,
        extent=(*ends, reads.config.num_layers, 0),
        interpolation="nearest",
    )
    bar = figure.colorbar(picture, ax=upper, label="later queries that read a block, from afar")
    bar.set_ticks([0, 0.1**0.5, 0.5**0.5, 1], labels=["0", "10 %", "50 %", "100 %"])
    upper.set(title=f"What is read of {name}", ylabel="layer", xlim=ends)
    per_block = reads.per_query_block()
    at = (torch.arange(reads.blocks) + 0.5) * BLOCK
    lower.plot(at, per_block, label="routed, mean of layers")
    lower.plot(at, torch.arange(reads.blocks) + 1, color="grey", linewidth=0.8, label="dense")
    lower.set(
        xlabel="place of the token that reads",
        ylabel="blocks that it reads",
        xlim=ends,
        ylim=(0, 1.3 * float(per_block.max())),
    )
    lower.legend(loc="upper left")
    figure.savefig(path, dpi=120)
