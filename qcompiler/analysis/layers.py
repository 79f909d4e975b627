"""What is known of a layer: recorded once, when it is decided whether it computes on integers."""

from __future__ import annotations

import re
from dataclasses import dataclass

import onnx_ir as ir

from qcompiler.analysis.moves import moves_elements
from qcompiler.ir.ops import DOMAIN
from qcompiler.ir.provenance import REASON, WIDTHS
from qcompiler.ir.traits import LAYER, has
from qcompiler.ir.view import consumers_of

_WIDTHS = re.compile(r"w(\d+)a(\d+)")


@dataclass(frozen=True)
class Layer:
    """Bits of a layer's weights and inputs, None where they are real; and why it is not on integers, "" if it is."""

    weights: int | None
    activations: int | None
    reason: str = ""

    @property
    def label(self) -> str:
        """Such as w2a4, with 32 for real numbers."""
        return f"w{self.weights or 32}a{self.activations or 32}"


def record(node: ir.Node, layer: Layer) -> None:
    """Write on a node what is known of the layer; a reason goes before what earlier passes noted."""
    node.metadata_props[WIDTHS] = layer.label
    noted = node.metadata_props.get(REASON, "")
    if layer.reason not in noted:
        node.metadata_props[REASON] = "; ".join(filter(None, (layer.reason, noted)))


def recorded(node: ir.Node) -> Layer | None:
    """What was recorded on a node, or on the one that it replaces; None if it is no layer."""
    found = _WIDTHS.fullmatch(node.metadata_props.get(WIDTHS, ""))
    if found is None:
        return None
    weights, activations = (None if bits == "32" else int(bits) for bits in found.groups())
    return Layer(weights, activations, node.metadata_props.get(REASON, ""))


def feeds_integer_layer(value: ir.Value) -> bool:
    """Whether a layer on integers reads the value, or what only moves its elements."""
    for reader in consumers_of(value):
        if has(reader, LAYER):
            if reader.domain == DOMAIN:
                return True
        elif moves_elements(reader) and feeds_integer_layer(reader.outputs[0]):
            return True
    return False
