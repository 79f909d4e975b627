"""The ops of the `qcompiler` domain, as they are in graphs that the compiler saved."""

from __future__ import annotations

import onnx

from qcompiler.frontend.dialects.dialect import Dialect, Op
from qcompiler.frontend.emit import Emitter
from qcompiler.ir.ops import DOMAIN, function, names


def _place(emitter: Emitter, node: onnx.NodeProto) -> None:
    emitter.place(node)


DIALECT = Dialect("qcompiler", (DOMAIN,), {name: Op(_place, (len(function(name).input),)) for name in names()})
