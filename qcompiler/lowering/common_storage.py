"""How the kernels of all variants of a bundle read and write: of the storages on offer, the fastest by estimate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf, log

import onnx_ir as ir

from qcompiler.analysis.weights import weight_codes
from qcompiler.errors import UnsupportedModel
from qcompiler.ir.codes import Codes
from qcompiler.ir.ops import is_wide
from qcompiler.ir.storage import Buffer, Packing
from qcompiler.lowering.forms import Form, of_buffer
from qcompiler.lowering.plan import weights_of
from qcompiler.lowering.problem_builder import layer_problem
from qcompiler.lowering.values import store_op
from qcompiler.targets.choose import chosen
from qcompiler.targets.problem import Conv2d, Map2d, Operation
from qcompiler.targets.target import Variant
from qcompiler.targets.tuned import UNTUNED, Tuned


class CommonStorage:
    """What all variants of a bundle, which share their buffers, can do; see `plan.Storage`.

    What is faster on one variant may be slower on another. The variants come the most demanding first, which is what
    the machines of today run; each next one weighs half as much. tuned: what was measured of layers that store floats.
    """

    def __init__(self, variants: Sequence[Variant], tuned: Tuned = UNTUNED) -> None:
        self._variants = variants
        self._tuned = tuned

    def operand(self, node: ir.Node, floats: Form, codes: Codes | None) -> Form:
        """The form in which a layer reads its main operand: the fastest that every variant reads."""
        options = self._options(node, floats, codes)
        if len(options) > 1:
            options.sort(key=lambda buffer: self._cost(node, buffer))
        return of_buffer(options[0], matrix=floats.matrix)

    def layers(self, node: ir.Node, floats: Form, codes: Codes | None) -> list[Conv2d]:
        """The problems whose times decide in which form a layer reads its main operand; see `operand`."""
        options = self._options(node, floats, codes)
        return [_layer(node, buffer) for buffer in options] if len(options) > 1 else []

    def _options(self, node: ir.Node, floats: Form, codes: Codes | None) -> list[Buffer]:
        """The storages that every variant reads."""
        assert floats.buffer is not None
        layer = _layer(node, floats.buffer)
        layer = replace(layer, weights=weight_codes(weights_of(node)) or layer.weights)
        first, *others = (variant.operands(layer, codes) for variant in self._variants)
        options = [buffer for buffer in first if all(buffer in other for other in others)]
        if is_wide(node):
            options = [buffer for buffer in options if buffer.packed]
        if not options:
            names = ", ".join(variant.name for variant in self._variants)
            reason = f"the variants {names} read the input of {node.op_type} in no storage that all of them read"
            raise UnsupportedModel(reason, node=node.name or "", remedy="compile for one of them with --mcpu")
        return self._on_integers(node, options)

    def _on_integers(self, node: ir.Node, options: list[Buffer]) -> list[Buffer]:
        """No floats for a layer that can go channel by channel over bytes.

        They are a little faster there at some sizes, but four times as much for the layer before to write, and to keep.
        """
        for buffer in options:
            if buffer.packed and _layer(node, buffer).by_channel and self._cost(node, buffer) < inf:
                return [each for each in options if each.packed]
        return options

    def writes(self, kind: str, form: Form) -> bool:
        """Whether kernels of a group's kind write a form themselves, on all variants."""
        assert form.buffer is not None
        return all(variant.writes(kind, form.buffer) for variant in self._variants)

    @property
    def code_packing(self) -> Packing:
        """How codes lie that no layer reads: as all variants have it, else in bit planes."""
        found = {variant.code_packing for variant in self._variants}
        return found.pop() if len(found) == 1 else "planes"

    def _cost(self, node: ir.Node, x: Buffer) -> float:
        """The weighted logarithm of the times on all variants; infinite where one has no kernel."""
        problem = _layer(node, x)
        times = [self._nanoseconds(variant, problem) for variant in self._variants]
        return float(sum(log(time) / 2**place for place, time in enumerate(times)))

    def _nanoseconds(self, variant: Variant, problem: Conv2d) -> float:
        """Of the kernel, and of what brings codes into a storage that none writes but what makes it."""
        choice = chosen(variant, problem, self._tuned)
        if choice is None:
            return inf
        if not problem.x.by_pixels:
            return choice.nanoseconds
        store = Operation(store_op(of_buffer(problem.x, matrix=False)), into=problem.x)
        made = chosen(variant, Map2d(replace(problem.x, packing="planes"), (store,)))
        return inf if made is None else choice.nanoseconds + made.nanoseconds


def _layer(node: ir.Node, x: Buffer) -> Conv2d:
    """The problem of a layer that stores floats."""
    problem = layer_problem(node, x, ())
    out = Buffer(x.n, *problem.out_hw, problem.out_channels, "float32")
    return layer_problem(node, x, (Operation("store", into=out),))
