"""What training quantized weights needs around the optimizer: clipping, scaled updates, fresh BN statistics."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from qcompiler.errors import UsageError
from qcompiler.nn.layers import LatentWeight, latent_weights

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


@torch.no_grad()
def clip_weights_(model: nn.Module) -> None:
    """Bring every latent weight back into its quantizer's range (and centre XNOR-Net's), after an optimizer step.

    Beyond the range the straight-through gradient is zero, so a weight that drifts out would never come back.
    """
    for latent in latent_weights(model):
        weight = latent.outputs_first(latent.parameter)
        latent.quantizer.constrain_(weight)
        if weight is not latent.parameter:
            latent.parameter.copy_(latent.outputs_first(weight))


def scaled_parameter_groups(model: nn.Module, lr: float) -> list[dict[str, Any]]:
    """Parameter groups whose learning rate scales the update of every quantized weight with a clip range (BinaryNet).

    The factor is r * sqrt((fan_in + fan_out) / 1.5), with r half the width of the range, 1 for [-1, 1]: r over Glorot's
    initial bound. Weights that start in their range, whatever their width in bits, move as fast in relation to it as
    Glorot-initialised ones. Adam's update does not depend on the scale of the gradient, so the learning rate has to
    carry the factor; each group also holds it as `lr_factor`, for schedules that set absolute rates. Weights whose
    quantizer has no range (DoReFa, LSQ) keep `lr`. The order of groups and parameters depends on the model alone.
    """
    factors = {id(latent.parameter): _factor(latent) for latent in latent_weights(model)}
    groups: dict[float, list[nn.Parameter]] = {}
    for parameter in model.parameters():
        groups.setdefault(factors.get(id(parameter), 1.0), []).append(parameter)
    return [{"params": group, "lr": lr * factor, "lr_factor": factor} for factor, group in groups.items()]


def _factor(latent: LatentWeight) -> float:
    if latent.quantizer.clip is None:
        return 1.0
    low, high = latent.quantizer.clip
    outputs, inputs, *kernel = latent.outputs_first(latent.parameter).shape
    # both fans include the kernel, as in Glorot's rule
    fans = (outputs + inputs) * math.prod(kernel)
    return (high - low) / 2 * math.sqrt(fans / 1.5)


@torch.no_grad()
def recalibrate_batchnorm(model: nn.Module, batches: Iterable[Any]) -> None:
    """Set every BN's running mean and variance to the statistics of its input over all `batches`.

    batches: tensors, or tuples whose first item is the input tensor. All values weigh the same, whatever their batch:
    the variance is the unbiased one over the whole data, not the mean over batches. During the pass each BN normalises
    by its batch, everything else (dropout, stochastic quantizers) is in evaluation mode. Modes are restored; after an
    error the statistics are the old ones.

    Raises UsageError where there is no batch, or where a BN sees a single value per channel.
    """
    moments: dict[nn.Module, _Moments] = {}
    seen = 0
    with _collecting(model, moments):
        for batch in batches:
            model(_input(batch, model))
            seen += 1
    if not seen:
        raise UsageError("no batches to recalibrate BN with", remedy="pass at least one batch")
    for layer, moment in moments.items():
        layer.running_mean.copy_(moment.mean)
        layer.running_var.copy_(moment.squares / (moment.count - 1))
        layer.num_batches_tracked.fill_(seen)


@dataclass
class _Moments:
    """Count, mean and sum of squared deviations per channel, in float64."""

    count: int
    mean: torch.Tensor
    squares: torch.Tensor

    @classmethod
    def of(cls, x: torch.Tensor) -> _Moments:
        """x: [N, C, ...] -> moments [C] over all other axes."""
        values = x.detach().double().transpose(0, 1).flatten(1)
        mean = values.mean(1)
        return cls(values.shape[1], mean, (values - mean[:, None]).square().sum(1))

    def merged(self, other: _Moments) -> _Moments:
        """Moments of both sets together (Chan, Golub and LeVeque), without the cancellation of E[x^2] - E[x]^2."""
        count = self.count + other.count
        step = other.mean - self.mean
        mean = self.mean + step * (other.count / count)
        return _Moments(count, mean, self.squares + other.squares + step.square() * (self.count * other.count / count))


def _collector(name: str, moments: dict[nn.Module, _Moments]) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    def collect(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        new = _Moments.of(inputs[0])
        if new.count < 2:
            raise UsageError(
                "one value per channel has no variance", node=name, remedy="use larger batches, or drop the last one"
            )
        moments[layer] = moments[layer].merged(new) if layer in moments else new

    return collect


@contextmanager
def _collecting(model: nn.Module, moments: dict[nn.Module, _Moments]) -> Iterator[None]:
    """Evaluation mode with BN normalising by the batch and its input recorded; everything is restored at the end."""
    modes = {module: module.training for module in model.modules()}
    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, BATCH_NORMS) and module.track_running_stats
    }
    handles = [layer.register_forward_pre_hook(_collector(name, moments)) for name, layer in layers.items()]
    model.eval()
    for layer in layers.values():
        layer.train()
        layer.track_running_stats = False
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for layer in layers.values():
            layer.track_running_stats = True
        for module, mode in modes.items():
            module.training = mode


def _input(batch: Any, model: nn.Module) -> torch.Tensor:
    tensor = batch[0] if isinstance(batch, (tuple, list)) else batch
    parameter = next(model.parameters(), None)
    return tensor if parameter is None else tensor.to(parameter.device)
