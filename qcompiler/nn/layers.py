"""Drop-ins for torch's layers with quantized weights and, if asked for, a quantized input."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from qcompiler.errors import UsageError
from qcompiler.nn.binary import Binarize
from qcompiler.nn.fixed import Fixed
from qcompiler.nn.grid import FLOAT_BITS, WIDEST_BITS, check_bits
from qcompiler.nn.quantizers import DoReFaActivation, DoReFaWeight, Quantizer

_OR_FLOAT = f", or {FLOAT_BITS} for float"


def default_weight_quantizer(bits: int) -> nn.Module:
    """1: Binarize, 2 to 31: DoReFaWeight, 32: nothing."""
    if bits == FLOAT_BITS:
        return nn.Identity()
    return Binarize() if _checked("w_bits", bits) == 1 else DoReFaWeight(bits)


def default_activation_quantizer(bits: int | None) -> nn.Module:
    """1: Binarize, 2 to 31: DoReFaActivation, 32 or None: nothing."""
    if bits is None or bits == FLOAT_BITS:
        return nn.Identity()
    return Binarize() if _checked("act_bit", bits) == 1 else DoReFaActivation(bits)


def followed_width(w_bits: int | None, act_bit: int | None, otherwise: int) -> int:
    """The width of weights: `w_bits`; where it is left out that of quantized inputs, as in BMXNet; else `otherwise`."""
    if w_bits is not None:
        return w_bits
    return otherwise if act_bit in (None, FLOAT_BITS) else act_bit


def _checked(what: str, bits: int) -> int:
    return check_bits(bits, what=what, also=_OR_FLOAT, most=WIDEST_BITS)


def _given(name: str, quantizer: nn.Module | None) -> nn.Module | None:
    """The quantizer, which must be a module and not its class."""
    if quantizer is not None and not isinstance(quantizer, nn.Module):
        of_class = isinstance(quantizer, type)
        found = f"the class {quantizer.__name__}" if of_class else repr(quantizer)
        remedy = f"write {name}={quantizer.__name__}(...)" if of_class else "for example Binarize()"
        raise UsageError(f"{name} is {found}, expected a module", remedy=remedy)
    return quantizer


class QuantizedLayer(nn.Module):
    """The two quantizers of a layer; a quantizer given as a module takes precedence over a width.

    w_bits left out is act_bit, or 1 where inputs are not quantized.
    """

    weight_quantizer: nn.Module
    input_quantizer: nn.Module
    weights_are_real = False
    """Whether the layer computes with its latent weights for now, see `real_weights`."""

    def __init__(
        self,
        *arguments: Any,
        w_bits: int | None = None,
        act_bit: int | None = None,
        weight_quantizer: nn.Module | None = None,
        input_quantizer: nn.Module | None = None,
        **options: Any,
    ) -> None:
        super().__init__(*arguments, **options)
        inputs = default_activation_quantizer(act_bit)
        weights = default_weight_quantizer(followed_width(w_bits, act_bit, otherwise=1))
        self.weight_quantizer = _given("weight_quantizer", weight_quantizer) or weights
        self.input_quantizer = _given("input_quantizer", input_quantizer) or inputs

    def outputs_first(self, weight: Tensor) -> Tensor:
        """`weight` as quantizers take it, output channels on axis 0; of such a weight the layer's own again."""
        return weight

    def laid_out(self, scale: Tensor) -> Tensor:
        """A scale of the quantizer, [] or [O, 1, ...], as it lies beside the weight in torch's layout."""
        return scale

    def quantized_weight(self) -> Tensor:
        """The weight that the layer computes with, in torch's layout."""
        if self.weights_are_real:
            return self.weight
        if isinstance(self.weight_quantizer, Fixed):
            # its scale lies as the weight does
            return self.weight_quantizer(self.weight)
        return self.outputs_first(self.weight_quantizer(self.outputs_first(self.weight)))


