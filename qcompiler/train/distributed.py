"""One training over several processes: torchrun starts them, each has a share of every batch."""

from __future__ import annotations

import atexit
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as torch_distributed

from qcompiler.errors import UsageError

T = TypeVar("T")
# seconds for gloo's threads to let go of the last tensors, on a busy machine too
FAREWELL = 1.0


@dataclass(frozen=True)
class Group:
    """A process among its peers; alone unless torchrun started several."""

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes the files and shows the progress."""
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model with gradients averaged over all processes."""
        if self.size == 1:
            return model
        return nn.parallel.DistributedDataParallel(model, [self.device.index] if self.device.type == "cuda" else None)

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of `tensor` over all processes, in place."""
        if self.size > 1:
            torch_distributed.all_reduce(tensor)
        return tensor

    def any(self, flag: bool) -> bool:
        """Whether `flag` is set in any process."""
        return flag if self.size == 1 else bool(self.sum(torch.tensor(float(flag), device=self.device)) > 0)

    def gather(self, value: T) -> list[T]:
        """The values of all processes, in order."""
        values: list[Any] = [value]
        if self.size > 1:
            values = [None] * self.size
            torch_distributed.all_gather_object(values, value)
        return values

    def barrier(self) -> None:
        """Wait for all processes."""
        self.any(False)

    def leader_first(self, work: Callable[[], T]) -> T:
        """The result of `work`, done by the leader before the others, who find its files."""
        if self.size == 1:
            return work()
        if self.leads:
            result = work()
            self.barrier()
            return result
        self.barrier()
        return work()


def choose_device(name: str) -> torch.device:
    """The device called auto, cpu or cuda; raises UsageError where there is no GPU."""
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UsageError("device is cuda, but torch finds no GPU", remedy="set device=cpu or device=auto")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())


def join_group(device_name: str) -> Group:
    """Join the processes that torchrun started, or be alone; gloo on the CPU, nccl on GPUs.

    The group lasts until the process ends: under torchrun it can be made only once.
    """
    device = choose_device(device_name)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not torch_distributed.is_initialized():
        torch_distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        atexit.register(leave_group)
    if not torch_distributed.is_initialized():
        return Group(device)
    return Group(device, torch_distributed.get_rank(), torch_distributed.get_world_size())


def leave_group() -> None:
    """Leave the group of processes, if there is one, so that the interpreter can end.

    A thread of gloo that frees the tensor of a finished collective needs the interpreter's lock. One that still waits
    for it when the interpreter ends calls std::terminate (pytorch issue 190489), so it gets the lock while this thread
    sleeps.
    """
    if not torch_distributed.is_initialized():
        return
    time.sleep(FAREWELL)
    torch_distributed.destroy_process_group()
