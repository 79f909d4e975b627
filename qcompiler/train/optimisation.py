"""Losses, optimizers and learning-rate schedules, by the names that a config gives them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from qcompiler.errors import UsageError
from qcompiler.nn.updates import scaled_parameter_groups

if TYPE_CHECKING:
    from qcompiler.train.config import TrainConfig

Loss = Callable[[Tensor, Tensor], Tensor]

_STEPS = (0.5, 0.75, 0.9)
_WARM_UP = 0.3
_WARM_UP_START = 1 / 25


def squared_hinge(scores: Tensor, labels: Tensor) -> Tensor:
    """Mean over examples and classes of max(0, 1 - t * score)^2, t = 1 for the label's class, else -1.

    scores: float [N, classes]; labels: int64 [N]; result: float [].
    """
    targets = torch.full_like(scores, -1.0).scatter_(1, labels.unsqueeze(1), 1.0)
    return (1 - targets * scores).clamp_min(0).square().mean()


def distillation(scores: Tensor, teacher: Tensor) -> Tensor:
    """Mean over examples of -sum(p * log q), p and q the softmax of the teacher's scores and of these.

    scores, teacher: float [N, classes]; result: float []. ReActNet's distributional loss (Liu et al., 2020) plus
    the entropy of p, which has no gradient; Hinton et al., "Distilling the Knowledge in a Neural Network", 2015.
    """
    loss: Tensor = nn.functional.cross_entropy(scores, teacher.softmax(1))
    return loss


LOSSES: dict[str, Loss] = {"squared_hinge": squared_hinge, "cross_entropy": nn.functional.cross_entropy}


def loss_function(name: str) -> Loss:
    """The loss called `name`, a function of scores float [N, classes] and labels int64 [N]."""
    if name not in LOSSES:
        raise _unknown("loss", name, LOSSES)
    return LOSSES[name]


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """The optimizer of a config over all parameters of `model`, with scaled updates where it asks for them."""
    groups: Any = model.parameters()
    if config.scale_updates:
        groups = scaled_parameter_groups(model, config.lr)
    shared = {"lr": config.lr, "weight_decay": config.weight_decay, "fused": True}
    if config.optimizer == "adam":
        return torch.optim.Adam(groups, **shared)
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=config.momentum, **shared)
    raise _unknown("optimizer", config.optimizer, ("adam", "sgd"))


@dataclass(frozen=True)
class Schedule:
    """Learning rate over training, as a factor on `lr` for each step; `final` is lr_final / lr.

    constant: 1. exponential: by the same factor after every epoch, as in BinaryNet, so that epoch number `epochs`
    would have lr_final. cosine: from 1 to `final` over all steps. step: by the same factor after 50, 75 and 90 % of
    the epochs, the last part at lr_final; the first epoch always has lr. onecycle: from 1/25 to 1 in the first 30 % of
    the steps, then to `final`, both along cosines. With two `stages` this happens twice, in the halves of the epochs.
    """

    name: str
    final: float
    epochs: int
    steps_per_epoch: int
    stages: int = 1

    def __call__(self, step: int) -> float:
        """Factor for the step number `step`, counted from 0 over all epochs."""
        past = first_epochs(self.epochs, self.stages)
        if step < past * self.steps_per_epoch:
            return self._within(past, step)
        return self._within(self.epochs - past, step - past * self.steps_per_epoch)

    def _within(self, epochs: int, step: int) -> float:
        """Factor for a step, counted from 0, of a stage of so many epochs."""
        part = step / (epochs * self.steps_per_epoch)
        return SCHEDULES[self.name](self, epochs, step // self.steps_per_epoch, min(part, 1.0))


def first_epochs(epochs: int, stages: int) -> int:
    """How many of the epochs belong to the first of two stages; 0 where there is one alone."""
    return epochs // 2 if stages == 2 else 0


def _exponential(schedule: Schedule, epochs: int, epoch: int, part: float) -> float:
    return float(schedule.final ** (epoch / epochs))


def _cosine(schedule: Schedule, epochs: int, epoch: int, part: float) -> float:
    return _between(1.0, schedule.final, part)


def _in_steps(schedule: Schedule, epochs: int, epoch: int, part: float) -> float:
    passed = sum(epoch >= max(1, round(epochs * mark)) for mark in _STEPS)
    return float(schedule.final ** (passed / len(_STEPS)))


def _one_cycle(schedule: Schedule, epochs: int, epoch: int, part: float) -> float:
    if part < _WARM_UP:
        return _between(_WARM_UP_START, 1.0, part / _WARM_UP)
    return _between(1.0, schedule.final, (part - _WARM_UP) / (1 - _WARM_UP))


def _between(start: float, end: float, part: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * part)) / 2


SCHEDULES: dict[str, Callable[[Schedule, int, int, float], float]] = {
    "constant": lambda schedule, epochs, epoch, part: 1.0,
    "exponential": _exponential,
    "cosine": _cosine,
    "step": _in_steps,
    "onecycle": _one_cycle,
}


def make_schedule(config: TrainConfig, steps_per_epoch: int) -> Schedule:
    """The schedule of a config; raises UsageError for an unknown name or rates that it cannot join."""
    if config.schedule not in SCHEDULES:
        raise _unknown("schedule", config.schedule, SCHEDULES)
    if not config.lr > 0:
        raise UsageError(f"lr is {config.lr}, expected a positive number")
    if config.schedule in ("exponential", "step") and not config.lr_final > 0:
        raise UsageError(f"lr_final is {config.lr_final}, schedule={config.schedule} needs a positive number")
    return Schedule(config.schedule, config.lr_final / config.lr, config.epochs, steps_per_epoch, config.stages)


def _unknown(what: str, name: str, known: Any) -> UsageError:
    return UsageError(f"unknown {what} '{name}'", remedy=f"choose one of: {', '.join(known)}")
