"""Files nobody vouches for: every one ends in a QCompilerError that says what is wrong, never in anything else."""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from qcompiler.errors import InvalidModel, QCompilerError, UnsupportedModel, UsageError
from qcompiler.frontend import canonicalize, load
from qcompiler.frontend.read import MAX_IR, MAX_OPSET
from qcompiler.ir import oracle
from qcompiler.passes.fold_constants import FoldConstants
from tests.frontend.files import graph_text, save, write


def model(body: str = "y = Relu (x)", **changes: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(graph_text(body, **changes))


def refused(path: Path, error: type[QCompilerError], words: str = ".", **shapes: tuple[int, ...]) -> QCompilerError:
    with pytest.raises(error, match=words) as caught:
        load(path, shapes)
    assert caught.value.remedy
    return caught.value


# --- the file -----------------------------------------------------------------------------------------------------


def test_missing_file(tmp_path: Path) -> None:
    refused(tmp_path / "no.onnx", UsageError, "there is no file")
    refused(tmp_path / "a\0b", UsageError, "cannot be read")


def test_directory_and_device(tmp_path: Path) -> None:
    refused(tmp_path, InvalidModel, "is a directory")
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", InvalidModel, "not a regular file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_unreadable_file(tmp_path: Path) -> None:
    path = write(tmp_path, model())
    path.chmod(0)
    refused(path, UsageError, "cannot be read")


@pytest.mark.parametrize(
    "content",
    [b"", b"hello, this is a text file\n", b"\x00" * 64, b"\x89PNG\r\n\x1a\n" + b"\1" * 40, bytes(range(256))],
)
def test_no_onnx_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    assert "model.onnx" in str(refused(path, InvalidModel))


def test_every_truncation(tmp_path: Path) -> None:
    whole = model(
        "c = Constant <value_floats = [1., 2.]> () z = Concat <axis = 0> (x, c) y = Relu (z)", result="float[10] y"
    )
    content = whole.SerializeToString()
    path = tmp_path / "model.onnx"
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(QCompilerError):
            load(path)


def test_file_beyond_two_gigabytes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with path.open("wb") as file:
        file.truncate(2**31)
    refused(path, InvalidModel, "2 GiB")


def nested(depth: int) -> bytes:
    """If inside If: graph.node.attribute.g, `depth` times."""

    def field(number: int, payload: bytes) -> bytes:
        length, size = b"", len(payload)
        while True:
            length += bytes([size & 127 | (128 if size > 127 else 0)])
            size >>= 7
            if not size:
                return bytes([number << 3 | 2]) + length + payload

    graph = b""
    for _ in range(depth):
        graph = field(1, field(4, b"If") + field(5, field(1, b"then_branch") + field(6, graph) + b"\xa0\x01\x05"))
    return b"\x08\x08" + field(7, graph + field(12, field(1, b"y"))) + field(8, b"\x10\x15")


@pytest.mark.parametrize("depth", [3, 25, 32, 33, 100, 3000])
def test_nested_graphs(tmp_path: Path, depth: int) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(nested(depth))
    refused(path, InvalidModel)


def test_names_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(model("zzz = Neg (x) y = Relu (zzz)").SerializeToString().replace(b"zzz", b"\xff\xfe\xfd"))
    with pytest.raises(QCompilerError):
        load(path)


@pytest.mark.parametrize(("field", "low", "high"), [("ir_version", 3, MAX_IR), ("opset", 7, MAX_OPSET)])
def test_versions(tmp_path: Path, field: str, low: int, high: int) -> None:
    def versioned(version: int) -> Path:
        proto = model()
        if field == "opset":
            proto.opset_import[0].version = version
        else:
            proto.ir_version = version
        return write(tmp_path, proto)

    for version in (low, high):
        assert load(versioned(version)).opset_imports[""] == 21
    for version in (low - 1, high + 1, 10**9):
        refused(versioned(version), UnsupportedModel, f"expected {low} to {high}")


# --- the graph ----------------------------------------------------------------------------------------------------


def test_cycle_is_named(tmp_path: Path) -> None:
    proto = model("a = Add (x, c) b = Relu (a) c = Neg (b) y = Relu (x)")
    for node, name in zip(proto.graph.node, "PQRS", strict=True):
        node.name = name
    error = refused(write(tmp_path, proto), InvalidModel, "cycle")
    assert all(name in str(error) for name in "PQR")


def test_undefined_and_duplicate_values(tmp_path: Path) -> None:
    assert refused(save(tmp_path, graph_text("y = Add (x, w)")), InvalidModel, "'w' is defined nowhere").node == "y"
    twice = model("y = Relu (x)")
    twice.graph.node.append(helper.make_node("Neg", ["x"], ["y"], name="again"))
    refused(write(tmp_path, twice), InvalidModel, "'y' is defined by node 'y' and again by node 'again'")
    overwritten = model("x = Relu (x) y = Neg (x)")
    refused(write(tmp_path, overwritten), InvalidModel, "'x' is defined by a graph input and again")
    stored = model("y = Add (x, w)")
    for _ in range(2):
        stored.graph.initializer.append(numpy_helper.from_array(np.ones(8, np.float32), "w"))
    refused(write(tmp_path, stored), InvalidModel, "'w' is defined by an initializer and again")
    absent = model("z = Relu (x)")
    refused(write(tmp_path, absent), InvalidModel, "graph output 'y' is defined nowhere")
    doubled = model()
    doubled.graph.output.append(doubled.graph.output[0])
    refused(write(tmp_path, doubled), InvalidModel, "twice")


def test_output_of_another_type(tmp_path: Path) -> None:
    refused(save(tmp_path, graph_text("y = Relu (x)", result="int64[8] y")), InvalidModel, "declared with type")


@pytest.mark.parametrize(
    ("body", "error", "words"),
    [
        ("y = Frobnicate (x)", UnsupportedModel, "operator Frobnicate is unknown in ONNX opset 21"),
        ("y = com.acme.Frobnicate (x)", UnsupportedModel, "Frobnicate of domain 'com.acme' is unknown"),
        ("y = qcompiler.Frobnicate (x)", UnsupportedModel, "Frobnicate of domain 'qcompiler' is not supported"),
        ("y = Conv (x, x)", InvalidModel, "Conv cannot have"),
        ("y = Relu (x, x)", InvalidModel, "Relu has 2 inputs"),
        ("y = Relu <slope = 2> (x)", InvalidModel, "slope"),
        ("y = Softmax <axis = 7> (x)", InvalidModel, "Softmax"),
        ("y = NonZero (x)", UnsupportedModel, "depends on data"),
        ("y = SequenceConstruct (x)", UnsupportedModel, "is of type seq"),
        ('s = Constant <value_string = "a"> () y = Relu (x)', UnsupportedModel, "value_string"),
        ("y = Cast <to = 8> (x)", UnsupportedModel, "STRING"),
        ("y = Cast <to = 17> (x)", UnsupportedModel, "FLOAT8"),
        ("s = Constant <value_ints = [100000, 100000, 100000]> () y = Expand (x, s)", InvalidModel, "."),
        ("s = Constant <value_ints = [1000, 1000, 1000, 8]> () y = Expand (x, s)", InvalidModel, "4 GiB"),
        ("s = Constant <value_ints = [9223372036854775807, 4]> () y = ConstantOfShape (s)", InvalidModel, "4 GiB"),
        ("s = Constant <value_ints = [3, 3]> () y = Reshape (x, s)", InvalidModel, "another number of elements"),
        ("s = Constant <value_ints = [0]> () y = Expand (x, s)", InvalidModel, "."),
        ("a = Constant <value_ints = [5]> () y = Slice (x, a, a)", UnsupportedModel, "empty result"),
    ],
)
def test_node_that_cannot_be(tmp_path: Path, body: str, error: type[QCompilerError], words: str) -> None:
    refused(save(tmp_path, graph_text(body, result="float[N] y")), error, words)


@pytest.mark.parametrize(
    ("body", "signature", "words"),
    [
        ("y = Conv (x, w)", "float[1, 3, 8, 8] x, float[4, 5, 3, 3] w", "which do not fit"),
        ("y = Conv <group = 2> (x, w)", "float[1, 3, 8, 8] x, float[4, 3, 3, 3] w", "which do not fit"),
        ("y = Conv <kernel_shape = [5, 5]> (x, w)", "float[1, 3, 8, 8] x, float[4, 3, 3, 3] w", "kernel_shape"),
        ("y = Conv (x, w, b)", "float[1, 3, 8, 8] x, float[4, 3, 3, 3] w, float[7] b", "a bias of shape"),
        ("y = Conv (x, w)", "float[1, 3, 2, 2] x, float[4, 3, 3, 3] w", "empty result"),
        ("y = MaxPool <kernel_shape = [3, 3]> (x)", "float[1, 3, 2, 2] x", "does not fit into its padded image"),
        ("y = PRelu (x, w)", "float[2, 3] x, float[4] w", "a slope of shape"),
        ("y = MatMul (x, w)", "float[2, 3] x, float[4, 5] w", "MatMul cannot have"),
    ],
)
def test_operands_that_do_not_fit(tmp_path: Path, body: str, signature: str, words: str) -> None:
    refused(save(tmp_path, graph_text(body, signature, "float[N] y")), InvalidModel, words)


def test_too_many_nodes(tmp_path: Path) -> None:
    proto = model()
    proto.graph.node.extend(helper.make_node("Relu", ["x"], [f"v{i}"]) for i in range(50_001))
    refused(write(tmp_path, proto), InvalidModel, "nodes, expected at most")


def test_long_chain_is_no_recursion(tmp_path: Path) -> None:
    proto = model("y = Relu (v4999)")
    proto.graph.node.extend(
        helper.make_node("Neg", [f"v{i - 1}" if i else "x"], [f"v{i}"]) for i in reversed(range(5000))
    )
    assert len(list(canonicalize(write(tmp_path, proto)).graph)) == 5001


# --- functions and control flow -----------------------------------------------------------------------------------


def functions(text: str, body: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 18, "f": 1]>\ng (float[4] x) => (float[4] y) {{ {body} }}\n{text}'
    )


