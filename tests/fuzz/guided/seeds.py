"""The files with which the search begins: one of every operator and dialect, and whole small networks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
from hypothesis import Phase

from qcompiler.frontend.dialects import DIALECTS
from tests.fuzz import sweep
from tests.fuzz.net import Network
from tests.onnx_nodes.cases import all_cases

FAULTS = Path(__file__).resolve().parents[4] / "shared" / "faults"
# larger files make every run slow, and what is in them is in small ones too; chosen
MOST_BYTES = 2**13
_BATCHES = 8


def write_seeds(folder: Path, *, networks: bool = True) -> int:
    """Write the files, without random networks if so wanted; returns how many."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = dict.fromkeys(content for content in _contents(networks) if len(content) <= MOST_BYTES)
    for number, content in enumerate(contents):
        (folder / f"seed{number:04}.onnx").write_bytes(content)
    return len(contents)


def _contents(networks: bool) -> Iterator[bytes]:
    yield from (case.model for case in all_cases().values())
    yield from (path.read_bytes() for path in sorted(FAULTS.rglob("*.onnx")))
    yield from _networks() if networks else ()
    yield from map(onnx.ModelProto.SerializeToString, _nodes())


def _networks() -> list[bytes]:
    """Random networks, which hold quantizers, functions and control flow."""
    found: list[bytes] = []

    def one(network: Network) -> None:
        found.append(network.model.SerializeToString())

    for batch in range(_BATCHES):
        sweep.drawn(one, 0, batch, (Phase.generate,))
    return found


def _nodes() -> Iterator[onnx.ModelProto]:
    """A node of every op of every dialect, with stored operands of every type in turn."""
    kinds = (onnx.TensorProto.FLOAT, onnx.TensorProto.UINT8, onnx.TensorProto.INT8, onnx.TensorProto.INT32)
    for dialect in DIALECTS:
        for domain in dialect.domains:
            for name, op in dialect.ops.items():
                for count in [number for number in op.inputs if number < 12]:
                    for kind in kinds:
                        yield _node(domain, name, count, kind)


def _node(domain: str, name: str, count: int, kind: int) -> onnx.ModelProto:
    helper = onnx.helper
    operands = [f"i{index}" for index in range(count)]
    stored = [
        helper.make_tensor(operand, kind if index % 3 == 0 else onnx.TensorProto.FLOAT, [1, 1, 1, 1], [1])
        for index, operand in enumerate(operands)
        if index
    ]
    x = helper.make_tensor_value_info("i0", kind, [1, 1, 1, 1])
    node = helper.make_node(name, operands, ["y"], name="node", domain=domain)
    graph = helper.make_graph([node], "g", [x], [helper.make_empty_tensor_value_info("y")], stored)
    opsets = [helper.make_opsetid("", 21)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)
