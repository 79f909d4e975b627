"""Which nodes hand on elements of their first operand unchanged, in other places or fewer of them."""

from __future__ import annotations

import onnx_ir as ir

from qcompiler.ir.traits import Trait, has
from qcompiler.ir.view import is_op, static_shape, text


def keeps_channels(node: ir.Node, axis: int) -> bool:
    """True if each element depends on those of the same place along the negative `axis` alone, and this axis stays.

    Windows slide over all axes but the first two, so they mix the columns of a matrix product.
    """
    shape = static_shape(node.inputs[0])
    pools = has(node, Trait.SLIDES) and has(node, Trait.MOVES, Trait.AVERAGES)
    windows = pools and shape is not None and axis % len(shape) < 2
    return windows or is_op(node, "Identity")


def moves_elements(node: ir.Node | None) -> bool:
    """True if every element of the first output is one of the first input: codes stay codes, levels stay levels.

    A Resize to nearest neighbours is such an op unless it fills what lies outside with a number of its own.
    """
    if is_op(node, "Resize"):
        assert node is not None
        mode = text(node, "coordinate_transformation_mode", "half_pixel")
        return text(node, "mode", "nearest") == "nearest" and mode != "tf_crop_and_resize"
    return has(node, Trait.MOVES)