def test_functions_are_expanded(tmp_path: Path) -> None:
    text = """
    <domain: "f", opset_import: ["": 11]>
    Clamped <limit, low: float = -1.0> (v, unused) => (r, k) {
        k = Neg (v)
        m = Clip (v)
        a = LeakyRelu <alpha: float = @limit> (m)
        r = Elu <alpha: float = @low> (a)
    }"""
    body = "y, z = f.Clamped <limit = 0.5> (x)"
    model = load(write(tmp_path, functions(text, body)))
    assert [(node.op_type, node.name) for node in model.graph] == [
        ("Clip", "y/m"),
        ("LeakyRelu", "y/a"),
        ("Elu", "y/r"),
    ]
    assert model.graph.node("y/a").attributes["alpha"].as_float() == 0.5
    assert not model.functions


def test_recursive_and_exploding_functions(tmp_path: Path) -> None:
    loop = '<domain: "f", opset_import: ["": 18, "f": 1]> A (v) => (r) { r = f.B (v) }\n'
    loop += '<domain: "f", opset_import: ["": 18, "f": 1]> B (v) => (r) { r = f.A (v) }'
    refused(write(tmp_path, functions(loop, "y = f.A (x)")), InvalidModel, "calls itself")
    bomb = '<domain: "f", opset_import: ["": 18]> F0 (v) => (r) { r = Neg (v) }\n'
    for i in range(1, 25):
        header = '<domain: "f", opset_import: ["": 18, "f": 1]>'
        bomb += f"{header} F{i} (v) => (r) {{ a = f.F{i - 1} (v) r = f.F{i - 1} (a) }}\n"
    refused(write(tmp_path, functions(bomb, "y = f.F24 (x)")), InvalidModel, "expands to more than")


