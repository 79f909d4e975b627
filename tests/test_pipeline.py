from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

import qcompiler
from qcompiler.errors import UnsupportedModel, UsageError, VerificationFailed
from qcompiler.ir import oracle
from qcompiler.ir.samples import samples
from qcompiler.pipeline import UNVERIFIED, identifier
from qcompiler.targets.architecture import host_features
from qcompiler.verify import Verification
from tests.networks import binary_cnn, float_mlp


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return binary_cnn(tmp_path / "cnn.onnx")


def test_compile_names_the_bundle_after_the_model(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bundle = qcompiler.compile(model, mcpu=("native",))
    assert (tmp_path / "cnn.qc").is_dir()
    image = np.random.default_rng(1).standard_normal((1, 3, 8, 8)).astype(np.float32)
    expected = oracle.run(onnx.load(model), {"image": image})["scores"]
    np.testing.assert_allclose(bundle.run({"image": image})["scores"], expected, rtol=1e-5, atol=1e-5)
    for threads in (1, 2, 3):
        np.testing.assert_array_equal(
            bundle.run({"image": image}, threads=threads)["scores"], bundle.run({"image": image})["scores"]
        )


def test_every_saved_graph_runs_and_agrees(model: Path, tmp_path: Path) -> None:
    qcompiler.compile(model, output=tmp_path / "out", save_ir=tmp_path / "ir", mcpu=("baseline",))
    saved = sorted((tmp_path / "ir").glob("*.onnx"))
    assert saved[0].name == "00-frontend.onnx"
    assert len(saved) > 10
    inputs = oracle.random_inputs(onnx.load(model), 5)
    expected = oracle.run(onnx.load(model), inputs)["scores"]
    for path in saved:
        proto = onnx.load(path)
        onnx.checker.check_model(proto)
        np.testing.assert_allclose(oracle.run(proto, inputs)["scores"], expected, rtol=1e-5, atol=1e-5)
    assert {node.op_type for node in onnx.load(saved[-1]).graph.node} >= {"IntegerConv", "Threshold"}


def test_the_figures_of_the_verification(model: Path, tmp_path: Path) -> None:
    found: list[Verification] = []
    images = np.random.default_rng(1).standard_normal((3, 3, 8, 8)).astype(np.float32)
    bundle = qcompiler.compile(
        model, output=tmp_path / "out", inputs={"image": images}, mcpu=("baseline",), verified=found.append
    )
    (figures,) = found
    assert (figures.samples, figures.ties, figures.steps) == (3, 0, len(bundle.steps))
    assert figures.codes > 0


@pytest.mark.parametrize(("cpu", "variant"), [("sapphirerapids", "amx"), ("alderlake", "avxvnni")])
def test_variants_that_this_cpu_cannot_run_are_named(model: Path, tmp_path: Path, cpu: str, variant: str) -> None:
    said: list[str] = []
    bundle = qcompiler.compile(model, output=tmp_path / "out", mcpu=(cpu,), progress=said.append)
    (needed,) = (each.features for each in bundle.manifest.variants if each.name == variant)
    lacks = ", ".join(sorted(set(needed) - host_features()))
    assert (f"{UNVERIFIED}: {variant}, for which its CPU lacks {lacks}" in said) == bool(lacks)
    assert any(line.startswith(f"{variant}: verified") for line in said) == (not lacks)


def test_print_after_shows_the_graph(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    qcompiler.compile(model, output=tmp_path / "out", print_after="fold-thresholds", mcpu=("baseline",))
    assert "qcompiler.Threshold" in capsys.readouterr().out


def test_a_failed_verification_leaves_nothing(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def disagree(*_: object) -> None:
        raise VerificationFailed("the results differ")

    monkeypatch.setattr("qcompiler.verify.verify_on_samples", disagree)
    with pytest.raises(VerificationFailed):
        qcompiler.compile(model, output=tmp_path / "out", mcpu=("baseline",))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cnn.onnx"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"target": "vax"}, UsageError, "unknown target 'vax'.*x86"),
        ({"mcpu": ("pentium9",)}, UsageError, "pentium9"),
        ({"bits": 9}, UsageError, "1 to 8"),
        ({"threads": 0}, UsageError, "--threads 0: expected a number from 1 to 128"),
        ({"inputs": {}}, UsageError, "no array for input 'image'"),
        ({"print_after": "fold-laundry"}, UsageError, "fold-thresholds"),
        ({"shapes": {"picture": (1, 3, 8, 8)}}, UsageError, "picture"),
        ({"inputs": {"image": np.zeros((1, 3, 9, 9), np.float32)}}, UsageError, r"\[1, 3, 8, 8\]"),
    ],
)
def test_wrong_options_are_named(model: Path, tmp_path: Path, arguments, error, message: str) -> None:
    stages: list[str] = []
    with pytest.raises(error, match=message):
        qcompiler.compile(model, output=tmp_path / "out", progress=stages.append, **arguments)
    assert not (tmp_path / "out").exists()
    assert set(stages) <= {"reading the model", "rewriting the graph"}


SIGNS = """<ir_version: 10, opset_import: ["" : 18]>
g (float[1,8] x) => (float[1,2] y)
<float[8,8] w = {WEIGHTS}, float[8,2] v = {1,-1,1,1,-1,1,1,1,-1,-1,1,1,1,-1,1,1}>
{
    sums = MatMul (x, w)
    signs = Sign (sums)
    y = MatMul (signs, v)
}"""


def test_samples_hit_what_one_random_one_misses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real weights: the sums are 0 for no random input, but for zeros."""
    weights = np.random.default_rng(0).standard_normal(64).round(3).tolist()
    onnx.save(onnx.parser.parse_model(SIGNS.replace("WEIGHTS", str(weights)[1:-1])), tmp_path / "signs.onnx")
    qcompiler.compile(tmp_path / "signs.onnx", output=tmp_path / "right", mcpu=("baseline",))
    monkeypatch.setattr("qcompiler.passes.resolve_sign_zero._decide", lambda *_: ("", ""))
    with pytest.raises(VerificationFailed, match="pass 'resolve-sign-zero' is exact, but changed"):
        qcompiler.compile(tmp_path / "signs.onnx", output=tmp_path / "wrong", mcpu=("baseline",))
    monkeypatch.setattr("qcompiler.passes.runner.samples", lambda model, seed: [next(samples(model, seed))])
    with pytest.raises(VerificationFailed, match="rewriting the graph changed output 'y'"):
        qcompiler.compile(tmp_path / "signs.onnx", output=tmp_path / "wrong", mcpu=("baseline",))


def test_bits_refuses_a_network_without_quantized_layers(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="no layer is quantized to 4 bits"):
        qcompiler.compile(float_mlp(tmp_path / "mlp.onnx"), output=tmp_path / "out", bits=4)
    qcompiler.compile(model, output=tmp_path / "out", bits=1, mcpu=("baseline",))


def test_weights_computed_at_run_time_are_refused(tmp_path: Path) -> None:
    text = """<ir_version: 10, opset_import: ["" : 18]>
    g (float[1,3,8,8] image, float[4,3,3,3] kernel) => (float[1,4,8,8] y) {
        y = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (image, kernel)
    }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "dynamic.onnx")
    with pytest.raises(UnsupportedModel, match="weights of Conv are computed at run time.*initializer"):
        qcompiler.compile(tmp_path / "dynamic.onnx", output=tmp_path / "out")


