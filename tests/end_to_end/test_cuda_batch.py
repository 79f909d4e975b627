"""Batches of open size on a device: every step is launched once for all runs, whose results are those of runs alone."""

from __future__ import annotations

import ctypes
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

import qcompiler
from qcompiler.bundle import load
from qcompiler.bundle.cuda_library import DeviceLibrary
from qcompiler.bundle.isolated import IsolatedBundle
from qcompiler.bundle.load import Bundle, checked_manifest
from qcompiler.bundle.native import addresses
from qcompiler.bundle.tensors import random_inputs
from qcompiler.errors import QCompilerError, UsageError, VerificationFailed
from qcompiler.verify import verify_together
from tests.end_to_end.test_cuda import OnDevice
from tests.end_to_end.test_shared_models import BINARY_LAYERS, MODELS, WIDER, manifest
from tests.targets.cuda.launching import LAUNCHES, missing, opened, stand_in

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

# layers of floats, of codes by tensor cores and word by word, in groups and of few rows, a product of two run-time
# matrices, moves, and operators of several stages, with variables, and with indices among the data
NETWORK = """<ir_version: 10, opset_import: ["" : 18]>
g (float[N,3,7,5] x, float[N,5,36] v, int64[N,3] i) =>
  (float[N,40] y, float[N,5,5] p, float[N,4,3] t, float[N,2] k, float[N,6,5] d, float[N,6,3,2] b2)
<int64[1] two = {2}, int64[1] last = {-1}, float zero = {0}, float three = {3}> {
    a = Sign (x)
    b = Conv <pads = [1, 1, 1, 1]> (a, w0)
    c = Sign (b)
    m = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (c)
    s = Conv (m, w1)
    q = Round (s)
    r = Clip (q, zero, three)
    d4 = Conv <group = 40> (r, w2)
    d0 = Sign (d4)
    f = Flatten (d0)
    y = MatMul (f, w3)
    l = Sign (v)
    lt = Transpose <perm = [0, 2, 1]> (l)
    p = MatMul (l, lt)
    n = Gather <axis = 0> (table, i)
    o = ReduceMax (n, last)
    u = Concat <axis = 2> (n, o)
    t = Transpose <perm = [0, 2, 1]> (u)
    e = Exp (v)
    g1 = ReduceMean <keepdims = 0> (e, last)
    g2 = Softmax (g1)
    k, ki = TopK (g2, two)
    h = Slice (v, from, to, last)
    h1 = Transpose <perm = [0, 2, 1]> (h)
    d = LayerNormalization (h1, scale)
    b1 = Conv (x, w4)
    b2 = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (b1)
}"""


def network(path: Path) -> Path:
    """See `NETWORK`."""
    random = np.random.default_rng(11)
    model = onnx.parser.parse_model(NETWORK)
    arrays = {
        "w0": random.choice([-1, 1], (40, 3, 3, 3)).astype(np.float32),
        "w1": random.integers(-1, 2, (40, 40, 2, 2)).astype(np.float32),
        "w2": random.choice([-1, 1], (40, 1, 1, 1)).astype(np.float32),
        "w3": random.choice([-1, 1], (80, 40)).astype(np.float32),
        "w4": random.normal(size=(6, 3, 2, 2)).astype(np.float32),
        "table": random.normal(size=(9, 3)).astype(np.float32),
        "scale": random.normal(size=5).astype(np.float32),
        "from": np.array([3]),
        "to": np.array([9]),
    }
    model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in arrays.items())
    onnx.save(model, path)
    return path


def inputs(count: int, seed: int = 1) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    x, v = random.normal(size=(count, 3, 7, 5)), random.normal(size=(count, 5, 36))
    return {"x": x.astype(np.float32), "v": v.astype(np.float32), "i": random.integers(0, 9, (count, 3))}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("batch")
    said: list[str] = []
    path = network(folder / "net.onnx")
    qcompiler.compile(path, "cuda", mcpu=("sm_80",), output=folder / "out", verify=False, progress=said.append)
    assert "runs any batch, 1 at a time" in said
    return folder / "out"


