"""``everlong plan``: what a run would cost, in words and numbers."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

_LETTERS = {"": 1.0, "K": 1e3, "M": 1e6, "B": 1e9, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}


def plan(
    recipe: Path,
    *,
    tokens: str | None = None,
    devices: str = "1xH100",
    share: float = 0.4,
    price: float | None = None,
) -> None:
    """Work out what a recipe costs on other devices: operations, days, memory, money.

    Args:
        recipe: YAML file; see recipes/.
        tokens: of the whole run, such as 100T, in the proportions of the recipe's phases.
        devices: how many of which kind, such as 4096xH100; 1xhere is this machine, measured.
        share: of the devices' peak that is reached; what a short run here shows, or 0.3 to 0.5.
        price: dollars an hour for a device.
    """
    from everlong.config import load_config
    from everlong.training import plan as planning
    from everlong.training.models import open_dense
    from everlong.training.recipe import Recipe
    from everlong.training.start import configs_of

    given = load_config(Recipe, recipe)
    shape = given.model.shape
    if shape is None:
        assert given.model.checkpoint is not None
        shape = open_dense(given.model.checkpoint).config
    count, device = _devices(devices, given.precision, price)
    worked = planning.plan(
        given, configs_of(given, shape), device, count, tokens=_amount(tokens), share=share
    )
    print(_plan_text(worked))


def _amount(text: str | None) -> float | None:
    """``100T`` as a number."""
    from everlong.errors import ConfigError

    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMBGTPE]?)", text.strip(), re.IGNORECASE)
    if found is None:
        raise ConfigError(f"tokens is a number such as 300M, 15T or 1.5T, not {text!r}")
    return float(found[1]) * _LETTERS[found[2].upper()]


def _devices(text: str, precision: Any, price: float | None) -> tuple[int, Any]:
    """``4096xH100``: how many, and what a plan assumes of one."""
    from dataclasses import replace

    from everlong.device import machine_memory, peak_flops
    from everlong.errors import ConfigError
    from everlong.training.plan import DEVICES, Device

    found = re.fullmatch(r"(\d+)x(\w+)", text.strip())
    if found is None or found[2] not in (*DEVICES, "here"):
        raise ConfigError(
            f"devices are a number of {', '.join(DEVICES)} or here, such as 8xH100, not {text!r}"
        )
    if found[2] == "here":
        device = Device("here", peak_flops(precision), machine_memory() or math.inf, 0.0)
    else:
        device = DEVICES[found[2]]
    return int(found[1]), device if price is None else replace(device, price=price)


def _plan_text(worked: Any) -> str:
    """A plan as Markdown."""
    from everlong.model.cost import parameters
    from everlong.training.plan import SCHEMES

    device = worked.device
    lines = [
        "| phase | parameters | layers | length | tokens | operations |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {number} | {_short(parameters(stage.config).total)} | {stage.config.num_layers} | "
        f"{stage.sequence_length:,} | {_short(stage.tokens)} | {_short(stage.flops)} |"
        for number, stage in enumerate(worked.stages)
    ]
    lines += [
        "",
        f"{_short(worked.flops)} operations in all, {_short(worked.flops / worked.tokens)} a token",
        f"{worked.devices:,} x {device.name}: {_time(worked.seconds)}, "
        f"{_short(worked.seconds / 3600 * worked.devices)} device hours, "
        f"{_short(worked.dollars)} dollars",
        f"a checkpoint: {_short(worked.checkpoint_bytes)}B; token shards: "
        f"{_short(worked.data_bytes)}B",
        "",
        f"memory of a device ({_short(device.memory)}B), {worked.micro_tokens:,} tokens at a time:",
    ]
    for scheme in SCHEMES:
        needed = worked.memory(scheme)
        lines.append(
            f"- {scheme}: {_short(needed)}B{'' if needed <= device.memory else ', does not fit'}"
        )
    lines += [
        f"and of the processor, while a checkpoint is written: {_short(worked.host_memory)}B",
        "",
        f"assumed: {_short(device.flops)} operations a second and device, of which "
        f"{worked.share:.0%} are reached; {device.price:g} dollars an hour; master weights, "
        f"gradients and {worked.kept.beside / worked.kept.trained:.3g} more for each in float32, "
        "weights in bfloat16"
        + ("; layers are computed again for the backward pass" if worked.recompute else ""),
    ]
    return "\n".join(lines)


def _short(number: float) -> str:
    """Three digits and a letter."""
    rounded = float(f"{number:.3g}")
    for letter in ("E", "P", "T", "G", "M", "k"):
        size = _LETTERS[letter.upper()]
        if rounded >= size and rounded < 1000 * _LETTERS["E"]:
            return f"{rounded / size:.3g} {letter}"
    return f"{rounded:.3g} "


def _time(seconds: float) -> str:
    for size, name in ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {name}"
    return f"{seconds:.1f} seconds"
