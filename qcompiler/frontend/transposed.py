"""ConvTranspose with its padding spelt out: of the three ways to say it, code is made for one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx

from qcompiler.errors import InvalidModel, UnsupportedModel
from qcompiler.frontend import attributes
from qcompiler.frontend.emitter import Emitter
from qcompiler.frontend.structure import label


@dataclass(frozen=True)
class _Axis:
    """One axis of the image; `more` is the output padding."""

    size: int
    kernel: int
    stride: int
    dilation: int
    more: int

    def surplus(self, wanted: int) -> int:
        """By how much the products reach beyond an output of `wanted` elements; negative where they end before."""
        return self.stride * (self.size - 1) + (self.kernel - 1) * self.dilation + 1 + self.more - wanted


def conv_transpose(emitter: Emitter, node: onnx.NodeProto, opset: int) -> None:
    """State `pads` and `output_padding` instead of `output_shape` and `auto_pad`.

    The part of a stated output that no product reaches is output padding, which holds the bias; with auto_pad there is
    no such part in onnxruntime.
    """
    axes = _axes(emitter, node)
    mode = attributes.text(node, "auto_pad", "NOTSET")
    stated = attributes.integers(node, "output_shape")
    same = tuple(axis.size * axis.stride for axis in axes) if mode.startswith("SAME") else None
    wanted = stated or same
    if wanted is not None and len(wanted) < len(axes):
        raise _misfit([axis.size for axis in axes], f"output_shape {list(wanted)}", node)
    more = [axis.more for axis in axes]
    if wanted is not None:
        surplus = [axis.surplus(size) for axis, size in zip(axes, wanted[-len(axes) :], strict=True)]
        small = [max(total, 0) // 2 for total in surplus]
        large = [max(total, 0) - half for total, half in zip(surplus, small, strict=True)]
        attributes.state(node, "pads", [*small, *large] if mode == "SAME_UPPER" else [*large, *small])
        more = [axis.more + max(-total, 0) * bool(stated) for axis, total in zip(axes, surplus, strict=True)]
    elif mode == "VALID":
        attributes.state(node, "pads", [0] * (2 * len(axes)))
    if any(extra >= max(axis.stride, axis.dilation) for extra, axis in zip(more, axes, strict=True)):
        raise UnsupportedModel(
            f"ConvTranspose with an output padding of {more}, expected less than its strides",
            node=label(node),
            remedy="pad the result instead",
        )
    attributes.state(node, "output_padding", more)
    attributes.drop(node, ["auto_pad", "output_shape"])
    emitter.place(node)


def _axes(emitter: Emitter, node: onnx.NodeProto) -> list[_Axis]:
    sizes, kernel = emitter.shape(node.input[0])[2:], emitter.shape(node.input[1])[2:]
    ones, zeros = (1,) * len(kernel), (0,) * len(kernel)
    strides = attributes.integers(node, "strides") or ones
    dilations = attributes.integers(node, "dilations") or ones
    more = attributes.integers(node, "output_padding") or zeros
    if not len(sizes) == len(kernel) == len(strides) == len(dilations) == len(more) > 0:
        raise _misfit(sizes, f"a kernel {list(kernel)} or attributes", node)
    return [_Axis(*values) for values in zip(sizes, kernel, strides, dilations, more, strict=True)]


def _misfit(sizes: Sequence[int], what: str, node: onnx.NodeProto) -> InvalidModel:
    return InvalidModel(
        f"ConvTranspose of an image {list(sizes)} has {what} of another rank",
        node=label(node),
        remedy="export the model again",
    )
