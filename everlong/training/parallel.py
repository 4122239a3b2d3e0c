"""The processes of a run: which one this is, and what they tell one another.

``torchrun`` starts them and says in the environment who is who; without it there is one. Each
computes other sequences of a step. Either each has all weights and gradients are summed (data
parallelism), or weights, gradients and what optimizers remember are divided among them, and those
of a layer are together while it is computed (Zhao et al., "PyTorch FSDP", 2023, section 3).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from everlong.errors import ConfigError
from everlong.model.transformer import Transformer


@dataclass(frozen=True)
class Ranks:
    """The processes of a run, as one of them sees them."""

    rank: int = 0
    """Of this one."""
    size: int = 1
    """How many there are."""

    @property
    def first(self) -> bool:
        """Whether this one writes what is written once."""
        return self.rank == 0

    def sum(self, *values: float) -> list[float]:
        """Sums over the processes."""
        if self.size == 1:
            return [*values]
        told = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(told)
        found: list[float] = told.tolist()
        return found

    def wait(self) -> None:
        """Until all are here."""
        if self.size > 1:
            dist.barrier()

    def add_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Sum gradients over the processes, all at once."""
        if self.size == 1:
            return
        gradients = [one.grad for one in parameters if one.grad is not None]
        flat = torch.cat([one.flatten() for one in gradients])
        dist.all_reduce(flat)
        at = 0
        for one in gradients:
            one.copy_(flat[at : at + one.numel()].view_as(one))
            at += one.numel()


def device_of_process() -> torch.device:
    """Where this process computes: its own GPU of the machine, or the processor."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def divide(model: Transformer, ranks: Ranks) -> None:
    """Divide a model's weights among the processes, which all have it whole before."""
    mesh = init_device_mesh(device_of_process().type, (ranks.size,))
    for module in (*map(model.block, range(model.config.num_layers)), model):
        fully_shard(module, mesh=mesh)
        assert isinstance(module, FSDPModule)
        # Losses are divided by the learned tokens of all processes, so gradients are summed.
        module.set_gradient_divide_factor(1.0)
        module.set_force_sum_reduction_for_comms(True)  # gloo has no other
    register_fsdp_forward_method(model, "states")


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor that may be divided; every process has to ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def divided_like(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, divided as another one of its shape is."""
    if not isinstance(like, DTensor) or tensor.shape != like.shape:
        return tensor
    return distribute_tensor(tensor, like.device_mesh, like.placements)


@contextmanager
def joined() -> Iterator[Ranks]:
    """Join the other processes of ``torchrun``, and leave them at the end.

    Raises:
        ConfigError: they do not find one another.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Ranks()
        return
    device = device_of_process()
    try:
        if device.type == "cuda":
            torch.cuda.set_device(device)
        # Numbers that are told and checkpoints are the processors', gradients the devices'.
        dist.init_process_group("gloo" if device.type == "cpu" else "cpu:gloo,cuda:nccl")
    except (ValueError, RuntimeError) as error:
        raise ConfigError(f"{size} processes do not find one another: {error}") from error
    try:
        yield Ranks(dist.get_rank(), size)
    finally:
        dist.destroy_process_group()
