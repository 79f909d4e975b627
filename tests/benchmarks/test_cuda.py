"""The commands for a GPU, with a processor that stands for it: bundles are made, checked, timed, and failures said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import cuda, cuda_page
from benchmarks.cuda_peers import _Fp16
from benchmarks.cuda_rows import ROWS, SAMPLED, Drawn, drawn, sampled
from benchmarks.models import binarynet_vgg, resnet18
from benchmarks.network import evaluate
from qcompiler.bundle.load import checked_manifest
from tests.targets.cuda.launching import missing, stand_in
from tests.targets.cuda.test_sass import by_function, shown

NAME = "tiny-w1a1"
needs_nvcc = pytest.mark.skipif(bool(missing()), reason=missing())


@pytest.fixture(scope="module")
def as_made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One row, and the library of peaks."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(cuda, "ROWS", {NAME: ROWS[NAME]})
        assert cuda.main(["make", str(folder), "--mcpu", "sm_80", "--rows", NAME]) == 0
    return folder


@pytest.fixture(scope="module")
def made(as_made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The row with a library that runs here."""
    folder = tmp_path_factory.mktemp("standing") / "copy"
    shutil.copytree(as_made, folder)
    standing = stand_in(folder / NAME / "net", tmp_path_factory.mktemp("library"))
    shutil.rmtree(folder / NAME / "net")
    shutil.copytree(standing, folder / NAME / "net")
    return folder


def measured(folder: Path, file: Path, *more: str) -> tuple[int, dict[str, Any]]:
    status = cuda.main(["run", str(folder), "--json", str(file), "--seconds", "0.01", *more])
    return status, json.loads(file.read_text())


@needs_nvcc
def test_a_row_is_held_against_onnxruntime_and_timed(made: Path, tmp_path: Path) -> None:
    status, found = measured(made, tmp_path / "found.json")
    row = found["rows"][NAME]
    assert status == 0 and row["right"] is True and row["variant"] == "sm_80" and row["seconds"] > 0
    assert row["difference"] == 0 and row["macs"] == 2 * 2 * 9 * 64 * 64 * 49
    assert any(step["kernel"].startswith("mma_") for step in row["steps"])
    assert found["dropped"] == [] and found["sanitizer"] == {"missing": "compute-sanitizer is not installed"}
    assert cuda_page.main([str(tmp_path / "found.json"), "-o", str(tmp_path / "page.md")]) == 0
    assert "| tiny, w1a1 | 2 | yes | " in (tmp_path / "page.md").read_text()


@needs_nvcc
def test_a_dry_run_needs_no_gpu_and_times_nothing(as_made: Path, tmp_path: Path) -> None:
    status, found = measured(as_made, tmp_path / "found.json", "--dry-run")
    assert status == 0 and found["rows"][NAME] == {
        "title": "tiny, w1a1", "batch": 2, "right": True, "difference": 0.0, "images off": 0.0
    }  # fmt: skip
    assert cuda_page.main([str(tmp_path / "found.json"), "-o", str(tmp_path / "page.md")]) == 2


