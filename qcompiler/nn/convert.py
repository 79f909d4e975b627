"""Turns a float torch model into a quantized one, layer by layer.

Convolutions and fully connected layers get quantized weights, activations become quantized activations. Parameters,
buffers and names stay, so that a float checkpoint loads into the result and fine tuning starts from its weights.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import nn

from qcompiler.errors import UsageError
from qcompiler.nn.grid import FLOAT_BITS, WIDEST_BITS, is_width
from qcompiler.nn.layers import (
    QActivation,
    QConv1d,
    QConv2d,
    QConv3d,
    QConvTranspose2d,
    QLinear,
    QuantizedLayer,
    followed_width,
)

LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.Linear)
ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU)
_QUANTIZED_CONVOLUTION = {
    nn.Conv1d: QConv1d,
    nn.Conv2d: QConv2d,
    nn.Conv3d: QConv3d,
    nn.ConvTranspose2d: QConvTranspose2d,
}


@dataclass(frozen=True)
class LayerBits:
    """Widths of one module: 1..31, or 32 for float; above 16 see `qcompiler.nn.grid.WIDEST_BITS`.

    `act_bit` is the width of an activation's output; on a layer it adds an input quantizer, and None adds nothing.
    `w_bits` is the width of a layer's weights; left out it is that of the layer's input, or float where that is not
    quantized.
    """

    act_bit: int | None = None
    w_bits: int | None = None

    def __post_init__(self) -> None:
        for name, bits in (("act_bit", self.act_bit), ("w_bits", self.w_bits)):
            if bits is not None and not _is_width(bits):
                raise UsageError(f"{name} is {bits!r}", remedy=f"choose 1 to {WIDEST_BITS}, or {FLOAT_BITS} for float")

    @property
    def weight_bits(self) -> int:
        """The width of a layer's weights."""
        return followed_width(self.w_bits, self.act_bit, otherwise=FLOAT_BITS)


Rule = Callable[[str, nn.Module], LayerBits | None]


def quantize_model(
    model: nn.Module,
    *,
    act_bit: int = 1,
    w_bits: int | None = None,
    skip_first: bool = True,
    skip_last: bool = True,
    rule: Rule | None = None,
) -> nn.Module:
    """A quantized copy of `model`, which is left as it is.

    Without a rule every Conv1d, Conv2d, Conv3d, ConvTranspose2d and Linear gets weights of `w_bits` (left out: of
    `act_bit`, or 1 with act_bit=32), every ReLU, ReLU6 and LeakyReLU becomes a QActivation of `act_bit`. A rule is
    asked for each of these modules by its qualified name; None keeps the module float. The first and the last layer (in
    the order of registration) are not asked for while `skip_first` and `skip_last` hold. A module used in several
    places is replaced by one module.

    Raises UsageError where a module cannot be converted as asked, and where nothing would be quantized.
    """
    uniform = LayerBits(act_bit, followed_width(w_bits, act_bit, otherwise=1))
    chosen = dict(_choices(model, rule or _uniform_rule(uniform), _skipped(model, skip_first, skip_last)))
    if rule is None:
        _check_uniform(model, uniform, chosen)
    elif not chosen:
        raise UsageError("the rule quantizes no module of the model", remedy="return LayerBits for some of them")
    return _replace(copy.deepcopy(model), chosen)


def _is_width(bits: object) -> bool:
    return is_width(bits) or is_width(bits, FLOAT_BITS, FLOAT_BITS)


def _uniform_rule(bits: LayerBits) -> Rule:
    activation, layer = LayerBits(act_bit=bits.act_bit), LayerBits(w_bits=bits.weight_bits)
    return lambda _, module: activation if isinstance(module, ACTIVATIONS) else layer


def _skipped(model: nn.Module, first: bool, last: bool) -> list[nn.Module]:
    """The first and the last layer; layers that are quantized already count."""
    layers = [module for module in model.modules() if isinstance(module, LAYERS)]
    return (layers[:1] if first else []) + (layers[-1:] if last else [])


