"""Bundles for CUDA: made by nvcc, verified step by step on the processor, loaded by Python, refused where they must."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

import qcompiler
from qcompiler.bundle import cuda_link
from qcompiler.bundle.isolated import IsolatedBundle
from qcompiler.bundle.load import checked_manifest, describe
from qcompiler.errors import QCompilerError, UnsupportedCpu, UsageError, VerificationFailed
from tests.end_to_end.test_shared_models import BINARY_LAYERS, MODELS, WIDER, manifest
from tests.frontend.dialects.integer_files import one_node
from tests.frontend.files import write
from tests.networks import binary_cnn, float_mlp, lenet
from tests.targets.cuda.launching import missing, stand_in
from tests.targets.cuda.test_sass import TOOLS, check_assembly
from tests.targets.toy.test_networks import codes, standard

needs_nvcc = pytest.mark.skipif(bool(missing()), reason=missing())

PRODUCT = """<ir_version: 10, opset_import: ["" : 18]>
g (float[5,96] x) => (float[5,40] y)
<float[96,70] w = {W}, float[70,40] v = {V}, float[70] bias = {B}> {
    a = Sign (x)
    b = MatMul (a, w)
    c = Add (b, bias)
    d = Sign (c)
    y = MatMul (d, v)
}"""


def product(path: Path) -> Path:
    """Two binary matrix products, with thresholds between them."""
    random = np.random.default_rng(5)
    arrays = {"W": random.choice([-1, 1], 6720), "V": random.choice([-1, 1], 2800), "B": random.normal(size=70) * 3}
    text = PRODUCT
    for name, array in arrays.items():
        text = text.replace("{" + name + "}", "{" + ", ".join(str(round(float(each), 2)) for each in array) + "}")
    onnx.save(onnx.parser.parse_model(text), path)
    return path


OPERATORS = """<ir_version: 10, opset_import: ["" : 20]>
g (float[1,4,6,6] x, float[6] s, float[6] b, float[1,4,6,4] v) =>
  (float[1,4,6,6] y, float[1,4,6,6] q, float[1,4,6,3] t, float[1,4,9,9] z, float[1,4,6,4] p)
