"""A trained model with every quantizer constant and every weight on its grid: what is exported."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import nn
from torch.nn.utils import parametrize

from qcompiler.errors import UnsupportedModel
from qcompiler.nn.fixed import Fixed
from qcompiler.nn.layers import QuantizedLayer
from qcompiler.nn.quantizers import Quantizer


def freeze(model: nn.Module) -> nn.Module:
    """A deep copy of `model` in eval mode whose quantizers are `Fixed` and whose weights are their quantized values.

    It computes what `model.eval()` computes, bit for bit. UnsupportedModel names a quantizer without constant grid.
    """
    frozen = copy.deepcopy(model).eval()
    with torch.no_grad():
        for layer in frozen.modules():
            if isinstance(layer, QuantizedLayer) and isinstance(layer.weight_quantizer, Quantizer):
                _freeze_weight(layer)
            if parametrize.is_parametrized(layer):
                _freeze_parametrizations(layer)
    if isinstance(frozen, Quantizer):
        return frozen.freeze_activation().eval()
    _freeze_activations(frozen, "")
    return frozen.eval()


def _freeze_weight(layer: QuantizedLayer) -> None:
    weight, fixed = layer.weight_quantizer.freeze(layer.outputs_first(layer.weight))
    # a parameter of its own: other layers may read the same latent weight
    layer.weight = nn.Parameter(layer.outputs_first(weight), layer.weight.requires_grad)
    layer.weight_quantizer = Fixed(replace(fixed.grid, scale=layer.laid_out(fixed.grid.scale)))


def _freeze_parametrizations(layer: nn.Module) -> None:
    for name, chain in layer.parametrizations.items():
        if not isinstance(chain[-1], Quantizer):
            continue
        if not chain.is_tensor:
            raise UnsupportedModel(
                f"'{name}' is computed from several parameters before it is quantized",
                remedy="remove the parametrization below the quantizer first (remove_parametrizations keeps its value)",
            )
        latent = chain.original
        for step in list(chain)[:-1]:
            latent = step(latent)
        weight, fixed = chain[-1].freeze(latent)
        if weight.shape != chain.original.shape:
            raise UnsupportedModel(f"parametrizations of '{name}' change its shape", remedy="keep the quantizer only")
        chain.original = nn.Parameter(weight, chain.original.requires_grad)
        del chain[:]
        chain.append(fixed)


def _freeze_activations(parent: nn.Module, prefix: str) -> None:
    # named_children would leave out the second place of a quantizer that is used twice
    for name, child in list(parent._modules.items()):
        if child is None:
            continue
        if isinstance(child, Quantizer):
            try:
                setattr(parent, name, child.freeze_activation())
            except UnsupportedModel as error:
                raise UnsupportedModel(error.message, node=f"{prefix}{name}", remedy=error.remedy) from error
        else:
            _freeze_activations(child, f"{prefix}{name}.")