def _choices(model: nn.Module, rule: Rule, skipped: list[nn.Module]) -> Iterator[tuple[str, LayerBits]]:
    """(qualified name, widths) of each module to replace."""
    for name, module in model.named_modules():
        if _is_lazy(module):
            raise UsageError("its shape is not known yet", node=name, remedy="run one batch through the model first")
        # exact types: a subclass has a forward of its own, which a replacement would lose
        if type(module) not in LAYERS + ACTIVATIONS and not _is_reparametrized(module):
            continue
        if any(module is other for other in skipped):
            continue
        bits = rule(name, module)
        if bits is None:
            continue
        if not isinstance(bits, LayerBits):
            raise UsageError(f"the rule returned {bits!r}", node=name, remedy="return a LayerBits or None")
        if _quantizes(module, bits):
            _check_replaceable(name, module)
            yield name, bits


def _is_lazy(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.lazy.LazyModuleMixin) and bool(module.has_uninitialized_params())


def _is_reparametrized(module: nn.Module) -> bool:
    """Whether a layer's weight is computed from other parameters, as by parametrize or weight_norm."""
    return isinstance(module, LAYERS) and "weight" not in module._parameters


def _quantizes(module: nn.Module, bits: LayerBits) -> bool:
    widths = [bits.act_bit] if isinstance(module, ACTIVATIONS) else [bits.act_bit, bits.weight_bits]
    return any(width not in (None, FLOAT_BITS) for width in widths)


def _check_replaceable(name: str, module: nn.Module) -> None:
    if _is_reparametrized(module):
        raise UsageError(
            f"the weight of this {type(module).__name__} is computed from other parameters",
            node=name,
            remedy="remove its parametrization or weight norm first, or return None for it from a rule",
        )
    if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks:
        raise UsageError("the module has hooks, which would be lost", node=name, remedy="register them afterwards")


def _check_uniform(model: nn.Module, bits: LayerBits, chosen: dict[str, LayerBits]) -> None:
    """Refuse what would come out partly float although the caller asked for one width throughout."""
    modules = dict(model.named_modules())
    if bits.weight_bits != FLOAT_BITS and not any(isinstance(modules[name], LAYERS) for name in chosen):
        found = sum(isinstance(module, LAYERS) for module in modules.values())
        done = sum(isinstance(module, QuantizedLayer) for module in modules.values())
        already = f", {done} of them quantized already" if done else ""
        raise UsageError(
            f"no layer to quantize among the {found} Conv1d, Conv2d, Conv3d, ConvTranspose2d and Linear layers of the"
            f" model{already}",
            remedy="pass skip_first=False, skip_last=False to quantize the first and the last layer too",
        )
    if bits.act_bit != FLOAT_BITS and not any(isinstance(modules[name], ACTIVATIONS) for name in chosen):
        raise UsageError(
            "act_bit is given, but the model has no ReLU, ReLU6 or LeakyReLU module",
            remedy="use torch.nn.ReLU instead of the function, or pass act_bit=32, or set act_bit by a rule",
        )


def _replace(model: nn.Module, chosen: dict[str, LayerBits]) -> nn.Module:
    """Put the quantized modules into every place of the ones they replace, also where these are shared."""
    modules = dict(model.named_modules())
    replacements = {modules[name]: _quantized(modules[name], bits) for name, bits in chosen.items()}
    for parent in modules.values():
        # named_children would name a module that is registered twice only once
        for name, child in list(parent._modules.items()):
            if child in replacements:
                setattr(parent, name, replacements[child])
    return replacements.get(model, model)


def _quantized(module: nn.Module, bits: LayerBits) -> nn.Module:
    """The quantized counterpart, with the same parameter objects and in the same mode."""
    if isinstance(module, ACTIVATIONS):
        return QActivation(bits.act_bit or FLOAT_BITS).train(module.training)
    result = _quantized_layer(module, bits)
    result.weight, result.bias = module.weight, module.bias
    return result.train(module.training)


def _quantized_layer(module: nn.Module, bits: LayerBits) -> nn.Module:
    settings = {
        "bias": module.bias is not None,
        "device": module.weight.device,
        "dtype": module.weight.dtype,
        "act_bit": bits.act_bit,
        "w_bits": bits.weight_bits,
    }
    if isinstance(module, nn.Linear):
        return QLinear(module.in_features, module.out_features, **settings)
    if isinstance(module, nn.ConvTranspose2d):
        settings["output_padding"] = module.output_padding
    return _QUANTIZED_CONVOLUTION[type(module)](
        module.in_channels,
        module.out_channels,
        module.kernel_size,
        stride=module.stride,
        padding=module.padding,
        dilation=module.dilation,
        groups=module.groups,
        padding_mode=module.padding_mode,
        **settings,
    )