<int64[1] three = {3}, int64 axis = {1}, float[4] scales = {1, 1, 1.5, 1.5}> {
    y = LayerNormalization (x, s, b)
    e = Exp (x)
    q = CumSum (e, axis)
    t, i = TopK (x, three)
    z = Resize <mode = "linear"> (x,, scales)
    a = Sign (x)
    c = Sign (v)
    p = MatMul (a, c)
}"""


def operators(path: Path) -> Path:
    """Operators with variables, with reductions, of several stages, and a product of two run-time matrices."""
    onnx.save(onnx.parser.parse_model(OPERATORS), path)
    return path


MOVES = """<ir_version: 10, opset_import: ["" : 18]>
g (float[1,20,6,33] x, float[1,5,6,33] v) => (float[1,33,6,20] y, float[1,25,6,33] z, float[6,1,20,33] w) {
    y = Transpose <perm = [0, 3, 2, 1]> (x)
    z = Concat <axis = 1> (x, v)
    w = Transpose <perm = [2, 0, 1, 3]> (x)
}"""


def moves(path: Path) -> Path:
    """Floats in other places, which processors move sixteen at a time."""
    onnx.save(onnx.parser.parse_model(MOVES), path)
    return path


NETWORKS: dict[str, Callable[[Path], Path]] = {
    "cnn": binary_cnn,
    "product": product,
    "codes": codes,
    "standard": standard,
    "operators": operators,
    "moves": moves,
    "lenet": lenet,
    "mlp": float_mlp,
}
LARGER = {"lenet", "mlp", "cnn"}
ON_INTEGERS = {"cnn", "product", "codes", "operators", "lenet"}


@needs_nvcc
@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] if n in LARGER else []) for n in NETWORKS])
def test_every_step_is_what_onnxruntime_gives(name: str, tmp_path: Path) -> None:
    said: list[str] = []
    path = NETWORKS[name](tmp_path / f"{name}.onnx")
    bundle = qcompiler.compile(path, "cuda", mcpu=("sm_80",), output=tmp_path / "out", progress=said.append)
    assert any(line.startswith("sm_80 on the processor: verified") for line in said), said
    assert bundle.manifest.target == "cuda" and not bundle.runs_here
    multiplied = [kernel for step in bundle.steps for kernel in step.kernels if step.integers]
    assert all(kernel.startswith(("mma_", "popc_", "dot_")) for kernel in multiplied)
    assert bool(multiplied) == (name in ON_INTEGERS)
    # a thread moves one number, beside those of its neighbours
    assert name != "moves" or "for (" not in (tmp_path / "out" / "moves.sm_80.cu").read_text()


@needs_nvcc
def test_products_of_floats_that_are_rounded_in_blocks(tmp_path: Path) -> None:
    said: list[str] = []
    blocks = np.random.default_rng(4).integers(0, 256, (70, 3, 16)).astype(np.uint8)
    operands = [("a", np.zeros((3, 70), np.float32)), ("b", blocks), ("s", np.full((70, 3), 0.1, np.float32))]
    settings = {"K": 70, "N": 70, "bits": 4, "block_size": 32, "accuracy_level": 4}
    path = write(tmp_path, one_node("MatMulNBits", operands, ["a"], "com.microsoft", **settings))
    bundle = qcompiler.compile(path, "cuda", mcpu=("sm_80",), output=tmp_path / "out", progress=said.append)
    assert any(line.startswith("sm_80 on the processor: verified") for line in said), said
    assert any(kernel.startswith("rounded_product_w4") for step in bundle.steps for kernel in step.kernels)


@needs_nvcc
@pytest.mark.slow
@pytest.mark.skipif(not MODELS.exists(), reason=f"the model collection {MODELS} is not here")
@pytest.mark.parametrize("name", (*BINARY_LAYERS, *WIDER))
def test_real_networks_for_every_architecture(name: str, tmp_path: Path) -> None:
    said: list[str] = []
    path = MODELS / manifest()[name]["file"]
    bundle = qcompiler.compile(path, "cuda", output=tmp_path / "out", progress=said.append)
    verified = [line.split()[0] for line in said if " on the processor: verified" in line]
    assert verified == [variant.name for variant in bundle.variants] and len(verified) == 7


@pytest.mark.skipif(bool(missing(*TOOLS)), reason=missing(*TOOLS))
@pytest.mark.slow
@pytest.mark.skipif(not MODELS.exists(), reason=f"the model collection {MODELS} is not here")
@pytest.mark.parametrize("name", [*BINARY_LAYERS, *WIDER])
def test_the_assembly_of_real_networks(name: str, tmp_path: Path) -> None:
    qcompiler.compile(MODELS / manifest()[name]["file"], "cuda", output=tmp_path / "out", verify=False)
    assert check_assembly(tmp_path / "out") >= 7


@needs_nvcc
def test_indices_outside_of_their_axis_name_the_node(tmp_path: Path) -> None:
    qcompiler.compile(standard(tmp_path / "standard.onnx"), "cuda", mcpu=("sm_80",), output=tmp_path / "out")
    inputs = {"x": np.ones((1, 4, 6, 6), np.float32), "wanted": np.array([0, 4, 1])}
    with (
        IsolatedBundle(tmp_path / "out", checked_manifest(tmp_path / "out"), "c++") as bundle,
        pytest.raises(
            QCompilerError, match="the compiled network failed: Gather .*: an index lies outside of its axis"
        ),
    ):
        bundle.run(inputs)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle for two architectures, the later of which is taken where both run."""
    folder = tmp_path_factory.mktemp("cuda")
    qcompiler.compile(binary_cnn(folder / "cnn.onnx"), "cuda", mcpu=("sm_75", "sm_90a"), output=folder / "out")
    return folder / "out"


