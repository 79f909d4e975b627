"""A network in training: all that a step changes and a checkpoint keeps."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from qcompiler.errors import UsageError
from qcompiler.nn.layers import real_weights
from qcompiler.nn.updates import clip_weights_, recalibrate_batchnorm
from qcompiler.train.augment import augment, check_augmentation
from qcompiler.train.batches import Batches
from qcompiler.train.config import TrainConfig
from qcompiler.train.data import Data, to_input
from qcompiler.train.distributed import Group
from qcompiler.train.evaluate import accuracy, memory_format
from qcompiler.train.networks import Network
from qcompiler.train.optimisation import (
    distillation,
    first_epochs,
    loss_function,
    make_optimizer,
    make_schedule,
)

_AMP_TYPES = {"none": None, "bf16": torch.bfloat16, "fp16": torch.float16}
# processes must agree to stop at the same step, and asking costs a message
_STEPS_BETWEEN_QUESTIONS = 16
_RECALIBRATION_IMAGES = 10_000


@dataclass(frozen=True)
class Totals:
    """Mean loss and share of right answers over an epoch, in training mode."""

    loss: float
    accuracy: float


class Trainer:
    """Model, optimizer, schedule, gradient scaler and batches of one run in this process.

    Building it seeds every generator, so that the initial weights depend on the seed alone. teacher: the float twin
    whose classes `distill` asks for, in eval mode.
    """

    def __init__(
        self, config: TrainConfig, network: Network, data: Data, group: Group, teacher: nn.Module | None = None
    ) -> None:
        check_augmentation(config.augment, config.shift)
        self.config = config
        self.data = data
        self.group = group
        seed_everything(config.seed)
        model = network.build(data.shape, data.classes)
        self.layout = memory_format(model)
        self.model: nn.Module = model.to(group.device, memory_format=self.layout)
        self.batches = _batches(config, data, group)
        self.schedule = make_schedule(config, len(self.batches))
        self.optimizer = make_optimizer(self.model, config)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self.schedule)
        self.amp_type = _amp_type(config.amp, group.device)
        self.scaler = torch.amp.GradScaler(group.device.type, enabled=config.amp == "fp16")
        self._loss = loss_function(config.loss)
        self._teacher = None if teacher is None else teacher.to(group.device, memory_format=self.layout)
        self._network = group.wrap(self.model)
        if config.compile:
            self._network = torch.compile(self._network)
        # processes start with equal weights, and then draw differently
        seed_everything(config.seed + group.rank)

    def run_epoch(self, epoch: int, on_step: Callable[[], None], wants_stop: Callable[[], bool]) -> Totals | None:
        """Train epoch number `epoch`, from 1; None where it was stopped before its end.

        Raises UsageError where the loss is no longer finite.
        """
        self.model.train()
        first = epoch <= first_epochs(self.config.epochs, self.config.stages)
        with real_weights(self.model) if first else nullcontext():
            totals = self._run_batches(epoch, on_step, wants_stop)
        if totals is not None and self.config.recalibrate and _drops_out(self.model):
            # the running statistics are those of what dropout leaves, half of the activations
            self.recalibrate()
        return totals

    def _run_batches(self, epoch: int, on_step: Callable[[], None], wants_stop: Callable[[], bool]) -> Totals | None:
        totals = torch.zeros(2, dtype=torch.float64, device=self.group.device)
        examples = 0
        for number, (images, labels) in enumerate(self.batches.epoch(epoch)):
            if self._agree_to_stop(number, wants_stop):
                return None
            totals += self._step(images, labels)
            examples += len(labels)
            on_step()
        self._share_statistics()
        loss, right = (self.group.sum(totals) / (examples * self.group.size)).tolist()
        if not math.isfinite(loss):
            raise UsageError(f"the loss of epoch {epoch} is {loss}", remedy="train with a lower lr or without amp")
        return Totals(loss, right)

    def validate(self) -> float:
        """Accuracy on the validation split."""
        result: float = accuracy(self.model, self.data.validation, self.group)
        return result

    def test(self) -> float:
        """Accuracy on the test split."""
        result: float = accuracy(self.model, self.data.test, self.group)
        return result

    def learning_rate(self, epoch: int) -> float:
        """The unscaled learning rate at the start of epoch number `epoch`."""
        return self.config.lr * self.schedule((epoch - 1) * len(self.batches))

    def recalibrate(self) -> None:
        """Set the BN statistics to those of the first training images, without augmentation."""
        size = self.config.batch_size
        count = max(1, min(_RECALIBRATION_IMAGES // size, len(self.batches)))
        recalibrate_batchnorm(self.model, map(self._input, self.batches.images[: count * size].split(size)))

    def state(self) -> dict[str, Any]:
        """What resuming needs beside the model; every process must ask."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "scaler": self.scaler.state_dict(),
            "rng": self.group.gather(rng_state(self.group.device)),
        }

    def restore(self, optimizer: Any, scheduler: Any, scaler: Any, rng: Any) -> None:
        """Continue from a state; raises UsageError where it is that of another number of processes."""
        if len(rng) != self.group.size:
            message = f"the checkpoint is of {len(rng)} processes, this run has {self.group.size}"
            raise UsageError(message, remedy="resume with as many processes")
        self.optimizer.load_state_dict(optimizer)
        self.scheduler.load_state_dict(scheduler)
        self.scaler.load_state_dict(scaler)
        restore_rng(rng[self.group.rank], self.group.device)

    def _step(self, images: Tensor, labels: Tensor) -> Tensor:
        """One update; the batch's sums of losses and of right answers, float64 [2]."""
        inputs = self._input(augment(images, self.config.augment, self.config.shift))
        with torch.autocast(self.group.device.type, self.amp_type, enabled=self.amp_type is not None):
            scores = self._network(inputs)
        scores = scores.float()
        loss = self._loss(scores, labels)
        if self._teacher is not None:
            with torch.no_grad():
                taught = self._teacher(inputs)
            share = self.config.distill
            loss = (1 - share) * loss + share * distillation(scores, taught)
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.scheduler.step()
        if self.config.clip_weights:
            clip_weights_(self.model)
        right = (scores.detach().argmax(1) == labels).sum()
        return torch.stack([loss.detach().double() * len(labels), right.double()])

    def _share_statistics(self) -> None:
        """Give every process the leader's BN statistics, which are saved: each has seen its own images last."""
        for buffer in self.model.buffers():
            if buffer.is_floating_point() and self.group.size > 1:
                self.group.sum(buffer if self.group.leads else buffer.zero_())

    def _input(self, images: Tensor) -> Tensor:
        return to_input(images.contiguous(memory_format=self.layout))

    def _agree_to_stop(self, step: int, wants_stop: Callable[[], bool]) -> bool:
        if self.group.size == 1:
            return wants_stop()
        return step % _STEPS_BETWEEN_QUESTIONS == 0 and self.group.any(wants_stop())