def conditional(condition: str) -> str:
    return f"""{condition}
    y = If (c) <
        then_branch = then () => (float[8] r) {{ t = Neg (x) r = Relu (t) }},
        else_branch = other () => (float[8] r) {{ r = Frobnicate (x) }}
    >"""


def test_constant_condition_takes_its_branch(tmp_path: Path) -> None:
    text = conditional("s = Shape (x) eight = Constant <value_ints = [8]> () c = Equal (s, eight)")
    found = load(save(tmp_path, graph_text(text)))
    assert [(node.op_type, node.outputs[0].name) for node in found.graph] == [("Neg", "y/t"), ("Relu", "y")]


def test_condition_on_data_is_refused(tmp_path: Path) -> None:
    text = conditional(
        "axis = Constant <value_ints = [0]> () m = ReduceMax <keepdims = 0> (x, axis) "
        "zero = Constant <value_float = 0.0> () c = Greater (m, zero)"
    )
    assert refused(save(tmp_path, graph_text(text)), UnsupportedModel, "If depends on data").node == "y"


def test_loop_on_data_is_refused(tmp_path: Path) -> None:
    text = """axis = Constant <value_ints = [0]> () m = ReduceMax <keepdims = 0> (x, axis) n = Cast <to = 7> (m)
    c = Constant <value = bool {1}> ()
    y = Loop (n, c, x) <
        body = b (int64 i, bool d, float[8] v) => (bool e, float[8] w) { e = Identity (d) w = Neg (v) }
    >"""
    refused(save(tmp_path, graph_text(text)), UnsupportedModel, "number of iterations of Loop depends on data")


# --- inputs and their shapes --------------------------------------------------------------------------------------


def dynamic() -> str:
    return graph_text(
        "y = Relu (x) z = Neg (t)", "float[N, 3, H, 8] x, float[B, 4] t", "float[N, 3, H, 8] y, float[B, 4] z"
    )


def test_dynamic_dimensions_ask_for_the_option(tmp_path: Path) -> None:
    path = save(tmp_path, dynamic())
    error = refused(path, UsageError, r"dynamic dimensions in input 'x' \[N, 3, H, 8\]")
    assert error.remedy == "fix them, for example with --shape x=1x3x224x8 --shape t=1x4"
    found = load(path, {"x": (2, 3, 5, 8), "t": (1, 4)})
    assert [list(value.shape or ()) for value in found.graph.outputs] == [[2, 3, 5, 8], [1, 4]]


BATCHES = (
    # inputs, outputs, shapes given, what becomes of the inputs; or the end of the error
    ("float[N, 3] x", "float[N, 3] y", {}, [[1, 3]]),
    ("float[N, 3] x, float[N, 3] t", "float[N, 3] y", {"t": (4, 3)}, [[4, 3], [4, 3]]),
    ("float[N, 3] x", "float[M, 3] y", {}, [[1, 3]]),
    ("float[N, 3] x, float[B, 3] t", "float[N, 3] y", {}, "with --shape x=1x3 --shape t=1x3"),
    ("float[N, N] x", "float[N, N] y", {}, "with --shape x=1x16"),
    ("float[N, 3] x, float[3] t", "float[N, 3] y", {}, "with --shape x=1x3"),
    ("float[N, H] x", "float[N, H] y", {}, "with --shape x=1x16"),
    ("float[N, 3] x", "float[1, 3] y", {}, "with --shape x=1x3"),
    ("float[3, N] x", "float[3, N] y", {}, "with --shape x=3x16"),
)


