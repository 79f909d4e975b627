"""Whole networks on a device that is no processor, by the ordinary lowering and verification, step by step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

from qcompiler import passes
from qcompiler.bundle.write import write
from qcompiler.errors import InternalError, QCompilerError, UnsupportedModel, VerificationFailed
from qcompiler.frontend import canonicalize
from qcompiler.ir.program import Copy, LaunchGrid, Program
from qcompiler.ir.samples import samples
from qcompiler.lowering.module import lower
from qcompiler.passes.runner import run_passes
from qcompiler.reference import Reference
from qcompiler.targets import x86
from qcompiler.verify import Budget, Verification, verify_on_samples
from tests.networks import binary_cnn, float_mlp, lenet
from tests.targets import toy
from tests.targets.toy.device import Device
from tests.targets.toy.kernels import PixelKernel

STANDARD = """<ir_version: 10, opset_import: ["" : 18]>
g (float[1,4,6,6] x, int64[3] wanted) => (float[1,4,6,6] y, float[1,4,6,6] same, float[3,4,6,6] picked, float[1,4] z)
<float[4,4,3,3] w = {WEIGHTS}, float[4,1,1] slope = {0.1, -0.2, 0.3, 0.4}> {
    a = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, w)
    b = PRelu (a, slope)
    y = Add (b, x)
    same = Identity (y)
    s = Softmax <axis = 1> (y)
    stacked = Concat <axis = 0> (s, y, a, x)
    picked = Gather <axis = 0> (stacked, wanted)
    m = GlobalAveragePool (s)
    z = Flatten (m)
}"""


def standard(path: Path) -> Path:
    """Operators without a kernel, an input of indices, values read several times and an output that is another one."""
    weights = np.random.default_rng(3).standard_normal(144).round(3).tolist()
    onnx.save(onnx.parser.parse_model(STANDARD.replace("WEIGHTS", str(weights)[1:-1])), path)
    return path


CODES = """<ir_version: 10, opset_import: ["" : 18]>
g (float[2,3,8,8] x) => (float[2,6,4,4] y)
<float[40,3,3,3] w = {FLOATS}, float[6,40,3,3] v = {TERNARY}, float low = {0}, float high = {3}> {
    a = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, w)
    r = Round (a)
    c = Clip (r, low, high)
    p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (c)
    y = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (p, v)
}"""


def codes(path: Path) -> Path:
    """Ternary weights on a pool of codes of two bits, whose padding no halo holds."""
    random = np.random.default_rng(4)
    floats, ternary = random.standard_normal(1080).round(3).tolist(), random.integers(-1, 2, 2160).tolist()
    text = CODES.replace("FLOATS", str(floats)[1:-1]).replace("TERNARY", str(ternary)[1:-1])
    onnx.save(onnx.parser.parse_model(text), path)
    return path


class Compiled:
    def __init__(self, path: Path) -> None:
        self.path, self.graph = path, canonicalize(path, {})
        self.source = self.graph.clone()
        run_passes(self.graph, passes.DEFAULT)
        self.program = lower(self.graph, "toy", toy.TARGET.variants(()), "net")

    def verified(self, program: Program, **options: bool) -> Verification:
        devices = [Device(program, **options)]
        reference, made = Reference(self.path, self.source), samples(self.graph, 0)
        (result,) = verify_on_samples(devices, program, self.graph, reference, made, Budget(0.0, 3))
        return result


NETWORKS = {"binary": binary_cnn, "lenet": lenet, "mlp": float_mlp, "standard": standard, "codes": codes}


@pytest.fixture(scope="module")
def compiled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    return Compiled(NETWORKS[request.param](tmp_path_factory.mktemp("toy") / f"{request.param}.onnx"))


@pytest.mark.parametrize("compiled", list(NETWORKS), indirect=True)
def test_every_step_gives_what_the_reference_gives(compiled: Compiled) -> None:
    assert compiled.verified(compiled.program).samples == 3


@pytest.mark.parametrize("compiled", list(NETWORKS), indirect=True)
def test_only_copies_touch_memory_of_the_host(compiled: Compiled) -> None:
    (variant,) = compiled.program.variants
    copied = []
    for call in variant.calls:
        kinds = [argument.kind for argument in call.arguments]
        if isinstance(call.launch, Copy):
            assert sorted(kinds) in (["input", "workspace"], ["output", "workspace"])
            copied += [argument for argument in call.arguments if argument.kind != "workspace"]
        else:
            assert isinstance(call.launch, LaunchGrid) and set(kinds) <= {"workspace", "constant", "fault"}
    assert len(copied) == len(set(copied)) == len(compiled.program.inputs) + len(compiled.program.outputs)


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    return Compiled(binary_cnn(tmp_path_factory.mktemp("toy") / "cnn.onnx"))


def test_layers_read_codes_in_planes_and_the_float_layer_channels_last(binary: Compiled) -> None:
    steps = {step.op: step for step in binary.program.steps}
    (variant,) = binary.program.variants
    assert [step.op for step in binary.program.steps][:2] == ["transfer", "layout"], "the first layer reads no planes"
    assert (steps["IntegerConv"].a_bits, steps["IntegerConv"].w_bits) == (1, 1)
    assert {call.kernel for call in variant.calls} == {"transfer", "toy_map2d", "toy_conv2d", "toy_pool2d"}


def test_a_device_computes_layers_and_pools_of_codes(tmp_path: Path) -> None:
    steps = {step.op: (step.w_bits, step.a_bits) for step in Compiled(codes(tmp_path / "codes.onnx")).program.steps}
    assert steps["IntegerConv"] == (2, 2) and "IntegerMaxPool" in steps


def test_results_need_the_barrier_between_phases(binary: Compiled) -> None:
    with pytest.raises(VerificationFailed, match="step"):
        binary.verified(binary.program, barriers=False)


@pytest.mark.parametrize("which", [0, -1], ids=["to the device", "back to the host"])
def test_a_copy_that_is_left_out_is_found(binary: Compiled, which: int) -> None:
    (variant,) = binary.program.variants
    calls = list(variant.calls)
    calls[which] = replace(calls[which], launch=Copy(0))
    program = replace(binary.program, variants=(replace(variant, calls=tuple(calls)),))
    with pytest.raises(VerificationFailed):
        binary.verified(program)


def test_a_kernel_that_reads_another_storage_is_an_internal_error(
    binary: Compiled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PixelKernel, "reads", property(lambda kernel: kernel.writes))
    with pytest.raises(InternalError, match="node '.+': internal error: kernel toy_map2d reads .*, it is given"):
        lower(binary.graph, "toy", toy.TARGET.variants(()), "net")


def test_problems_without_a_kernel_are_refused(binary: Compiled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy.ToyVariant, "kernels", lambda self, problem: [])
    with pytest.raises(UnsupportedModel, match="node '.+': no toy1 kernel for layout Map2d"):
        lower(binary.graph, "toy", toy.TARGET.variants(()), "net")


def test_variants_of_a_bundle_share_a_platform(binary: Compiled) -> None:
    variants = (*toy.TARGET.variants(()), *x86.TARGET.variants(("baseline",)))
    with pytest.raises(InternalError, match="run on different platforms"):
        lower(binary.graph, "toy", variants, "net")


def test_there_is_no_bundle_of_device_code_yet(binary: Compiled, tmp_path: Path) -> None:
    with pytest.raises(QCompilerError, match="variant toy1 is toy code for a device, which no library launches yet"):
        write(binary.program, tmp_path / "out")


def test_indices_out_of_range_are_faults_of_the_launch(tmp_path: Path) -> None:
    made = Compiled(standard(tmp_path / "standard.onnx"))
    inputs = {"x": np.ones((1, 4, 6, 6), np.float32), "wanted": np.array([0, 4, 1])}
    with pytest.raises(IndexError, match="INDEX"):
        Device(made.program).run(inputs)
