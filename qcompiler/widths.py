"""What `--bits N` asks for: no quantized layer wider than N bits."""

from __future__ import annotations

from collections.abc import Iterator

import networkx as nx
import onnx_ir as ir

from qcompiler.analysis.layers import Layer, recorded
from qcompiler.analysis.weights import WIDEST
from qcompiler.errors import UnsupportedModel, UsageError
from qcompiler.ir.provenance import sources
from qcompiler.ir.view import dependency_graph


def check_bits(graph: ir.Graph, bits: str | int) -> None:
    """Raise UnsupportedModel, listing the layers, where a quantized layer is wider than `bits`.

    graph: one whose layers are described (fuse_integer_layers.py). bits: "auto" accepts every width. The activations
    of a first layer are the network's input and may be wider. Raises UsageError for anything else than "auto" or 1 to
    8.
    """
    if bits == "auto":
        return
    limit = parse_width(bits)
    layers = list(_quantized(graph))
    wide = [
        f"{name} ({layer.label})" for name, layer in layers if max(layer.weights or 0, layer.activations or 0) > limit
    ]
    if wide:
        raise UnsupportedModel(
            f"{len(wide)} quantized layers are wider than {limit} bits: {', '.join(wide)}",
            remedy="compile with --bits auto",
        )
    if not any(layer.weights is not None for _, layer in layers):
        raise UnsupportedModel(
            f"no layer is quantized to {limit} bits or fewer",
            remedy="give data to quantize with by --calibrate, train with low-bit weights, or compile with --bits auto",
        )


def parse_width(bits: str | int) -> int:
    """The number that `--bits` gives, 8 for "auto". Raises UsageError for anything but 1 to 8."""
    if bits == "auto":
        return WIDEST
    if not str(bits).isdecimal() or not 1 <= int(bits) <= WIDEST:
        raise UsageError(f"--bits {bits}", remedy=f"give auto or a number from 1 to {WIDEST}")
    return int(bits)


def _quantized(graph: ir.Graph) -> Iterator[tuple[str, Layer]]:
    """Every layer under its name; what a first layer reads counts as real."""
    dependencies = dependency_graph(graph)
    layers = {node: layer for node in graph if (layer := recorded(node)) is not None}
    for node, layer in layers.items():
        first = not nx.ancestors(dependencies, node).intersection(layers)
        yield (*sources(node), node.op_type)[0], Layer(layer.weights, None if first else layer.activations)
