from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

import qcompiler
from qcompiler import passes, targets
from qcompiler.bundle.load import Bundle, load
from qcompiler.bundle.stepping import Stepper
from qcompiler.bundle.write import write
from qcompiler.errors import UsageError, VerificationFailed
from qcompiler.frontend import canonicalize
from qcompiler.ir import oracle
from qcompiler.ir.program import Program, TensorInfo
from qcompiler.ir.storage import PACKED_LAYOUTS
from qcompiler.lowering.module import lower
from qcompiler.passes.runner import run_passes
from qcompiler.reference import Reference
from qcompiler.ties import BOUND
from qcompiler.verify import Inputs, Verification, samples, verify
from tests.networks import binary_cnn, normal, signs


@pytest.fixture(scope="module")
def lowered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ir.Model, object, Program]:
    path = binary_cnn(tmp_path_factory.mktemp("model") / "cnn.onnx")
    graph = canonicalize(path, {})
    source = graph.clone()
    run_passes(graph, passes.DEFAULT)
    variants = targets.get("x86").variants(("baseline",))
    return path, graph, source, lower(graph, "x86", variants, "cnn")


def check(lowered, program: Program, folder: Path) -> Verification:
    path, graph, source, _ = lowered
    write(program, folder)
    inputs = oracle.random_inputs(graph, 0)
    return verify(load(folder), program, graph, Reference(path, source), inputs)


def test_a_correct_bundle_passes(lowered, tmp_path: Path) -> None:
    result = check(lowered, lowered[3], tmp_path / "out")
    assert result.codes >= 2 * 16 * 64
    assert result.largest <= 1e-6
    assert f"{result.codes} codes" in result.summary()


def test_every_wrong_constant_of_a_binary_layer_is_found(lowered, tmp_path: Path) -> None:
    program = lowered[3]
    step = next(i for i, info in enumerate(program.steps) if info.op == "IntegerConv")
    offsets = [a.position for a in program.variants[0].calls[step].arguments if a.kind == "constant"]
    # weights and limits; what follows are indices, which the bundle's sha256 protects
    for number, offset in enumerate(offsets[:2]):
        wrong = bytearray(program.constants)
        wrong[offset : offset + 64] = bytes(byte ^ 0x55 for byte in wrong[offset : offset + 64])
        with pytest.raises(VerificationFailed, match=f"step {step} .IntegerConv.: .* codes of"):
            check(lowered, replace(program, constants=bytes(wrong)), tmp_path / f"out{number}")


def test_a_wrong_float_layer_is_found(lowered, tmp_path: Path) -> None:
    program = lowered[3]
    offsets = [a.position for a in program.variants[0].calls[-1].arguments if a.kind == "constant"]
    wrong = bytearray(program.constants)
    wrong[offsets[-1] : offsets[-1] + 20] = np.full(5, 7, np.float32).tobytes()
    with pytest.raises(VerificationFailed, match="differs by"):
        check(lowered, replace(program, constants=bytes(wrong)), tmp_path / "out")


ROUNDED = """<ir_version: 10, opset_import: ["" : 18]>
g (float[1,4] x) => (float[1,4] y)
<float[4,4] w = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1}, float scale = {0.25}>
{
    sums = Gemm (x, w)
    rounded = Round (sums)
    y = Mul (rounded, scale)
}"""