class QConv2d(QuantizedLayer, nn.Conv2d):
    """torch.nn.Conv2d (same arguments) with keywords w_bits, act_bit, weight_quantizer, input_quantizer."""

    def forward(self, x: Tensor) -> Tensor:
        """x: float [N, C, H, W]; result: float [N, O, H', W']."""
        return self._conv_forward(self.input_quantizer(x), self.quantized_weight(), self.bias)


class QConv1d(QuantizedLayer, nn.Conv1d):
    """torch.nn.Conv1d (same arguments) with keywords w_bits, act_bit, weight_quantizer, input_quantizer."""

    def forward(self, x: Tensor) -> Tensor:
        """x: float [N, C, L]; result: float [N, O, L']."""
        return self._conv_forward(self.input_quantizer(x), self.quantized_weight(), self.bias)


class QConv3d(QuantizedLayer, nn.Conv3d):
    """torch.nn.Conv3d (same arguments) with keywords w_bits, act_bit, weight_quantizer, input_quantizer."""

    def forward(self, x: Tensor) -> Tensor:
        """x: float [N, C, D, H, W]; result: float [N, O, D', H', W']."""
        return self._conv_forward(self.input_quantizer(x), self.quantized_weight(), self.bias)


class QConvTranspose2d(QuantizedLayer, nn.ConvTranspose2d):
    """torch.nn.ConvTranspose2d (same arguments) with keywords w_bits, act_bit, weight_quantizer, input_quantizer.

    Its weight is [I, O / groups, H, W], as torch has it; a scale per channel is one per output channel all the same.
    """

    def outputs_first(self, weight: Tensor) -> Tensor:
        """[I, O / groups, ...] to [O, I / groups, ...] and back."""
        return weight.unflatten(0, (self.groups, -1)).transpose(1, 2).flatten(0, 1)

    def laid_out(self, scale: Tensor) -> Tensor:
        """[O, 1, 1, 1] to [1, O, 1, 1], or of several groups to [I, O / groups, 1, 1]."""
        if not scale.dim():
            return scale
        if self.groups == 1:
            return scale.transpose(0, 1)
        return self.outputs_first(scale.expand(-1, self.in_channels // self.groups, *scale.shape[2:]))

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """x: float [N, I, H, W]; result: float [N, O, H', W']."""
        output_padding = self._output_padding(
            x, output_size, self.stride, self.padding, self.kernel_size, 2, self.dilation
        )
        return functional.conv_transpose2d(
            self.input_quantizer(x), self.quantized_weight(), self.bias, self.stride, self.padding, output_padding,
            self.groups, self.dilation,
        )  # fmt: skip


class QLinear(QuantizedLayer, nn.Linear):
    """torch.nn.Linear (same arguments) with keywords w_bits, act_bit, weight_quantizer, input_quantizer."""

    def forward(self, x: Tensor) -> Tensor:
        """x: float [..., K]; result: float [..., O]."""
        return functional.linear(self.input_quantizer(x), self.quantized_weight(), self.bias)


class QActivation(nn.Module):
    """A quantizer as an activation layer: sign for act_bit=1, DoReFa's for 2 to 31, nothing for 32, or `quantizer`."""

    def __init__(self, act_bit: int = 1, *, quantizer: nn.Module | None = None) -> None:
        super().__init__()
        self.quantizer = _given("quantizer", quantizer) or default_activation_quantizer(act_bit)

    def forward(self, x: Tensor) -> Tensor:
        """x: float [...]; result: float [...]."""
        return self.quantizer(x)


class _Xnor:
    """Keywords of XNOR-Net's layers: sign of the input, centred binary weights with alpha, and the K map."""

    k_map: bool

    def __init__(self, *arguments: Any, k_map: bool = True, **options: Any) -> None:
        options.setdefault("weight_quantizer", Binarize(scale="channel", centre=True))
        options.setdefault("input_quantizer", Binarize())
        super().__init__(*arguments, **options)
        self.k_map = k_map


class XnorConv2d(_Xnor, QConv2d):
    """(sign(x) conv sign(w)) * K * alpha + bias, K the box-filtered mean of |x| over the channels.

    Rastegari et al., "XNOR-Net", 2016, equation 11. Without `k_map` K is 1. Groups must be 1, padding zeros.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if self.groups != 1 or self.padding_mode != "zeros":
            raise UsageError("XnorConv2d has groups or a padding mode, expected groups=1 and padding_mode='zeros'")

    def forward(self, x: Tensor) -> Tensor:
        """x: float [N, C, H, W]; result: float [N, O, H', W']."""
        if not self.k_map:
            return super().forward(x)
        out = self._conv_forward(self.input_quantizer(x), self.quantized_weight(), None) * self._k(x)
        return out if self.bias is None else out + self.bias.reshape(1, -1, 1, 1)

    def _k(self, x: Tensor) -> Tensor:
        """[N, 1, H', W']: mean over the window of the channel mean of |x|."""
        height, width = self.kernel_size
        box = torch.full((1, 1, height, width), 1 / (height * width), dtype=x.dtype, device=x.device)
        return functional.conv2d(x.abs().mean(1, keepdim=True), box, None, self.stride, self.padding, self.dilation)


class XnorLinear(_Xnor, QLinear):
    """(sign(x) @ sign(w)) * mean|x| * alpha + bias; without `k_map` mean|x| is left out."""

    def forward(self, x: Tensor) -> Tensor:
        """x: float [..., K]; result: float [..., O]."""
        if not self.k_map:
            return super().forward(x)
        out = functional.linear(self.input_quantizer(x), self.quantized_weight())
        out = out * x.abs().mean(-1, keepdim=True)
        return out if self.bias is None else out + self.bias


@contextmanager
def real_weights(model: nn.Module) -> Iterator[None]:
    """Layers of this module compute with their latent weights, unquantized; activations stay quantized.

    The first of the two stages in which Martinez et al., "Training Binary Neural Networks with Real-to-Binary
    Convolutions", 2020, and ReActNet train.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, QuantizedLayer)]
    before = [layer.weights_are_real for layer in layers]
    for layer in layers:
        layer.weights_are_real = True
    try:
        yield
    finally:
        for layer, real in zip(layers, before, strict=True):
            layer.weights_are_real = real


@dataclass(frozen=True)
class LatentWeight:
    """A weight in training: its name in named_parameters, its quantizer, and how the quantizer sees it.

    outputs_first: of the weight as it lies, the same with the output channels on axis 0, and back.
    """

    name: str
    parameter: nn.Parameter
    quantizer: Quantizer
    outputs_first: Callable[[Tensor], Tensor] = lambda weight: weight


def latent_weights(model: nn.Module) -> Iterator[LatentWeight]:
    """Every latent weight of `model`.

    Covers the layers of this module and torch's layers whose weight has a quantizer registered by `parametrize`.
    """
    for name, layer in model.named_modules():
        prefix = f"{name}." if name else ""
        if isinstance(layer, QuantizedLayer) and isinstance(layer.weight_quantizer, Quantizer):
            yield LatentWeight(f"{prefix}weight", layer.weight, layer.weight_quantizer, layer.outputs_first)
        if parametrize.is_parametrized(layer):
            for tensor, chain in layer.parametrizations.items():
                # of several originals (weight norm) none is the latent weight
                if isinstance(chain[-1], Quantizer) and chain.is_tensor:
                    yield LatentWeight(f"{prefix}parametrizations.{tensor}.original", chain.original, chain[-1])


def quantized_weights(model: nn.Module) -> Iterator[tuple[str, nn.Parameter, Quantizer]]:
    """Name in named_parameters, parameter and quantizer of every latent weight, see `latent_weights`."""
    for latent in latent_weights(model):
        yield latent.name, latent.parameter, latent.quantizer