@pytest.mark.parametrize(("inputs", "output", "shapes", "expected"), BATCHES)
def test_a_batch_of_open_size(tmp_path: Path, inputs: str, output: str, shapes: Any, expected: Any) -> None:
    """The first axis of all inputs and outputs, and of the same symbol, is 1 where nobody gives it."""
    path = save(tmp_path, graph_text("y = Add (x, t)" if " t" in inputs else "y = Relu (x)", inputs, output))
    if isinstance(expected, str):
        error = refused(path, UsageError, "dynamic dimensions in input 'x'", **shapes)
        assert error.remedy.endswith(expected)
    else:
        assert [list(value.shape or ()) for value in load(path, shapes).graph.inputs] == expected


def test_dimensions_of_size_zero(tmp_path: Path) -> None:
    path = save(tmp_path, graph_text("y = Relu (x)", "float[0, 32] x", "float[0, 32] y"))
    assert refused(path, UsageError, r"dimensions of size 0 in input 'x' \[0, 32\]").remedy.endswith("--shape x=1x32")


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ({"x": (1, 3, 8), "t": (1, 4)}, "--shape x=1x3x8 does not fit"),
        ({"x": (1, 4, 8, 8), "t": (1, 4)}, "does not fit"),
        ({"x": (1, 3, 8, 8), "nobody": (1,)}, "'nobody', which is no input"),
        ({"x": (1, 3, 8, 8)}, "input 't'"),
        ({"x": (1, 3, 0, 8), "t": (1, 4)}, "empty"),
        ({"x": (1, 3, -2, 8), "t": (1, 4)}, "empty"),
    ],
)
def test_shapes_that_do_not_fit(tmp_path: Path, shapes: dict[str, tuple[int, ...]], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        load(save(tmp_path, dynamic()), shapes)


def test_shape_of_a_fixed_input_may_be_repeated_only(tmp_path: Path) -> None:
    path = save(tmp_path, graph_text("y = Relu (x)"))
    assert load(path, {"x": (8,)})
    refused(path, UsageError, "does not fit", x=(9,))


def test_absurd_shape_from_the_command_line(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match="4 GiB"):
        load(save(tmp_path, dynamic()), {"x": (2**40, 3, 8, 8), "t": (1, 4)})


def test_initializers_among_the_inputs_are_constants(tmp_path: Path) -> None:
    proto = model("y = Add (x, w)", signature="float[8] x, float[8] w")
    proto.graph.initializer.append(numpy_helper.from_array(np.ones(8, np.float32), "w"))
    found = load(write(tmp_path, proto))
    assert [value.name for value in found.graph.inputs] == ["x"]
    refused(write(tmp_path, proto), UsageError, "no input", w=(8,))


def test_inputs_that_are_no_typed_tensors(tmp_path: Path) -> None:
    proto = model()
    proto.graph.input[0].ClearField("type")
    refused(write(tmp_path, proto), InvalidModel, "no typed tensor")
    text = model()
    text.graph.input[0].type.tensor_type.elem_type = TensorProto.STRING
    refused(write(tmp_path, text), UnsupportedModel, "STRING")


TENSOR = helper.make_tensor_type_proto(TensorProto.FLOAT, [8])
OTHER_TYPES = {
    "seq(tensor(float))": helper.make_sequence_type_proto(TENSOR),
    "optional(tensor(float))": helper.make_optional_type_proto(TENSOR),
    "optional(seq(tensor(float)))": helper.make_optional_type_proto(helper.make_sequence_type_proto(TENSOR)),
    "map(int64, tensor(float))": helper.make_map_type_proto(TensorProto.INT64, TENSOR),
    "sparse_tensor(float)": helper.make_sparse_tensor_type_proto(TensorProto.FLOAT, [8]),
}


@pytest.mark.parametrize("spelling", OTHER_TYPES)
@pytest.mark.parametrize("what", ["input", "output"])
def test_values_of_other_types_are_valid_and_not_compiled(tmp_path: Path, spelling: str, what: str) -> None:
    proto = model()
    (value,) = getattr(proto.graph, what)
    value.type.CopyFrom(OTHER_TYPES[spelling])
    message = rf"{what} '{value.name}' is of type {re.escape(spelling)}, expected a tensor"
    refused(write(tmp_path, proto), UnsupportedModel, message)


def test_a_sequence_between_two_nodes(tmp_path: Path) -> None:
    body = "parts = SequenceConstruct (x, x) y = ConcatFromSequence <axis = 0> (parts)"
    message = r"node 'parts': output 'parts' of SequenceConstruct is of type seq\(tensor\(float\)\)"
    refused(save(tmp_path, graph_text(body)), UnsupportedModel, message)


# --- stored tensors -----------------------------------------------------------------------------------------------


def with_weight(**changes: Any) -> onnx.ModelProto:
    proto = model("y = Add (x, w)")
    tensor = numpy_helper.from_array(np.arange(8, dtype=np.float32), "w")
    for name, value in changes.items():
        if name == "dims":
            del tensor.dims[:]
            tensor.dims.extend(value)
        else:
            setattr(tensor, name, value)
    proto.graph.initializer.append(tensor)
    return proto


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"raw_data": b"1234"}, InvalidModel, "has 4 bytes, expected 32"),
        ({"raw_data": b""}, InvalidModel, "has 0 bytes"),
        ({"dims": [-8]}, InvalidModel, "sizes >= 0"),
        ({"dims": [2**62, 2**62]}, InvalidModel, "4 GiB"),
        ({"dims": [1] * 40}, InvalidModel, "at most 32"),
        ({"data_type": 99}, UnsupportedModel, "type 99"),
        ({"data_type": 0}, UnsupportedModel, "UNDEFINED"),
        ({"data_type": TensorProto.STRING}, UnsupportedModel, "STRING"),
        ({"data_type": TensorProto.COMPLEX64}, UnsupportedModel, "COMPLEX64"),
        ({"data_type": TensorProto.FLOAT8E4M3FN}, UnsupportedModel, "FLOAT8E4M3FN"),
    ],
)
def test_stored_tensor_that_cannot_be(
    tmp_path: Path, changes: dict[str, Any], error: type[QCompilerError], words: str
) -> None:
    refused(write(tmp_path, with_weight(**changes)), error, words)


