"""Simulated fixed point: what a trained network answers on hardware without floating point.

The test mode of the XNOR-Net implementation in Theano (G. Hegde, theano-xnor-net, test/fxp_helper.py and
test/inf_layers.py), for any network of convolutions, linear layers, batch normalisations and activations. A value of
`bits` bits without sign, `integer_bits` of them before the binary point, is round(x * 2^(bits - integer_bits)), clipped
to +-(2^bits - 1). Dot products are exact and rounded once, at the output of their layer. Batch normalisation becomes
x * scale + offset with scale = gamma / sigma and offset = beta - mu * gamma / sigma. Every parameter has
`parameter_bits` bits and the fewest integer bits that hold the largest of its tensor.

Left as they are: codes of quantizers, which are integers already; sums outside of modules (residuals), exact sums of
rounded values; an activation after the last layer (softmax, sigmoid), whose rounding would only make ties.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from rich.table import Table
from torch import Tensor, nn
from torch.nn.utils import parametrize

from qcompiler.errors import UsageError
from qcompiler.nn import Fixed, Quantizer

Kind = Literal["input", "conv", "linear", "last", "norm", "activation"]

_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_QUANTIZERS = (Quantizer, Fixed)
_EXACT = (nn.Identity, nn.Sequential, nn.Dropout, nn.Dropout2d, nn.Flatten, nn.MaxPool1d, nn.MaxPool2d, nn.ZeroPad2d)
"""Modules without new values: what they give out is a value that was rounded already, or zero."""


@dataclass(frozen=True)
class Format:
    """`bits` magnitude bits beside the sign, `integer_bits` of them before the binary point."""

    bits: int
    integer_bits: int
    symmetric: bool = True
    """Without the smallest code of two's complement, as published."""

    def __post_init__(self) -> None:
        # float32 holds integers of up to 24 bits exactly
        if not 1 <= self.bits <= 24:
            raise UsageError(f"a fixed-point format of {self.bits} bits", remedy="choose 1 to 24, the sign excluded")

    @property
    def scale(self) -> float:
        """Steps per unit."""
        return 2.0 ** (self.bits - self.integer_bits)

    @property
    def limits(self) -> tuple[int, int]:
        """The smallest and the largest value, in steps."""
        largest = (1 << self.bits) - 1
        return -largest - int(not self.symmetric), largest

    def round(self, x: Tensor) -> Tensor:
        """x: float [...]; result: the nearest value of this format, saturated, [...]."""
        return (x * self.scale).round().clamp(*self.limits) / self.scale

    def saturated(self, x: Tensor) -> int:
        """How many elements of x are beyond the limits."""
        steps = (x * self.scale).round()
        return int((steps != steps.clamp(*self.limits)).sum())

    def __str__(self) -> str:
        return f"{self.bits}/{self.integer_bits}"


@dataclass(frozen=True)
class Formats:
    """A format for each kind of value; the defaults are the published ones, activations like batch normalisations.

    Inputs have the smallest code too: images k / 128 - 1 are fixed-point numbers of 7 bits as they are, and a
    background of -127/128 in place of -1 would shift whole feature maps.
    """

    input: Format = Format(7, 0, symmetric=False)
    conv: Format = Format(15, 8)
    linear: Format = Format(15, 10)
    last: Format = Format(20, 17)
    norm: Format = Format(15, 3)
    activation: Format = Format(15, 3)
    parameter_bits: int = 15

    def of(self, kind: Kind) -> Format:
        """The format of a kind of value."""
        found: Format = getattr(self, kind)
        return found


@dataclass(frozen=True)
class Saturation:
    """How often the values at one place did not fit their format, over all forward passes so far."""

    layer: str
    kind: Kind
    format: Format
    values: int
    saturated: int


class FormatRounding(nn.Module):
    """Rounds to a format and counts what saturates."""

    def __init__(self, kind: Kind, chosen: Format) -> None:
        super().__init__()
        self.kind = kind
        self.format = chosen
        self.values = 0
        self.saturated = 0

    def forward(self, x: Tensor) -> Tensor:
        """x: float [...]; result: [...] on the format's grid."""
        self.values += x.numel()
        self.saturated += self.format.saturated(x)
        return self.format.round(x)


class FixedNorm(nn.Module):
    """x * scale + offset per channel (axis 1), both rounded."""

    def __init__(self, norm: nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d, bits: int) -> None:
        super().__init__()
        scale = torch.rsqrt(norm.running_var + norm.eps)
        if norm.weight is not None:
            scale = scale * norm.weight.detach()
        offset = -norm.running_mean * scale
        if norm.bias is not None:
            offset = offset + norm.bias.detach()
        self.register_buffer("scale", _parameter_format(scale, bits).round(scale))
        self.register_buffer("offset", _parameter_format(offset, bits).round(offset))

    def forward(self, x: Tensor) -> Tensor:
        """x: float [N, C, ...]; result: the same shape."""
        shape = (1, -1, *[1] * (x.dim() - 2))
        return x * self.scale.reshape(shape) + self.offset.reshape(shape)


class FixedPointModel(nn.Module):
    """A network computed in simulated fixed point; `saturations` tells what did not fit."""

    def __init__(self, network: nn.Module, roundings: dict[str, FormatRounding]) -> None:
        super().__init__()
        self.network = network
        self.roundings = roundings

    def forward(self, x: Tensor) -> Tensor:
        """x: float32 input of the network; result: its scores."""
        with torch.no_grad():
            return self.network(self.roundings[""](x))

    def saturations(self) -> tuple[Saturation, ...]:
        """One entry for each rounded place, the input (named "") first, then in the order of the modules."""
        return tuple(
            Saturation(name, each.kind, each.format, each.values, each.saturated)
            for name, each in self.roundings.items()
        )


