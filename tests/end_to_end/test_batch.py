"""Bundles of models whose batch is open: any number of rows from Python and qrun, as onnxruntime has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from typer.testing import CliRunner

import qcompiler
from qcompiler.bundle.manifest import decode
from qcompiler.errors import InvalidBundle, UsageError
from qcompiler.ir import oracle
from tests.networks import binary_cnn

Array = np.ndarray[Any, Any]
TWO = """<ir_version: 10, opset_import: ["" : 18]>
g (float[N,3] x, int64[N,2] i) => (float[N,2,3] y, int64[N] best) {
    t = Constant <value_floats = [1., -2., 3., 0.5]> ()
    picked = Gather (t, i)
    last = Constant <value_ints = [2]> () column = Unsqueeze (picked, last)
    middle = Constant <value_ints = [1]> () row = Unsqueeze (x, middle)
    y = Mul (column, row)
    best = ArgMax <axis = 1, keepdims = 0> (x)
}"""


def opened(folder: Path) -> Path:
    """The binary CNN with a batch of open size, as exporters write it; its Flatten keeps the batch."""
    path = binary_cnn(folder / "cnn.onnx")
    model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    del model.graph.value_info[:]
    path.write_bytes(model.SerializeToString())
    return path


def images(count: int) -> Array:
    return np.random.default_rng(count).standard_normal((count, 3, 8, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return opened(tmp_path_factory.mktemp("batch"))


@pytest.fixture(scope="module")
def bundle(model: Path) -> qcompiler.Bundle:
    stages: list[str] = []
    bundle = qcompiler.compile(model, output=model.parent / "out", mcpu=("baseline",), progress=stages.append)
    assert "runs any batch, 1 at a time" in stages
    return bundle


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_any_batch(model: Path, bundle: qcompiler.Bundle, count: int, threads: int) -> None:
    assert bundle.manifest.any_batch and bundle.inputs[0].shape == (1, 3, 8, 8)
    scores = bundle.run({"image": images(count)}, threads=threads)["scores"]
    assert scores.shape == (count, 5)
    expected = oracle.run(onnx.load(model), {"image": images(count)})["scores"]
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-5)
    for index in range(count):
        alone = bundle.run({"image": images(count)[index : index + 1]})["scores"]
        np.testing.assert_array_equal(scores[index : index + 1], alone)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 3, 8, 9), r"has shape \[2, 3, 8, 9\], expected \[any number, 3, 8, 8\]; all but the batch is fixed"),
        ((3, 8, 8), r"has shape \[3, 8, 8\], expected \[any number, 3, 8, 8\]"),
        ((), r"has shape \[\], expected \[any number, 3, 8, 8\]"),
    ],
)
def test_other_shapes_are_refused(bundle: qcompiler.Bundle, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        bundle.run({"image": np.zeros(shape, np.float32)})


def test_times_are_those_of_the_batch(bundle: qcompiler.Bundle) -> None:
    one, many = (bundle.profile({"image": images(count)}, repeats=9).seconds for count in (1, 64))
    assert 8 * one < many
    one, many = (bundle.benchmark({"image": images(count)}, seconds=0.05).minimum for count in (1, 64))
    assert 8 * one < many
    for timed in (bundle.benchmark, bundle.profile):
        with pytest.raises(UsageError, match="the inputs are empty; give at least one row"):
            timed({"image": images(0)})


def test_given_shapes_are_the_parts(model: Path, tmp_path: Path) -> None:
    bundle = qcompiler.compile(model, output=tmp_path / "out", mcpu=("baseline",), shapes={"image": (2, 3, 8, 8)})
    assert bundle.inputs[0].shape == (2, 3, 8, 8)
    scores = bundle.run({"image": images(6)})["scores"]
    np.testing.assert_array_equal(bundle.run({"image": images(6)[2:4]})["scores"], scores[2:4])
    with pytest.raises(UsageError, match=r"expected \[any multiple of 2, 3, 8, 8\]"):
        bundle.run({"image": images(3)})


def test_several_inputs_of_one_batch(tmp_path: Path) -> None:
    (tmp_path / "two.onnx").write_bytes(onnx.parser.parse_model(TWO).SerializeToString())
    bundle = qcompiler.compile(tmp_path / "two.onnx", output=tmp_path / "out", mcpu=("baseline",))
    random = np.random.default_rng(0)
    inputs = {"x": random.standard_normal((4, 3)).astype(np.float32), "i": random.integers(-4, 4, (4, 2))}
    for name, expected in oracle.run(onnx.load(tmp_path / "two.onnx"), inputs).items():
        np.testing.assert_array_equal(bundle.run(inputs)[name], expected)
    with pytest.raises(UsageError, match=r"batches of the inputs differ: 'x' \[4, 3\], 'i' \[2, 2\]; give every input"):
        bundle.run({**inputs, "i": inputs["i"][:2]})
    with pytest.raises(UsageError, match=r"has shape \[4, 3\], expected \[1, 3\]"):
        bundle.stepper(inputs)


def test_a_batch_whose_rows_depend_on_each_other(tmp_path: Path) -> None:
    text = '<ir_version: 10, opset_import: ["": 18]> g (float[N,4] x) => (float[N,4] y) { y = Softmax <axis = 0> (x) }'
    path = tmp_path / "mixed.onnx"
    path.write_bytes(onnx.parser.parse_model(text).SerializeToString())
    message = (
        r"dynamic dimensions in input 'x' \[N, 4\], and one row cannot stand for any batch: a row of output 'y' dep"
    )
    with pytest.raises(UsageError, match=message) as caught:
        qcompiler.compile(path, output=tmp_path / "out")
    assert caught.value.remedy == "fix them, for example with --shape x=1x4"
    stages: list[str] = []
    bundle = qcompiler.compile(
        path, output=tmp_path / "out", mcpu=("baseline",), shapes={"x": (3, 4)}, progress=stages.append
    )
    assert [stage for stage in stages if stage.startswith("runs batches of 3 alone: a row of output 'y' depends")]
    with pytest.raises(UsageError, match=r"has shape \[6, 4\], expected \[3, 4\]; shapes are fixed"):
        bundle.run({"x": np.zeros((6, 4), np.float32)})


def test_qrun_takes_any_batch(bundle: qcompiler.Bundle, tmp_path: Path) -> None:
    from qcompiler.cli import _run_app

    for count in (0, 3):
        np.savez(tmp_path / "in.npz", image=images(count))
        arguments = [
            str(bundle.directory),
            "--inputs",
            str(tmp_path / "in.npz"),
            "--outputs",
            str(tmp_path / "out.npz"),
        ]
        task = CliRunner().invoke(_run_app, arguments, standalone_mode=False).return_value
        task()
        np.testing.assert_array_equal(
            np.load(tmp_path / "out.npz")["scores"], bundle.run({"image": images(count)})["scores"]
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda document: document.update(any_batch=1), "any_batch is 1, expected true or false"),
        (
            lambda document: document["outputs"][0].update(shape=[]),
            "any_batch is true, and one of the outputs has no axes",
        ),
    ],
)
def test_manifests_that_lie_about_the_batch(bundle: qcompiler.Bundle, change: Any, message: str) -> None:
    document = json.loads(bundle.manifest.encode())
    change(document)
    with pytest.raises(InvalidBundle, match=message):
        decode(json.dumps(document).encode())
    del document["any_batch"]
    assert not decode(json.dumps(document).encode()).any_batch