def test_sparse_tensors_are_refused(tmp_path: Path) -> None:
    proto = model()
    values = numpy_helper.from_array(np.ones(1, np.float32), "w")
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "i")
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [8]))
    refused(write(tmp_path, proto), UnsupportedModel, "sparse")


# --- external data ------------------------------------------------------------------------------------------------


def external(folder: Path, location: str, **entries: str) -> Path:
    proto = with_weight()
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=value)
    return write(folder, proto)


def test_external_data_next_to_the_model(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "w.bin").write_bytes(b"\0" * 16 + np.arange(8, dtype=np.float32).tobytes())
    found = load(external(tmp_path, "sub/w.bin", offset="16", length="32"))
    x = np.zeros(8, np.float32)
    np.testing.assert_array_equal(oracle.run(found, {"x": x})["y"], np.arange(8, dtype=np.float32))


@pytest.mark.parametrize(
    ("location", "entries", "words"),
    [
        ("../w.bin", {}, "expected a file in the model's folder"),
        ("sub/../../w.bin", {}, "expected a file in the model's folder"),
        ("/etc/passwd", {}, "expected a file in the model's folder"),
        ("", {}, "expected a file in the model's folder"),
        ("link.bin", {}, "expected a file in the model's folder"),
        ("loop.bin", {}, "."),
        ("a\0b", {}, "."),
        ("absent.bin", {}, "No such file"),
        (".", {}, "needs bytes"),
        ("pipe", {}, "needs bytes"),
        ("short.bin", {}, "needs bytes 0 to 32 of 'short.bin', which has 10"),
        ("whole.bin", {"offset": "4"}, "needs bytes 4 to 36"),
        ("whole.bin", {"offset": str(2**62)}, "needs bytes"),
        ("whole.bin", {"offset": "9" * 60}, "expected a number"),
        ("whole.bin", {"offset": "-4"}, "expected a number"),
        ("whole.bin", {"offset": "x"}, "expected a number"),
        ("whole.bin", {"length": "8"}, "has length 8, expected 32"),
        ("whole.bin", {"length": str(2**50)}, "expected 32"),
    ],
)
def test_external_data_out_of_bounds(tmp_path: Path, location: str, entries: dict[str, str], words: str) -> None:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "w.bin").write_bytes(b"\0" * 32)
    (folder / "whole.bin").write_bytes(b"\0" * 32)
    (folder / "short.bin").write_bytes(b"\0" * 10)
    (folder / "link.bin").symlink_to(tmp_path / "w.bin")
    (folder / "loop.bin").symlink_to(folder / "loop.bin")
    os.mkfifo(folder / "pipe")
    refused(external(folder, location, **entries), InvalidModel, words)


def test_external_data_in_function_and_branch(tmp_path: Path) -> None:
    for owner in ("function", "branch"):
        tensor = numpy_helper.from_array(np.zeros(4, np.float32), "w")
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="/etc/passwd")
        constant = helper.make_node("Constant", [], ["w"], value=tensor)
        if owner == "function":
            proto = functions('<domain: "f", opset_import: ["": 18]> A (v) => (r) { r = Neg (v) }', "y = f.A (x)")
            proto.functions[0].node.append(constant)
        else:
            proto = model(conditional("c = Constant <value = bool {1}> ()"))
            proto.graph.node[1].attribute[0].g.node.append(constant)
        refused(write(tmp_path, proto), InvalidModel, "expected a file in the model's folder")


# --- random damage ------------------------------------------------------------------------------------------------