@needs_nvcc
def test_without_a_gpu_the_row_says_so(as_made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, found = measured(as_made, tmp_path / "found.json")
    assert status == 1 and found["rows"][NAME]["error"].startswith("there is no CUDA device here")
    assert found["peaks"]["error"].startswith("CUDA's errors")
    assert capsys.readouterr().err.startswith(f"{NAME}: there is no CUDA device here")


@needs_nvcc
def test_other_results_are_not_right(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(made, copy)
    expected = np.load(copy / NAME / cuda.ARRAYS)["expected"]
    expected[1, 3] += 2
    np.savez(copy / NAME / cuda.ARRAYS, expected=expected)
    status, found = measured(copy, tmp_path / "found.json", "--dry-run")
    assert status == 1 and found["rows"][NAME]["right"] is False and found["rows"][NAME]["images off"] == 0.5
    assert capsys.readouterr().err == f"{NAME}: not what onnxruntime gives\n"


@needs_nvcc
def test_rows_without_time_are_named(made: Path, tmp_path: Path) -> None:
    status, found = measured(made, tmp_path / "found.json", "--minutes", "0.01")
    assert status == 1 and found["rows"] == {} and found["dropped"] == [NAME]
    assert f"No time was left for {NAME}." in cuda_page.page(found)


def test_errors_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cuda.main(["run", str(tmp_path), "--json", str(tmp_path / "f.json")]) == 2
    assert cuda_page.main([str(tmp_path / "none.json"), "-o", str(tmp_path / "page.md")]) == 2
    (tmp_path / "other.json").write_text("[]")
    assert cuda_page.main([str(tmp_path / "other.json"), "-o", str(tmp_path / "page.md")]) == 4
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3 and all(line.startswith("error: ") for line in said)


@pytest.mark.parametrize(
    ("x", "kind"),
    [([[1.0, -1.0]], "signs"), ([[0.5, 2.0]], "magnitudes"), ([[0.5, -2.0]], "numbers")],
)
def test_inputs_are_drawn_alike_and_always_the_same(x: list[list[float]], kind: str) -> None:
    found = drawn(np.array(x, np.float32), 5)
    assert found == Drawn((1, 2), kind)
    array = Drawn((3, 4, 5, 6), kind).array()
    assert drawn(array, 7) == Drawn((7, 4, 5, 6), kind) and array.dtype == np.float32
    np.testing.assert_array_equal(array, Drawn((3, 4, 5, 6), kind).array())


@pytest.mark.parametrize("shape", [(3, 2), (1, 1000, 200), (128, 64, 56, 56)])
def test_samples_are_small_and_of_every_image(shape: tuple[int, ...]) -> None:
    found = sampled(np.zeros(shape, np.float32))
    assert len(found) == shape[0] and min(SAMPLED, np.prod(shape)) / 2 <= found.size <= 2 * SAMPLED


@pytest.mark.parametrize("workload", [resnet18(64), binarynet_vgg(False, width=8, hidden=16)])
def test_torch_computes_the_same_networks(workload: Any) -> None:
    network = _Fp16(workload.network, "cpu", torch.float32)
    found = network(torch.tensor(workload.x)).numpy()
    expected = evaluate(workload.network, workload.x)[workload.network.output]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_a_page_of_a_gpu() -> None:
    row = {"title": "conv", "batch": 128, "right": True, "repeats": 8, "macs": 4e12, "seconds": 8e-4}
    peers = {"peers": {"seconds": {"torch fp16": 3e-4, "torch int8, product alone": 2e-4}}}
    results = {
        "device": {"name": "A GPU"}, "peaks": {"b1 mma": 2e15}, "rows": {"a": {**row, **peers}, "b": {"error": "no"}}
    }  # fmt: skip
    text = cuda_page.page(results)
    assert "| conv | 128 | yes | 100.0 | 5,000.0 | torch int8, product alone | 200.0 | 2.00 |" in text
    assert "| b1 mma | 2,000.0 |" in text and "- b: no" in text and text.startswith("# Speed on a GPU\n\nA GPU.")


TOOLS = ("nvcc", "cuobjdump", "nvdisasm")


@needs_nvcc
def test_a_row_takes_the_kernel_that_it_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "_make_peaks", lambda *given: None)
    assert cuda.main(["make", str(tmp_path), "--mcpu", "sm_90a", "--rows", f"{NAME}-wgmma"]) == 0
    steps = checked_manifest(tmp_path / f"{NAME}-wgmma" / "net").steps
    assert {step.kernels for step in steps if step.integers} == {("mma_wide_bits_m64n64",)}


def test_a_row_whose_kernel_no_architecture_has_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cuda, "_make_peaks", lambda *given: None)
    assert cuda.main(["make", str(tmp_path), "--mcpu", "sm_80", "--rows", f"{NAME}-wgmma"]) == 0
    assert "no architecture has kernels mma_wide_bits" in capsys.readouterr().out
    assert not list((tmp_path / f"{NAME}-wgmma").iterdir())


@pytest.mark.skipif(bool(missing(*TOOLS)), reason=missing(*TOOLS))
@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        pytest.param(
            "sm_80",
            {"counts": "POPC", "bits": "BMMA", "bytes": "IMMA.16832.U8.U8", "nibbles": "IMMA.16864.U4.U4"},
            marks=pytest.mark.slow,
        ),
        ("sm_90a", {"counts": "POPC", "bits": "BMMA", "bytes": "IMMA", "wide_bits": "BGMMA"}),
    ],
)
def test_peaks_are_of_the_instructions_that_they_name(
    architecture: str, expected: dict[str, str], tmp_path: Path
) -> None:
    cuda._make_peaks(tmp_path, [architecture])
    functions = by_function(shown(tmp_path, cuda.PEAKS))
    for kernel, instruction in expected.items():
        (text,) = [text for name, text in functions.items() if f"{len(kernel)}{kernel}P" in name]
        assert text.count(f" {instruction}") >= 8 and "CALL" not in text, kernel


def test_the_page_of_this_project_is_measured_or_says_that_nothing_is(tmp_path: Path) -> None:
    assert cuda_page.main(["-o", str(tmp_path / "page.md")]) == 0
    made = (tmp_path / "page.md").read_text()
    assert "**No speed is known**" in made and "| sm_90a | 17700 | - | 2048 | mma_bits" in made
    page = (Path(__file__).parents[2] / "docs" / "performance_cuda.md").read_text()
    assert page == made or "**No speed is known**" not in page, (
        "python -m benchmarks.cuda_page -o docs/performance_cuda.md"
    )
