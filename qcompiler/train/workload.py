"""What a network does in one inference: operations, weights, activations and their widths, from one traced forward.

Convolutions and linear layers are counted; sums outside of modules and XNOR-Net's K map are not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.overrides import TorchFunctionMode

from qcompiler.nn import Fixed, Quantizer
from qcompiler.nn.convert import LAYERS
from qcompiler.nn.grid import FLOAT_BITS

_QUANTIZERS = (Quantizer, Fixed)
_KEEPING_VALUES = frozenset(
    {
        "adaptive_max_pool2d", "clone", "contiguous", "detach", "dropout", "flatten", "max_pool1d", "max_pool2d", "pad",
        "permute", "relu", "reshape", "squeeze", "to", "transpose", "unsqueeze", "view",
    }
)  # fmt: skip
"""Functions whose result holds values of their first argument (or zeros), so that its width stays."""


@dataclass(frozen=True)
class LayerWork:
    """One convolution or linear layer, for one image.

    macs: multiply-accumulates. weights: with biases. w_bits, a_bits: widths of weights and of the input, 32 for float.
    activations, outputs: values read and values made.
    """

    name: str
    macs: int
    weights: int
    w_bits: int
    a_bits: int
    activations: int
    outputs: int


def traced_work(model: nn.Module, example: Tensor) -> list[LayerWork]:
    """The layers of `model` in the order in which they run on `example`, float32 [N, ...].

    A layer's input has the width of the quantizer that made it, through pooling and reshaping; anything else is float.
    """
    found: list[LayerWork] = []
    training = model.training
    with torch.no_grad(), _hooks(model, found), _Widths():
        model.eval()(example)
    model.train(training)
    return found


class _Widths(TorchFunctionMode):
    """Carries a tensor's width, its attribute `quantized_bits`, over functions that keep values."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, arguments: tuple[Any, ...] = (), options: Any = None
    ) -> Any:
        result = function(*arguments, **(options or {}))
        if getattr(function, "__name__", "") in _KEEPING_VALUES and isinstance(result, Tensor) and arguments:
            _set_bits(result, _bits(arguments[0]))
        return result


def _bits(x: Any) -> int:
    width: int = getattr(x, "quantized_bits", FLOAT_BITS)
    return width


def _set_bits(x: Tensor, bits: int) -> None:
    x.quantized_bits = bits


@contextmanager
def _hooks(model: nn.Module, found: list[LayerWork]) -> Iterator[None]:
    hooks = []
    for name, module in model.named_modules():
        if isinstance(module, _QUANTIZERS):
            hooks.append(module.register_forward_hook(_mark))
        elif isinstance(module, LAYERS):
            hooks.append(module.register_forward_hook(_record(name, found)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _mark(quantizer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    _set_bits(output, quantizer.bits)


def _record(name: str, found: list[LayerWork]) -> Callable[..., None]:
    def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        images = inputs[0].shape[0]
        outputs = output.numel() // images
        weight = layer.weight
        # axis 0 of a weight is that of the output channels, but of a transposed convolution that of the input channels
        places = inputs[0].numel() // images if isinstance(layer, nn.ConvTranspose2d) else outputs
        biases = 0 if layer.bias is None else layer.bias.numel()
        found.append(
            LayerWork(
                name=name,
                macs=places * (weight.numel() // weight.shape[0]),
                weights=weight.numel() + biases,
                w_bits=_weight_bits(layer),
                a_bits=_input_bits(layer, inputs[0]),
                activations=inputs[0].numel() // images,
                outputs=outputs,
            )
        )

    return hook


def _weight_bits(layer: nn.Module) -> int:
    quantizer = getattr(layer, "weight_quantizer", None)
    if parametrize.is_parametrized(layer, "weight"):
        quantizer = layer.parametrizations.weight[-1]
    return quantizer.bits if isinstance(quantizer, _QUANTIZERS) else FLOAT_BITS


def _input_bits(layer: nn.Module, x: Tensor) -> int:
    quantizer = getattr(layer, "input_quantizer", None)
    return quantizer.bits if isinstance(quantizer, _QUANTIZERS) else _bits(x)
