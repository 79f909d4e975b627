"""Read-only views of an onnx_ir graph: shapes, constants, consumers, attributes, and a networkx copy for analyses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import networkx as nx
import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.errors import UnsupportedModel
from qcompiler.ir.ops import DOMAIN


def shape_of(value: ir.Value) -> tuple[int, ...]:
    """Static shape of a value. Raises UnsupportedModel if it is unknown or symbolic."""
    if value.shape is None or not value.shape.is_static():
        raise UnsupportedModel(
            f"value '{value.name}' has no static shape", remedy="give the input shapes with --shape NAME=1x3x224x224"
        )
    return tuple(int(extent) for extent in value.shape)


def static_shape(value: ir.Value) -> tuple[int, ...] | None:
    """The static shape, or None if any part of it is unknown."""
    if value.shape is None or not value.shape.is_static():
        return None
    return tuple(int(extent) for extent in value.shape)


def is_op(node: ir.Node | None, *names: str) -> bool:
    """True if the node is one of the standard ops `names`."""
    return node is not None and node.domain in ("", "ai.onnx") and node.op_type in names


def is_quantized_op(node: ir.Node | None, *names: str) -> bool:
    """True if the node is one of the `qcompiler::` ops `names`."""
    return node is not None and node.domain == DOMAIN and node.op_type in names


def only_consumer(value: ir.Value) -> ir.Node | None:
    """The node that alone reads `value`, once; None if there are others or the value is a graph output."""
    uses = value.uses()
    if value.is_graph_output() or len(uses) != 1:
        return None
    consumer: ir.Node = next(iter(uses)).node
    return consumer


def dtype_of(value: ir.Value) -> np.dtype[Any]:
    """Numpy dtype of a value. Raises UnsupportedModel if it is unknown."""
    if value.dtype is None:
        raise UnsupportedModel(f"value '{value.name}' has no element type")
    dtype: np.dtype[Any] = np.dtype(value.dtype.numpy())
    return dtype


def constant_of(value: ir.Value | None) -> npt.NDArray[Any] | None:
    """The array of an initializer; None for anything computed at run time."""
    if value is None or value.const_value is None:
        return None
    array: npt.NDArray[Any] = value.const_value.numpy()
    return array


def consumers_of(value: ir.Value) -> list[ir.Node]:
    """The nodes that read the value, each once."""
    return list(dict.fromkeys(usage.node for usage in value.uses()))


def ints(node: ir.Node, name: str, default: Sequence[int]) -> tuple[int, ...]:
    """An integer-list attribute of a node."""
    attribute = node.attributes.get(name)
    return tuple(attribute.as_ints()) if attribute is not None else tuple(default)


def single_number(value: ir.Value | None) -> float | None:
    """The number in a float32 constant of one element; None for any other value."""
    array = constant_of(value)
    return float(array.reshape(())) if array is not None and array.size == 1 and array.dtype == np.float32 else None


def integer(node: ir.Node, name: str, default: int) -> int:
    """An integer attribute of a node."""
    attribute = node.attributes.get(name)
    return int(attribute.as_int()) if attribute is not None else default


def number(node: ir.Node, name: str, default: float) -> float:
    """A float attribute of a node."""
    attribute = node.attributes.get(name)
    return float(attribute.as_float()) if attribute is not None else default


def text(node: ir.Node, name: str, default: str) -> str:
    """A string attribute of a node."""
    attribute = node.attributes.get(name)
    return str(attribute.as_string()) if attribute is not None else default


@dataclass(frozen=True)
class Window:
    """Explicit window of a 2-D convolution or pooling; pads = (top, left, bottom, right)."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]
    dilations: tuple[int, int]


def window_of(node: ir.Node, kernel: Sequence[int]) -> Window:
    """The window of a Conv or pooling node over [N, C, H, W], with auto_pad resolved.

    kernel: kH, kW. Raises UnsupportedModel for negative pads.
    """
    strides = ints(node, "strides", (1, 1))
    dilations = ints(node, "dilations", (1, 1))
    pads = ints(node, "pads", (0, 0, 0, 0))
    mode = text(node, "auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        height, width = shape_of(node.inputs[0])[2:]
        pads = _same_pads((height, width), kernel, strides, dilations, mode == "SAME_UPPER")
    elif mode == "VALID":
        pads = (0, 0, 0, 0)
    if min(pads) < 0:
        raise UnsupportedModel(f"negative pads {pads}", node=node.name or "", remedy="use a Slice instead")
    return Window(
        (kernel[0], kernel[1]),
        (strides[0], strides[1]),
        (pads[0], pads[1], pads[2], pads[3]),
        (dilations[0], dilations[1]),
    )


def _same_pads(
    size: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], upper: bool
) -> tuple[int, ...]:
    before, after = [], []
    for extent, k, stride, dilation in zip(size, kernel, strides, dilations, strict=True):
        total = max((-(-extent // stride) - 1) * stride + (k - 1) * dilation + 1 - extent, 0)
        small, large = total // 2, total - total // 2
        before.append(small if upper else large)
        after.append(large if upper else small)
    return (*before, *after)


def dependency_graph(graph: ir.Graph) -> nx.DiGraph[Any]:
    """Nodes of the graph, with an edge from each producer to each consumer."""
    result: nx.DiGraph[Any] = nx.DiGraph()
    for node in graph:
        result.add_node(node)
        for value in node.inputs:
            if value is not None and (producer := value.producer()) is not None:
                result.add_edge(producer, node)
    return result