def fixed_point(model: nn.Module, example: Tensor | None = None, formats: Formats | None = None) -> FixedPointModel:
    """A fixed-point twin of a trained model, in eval mode; the model itself stays as it is.

    example: float32 [N, ...], training inputs that set the binary points: each place keeps its width, and takes the
    fewest integer bits that hold the largest value seen there; the few larger ones saturate. Without example the
    integer bits are the published ones, or for a convolution or linear layer those that its fan-in needs if these are
    more: the largest sum of |weights| of a channel plus |bias|, right for inputs in [-1, 1].
    """
    formats = formats or Formats()
    network = copy.deepcopy(model).eval()
    _bake_weights(network)
    kinds = dict(_places(network))
    chosen = {name: _format(network.get_submodule(name), kind, formats.of(kind)) for name, kind in kinds.items()}
    if example is not None:
        peaks = _peaks(network, kinds, example)
        chosen = {name: _at_peak(each, peaks.get(name)) for name, each in chosen.items()}
    _round_parameters(network, formats.parameter_bits)
    network = _merge_norms(network, formats.parameter_bits)
    roundings = {"": FormatRounding("input", formats.input)}
    for name, kind in kinds.items():
        roundings[name] = FormatRounding(kind, chosen[name])
        network.get_submodule(name).register_forward_hook(_rounded(roundings[name]))
    return FixedPointModel(network, roundings)


def saturation_table(saturations: tuple[Saturation, ...]) -> Table:
    """The report: format and share of saturated values at each place."""
    table = Table("layer", "value", "bits/integer", "values", "saturated", "share")
    for each in saturations:
        share = f"{each.saturated / each.values:.3%}" if each.values else "-"
        style = "yellow" if each.saturated else None
        name = each.layer or "(input)"
        table.add_row(name, each.kind, str(each.format), str(each.values), str(each.saturated), share, style=style)
    return table


def _rounded(rounding: FormatRounding) -> object:
    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return rounding(output)

    return hook


@torch.no_grad()
def _bake_weights(network: nn.Module) -> None:
    """Replace every latent weight by its quantized value, and its quantizer by nothing."""
    for layer in network.modules():
        if isinstance(getattr(layer, "weight_quantizer", None), _QUANTIZERS):
            layer.weight.copy_(layer.quantized_weight())
            layer.weight_quantizer = nn.Identity()
        if parametrize.is_parametrized(layer):
            # not removed: torch keeps a parametrized layer's property in a class that it shares with its copies
            for tensor, chain in layer.parametrizations.items():
                chain.original.data = getattr(layer, tensor)
                del chain[:]
                chain.append(nn.Identity())


def _places(network: nn.Module) -> Iterator[tuple[str, Kind]]:
    """Every module whose output is rounded, in the order of registration."""
    products = [name for name, each in network.named_modules() if isinstance(each, (*_CONVS, nn.Linear))]
    ended = False
    for name, module in network.named_modules():
        if name in products:
            ended = name == products[-1]
            yield name, ("last" if ended else "conv" if isinstance(module, _CONVS) else "linear")
        elif isinstance(module, _NORMS):
            yield name, "norm"
        elif not (ended or any(module.children()) or isinstance(module, (*_EXACT, *_QUANTIZERS))):
            yield name, "activation"


def _format(module: nn.Module, kind: Kind, published: Format) -> Format:
    """The published format, with the integer bits that the fan-in needs if these are more."""
    if not isinstance(module, (*_CONVS, nn.Linear)):
        return published
    weight = module.weight.detach()
    if isinstance(module, nn.ConvTranspose2d):
        # [I, O / groups, ...]: the outputs of each group
        bound = weight.abs().unflatten(0, (module.groups, -1)).sum((1, *range(3, weight.dim() + 1))).flatten()
    else:
        bound = weight.abs().flatten(1).sum(1)
    if module.bias is not None:
        bound = bound + module.bias.detach().abs()
    needed = _integer_bits(float(bound.max()))
    return replace(published, integer_bits=max(published.integer_bits, needed))


def _at_peak(published: Format, peak: float | None) -> Format:
    """The format with the binary point that `peak` needs; None (never reached) changes nothing."""
    if not peak or not math.isfinite(peak):
        return published
    return replace(published, integer_bits=_integer_bits(peak))


def _integer_bits(largest: float) -> int:
    return max(0, math.floor(math.log2(largest)) + 1) if largest > 0 else 0


def _peaks(network: nn.Module, kinds: dict[str, Kind], example: Tensor) -> dict[str, float]:
    """The largest magnitude at each place that the example reaches, in float."""
    peaks: dict[str, float] = {}

    def watch(name: str) -> object:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            peaks[name] = max(peaks.get(name, 0.0), float(output.abs().max()))

        return hook

    hooks = [network.get_submodule(name).register_forward_hook(watch(name)) for name in kinds]
    with torch.no_grad():
        network(example)
    for hook in hooks:
        hook.remove()
    return peaks


def _parameter_format(values: Tensor, bits: int) -> Format:
    largest = float(values.abs().max()) if values.numel() else 0.0
    return Format(bits, _integer_bits(largest))


def _round_parameters(network: nn.Module, bits: int) -> None:
    """Round every parameter but those of quantizers and of the batch normalisations, which are merged first."""
    for module in network.modules():
        if isinstance(module, (*_NORMS, *_QUANTIZERS)):
            continue
        for parameter in module.parameters(recurse=False):
            parameter.data = _parameter_format(parameter.data, bits).round(parameter.data)


def _merge_norms(module: nn.Module, bits: int) -> nn.Module:
    if isinstance(module, _NORMS):
        return FixedNorm(module, bits)
    for name, child in module.named_children():
        setattr(module, name, _merge_norms(child, bits))
    return module