def sample() -> bytes:
    """A small file with every kind of part: functions, branches, old operators, quantizers, constants."""
    proto = onnx.parser.parse_model(
        """<ir_version: 7, opset_import: ["": 11, "f": 1, "onnx.brevitas": 1]>
        g (float[1, 2, 4, 4] x) => (float[1, 5] y) {
            one = Constant <value_float = 1.0> ()
            q = onnx.brevitas.BipolarQuant (x, one)
            c = Conv <pads = [1, 1, 1, 1], kernel_shape = [3, 3]> (q, w)
            d = f.Block (c)
            shape = Shape (d)
            zero = Constant <value_int = 0> ()
            batch = Gather (shape, zero)
            axes = Unsqueeze <axes = [0]> (batch)
            rest = Constant <value_ints = [-1]> ()
            to = Concat <axis = 0> (axes, rest)
            two = Constant <value_int = 2> ()
            flag = Less (zero, two)
            e = If (flag) <
                then_branch = a () => (float r) { r = Relu (d) },
                else_branch = b () => (float r) { r = Neg (d) }
            >
            flat = Reshape (e, to)
            m = MatMul (flat, v)
            y = Softmax (m)
        }
        <domain: "f", opset_import: ["": 11]>
        Block <slope: float = 0.1> (u) => (r) { r = LeakyRelu <alpha: float = @slope> (u) }"""
    )
    generator = np.random.default_rng(0)
    for name, shape in {"w": (3, 2, 3, 3), "v": (48, 5)}.items():
        proto.graph.initializer.append(numpy_helper.from_array(generator.standard_normal(shape, np.float32), name))
    return proto.SerializeToString()


SAMPLE = sample()


def survives(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        canonicalize(path)
    except QCompilerError as error:
        assert "\n" not in str(error)


def test_the_sample_itself_loads(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(SAMPLE)
    assert [node.op_type for node in canonicalize(path).graph] == [
        "Binarize", "Conv", "LeakyRelu", "Relu", "Reshape", "MatMul", "Softmax",
    ]  # fmt: skip


STRUCTURE = [i for i in range(len(SAMPLE)) if i < SAMPLE.index(b"Block") + 600 or i > len(SAMPLE) - 400]


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flips=st.lists(st.tuples(st.sampled_from(STRUCTURE), st.integers(0, 255)), min_size=1, max_size=4))
def test_random_byte_flips(tmp_path: Path, flips: list[tuple[int, int]]) -> None:
    content = bytearray(SAMPLE)
    for position, value in flips:
        content[position] = value
    survives(tmp_path / "model.onnx", bytes(content))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.integers(0, len(SAMPLE)), length=st.integers(1, 64), filler=st.binary(max_size=32))
def test_random_splices(tmp_path: Path, start: int, length: int, filler: bytes) -> None:
    survives(tmp_path / "model.onnx", SAMPLE[:start] + filler + SAMPLE[start + length :])


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200))
def test_random_bytes(tmp_path: Path, content: bytes) -> None:
    survives(tmp_path / "model.onnx", content)


def test_huge_varint_length(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\x3a" + b"\xff" * 9 + b"\x01" + struct.pack("<Q", 1))
    refused(path, InvalidModel, "not an ONNX file")


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "double"])
def test_other_floats_with_too_little_data(tmp_path: Path, kind: str) -> None:
    number = TensorProto.DataType.Value(kind.upper())
    tensor = TensorProto(name="h", data_type=number, dims=[8], raw_data=b"12345")
    stored = model("y = Add (x, h)", signature=f"{kind}[8] x", result=f"{kind}[8] y")
    stored.graph.initializer.append(tensor)
    refused(write(tmp_path, stored), InvalidModel, r"constant 'h' of shape \[8\] has 5 bytes, expected")
    inside = model("c = Constant () y = Add (x, c)", signature=f"{kind}[8] x", result=f"{kind}[8] y")
    inside.graph.node[0].attribute.append(helper.make_attribute("value", tensor))
    refused(write(tmp_path, inside), InvalidModel, r"has 5 bytes, expected")


def test_outputs_that_are_constants(tmp_path: Path) -> None:
    constant = "c = Constant <value_floats = [1., 2.]> () z = Neg (c)"
    for body, signature in ((f"y = Relu (x) {constant}", "float[8] x"), (f"y = Neg (c) {constant}", "")):
        text = graph_text(body, signature, "float[2] z, float[N] y")
        refused(save(tmp_path, text), UnsupportedModel, "output 'z' is a constant")


# --- constants that make no sense ---------------------------------------------------------------------------------

NAN, INFINITY = float("nan"), float("inf")
BAD_NUMBERS = (NAN, INFINITY, -INFINITY)
BAD_SCALES = (*BAD_NUMBERS, -0.5, 0.0)
QONNX = "qonnx.custom_op.general"


def quantized(op: str, domain: str, bad: float, position: int, shape: tuple[int, ...], **given: Any) -> onnx.ModelProto:
    """One quantizer of x [1, 3, 4, 4] with the sensible parameters `given`, but for `bad` in one of them."""
    parameters = {name: np.full(shape, value, np.float32) for name, value in given.items()}
    name = list(parameters)[position]
    parameters[name].reshape(-1)[-1] = bad
    if "bits" in parameters:
        parameters["bits"] = np.asarray(4, np.float32)
    node = helper.make_node(op, ["x", *parameters], ["y"], name="culprit", domain=domain)
    return around([node], {**parameters})