def test_a_rounding_may_tip_only_where_rounding_errors_decide(tmp_path: Path) -> None:
    path = tmp_path / "rounded.onnx"
    onnx.save(onnx.parser.parse_model(ROUNDED), path)
    graph = canonicalize(path, {})
    source = graph.clone()
    run_passes(graph, passes.DEFAULT)
    program = lower(graph, "x86", targets.get("x86").variants(("baseline",)), "rounded")
    ones = np.frombuffer(program.constants, np.float32) == 1
    assert ones.sum() == 4
    reference = Reference(path, source)
    figures = {}
    for number, weight in enumerate((1, 1 + 2e-7, 1.2)):
        constants = np.where(ones, np.float32(weight), np.frombuffer(program.constants, np.float32)).tobytes()
        folder = tmp_path / f"out{number}"
        write(replace(program, constants=constants), folder)
        inputs = {"x": np.array([[0.0, 2.5, 7.0, 3.25], [1.0, 2.0, 3.0, 4.0]], np.float32)}
        if weight < 1.1:
            figures[number] = verify(load(folder), program, graph, reference, inputs)
            continue
        with pytest.raises(VerificationFailed, match="value 'y' differs by 0.143 of its largest value"):
            verify(load(folder), program, graph, reference, inputs)
    assert figures[0].ties == 0
    # 2.5 becomes 3 instead of 2; with the tie decided as in the reference, the bound holds
    assert figures[1].ties == 1
    assert figures[1].largest <= BOUND


CODES = """<ir_version: 10, opset_import: ["" : 21]>
g (float[1,8] x) => (float[1,5] y) <float[1] identity = {1}, float scale = {1}, uint8 zero = {7}, float[1] w = {1}> {
    sums = MatMul (x, identity)
    c = QuantizeLinear (sums, scale, zero)
    d = DequantizeLinear (c, scale, zero)
    y = MatMul (d, w)
}"""


class Planted:
    """A bundle of which one code comes out otherwise than it should, `by` so many steps."""

    def __init__(self, bundle: Bundle, position: int, by: int) -> None:
        self._bundle, self._position, self._by = bundle, position, by

    def run(self, inputs: Inputs, threads: int = 1) -> dict[str, Any]:
        return self._bundle.run(inputs, threads)

    def stepper(self, inputs: Inputs) -> Stepper:
        stepper = self._bundle.stepper(inputs)
        run_steps = stepper.run_steps

        def run_and_plant(first: int, last: int) -> None:
            run_steps(first, last)
            for value in self._bundle.steps[first].values:
                if value.layout in PACKED_LAYOUTS:
                    codes = stepper.value(value)
                    codes[0, self._position] += self._by
                    stepper.overwrite(value, codes)

        stepper.run_steps = run_and_plant
        return stepper


@pytest.fixture(scope="module", params=["alike", "far apart"])
def coded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[int, int], Verification]:
    """Verification of a quantizer of sums, with a code planted; the sum at position 2 is half a step.

    far apart: others are so large that what rounding may do to them is many of its steps.
    """
    folder, scale = tmp_path_factory.mktemp("coded"), np.float32(0.25)
    model = onnx.parser.parse_model(CODES)
    weights = np.random.default_rng(0).integers(-3, 4, (8, 5)).astype(np.float32)
    stored = {"identity": np.eye(8, dtype=np.float32), "scale": scale, "w": weights}
    for name, array in stored.items():
        place = [tensor.name for tensor in model.graph.initializer].index(name)
        model.graph.initializer[place].CopyFrom(onnx.numpy_helper.from_array(np.asarray(array), name))
    onnx.save(model, folder / "coded.onnx")
    graph = canonicalize(folder / "coded.onnx", {})
    source = graph.clone()
    run_passes(graph, passes.DEFAULT)
    program = lower(graph, "x86", targets.get("x86").variants(("baseline",)), "coded")
    assert any(value.layout in PACKED_LAYOUTS for step in program.steps for value in step.values)
    write(program, folder / "out")
    reference = Reference(folder / "coded.onnx", source)
    x = np.float32([[1, 2, 10.5, -1, 3.25, 0, 20, 4]]) * scale
    x[0, 7] *= 1e6 if request.param == "far apart" else 1

    def verified(position: int, by: int) -> Verification:
        bundle = Planted(load(folder / "out"), position, by)
        return verify(bundle, program, graph, reference, {"x": x})

    return verified


def test_a_tie_excuses_the_neighbouring_code_alone(coded: Callable[[int, int], Verification]) -> None:
    assert coded(2, 0).ties == 0
    # half to even is 10: the other neighbour is 11
    assert coded(2, 1).ties == 1
    for position, by in ((2, -1), (2, 2), (2, 5), (4, 1), (4, -1), (0, 1), (1, -1)):
        with pytest.raises(VerificationFailed, match="1 of 8 codes of"):
            coded(position, by)


