"""What `--bits N` asks for: no quantized layer wider than N bits."""

from __future__ import annotations

import math
from dataclasses import dataclass

import networkx as nx
import numpy as np
import onnx_ir as ir

from qcompiler.analysis.ranges import IntegerRanges
from qcompiler.errors import UnsupportedModel, UsageError
from qcompiler.ir import ops
from qcompiler.ir.provenance import sources
from qcompiler.ir.view import constant_of, dependency_graph

WIDEST = 8


@dataclass(frozen=True)
class Width:
    """Bits of one layer's weights and activations; None is real-valued."""

    node: str
    weights: int | None
    activations: int | None


def check_bits(graph: ir.Graph, bits: str | int) -> None:
    """Raise UnsupportedModel, listing the layers, where a quantized layer is wider than `bits`.

    bits: "auto" accepts every width. The activations of a first layer are the network's input and may be wider.
    Raises UsageError for anything else than "auto" or 1 to 8.
    """
    if bits == "auto":
        return
    if not str(bits).isdecimal() or not 1 <= int(bits) <= WIDEST:
        raise UsageError(f"--bits {bits}", remedy=f"give auto or a number from 1 to {WIDEST}")
    limit = int(bits)
    layers = widths(graph)
    if not any(layer.weights is not None and layer.weights <= limit for layer in layers):
        raise UnsupportedModel(
            f"no layer is quantized to {limit} bits or fewer, and quantizing after training is not available yet",
            remedy="train the network with low-bit weights, or compile with --bits auto",
        )
    wide = [layer for layer in layers if max(layer.weights or 0, layer.activations or 0) > limit]
    if wide:
        listed = ", ".join(f"{layer.node} (w{layer.weights or 32}a{layer.activations or 32})" for layer in wide)
        raise UnsupportedModel(
            f"{len(wide)} quantized layers are wider than {limit} bits: {listed}", remedy="compile with --bits auto"
        )


def widths(graph: ir.Graph) -> list[Width]:
    """The width of every convolution and matrix product with constant weights."""
    ranges = IntegerRanges()
    dependencies = dependency_graph(graph)
    layers = [node for node in graph if _weights(node) is not None]
    result = []
    for node in layers:
        first = not nx.ancestors(dependencies, node).intersection(layers)
        name = (*sources(node), node.op_type)[0]
        result.append(Width(name, _weight_bits(node), None if first else _code_bits(node, ranges)))
    return result


def _weights(node: ir.Node) -> ir.Value | None:
    binary = node.domain == ops.DOMAIN and node.op_type in ("IntegerConv", "IntegerMatMul")
    real = node.domain == "" and node.op_type in ("Conv", "MatMul")
    return node.inputs[1] if (binary or real) and constant_of(node.inputs[1]) is not None else None


def _weight_bits(node: ir.Node) -> int | None:
    """Bits that tell the weights' levels apart, up to a scale per output channel; None above 8."""
    weights = constant_of(node.inputs[1])
    assert weights is not None
    channels = weights.reshape(len(weights), -1) if node.op_type.endswith("Conv") else weights.T
    levels = max(len(np.unique(channel)) for channel in channels)
    bits = max(math.ceil(math.log2(levels)), 1)
    return bits if bits <= WIDEST and levels < channels.shape[1] or levels <= 2 else None


def _code_bits(node: ir.Node, ranges: IntegerRanges) -> int | None:
    codes = ranges.codes(node.inputs[0])
    if codes is None:
        return None
    return codes.bits if codes.bits <= WIDEST else None