def around(nodes: list[onnx.NodeProto], constants: dict[str, Any], shape: tuple[int, ...] = (1, 3, 4, 4)) -> Any:
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    outputs = [helper.make_empty_tensor_value_info("y")]
    stored = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, stored)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(QONNX, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def layer(op: str, operands: dict[str, tuple[int, ...]], place: str, index: int, bad: float, **attributes: Any) -> Any:
    """One node with operands of ones but for `bad` in one place; run-time operands have no shape."""
    constants = {name: np.ones(shape, np.float32) for name, shape in operands.items()}
    flat = constants[place].reshape(-1)
    flat[index % flat.size] = bad
    node = helper.make_node(op, ["x", *constants], ["y"], name="culprit", **attributes)
    return node, constants


NORM = {"scale": (3,), "bias": (3,), "mean": (3,), "var": (3,)}
LAYERS = {
    "Conv": ({"w": (2, 3, 3, 3), "b": (2,)}, (1, 3, 4, 4), {}),
    "ConvTranspose": ({"w": (3, 2, 3, 3), "b": (2,)}, (1, 3, 4, 4), {}),
    "Gemm": ({"w": (4, 3), "c": (3,)}, (1, 4), {}),
    "MatMul": ({"w": (4, 3)}, (1, 4), {}),
    "BatchNormalization": (NORM, (1, 3, 4, 4), {}),
    "InstanceNormalization": ({"scale": (3,), "bias": (3,)}, (1, 3, 4, 4), {}),
    "LayerNormalization": ({"scale": (4,), "bias": (4,)}, (1, 3, 4, 4), {}),
}


def refuses_the_culprit(folder: Path, proto: onnx.ModelProto) -> InvalidModel:
    """Both for constants in the file and for those that the file computes from constants."""
    error = refused(write(folder, proto), InvalidModel)
    assert error.node == "culprit" and error.exit_code == 4
    computed = onnx.ModelProto()
    computed.CopyFrom(proto)
    for tensor in computed.graph.initializer:
        plain, tensor.name = tensor.name, f"{tensor.name}_stored"
        computed.graph.node.insert(0, helper.make_node("Identity", [tensor.name], [plain]))
    with pytest.raises(InvalidModel) as caught:
        FoldConstants()(canonicalize(write(folder, computed)))
    assert caught.value.node == "culprit"
    return error


SLOW_CHECK = [HealthCheck.function_scoped_fixture]


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=SLOW_CHECK)
@given(
    case=st.sampled_from([(op, place) for op, (operands, *_) in LAYERS.items() for place in operands]),
    bad=st.sampled_from(BAD_NUMBERS),
    index=st.integers(0, 1000),
)
def test_layers_with_parameters_that_are_no_numbers(tmp_path: Path, case: Any, bad: float, index: int) -> None:
    op, place = case
    operands, shape, attributes = LAYERS[op]
    if place in ("b", "c") and not np.isnan(bad):
        return  # a bias of minus infinity switches a class off
    node, constants = layer(op, operands, place, index, bad, **attributes)
    refuses_the_culprit(tmp_path, around([node], constants, shape))


@pytest.mark.parametrize(("variance", "epsilon"), [(-0.1, 1e-5), (-1e-6, 1e-5), (0.0, 0.0), (0.5, -0.5), (0.25, NAN)])
def test_variances_that_have_no_root(tmp_path: Path, variance: float, epsilon: float) -> None:
    node, constants = layer("BatchNormalization", NORM, "var", 1, variance, epsilon=epsilon)
    refuses_the_culprit(tmp_path, around([node], constants))


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=SLOW_CHECK)
@given(
    op=st.sampled_from(["Quant", "IntQuant", "BipolarQuant", "Trunc"]),
    shape=st.sampled_from([(), (1,), (3, 1, 1), (1, 3, 1, 1)]),
    data=st.data(),
)
def test_qonnx_quantizers_with_impossible_parameters(tmp_path: Path, op: str, shape: Any, data: Any) -> None:
    given_ = {"scale": 0.5} if op == "BipolarQuant" else {"scale": 0.5, "zero": 0.0, "bits": 4.0}
    position = data.draw(st.integers(0, min(1, len(given_) - 1)))
    bad = data.draw(st.sampled_from(BAD_SCALES if position == 0 else BAD_NUMBERS))
    proto = quantized(op, QONNX, bad, position, shape, **given_)
    if op == "Trunc":
        proto.graph.node[0].input.append("bits")
    refuses_the_culprit(tmp_path, proto)


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=SLOW_CHECK)
@given(
    op=st.sampled_from(["QuantizeLinear", "DequantizeLinear"]),
    channels=st.sampled_from([0, 1, 3]),
    bad=st.sampled_from(BAD_SCALES),
)
def test_standard_quantizers_with_impossible_scales(tmp_path: Path, op: str, channels: int, bad: float) -> None:
    scale = np.full(channels, 0.5, np.float32) if channels else np.asarray(0.5, np.float32)
    scale.reshape(-1)[-1] = bad
    zero = np.zeros(scale.shape, np.int8)
    names = {"QuantizeLinear": ("culprit", "after"), "DequantizeLinear": ("before", "culprit")}[op]
    constants = {"bad": scale, "good": np.full(scale.shape, 0.5, np.float32), "zero": zero}
    order = ("bad", "good") if op == "QuantizeLinear" else ("good", "bad")
    nodes = [
        helper.make_node("QuantizeLinear", ["x", order[0], "zero"], ["q"], name=names[0]),
        helper.make_node("DequantizeLinear", ["q", order[1], "zero"], ["y"], name=names[1]),
    ]
    refuses_the_culprit(tmp_path, around(nodes, constants))


