"""The ops of the `qcompiler` domain, as they are in graphs that the compiler saved."""

from __future__ import annotations

import onnx

from qcompiler.errors import InvalidModel
from qcompiler.frontend import attributes
from qcompiler.frontend.dialects.dialect import Dialect, Op
from qcompiler.frontend.emitter import Emitter
from qcompiler.frontend.structure import label
from qcompiler.ir.ops import ACCUMULATORS, DOMAIN, INTEGER_LAYERS, function, names
from qcompiler.ir.quantizing import ORDERS, ROUNDINGS, SHIFT_ROUND


def _place(emitter: Emitter, node: onnx.NodeProto) -> None:
    emitter.place(node)


def _quantize(emitter: Emitter, node: onnx.NodeProto) -> None:
    low, high = (attributes.real(node, name, float("nan")) for name in ("low", "high"))
    if not low <= high or low != round(low) or high != round(high):
        raise InvalidModel(
            f"Quantize to codes from {low} to {high}, expected two integers",
            node=label(node),
            remedy="state low and high",
        )
    for name, usual, known in (("rounding", "ROUND", tuple(ROUNDINGS)), ("order", SHIFT_ROUND, ORDERS)):
        found = attributes.text(node, name, usual)
        if found not in known:
            raise InvalidModel(
                f"Quantize has the {name} '{found}'", node=label(node), remedy=f"use one of {', '.join(known)}"
            )
    emitter.place(node)


def _layer(emitter: Emitter, node: onnx.NodeProto) -> None:
    accumulator, low = attributes.text(node, "accumulator", "float32"), attributes.real(node, "low", 0.0)
    if accumulator not in ACCUMULATORS or not (-255 <= low <= 0 and low == round(low)):
        raise InvalidModel(
            f"{node.op_type} has the accumulator '{accumulator}' of codes from {low} on, expected one of"
            f" {', '.join(ACCUMULATORS)} and an integer from -255 to 0",
            node=label(node),
            remedy="save the graph again",
        )
    emitter.place(node)


_LOWERED = {"Quantize": _quantize, **dict.fromkeys(INTEGER_LAYERS, _layer)}
DIALECT = Dialect(
    "qcompiler",
    (DOMAIN,),
    {name: Op(_LOWERED.get(name, _place), inputs=(len(function(name).input),)) for name in names()},
)