@needs_nvcc
def test_a_bundle_holds_library_header_sources_and_example(written: Path) -> None:
    files = {path.name for path in written.iterdir()}
    assert files >= {
        "libcnn.so",
        "cnn.h",
        "cnn.sm_75.cu",
        "cnn.sm_90a.cu",
        "cnn.tables.cpp",
        "example.c",
        "manifest.json",
    }
    by_variant = {each.name: index for index, each in enumerate(checked_manifest(written).variants)}
    assert list(by_variant) == ["sm_90a", "sm_75"]
    kernels = [step.kernels for step in checked_manifest(written).steps if step.w_bits == 1]
    assert any(each[by_variant["sm_90a"]].startswith("mma") for each in kernels)
    assert any(each[by_variant["sm_75"]].startswith(("mma", "popc")) for each in kernels)


@pytest.mark.skipif(bool(missing(*TOOLS)), reason=missing(*TOOLS))
def test_the_assembly_of_a_bundle_is_what_its_kernels_are_called(written: Path, tmp_path: Path) -> None:
    assert check_assembly(written) >= 4
    copy = tmp_path / "copy"
    shutil.copytree(written, copy)
    text = (copy / "manifest.json").read_text()
    assert "mma_bits" in text
    (copy / "manifest.json").write_text(text.replace("mma_bits", "mma_bytes"))
    with pytest.raises(AssertionError, match="mma_bytes"):
        check_assembly(copy)


@needs_nvcc
def test_the_library_needs_no_cuda_to_be_installed(written: Path) -> None:
    needed = subprocess.run(["readelf", "-d", written / "libcnn.so"], capture_output=True, text=True, check=True).stdout
    assert "cudart" not in needed and "libcuda" not in needed and "libtvm" not in needed


