"""Drop-ins for torch's layers with quantized weights and, if asked for, a quantized input."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from qcompiler.errors import UsageError
from qcompiler.nn.binary import Binarize
from qcompiler.nn.grid import FLOAT_BITS, check_bits
from qcompiler.nn.quantizers import DoReFaActivation, DoReFaWeight, Quantizer

_OR_FLOAT = f", or {FLOAT_BITS} for float"


def default_weight_quantizer(bits: int) -> nn.Module:
    """1: Binarize, 2 to 16: DoReFaWeight, 32: nothing."""
    if bits == FLOAT_BITS:
        return nn.Identity()
    return Binarize() if check_bits(bits, what="w_bits", also=_OR_FLOAT) == 1 else DoReFaWeight(bits)


def default_activation_quantizer(bits: int | None) -> nn.Module:
    """1: Binarize, 2 to 16: DoReFaActivation, 32 or None: nothing."""
    if bits is None or bits == FLOAT_BITS:
        return nn.Identity()
    return Binarize() if check_bits(bits, what="act_bit", also=_OR_FLOAT) == 1 else DoReFaActivation(bits)


def _given(name: str, quantizer: nn.Module | None) -> nn.Module | None:
    """The quantizer, which must be a module and not its class."""
    if quantizer is not None and not isinstance(quantizer, nn.Module):
        of_class = isinstance(quantizer, type)
        found = f"the class {quantizer.__name__}" if of_class else repr(quantizer)
        remedy = f"write {name}={quantizer.__name__}(...)" if of_class else "for example Binarize()"
        raise UsageError(f"{name} is {found}, expected a module", remedy=remedy)
    return quantizer


class _Quantized(nn.Module):
    """The two quantizers of a layer; a quantizer given as a module takes precedence over a width."""

    weight_quantizer: nn.Module
    input_quantizer: nn.Module

    def __init__(
        self,
        *arguments: Any,
        w_bits: int = 1,
        act_bit: int | None = None,
        weight_quantizer: nn.Module | None = None,
        input_quantizer: nn.Module | None = None,
        **options: Any,
    ) -> None:
        super().__init__(*arguments, **options)
        self.weight_quantizer = _given("weight_quantizer", weight_quantizer) or default_weight_quantizer(w_bits)
        self.input_quantizer = _given("input_quantizer", input_quantizer) or default_activation_quantizer(act_bit)


class QConv2d(_Quantized, nn.Conv2d):
    """torch.nn.Conv2d (same arguments) with keywords w_bits, act_bit, weight_quantizer, input_quantizer."""

    def forward(self, x: Tensor) -> Tensor:
        """x: float [N, C, H, W]; result: float [N, O, H', W']."""
        return self._conv_forward(self.input_quantizer(x), self.weight_quantizer(self.weight), self.bias)


class QConv1d(_Quantized, nn.Conv1d):
    """torch.nn.Conv1d (same arguments) with keywords w_bits, act_bit, weight_quantizer, input_quantizer."""

    def forward(self, x: Tensor) -> Tensor:
        """x: float [N, C, L]; result: float [N, O, L']."""
        return self._conv_forward(self.input_quantizer(x), self.weight_quantizer(self.weight), self.bias)


class QLinear(_Quantized, nn.Linear):
    """torch.nn.Linear (same arguments) with keywords w_bits, act_bit, weight_quantizer, input_quantizer."""

    def forward(self, x: Tensor) -> Tensor:
        """x: float [..., K]; result: float [..., O]."""
        return functional.linear(self.input_quantizer(x), self.weight_quantizer(self.weight), self.bias)


class QActivation(nn.Module):
    """A quantizer as an activation layer: sign for act_bit=1, DoReFa's for 2 to 16, nothing for 32, or `quantizer`."""

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
        out = self._conv_forward(self.input_quantizer(x), self.weight_quantizer(self.weight), None) * self._k(x)
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
        out = functional.linear(self.input_quantizer(x), self.weight_quantizer(self.weight))
        out = out * x.abs().mean(-1, keepdim=True)
        return out if self.bias is None else out + self.bias


def quantized_weights(model: nn.Module) -> Iterator[tuple[str, nn.Parameter, Quantizer]]:
    """Every latent weight of `model` with its name in named_parameters and its quantizer.

    Covers the layers of this module and torch's layers whose weight has a quantizer registered by `parametrize`.
    """
    for name, layer in model.named_modules():
        prefix = f"{name}." if name else ""
        if isinstance(layer, _Quantized) and isinstance(layer.weight_quantizer, Quantizer):
            yield f"{prefix}weight", layer.weight, layer.weight_quantizer
        if parametrize.is_parametrized(layer):
            for tensor, chain in layer.parametrizations.items():
                # of several originals (weight norm) none is the latent weight
                if isinstance(chain[-1], Quantizer) and chain.is_tensor:
                    yield f"{prefix}parametrizations.{tensor}.original", chain.original, chain[-1]
