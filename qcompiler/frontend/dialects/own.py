"""The ops of the `qcompiler` domain, as they are in graphs that the compiler saved."""

from __future__ import annotations

import onnx

from qcompiler.errors import InvalidModel
from qcompiler.frontend import attributes
from qcompiler.frontend.dialects.dialect import Dialect, Op
from qcompiler.frontend.emitter import Emitter
from qcompiler.frontend.structure import label
from qcompiler.ir.ops import DOMAIN, function, names
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


DIALECT = Dialect(
    "qcompiler",
    (DOMAIN,),
    {name: Op(_quantize if name == "Quantize" else _place, inputs=(len(function(name).input),)) for name in names()},
)