@pytest.fixture(scope="module")
def standing_in(written: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stand_in(written, tmp_path_factory.mktemp("standing"))


Device = tuple[Bundle, ctypes.CDLL]


@pytest.fixture
def device(standing_in: Path) -> Iterator[Device]:
    with opened(standing_in) as found:
        yield found


def alone(bundle: Bundle, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What runs of one give, one behind the other."""
    count = len(given["x"])
    runs = [bundle.run({name: array[i : i + 1] for name, array in given.items()}) for i in range(count)]
    return {name: np.concatenate([run[name] for run in runs]) for name in runs[0]}


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def launches(bundle: Bundle, shim: ctypes.CDLL, count: int) -> int:
    """Kernels that a run on a batch launches."""
    shim.shim_order(0)
    bundle.run(inputs(count))
    return int(shim.shim_launched())


@pytest.mark.parametrize("count", [2, 5, 19])
def test_runs_together_give_what_each_gives_alone_in_any_order_of_threads(count: int, device: Device) -> None:
    bundle, shim = device
    given = inputs(count)
    expected = alone(bundle, given)
    for order in range(LAUNCHES):
        shim.shim_order(order)
        assert_same(bundle.run(given), expected)


def test_every_step_is_launched_once_for_all_runs(device: Device) -> None:
    bundle, shim = device
    once = launches(bundle, shim, 1)
    assert once >= sum(step.op != "transfer" for step in bundle.steps)
    assert launches(bundle, shim, 9) == once
    assert bundle.run(inputs(0))["y"].shape == (0, 40)


def test_the_layers_are_of_all_kinds(device: Device) -> None:
    names = {kernel.partition("_")[0] for step in device[0].steps for kernel in step.kernels}
    assert names >= {"mma", "popc", "dot", "float", "pool2d", "map2d", "tvm", "standard", "transfer"}


def test_where_memory_is_short_fewer_run_together(device: Device) -> None:
    bundle, shim = device
    given = inputs(8)
    expected, once = alone(bundle, given), launches(bundle, shim, 1)
    bundle._idle.clear()
    shim.shim_room(3 * bundle.manifest.workspace_bytes)
    assert launches(bundle, shim, 8) == 4 * once
    assert_same(bundle.run(given), expected)
    with pytest.raises(QCompilerError, match="not enough memory: [0-9]+ bytes are asked for; run smaller batches"):
        bundle.on_device(8)
    bundle._idle.clear()
    shim.shim_room(bundle.manifest.workspace_bytes - 1)
    with pytest.raises(QCompilerError, match="the device has not enough memory"):
        bundle.run(given)
    shim.shim_room(0)
    assert_same(bundle.run(given), expected)


def test_no_more_memory_is_taken_than_is_of_use(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, shim = device
    once = launches(bundle, shim, 1)
    bundle._idle.clear()
    monkeypatch.setattr(load, "MOST_TOGETHER_BYTES", 5 * bundle.manifest.workspace_bytes // 2)
    assert launches(bundle, shim, 8) == 4 * once


def test_a_batch_on_the_device_by_enqueue_and_as_a_graph(device: Device) -> None:
    bundle, _ = device
    given = inputs(6)
    expected = alone(bundle, given)
    outputs = {name: np.zeros_like(array) for name, array in expected.items()}
    on_device, left = ({n: OnDevice(a) for n, a in arrays.items()} for arrays in (given, outputs))
    run = bundle.on_device(6)
    run.enqueue(on_device, left)
    run.wait()
    assert_same(outputs, expected)
    graph = run.capture(on_device, left)
    changed = inputs(6, seed=2)
    for name, array in changed.items():
        given[name][...] = array
    graph.replay()
    graph.wait()
    assert_same(outputs, alone(bundle, changed))
    with pytest.raises(UsageError, match=r"input 'x' is float32 \[6, 3, 7, 5\]; give 'x' float32 \[5, 3, 7, 5\]"):
        bundle.on_device(5).enqueue(on_device, left)


def test_an_index_of_one_run_that_lies_outside_names_the_node(device: Device) -> None:
    bundle, _ = device
    wrong, right = inputs(4), inputs(4)
    expected = alone(bundle, right)
    wrong["i"][2, 1] = 9
    with pytest.raises(QCompilerError, match="Gather n: an index lies outside of its axis"):
        bundle.run(wrong)
    assert_same(bundle.run(right), expected)


def test_counts_that_no_memory_has_are_refused_and_none_does_nothing(device: Device) -> None:
    bundle, _ = device
    library = bundle._library
    assert isinstance(library, DeviceLibrary)
    given = inputs(1)
    arrays = [given[each.name] for each in bundle.inputs]
    left = [np.zeros(each.shape, each.dtype) for each in bundle.outputs]
    with bundle._workspace(1) as workspace:
        pointers = (addresses(arrays), addresses(left), workspace.address, workspace.nbytes)
        text = library.call("status_text", library.call("run_batch", *pointers, 2**62))
        assert text == b"a step, variant or batch is out of range"
        assert library.call("run_batch", *pointers, 0) == 0
    assert not any(array.any() for array in left)


def test_times_of_steps_are_those_of_all_runs(device: Device) -> None:
    bundle, _ = device
    assert len(bundle.profile(inputs(3), repeats=2).steps) == len(bundle.steps)


def test_batches_that_the_network_has_not_are_refused(tmp_path: Path, standing_in: Path, device: Device) -> None:
    shutil.copytree(standing_in, tmp_path / "fixed")
    described = tmp_path / "fixed" / "manifest.json"
    document = json.loads(described.read_text())
    described.write_text(json.dumps({**document, "any_batch": False}))
    bundle = qcompiler.load(tmp_path / "fixed")
    for batch in (0, -1, 7):
        with pytest.raises(
            UsageError, match=f"a batch of {batch}, expected 1, which is compiled in; compile .*--shape"
        ):
            bundle.on_device(batch)
    with pytest.raises(UsageError, match="a batch of 0, expected a multiple of 1"):
        device[0].on_device(0)


LONG = """<ir_version: 10, opset_import: ["" : 18]>
g (float[N,16384] x) => (float[N,10] y) <float low = {0}, float high = {63}> {
    r = Round (x)
    c = Clip (r, low, high)
    y = MatMul (c, w)
}"""


def test_sums_of_few_rows_are_split_over_blocks_where_they_are_long(tmp_path: Path) -> None:
    model, said = onnx.parser.parse_model(LONG), list[str]()
    weights = np.random.default_rng(2).integers(-8, 8, (16384, 10)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    onnx.save(model, tmp_path / "long.onnx")
    bundle = qcompiler.compile(
        tmp_path / "long.onnx", "cuda", mcpu=("sm_80",), output=tmp_path / "out", progress=said.append
    )
    assert any(line.startswith("sm_80 on the processor: verified") for line in said), said
    assert "mma_bytes_m16n32s4x4" in [kernel for step in bundle.steps for kernel in step.kernels]


@pytest.mark.slow
@pytest.mark.skipif(not MODELS.exists(), reason=f"the model collection {MODELS} is not here")
@pytest.mark.parametrize("name", (*BINARY_LAYERS, *WIDER))
def test_runs_of_real_networks_together(name: str, tmp_path: Path) -> None:
    path = MODELS / manifest()[name]["file"]
    bundle = qcompiler.compile(path, "cuda", mcpu=("sm_80",), output=tmp_path / "out", verify=False)
    with IsolatedBundle(tmp_path / "out", bundle.manifest, "c++") as isolated:
        verify_together(isolated, [random_inputs(bundle.inputs, seed) for seed in range(3)])


FAULTS = {
    "operands of the first run": ("  QC_OF_RUN(p0, ", "  (void)(p0, "),
    "a copy for one run": (" * memory->runs, cudaMemcpyDefault", ", cudaMemcpyDefault"),
    "runs that nobody asked for": ("memory->runs, 128, 0, stream", "memory->runs > 1 ? 99 : 1, 128, 0, stream"),
}


def test_runs_together_are_verified(written: Path) -> None:
    with IsolatedBundle(written, checked_manifest(written), "c++") as bundle:
        verify_together(bundle, [inputs(1, seed) for seed in range(3)])


@pytest.mark.parametrize("name", FAULTS)
def test_verification_finds_a_planted_fault(name: str, written: Path, tmp_path: Path) -> None:
    copy, (old, new) = tmp_path / "copy", FAULTS[name]
    shutil.copytree(written, copy)
    source = (copy / "net.sm_80.cu").read_text()
    assert old in source
    (copy / "net.sm_80.cu").write_text(source.replace(old, new, 1))
    with (
        IsolatedBundle(copy, checked_manifest(written), "c++") as bundle,
        pytest.raises(VerificationFailed, match="of a run depends on others|together with others"),
    ):
        verify_together(bundle, [inputs(1, seed) for seed in range(3)])