@contextmanager
def training_settings(config: TrainConfig, device: torch.device) -> Iterator[None]:
    """Torch's global settings for a run: the threads, and repeatable results on the CPU; restored afterwards."""
    threads = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    filling = torch.utils.deterministic.fill_uninitialized_memory
    if config.threads:
        torch.set_num_threads(config.threads)
    if device.type == "cpu":
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.utils.deterministic.fill_uninitialized_memory = filling


def seed_everything(seed: int) -> None:
    """Seed the generators of torch (on every device), numpy and Python."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def rng_state(device: torch.device) -> dict[str, Any]:
    """The state of every generator of this process, as tensors and plain values."""
    kind, keys, *rest = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "numpy": [kind, torch.from_numpy(np.asarray(keys, np.int64)), *rest],
        "python": random.getstate(),
    }


def restore_rng(state: dict[str, Any], device: torch.device) -> None:
    """Set every generator of this process to a state of `rng_state`."""
    torch.set_rng_state(state["torch"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))


def _batches(config: TrainConfig, data: Data, group: Group) -> Batches:
    train = data.train
    images, labels = train.images.to(group.device), train.labels.to(group.device)
    return Batches(images, labels, config.batch_size, config.seed, group.rank, group.size)


def _drops_out(model: nn.Module) -> bool:
    return any(isinstance(layer, nn.Dropout) and layer.p > 0 for layer in model.modules())


def _amp_type(name: str, device: torch.device) -> torch.dtype | None:
    if name not in _AMP_TYPES:
        raise UsageError(f"unknown amp '{name}'", remedy=f"choose one of: {', '.join(_AMP_TYPES)}")
    if name == "fp16" and device.type != "cuda":
        raise UsageError("amp=fp16 needs a GPU", remedy="set amp=bf16 or amp=none")
    return _AMP_TYPES[name]
