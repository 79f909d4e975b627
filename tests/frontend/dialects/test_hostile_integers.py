"""Ops on integers with operands of any number, type and shape: refused with the node's name, or read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qcompiler.errors import InvalidModel, UnsupportedModel
from qcompiler.frontend import load
from qcompiler.frontend.dialects import microsoft, qoperator
from tests.frontend.dialects.integer_files import one_node
from tests.frontend.files import write

OPS = [("com.microsoft", op) for op in microsoft.DIALECT.ops] + [("", op) for op in qoperator.DIALECT.ops]
KINDS = st.sampled_from([np.uint8, np.int8, np.int32, np.float32, np.int64, np.bool_, np.float64, np.uint16])
SHAPES = st.sampled_from(
    [(), (1,), (2,), (4,), (2, 4), (4, 4), (1, 4), (1, 2, 4), (1, 2, 4, 4), (2, 2, 3, 3), (2, 1, 16)]
)
NUMBERS = st.sampled_from([-1, 0, 1, 2, 4, 16, 32])
SETTINGS: dict[str, Any] = {
    name: NUMBERS for name in ("K", "N", "bits", "block_size", "axis", "transA", "group", "channels_last", "opset")
}
SETTINGS |= {name: st.sampled_from([0.5, float("nan"), float("inf"), 0.0]) for name in ("alpha", "activation_alpha")}
SETTINGS |= {
    name: st.lists(NUMBERS, max_size=4)
    for name in ("kernel_shape", "pads", "strides", "dilations", "activation_params")
}
SETTINGS["activation"] = st.sampled_from(["Relu", "Clip", "Swish"])
SETTINGS["auto_pad"] = st.sampled_from(["SAME_UPPER", "VALID", "NOTSET", "ANY"])


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_nothing_foreign_is_raised(tmp_path: Path, data: st.DataObject) -> None:
    domain, op = data.draw(st.sampled_from(OPS))
    kinds = next(each.ops[op] for each in (microsoft.DIALECT, qoperator.DIALECT) if op in each.ops)
    count = data.draw(st.sampled_from([number for number in kinds.inputs if number < 12]))
    operands: list[tuple[str, Any] | None] = []
    for index in range(count):
        kind, shape = data.draw(KINDS), data.draw(SHAPES)
        absent = index > 0 and data.draw(st.integers(0, 9)) == 0
        operands.append(None if absent else (f"i{index}", np.full(shape, data.draw(st.integers(0, 3))).astype(kind)))
    if data.draw(st.booleans()):
        # as far as types go, in order
        usual = [np.uint8, np.float32, np.uint8, np.uint8, np.float32, np.uint8, np.float32, np.uint8, np.int32]
        operands = [
            None if each is None else (each[0], each[1].astype(usual[i % 9])) for i, each in enumerate(operands)
        ]
    chosen = data.draw(st.lists(st.sampled_from(sorted(SETTINGS)), max_size=4, unique=True))
    attributes = {name: data.draw(SETTINGS[name]) for name in chosen}
    attributes = {name: value for name, value in attributes.items() if value != []}
    proto = one_node(op, operands, ["i0"], domain, **attributes)
    try:
        load(write(tmp_path, proto))
    except (InvalidModel, UnsupportedModel) as error:
        assert error.node.split("/")[0] == "node" or "depends on no input" in error.message
