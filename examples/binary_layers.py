"""Binary layers in plain PyTorch: sign activations and sign weights, trained straight through.

Nothing here belongs to qcompiler: these are the idioms that torch users write, and the exported file holds only
standard ONNX ops. `BinaryConv2d` and `BinaryLinear` keep a latent float weight and compute with its sign.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import onnx_ir
import onnxscript.optimizer
import torch
from torch import Tensor, nn
from torch.nn import functional

OPSET = 18
IR_VERSION = 10


class _StraightThroughSign(torch.autograd.Function):
    """where(x >= 0, 1, -1) forward; the gradient passes where |x| <= 1."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.where(x >= 0, 1.0, -1.0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradients[0] * (x.abs() <= 1)


def sign(x: Tensor) -> Tensor:
    """+1 where x >= 0, else -1 (float32), with a straight-through gradient."""
    y: Tensor = _StraightThroughSign.apply(x)
    return y


class Sign(nn.Module):
    """`sign` as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        """x: float32 [...]; result: float32 [...] of -1 and +1."""
        return sign(x)


class BinaryConv2d(nn.Conv2d):
    """Convolution without bias whose weights are sign(latent weight)."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, padding: int = 0) -> None:
        super().__init__(in_channels, out_channels, kernel_size, padding=padding, bias=False)
        nn.init.uniform_(self.weight, -0.1, 0.1)

    def forward(self, x: Tensor) -> Tensor:
        """x: float32 [N, C, H, W]; result: float32 [N, O, H', W']."""
        return functional.conv2d(x, sign(self.weight), padding=self.padding)


class BinaryLinear(nn.Linear):
    """Matrix product without bias whose weights are sign(latent weight)."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features, bias=False)
        nn.init.uniform_(self.weight, -0.1, 0.1)

    def forward(self, x: Tensor) -> Tensor:
        """x: float32 [N, K]; result: float32 [N, O]."""
        return functional.linear(x, sign(self.weight))


def clip_latent_weights(network: nn.Module) -> None:
    """Keep latent weights in [-1, 1], where the straight-through gradient lives; call after each update."""
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, BinaryConv2d | BinaryLinear):
                layer.weight.clamp_(-1, 1)


def export(network: nn.Module, example: Tensor, path: Path) -> None:
    """Write `network` for the shape of `example` as standard ONNX, input "image", output "scores".

    The weights in the file are -1 and +1. The exporter's own optimizer stays off, so that BatchNorm is not folded
    into the convolution before it: the sums stay integers times a power of two, and exact.
    """
    deployed = copy.deepcopy(network).eval()
    for layer in deployed.modules():
        if isinstance(layer, BinaryConv2d | BinaryLinear):
            layer.weight.data = sign(layer.weight.data)
            # the plain layer of the parent class, without the sign of the weight in its graph
            layer.__class__ = nn.Conv2d if isinstance(layer, BinaryConv2d) else nn.Linear
    program = torch.onnx.export(
        deployed, (example,), input_names=["image"], output_names=["scores"],
        opset_version=OPSET, optimize=False, dynamo=True, verbose=False,
    )  # fmt: skip
    assert program is not None
    onnxscript.optimizer.fold_constants(program.model)
    onnxscript.optimizer.remove_unused_nodes(program.model)
    program.model.ir_version = IR_VERSION
    _strip_provenance(program.model)
    onnx_ir.save(program.model, path)


def _strip_provenance(model: onnx_ir.Model) -> None:
    """Remove the exporter's notes, which are longer than the small networks themselves."""
    values = [*model.graph.inputs, *model.graph.initializers.values()]
    for node in model.graph:
        values += node.outputs
        node.metadata_props.clear()
    for value in values:
        value.metadata_props.clear()
    model.graph.metadata_props.clear()
    model.metadata_props.clear()
