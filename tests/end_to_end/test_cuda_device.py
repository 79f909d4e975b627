"""Graphs and errors of bundles for CUDA: on the processor, told what to fail with, and on a GPU if there is one.

Whatever fails leaves no error behind, and a run after it is right.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qcompiler
from qcompiler.bundle import dlpack, native
from qcompiler.bundle.cuda_library import DeviceLibrary, DeviceMemory
from qcompiler.bundle.load import Bundle
from qcompiler.errors import QCompilerError, UnsupportedCpu
from tests.bundle.test_dlpack import Capsules
from tests.end_to_end.test_cuda import OnDevice, product
from tests.targets.cuda import launching
from tests.targets.cuda.launching import missing, stand_in

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

OUT_OF_MEMORY, OLD_DRIVER, NO_DEVICE, NO_CODE, ILLEGAL = 2, 35, 100, 209, 700
HOST, DEVICE = 0, 2


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle for two architectures."""
    folder = tmp_path_factory.mktemp("cuda")
    path = product(folder / "product.onnx")
    qcompiler.compile(path, "cuda", mcpu=("sm_80", "sm_90a"), output=folder / "out", verify=False)
    return folder / "out"


@pytest.fixture(scope="module")
def standing_in(written: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stand_in(written, tmp_path_factory.mktemp("standing"))


@dataclass
class Opened:
    """A bundle, and the library in which the processor stands for the device."""

    bundle: Bundle
    shim: ctypes.CDLL
    x: np.ndarray

    @property
    def library(self) -> DeviceLibrary:
        assert isinstance(self.bundle._library, DeviceLibrary)
        return self.bundle._library

    def fail(self, call: str | None, error: int = 0) -> None:
        self.shim.shim_fail(None if call is None else call.encode(), error)

    def status(self, name: str, *arguments: Any) -> str:
        text = self.library.call("status_text", self.library.call(name, *arguments))
        return str(text.decode())

    def is_well(self) -> bool:
        """Whether nothing is left of an error: the network runs as before."""
        self.fail(None)
        return self.shim.shim_left() == 0 and bool(np.isfinite(self.bundle.run({"x": self.x})["y"]).all())


@pytest.fixture
def opened(standing_in: Path) -> Iterator[Opened]:
    x = np.random.default_rng(3).normal(size=(5, 96)).astype(np.float32)
    with launching.opened(standing_in) as (bundle, shim):
        yield Opened(bundle, shim, x)


def arrays(opened: Opened) -> tuple[dict[str, Any], dict[str, Any], np.ndarray, np.ndarray]:
    x, y = opened.x.copy(), np.zeros((5, 40), np.float32)
    return {"x": OnDevice(x)}, {"y": OnDevice(y)}, x, y


def test_a_graph_runs_the_network_on_what_lies_there_when_it_is_replayed(opened: Opened) -> None:
    inputs, outputs, x, y = arrays(opened)
    graph = opened.bundle.on_device().capture(inputs, outputs)
    assert not y.any(), "recording runs nothing"
    for seed in range(3):
        x[...] = np.random.default_rng(seed).normal(size=x.shape)
        graph.replay()
        graph.wait()
        np.testing.assert_array_equal(y, opened.bundle.run({"x": x})["y"])


def test_tensors_come_by_dlpack_without_copies(opened: Opened) -> None:
    y = np.zeros((5, 40), np.float32)
    run = opened.bundle.on_device()
    run.enqueue({"x": Capsules(opened.x)}, {"y": Capsules(y)})
    run.wait()
    np.testing.assert_array_equal(y, opened.bundle.run({"x": opened.x})["y"])


def test_a_graph_needs_memory_of_the_device(opened: Opened) -> None:
    inputs, outputs, x, _ = arrays(opened)
    opened.shim.shim_place(ctypes.c_void_p(x.ctypes.data), HOST, 0)
    with pytest.raises(QCompilerError, match="is not memory of the current device"):
        opened.bundle.on_device().capture(inputs, outputs)
    run = opened.bundle.on_device()
    run.enqueue(inputs, outputs)
    run.wait()
    assert opened.is_well()


@pytest.mark.parametrize(
    "call",
    ["cudaStreamCreateWithFlags", "cudaStreamBeginCapture", "cudaStreamEndCapture", "cudaGraphInstantiate", "launch"],
)
def test_a_graph_that_cannot_be_made_leaves_nothing(call: str, opened: Opened) -> None:
    inputs, outputs, _, _ = arrays(opened)
    run = opened.bundle.on_device()
    opened.fail(call, OUT_OF_MEMORY)
    with pytest.raises(QCompilerError, match="the device has not enough memory"):
        run.capture(inputs, outputs)
    assert opened.is_well()


@pytest.mark.parametrize(
    ("place", "device"), [(HOST, 0), (DEVICE, 1)], ids=["memory of the host", "memory of another device"]
)
def test_a_workspace_elsewhere_is_refused(place: int, device: int, opened: Opened) -> None:
    run = opened.bundle.on_device()
    inputs, outputs, _, _ = arrays(opened)
    opened.shim.shim_place(ctypes.c_void_p(run._memory.address), place, device)
    with pytest.raises(QCompilerError, match="the workspace, or an array of a device, is not memory of the current"):
        run.enqueue(inputs, outputs)
    assert opened.is_well()


def test_an_array_of_another_device_is_refused(opened: Opened) -> None:
    inputs, outputs, x, _ = arrays(opened)
    opened.shim.shim_place(ctypes.c_void_p(x.ctypes.data), DEVICE, 1)
    with pytest.raises(QCompilerError, match="an array of a device, is not memory of the current device"):
        opened.bundle.on_device().enqueue(inputs, outputs)
    assert opened.is_well()


def test_too_little_memory_for_a_workspace(opened: Opened) -> None:
    opened.fail("cudaMalloc", OUT_OF_MEMORY)
    with pytest.raises(QCompilerError, match="the device has not enough memory"):
        DeviceMemory(opened.library, 1 << 20)
    assert opened.is_well()


def test_too_little_memory_for_weights_and_a_second_try(opened: Opened) -> None:
    assert opened.status("release") == "ok"
    opened.fail("cudaMalloc", OUT_OF_MEMORY)
    assert opened.status("prepare") == "the device has not enough memory"
    opened.fail("cudaMemcpy", ILLEGAL)
    assert opened.status("prepare") == "a kernel failed"
    opened.fail(None)
    assert opened.status("prepare") == "ok" and opened.is_well()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (NO_DEVICE, "there is no CUDA device here, or no driver for it"),
        (OLD_DRIVER, "there is no CUDA device here, or no driver for it"),
    ],
)
def test_a_device_that_is_gone(error: int, said: str, opened: Opened) -> None:
    opened.fail("cudaGetDevice", error)
    assert opened.status("prepare") == said
    with pytest.raises(QCompilerError, match=said):
        opened.bundle.on_device().enqueue(*arrays(opened)[:2])
    assert opened.is_well()