@pytest.mark.parametrize(
    ("op", "shape"),
    [("Quant", (4, 3, 1, 1)), ("Quant", (2, 1, 1)), ("BipolarQuant", (5,)), ("Quant", (1, 1, 3, 4, 4))],
)
def test_qonnx_scales_of_another_shape(tmp_path: Path, op: str, shape: tuple[int, ...]) -> None:
    given_ = {"scale": 0.5} if op == "BipolarQuant" else {"scale": 0.5, "zero": 0.0, "bits": 4.0}
    assert "shape" in str(refused(write(tmp_path, quantized(op, QONNX, 0.5, 0, shape, **given_)), InvalidModel))


@pytest.mark.parametrize("size", [2, 4, 16])
def test_standard_scales_of_another_shape(tmp_path: Path, size: int) -> None:
    constants = {"scale": np.full(size, 0.5, np.float32), "zero": np.zeros(size, np.int8)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], name="culprit"),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"], name="after"),
    ]
    assert refused(write(tmp_path, around(nodes, constants)), InvalidModel).node == "culprit"


@pytest.mark.parametrize(
    ("body", "constants"),
    [
        ("m = Add (x, mask) y = Softmax (m)", {"mask": np.asarray([0, -INFINITY] * 4, np.float32)}),
        ("y = Clip (x, low)", {"low": np.asarray(-INFINITY, np.float32)}),
        ("y = Max (x, low)", {"low": np.asarray(-INFINITY, np.float32)}),
    ],
)
def test_infinities_with_a_meaning_are_none_of_our_business(tmp_path: Path, body: str, constants: Any) -> None:
    proto = model(body)
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    found = load(write(tmp_path, proto))
    FoldConstants()(found)
    x = np.linspace(-3, 3, 8, dtype=np.float32)
    np.testing.assert_array_equal(oracle.run(found, {"x": x})["y"], oracle.run(proto, {"x": x})["y"])


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


@pytest.mark.parametrize(
    ("op", "operands", "shape"),
    [
        ("Gemm", [ones(4, 3), ones(2)], (2, 4)),
        ("Gemm", [ones(4, 3), ones(5, 3)], (2, 4)),
        ("Gemm", [ones(4, 3), ones(1, 2, 3)], (2, 4)),
        ("ConvTranspose", [ones(3, 2, 2, 2), ones(3)], (1, 3, 4, 4)),
        ("ConvTranspose", [ones(4, 2, 2, 2)], (1, 3, 4, 4)),
        ("InstanceNormalization", [ones(2), ones(2)], (1, 3, 4, 4)),
        ("LayerNormalization", [ones(5)], (1, 3, 4, 4)),
        ("BatchNormalization", [ones(3), ones(3), ones(3), ones(4)], (1, 3, 4, 4)),
        ("Clip", [ones(2)], (2, 4)),
        ("Pad", [np.asarray([0, 1, 0, 1]), ones(2)], (2, 4)),
    ],
)
def test_parameters_of_another_shape(tmp_path: Path, op: str, operands: list[np.ndarray], shape: Any) -> None:
    constants = {f"c{index}": array for index, array in enumerate(operands)}
    node = helper.make_node(op, ["x", *constants], ["y"], name="culprit")
    assert refused(write(tmp_path, around([node], constants, shape)), InvalidModel).node == "culprit"


@pytest.mark.parametrize("op", ["Div", "Mod"])
@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_division_by_a_stored_zero(tmp_path: Path, op: str, kind: Any) -> None:
    node = helper.make_node(op, ["x", "d"], ["y"], name="culprit", **({"fmod": 1} if op == "Mod" else {}))
    proto = around([node], {"d": np.asarray([1, 0, 2, 3], kind)})
    proto.graph.input[0].type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    assert "divisor" in str(refuses_the_culprit(tmp_path, proto))


@pytest.mark.parametrize(
    "quantizer",
    [
        [helper.make_node("Sign", ["w"], ["q"])],
        [helper.make_node("Neg", ["w"], ["n"]), helper.make_node("Round", ["n"], ["q"])],
        [helper.make_node("BipolarQuant", ["w", "one"], ["q"], name="culprit", domain=QONNX)],
        [helper.make_node("GreaterOrEqual", ["w", "one"], ["c"]), helper.make_node("Cast", ["c"], ["q"], to=1)],
    ],
    ids=["sign", "round", "bipolar", "comparison"],
)
def test_nan_that_a_quantizer_of_weights_would_hide(tmp_path: Path, quantizer: list[onnx.NodeProto]) -> None:
    weights = np.ones((4, 6), np.float32)
    weights[2, 1] = NAN
    last = "culprit" if quantizer[-1].domain == "" else "layer"
    nodes = [*quantizer, helper.make_node("MatMul", ["x", "q"], ["y"], name=last)]
    proto = around(nodes, {"w": weights, "one": np.asarray(1, np.float32)}, (2, 4))
    assert refused(write(tmp_path, proto), InvalidModel).node == "culprit"
