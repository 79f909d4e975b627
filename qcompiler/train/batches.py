"""Shuffled batches out of a split that lies in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from qcompiler.errors import UsageError

# far enough apart that no run's epochs meet another seed's
_SEED_STRIDE = 1_000_003


@dataclass(frozen=True)
class Batches:
    """One process's share of the batches of every epoch.

    images: uint8 [N, C, H, W] and labels: int64 [N], on the device. batch_size counts the examples of all `processes`.
    An epoch's order depends on `seed` and its number alone. The examples left over after the last whole batch wait for
    another epoch: a smaller batch would weigh more, and one of a single example has no variance.
    """

    images: Tensor
    labels: Tensor
    batch_size: int
    seed: int
    rank: int = 0
    processes: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.batch_size <= len(self.images):
            message = f"batch_size is {self.batch_size}, expected 1 to the {len(self.images)} training images"
            raise UsageError(message)
        if self.batch_size % self.processes:
            message = f"batch_size {self.batch_size} cannot be shared evenly by {self.processes} processes"
            raise UsageError(message, remedy="choose a multiple")

    def __len__(self) -> int:
        return len(self.images) // self.batch_size

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of epoch number `epoch`, from 1: images uint8 [n, C, H, W], labels int64 [n]."""
        generator = torch.Generator().manual_seed(self.seed * _SEED_STRIDE + epoch)
        order = torch.randperm(len(self.images), generator=generator).to(self.images.device)
        share = self.batch_size // self.processes
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            chosen = order[start + self.rank * share : start + (self.rank + 1) * share]
            yield self.images.index_select(0, chosen), self.labels.index_select(0, chosen)