TIED = """<ir_version: 10, opset_import: ["" : 18]>
g (float[1,4] x) => (float[1,4] y) <float scale = {0.25}>
{
    shares = Softmax (x)
    rounded = QuantizeLinear (shares, scale)
    restored = DequantizeLinear (rounded, scale)
    y = Mul (restored, OPERAND)
}"""


def test_ties_excuse_nothing_that_the_front_end_changes(tmp_path: Path) -> None:
    path = tmp_path / "tied.onnx"
    onnx.save(onnx.parser.parse_model(TIED.replace("OPERAND", "restored")), path)
    other = ir.from_proto(onnx.parser.parse_model(TIED.replace("OPERAND", "scale")))
    # 0.125 is half a step of the quantizer
    x = np.log(np.array([[0.125, 0.375, 0.25, 0.25]], np.float32))
    right = Reference(path, canonicalize(path, {}))
    np.testing.assert_array_equal(right.outputs({"x": x})["y"], oracle.run(onnx.load(path), {"x": x})["y"])
    with pytest.raises(VerificationFailed, match="reading the model changed output 'y' by"):
        Reference(path, typed(other)).outputs({"x": x})


def typed(model: ir.Model) -> ir.Model:
    return ir.from_proto(onnx.shape_inference.infer_shapes(ir.to_proto(model)))


def test_samples_are_taken_one_by_one() -> None:
    tensors = (TensorInfo("a", (2, 3), "float32"), TensorInfo("b", (1,), "float32"))
    a, b = np.arange(18.0, dtype=np.float32).reshape(6, 3), np.arange(3.0, dtype=np.float32)
    found = list(samples({"a": a, "b": b}, tensors))
    assert [sample["b"].item() for sample in found] == [0, 1, 2]
    np.testing.assert_array_equal(np.concatenate([sample["a"] for sample in found]), a)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "no array for input 'a'"),
        ({"a": np.zeros((3, 3))}, "expected \\[2, 3\\]"),
        ({"a": np.zeros((2, 4))}, "expected \\[2, 3\\]"),
        ({"a": np.zeros((0, 3))}, "0"),
    ],
)
def test_other_shapes_are_refused(arrays: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        list(samples(arrays, (TensorInfo("a", (2, 3), "float32"),)))


SATURATED = """<ir_version: 10, opset_import: ["" : 18]>
g (float[1,1,16,16] image) => (float[1,10] scores) {
    sums = Conv <kernel_shape = [5, 5]> (image, w0)
    bent = Tanh (sums)
    pooled = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (bent)
    normal = BatchNormalization (pooled, gamma, beta, mean, variance)
    signs = Sign (normal)
    flat = Flatten (signs)
    scores = MatMul (flat, w1)
}"""


def test_sums_that_cancel_between_saturated_ones_are_no_fault(tmp_path: Path) -> None:
    """Of inputs of thousands some sums are about 1, with errors of a thousandth, which tanh shows."""
    random, channels = np.random.default_rng(0), 32
    constants = {
        "w0": normal(random, channels, 1, 5, 5),
        "w1": signs(random, channels * 36, 10),
        **{name: normal(random, channels) for name in ("gamma", "beta", "mean")},
        "variance": np.ones(channels, np.float32),
    }
    model = onnx.parser.parse_model(SATURATED)
    model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in constants.items())
    onnx.save(model, tmp_path / "saturated.onnx")
    inputs = {"image": 3e3 * random.uniform(-1, 1, (8, 1, 16, 16)).astype(np.float32)}
    said: list[str] = []
    qcompiler.compile(
        tmp_path / "saturated.onnx", mcpu=("baseline",), output=tmp_path / "out", inputs=inputs, progress=said.append
    )
    assert "codes of" in said[-1] and "on 8 samples" in said[-1]