def test_identifiers() -> None:
    assert identifier("ResNet-18 (final)") == "resnet_18_final"
    assert identifier("4bit") == "net_4bit"
    with pytest.raises(UsageError):
        identifier("---")


@pytest.mark.parametrize("name", ["network", "internal", "cpu", "stdint"])
def test_names_of_files_that_the_sources_use_themselves(tmp_path: Path, name: str) -> None:
    model = binary_cnn(tmp_path / f"{name}.onnx")
    assert qcompiler.compile(model, output=tmp_path / "out", mcpu=("avx2",), verify=False).manifest.name == name


def test_a_dump_shows_every_stage(tmp_path: Path) -> None:
    model = binary_cnn(tmp_path / "cnn.onnx")
    dump = tmp_path / "dump"
    bundle = qcompiler.compile(model, output=tmp_path / "out", mcpu=("avx2", "baseline"), dump=dump, verify=False)
    assert "codes -1 to 1 by 2" in (dump / "plans.txt").read_text()
    assert (dump / "steps.txt").read_text().count("\nstep ") == len(bundle.steps) - 1
    for variant in ("avx2", "baseline"):
        assembly = (dump / variant / "kernels.s").read_text()
        sources = [path for path in (dump / variant).glob("*.py") if "prim_func" in path.read_text()]
        assert sources and all(f"{path.stem}:" in assembly for path in sources)


def test_a_float_network_is_quantized_after_training(tmp_path: Path) -> None:
    path = float_mlp(tmp_path / "mlp.onnx")
    (tensor,) = onnx.load(path).graph.input
    shape = [dim.dim_value for dim in tensor.type.tensor_type.shape.dim]
    data = np.random.default_rng(0).standard_normal((20 * shape[0], *shape[1:])).astype(np.float32)
    said: list[str] = []
    bundle = qcompiler.compile(
        path, output=tmp_path / "out", mcpu=("native",), bits=6, calibration={tensor.name: data}, progress=said.append
    )
    rows = [row for row in bundle.report["rows"] if row["macs"]]
    assert rows and all(row["integers"] and row["w_bits"] == row["a_bits"] == 6 for row in rows)
    assert bundle.report["after_training"] in said and f"{len(rows)} layers to 6 bits" in bundle.report_text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"calibration": {}}, "no array for input"),
        ({"labels": np.zeros(2, np.int64)}, "labels without calibration data"),
        ({"bits": 9, "calibration": {}}, "1 to 8"),
    ],
)
def test_data_and_labels_must_fit(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        qcompiler.compile(float_mlp(tmp_path / "mlp.onnx"), output=tmp_path / "out", mcpu=("native",), **change)
    assert not (tmp_path / "out").exists()