@pytest.mark.parametrize(
    ("error", "said"), [(NO_CODE, "holds no code for this device"), (OUT_OF_MEMORY, "not enough memory")]
)
def test_a_launch_that_fails_names_the_step(error: int, said: str, opened: Opened) -> None:
    run = opened.bundle.on_device()
    opened.fail("launch", error)
    with pytest.raises(QCompilerError, match=said):
        run.enqueue(*arrays(opened)[:2])
    assert opened.is_well()


@pytest.mark.parametrize(
    ("capability", "variant"),
    [((8, 0), "sm_80"), ((8, 9), "sm_80"), ((9, 0), "sm_90a"), ((7, 5), None), ((9, 1), None), ((10, 0), None)],
)
def test_code_is_taken_for_the_device_or_none(capability: tuple[int, int], variant: str | None, opened: Opened) -> None:
    opened.shim.shim_capability(*capability)
    names = [each.name for each in opened.bundle.manifest.variants]
    assert opened.library.call("variant") == (-1 if variant is None else names.index(variant))
    if variant is None:
        assert opened.status("prepare") == "the library holds no code for this device"
        with pytest.raises(QCompilerError, match="the library holds no code for this device"):
            opened.bundle.on_device().enqueue(*arrays(opened)[:2])
    for index, name in enumerate(names):
        runs = name == variant
        assert (opened.status("select_variant", index) == "ok") == runs


def has_gpu() -> bool:
    """Whether CUDA's driver is here and knows a device."""
    try:
        return bool(ctypes.CDLL("libcuda.so.1").cuInit(0) == 0)
    except OSError:
        return False


@pytest.fixture(scope="module")
def on_gpu(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The network on the GPU of this machine."""
    if not has_gpu():
        pytest.skip("no GPU: there is none that CUDA's driver knows")
    folder = tmp_path_factory.mktemp("gpu")
    qcompiler.compile(product(folder / "product.onnx"), "cuda", output=folder / "out", verify=False)
    try:
        return qcompiler.load(folder / "out")
    except UnsupportedCpu as error:
        pytest.skip(f"no GPU: {error}")


def test_on_a_gpu_errors_leave_nothing_behind(on_gpu: Bundle) -> None:
    library = on_gpu._library
    assert isinstance(library, DeviceLibrary)
    x = np.random.default_rng(3).normal(size=(5, 96)).astype(np.float32)
    before = on_gpu.run({"x": x})["y"]
    with pytest.raises(QCompilerError, match="the device has not enough memory"):
        DeviceMemory(library, 1 << 50)
    y, run = np.zeros((5, 40), np.float32), on_gpu.on_device()
    with pytest.raises(QCompilerError, match="is not memory of the current device"):
        run.capture({"x": OnDevice(x)}, {"y": OnDevice(y)})
    pointers = [(ctypes.c_void_p * 1)(each.ctypes.data) for each in (x, y)]
    workspace = native.aligned_empty((on_gpu.manifest.workspace_bytes,), "uint8")
    status = library.call("run", *pointers, workspace.ctypes.data, workspace.nbytes)
    assert b"is not memory of the current device" in library.call("status_text", status)
    np.testing.assert_array_equal(on_gpu.run({"x": x})["y"], before)


def test_on_a_gpu_a_graph_gives_what_a_run_gives(on_gpu: Bundle) -> None:
    torch = pytest.importorskip("torch")
    x = torch.randn(5, 96, device="cuda")
    y, z = torch.zeros(5, 40, device="cuda"), torch.zeros(5, 40, device="cuda")
    run = on_gpu.on_device()
    graph = run.capture({"x": x}, {"y": y})
    graph.replay()
    graph.wait()
    run.enqueue({"x": x}, {"y": z})
    run.wait()
    expected = on_gpu.run({"x": x.cpu().numpy()})["y"]
    np.testing.assert_array_equal(y.cpu().numpy(), expected)
    np.testing.assert_array_equal(z.cpu().numpy(), expected)
    with pytest.raises(QCompilerError, match="which is not on a device"):
        run.enqueue({"x": x.cpu()}, {"y": y})
    assert x.__dlpack_device__()[0] == dlpack.CUDA