@needs_nvcc
def test_faults_in_a_kernel_are_found_with_the_step(written: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(written, copy)
    source = (copy / "cnn.sm_90a.cu").read_text()
    barrier = source.index("qc_wait_1();")
    (copy / "cnn.sm_90a.cu").write_text(source[:barrier] + source[barrier + len("qc_wait_1();") :])
    described = checked_manifest(written)
    inputs = {each.name: np.ones(each.shape, np.float32) for each in described.inputs}
    with IsolatedBundle(written, described, "c++") as right, IsolatedBundle(copy, described, "c++") as wrong:
        expected = right.run(inputs)
        assert any(
            not np.array_equal(wrong.run(inputs)[name], array) for _ in range(8) for name, array in expected.items()
        )


@needs_nvcc
def test_what_no_device_allows_names_the_step(written: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(written, copy)
    source = (copy / "cnn.sm_90a.cu").read_text()
    (copy / "cnn.sm_90a.cu").write_text(source.replace("qc_barrier();", "if (threadIdx.x) qc_ballot(0);", 1))
    described = checked_manifest(written)
    inputs = {each.name: np.ones(each.shape, np.float32) for each in described.inputs}
    with (
        IsolatedBundle(copy, described, "c++") as bundle,
        pytest.raises(VerificationFailed, match=r"step 2 \(IntegerConv\) traps \(block \d+, thread \d+: "),
    ):
        bundle.run(inputs)


@needs_nvcc
def test_without_a_device_there_is_one_clear_error(written: Path) -> None:
    with pytest.raises(UnsupportedCpu, match="there is no CUDA device here, or no driver for it; run the bundle where"):
        qcompiler.load(written)


@pytest.fixture(scope="module")
def standing_in(written: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle with a library in which the processor stands for the device."""
    return stand_in(written, tmp_path_factory.mktemp("standing"))


@needs_nvcc
def test_python_loads_runs_steps_and_times_a_bundle(standing_in: Path, tmp_path: Path) -> None:
    bundle = qcompiler.load(standing_in)
    assert bundle.runs_here and bundle.variant == "sm_90a"
    native = qcompiler.compile(binary_cnn(tmp_path / "cnn.onnx"), "x86", output=tmp_path / "x86", verify=False)
    inputs = {each.name: np.random.default_rng(7).normal(size=each.shape).astype(np.float32) for each in bundle.inputs}
    expected = native.run(inputs)
    for found in (bundle.run(inputs), qcompiler.load(standing_in, variant="sm_75").run(inputs)):
        for name, array in expected.items():
            np.testing.assert_allclose(found[name], array, rtol=1e-5)
    stepper = bundle.stepper(inputs)
    for index in range(len(bundle.steps)):
        stepper.run_steps(index, index + 1)
    for name, array in stepper.outputs().items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-5)
    assert len(bundle.profile(inputs, repeats=2).steps) == len(bundle.steps)
    with pytest.raises(UsageError, match="2 threads: bundles for cuda are run by one; give 1"):
        bundle.run(inputs, threads=2)
    assert describe(standing_in).steps == bundle.steps


class OnDevice:
    """An array as torch and CuPy describe theirs."""

    def __init__(self, array: np.ndarray, **changes: object) -> None:
        self.array = array
        described = {"data": (array.ctypes.data, False), "shape": array.shape, "typestr": array.dtype.str, "version": 3}
        self.__cuda_array_interface__ = {**described, "strides": None, **changes}


@needs_nvcc
def test_arrays_on_the_device_are_taken_where_they_lie(standing_in: Path) -> None:
    bundle = qcompiler.load(standing_in)
    (given,), (wanted,) = bundle.inputs, bundle.outputs
    x = np.random.default_rng(8).normal(size=given.shape).astype(np.float32)
    y = np.zeros(wanted.shape, np.float32)
    run = bundle.on_device()
    run.enqueue({given.name: OnDevice(x)}, {wanted.name: OnDevice(y)})
    run.wait()
    np.testing.assert_array_equal(y, bundle.run({given.name: x})[wanted.name])


@needs_nvcc
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda x: x,
            "input 'image' is ndarray, which is not on a device; give a CUDA tensor; run.. takes numpy arrays",
        ),
        (lambda x: OnDevice(x.astype(np.float16)), r"input 'image' is float16 \[1, 3, 8, 8\]; give .*float32"),
        (lambda x: OnDevice(x[:, :2]), r"input 'image' is float32 \[1, 2, 8, 8\]; give"),
        (lambda x: OnDevice(x, strides=(4, 4, 4, 4)), "input 'image' is not contiguous"),
    ],
)
def test_other_arrays_are_refused(change: Callable[[np.ndarray], object], expected: str, standing_in: Path) -> None:
    bundle = qcompiler.load(standing_in)
    (given,), (wanted,) = bundle.inputs, bundle.outputs
    y = OnDevice(np.zeros(wanted.shape, np.float32))
    with pytest.raises(UsageError, match=expected):
        bundle.on_device().enqueue({given.name: change(np.zeros(given.shape, np.float32))}, {wanted.name: y})


@needs_nvcc
def test_names_are_checked(standing_in: Path) -> None:
    run = qcompiler.load(standing_in).on_device()
    with pytest.raises(UsageError, match="no array for input 'image'; give"):
        run.enqueue({}, {})
    with pytest.raises(UsageError, match="there is no input 'other'; there are image"):
        run.enqueue({"other": 1}, {})


def test_without_nvcc_the_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_link, "_places", lambda name: iter(()))
    said: list[str] = []
    path, folder = binary_cnn(tmp_path / "cnn.onnx"), tmp_path / "out"
    with pytest.raises(
        QCompilerError, match="the tool 'nvcc', .* is not installed; pip install nvidia-cuda-nvcc nvidia"
    ):
        qcompiler.compile(path, "cuda", mcpu=("sm_80",), output=folder, progress=said.append)
    assert not folder.exists() and not said, "before anything is compiled"


def test_unknown_architectures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--mcpu: unknown CUDA architecture 'sm_70', expected one of sm_75, sm_80, "):
        qcompiler.compile(binary_cnn(tmp_path / "cnn.onnx"), "cuda", mcpu=("sm_70",), output=tmp_path / "out")


def test_threads_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--threads 2: modules for cuda run on one; leave it out"):
        qcompiler.compile(binary_cnn(tmp_path / "cnn.onnx"), "cuda", output=tmp_path / "out", threads=2)
