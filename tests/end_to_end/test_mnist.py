"""Binary networks on MNIST, compiled and run over the whole test set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import qcompiler
from examples.mnist.idx import read_split

FloatArray = npt.NDArray[np.float32]

MNIST = Path(__file__).resolve().parents[3] / "shared" / "data" / "mnist"
HIDDEN = 1000

pytestmark = pytest.mark.skipif(not MNIST.is_dir(), reason="MNIST (../shared/data/mnist) is not there")


def to_input(images: npt.NDArray[np.uint8]) -> FloatArray:
    return (images.astype(np.float32) / 128 - 1)[:, None]


def signs(x: npt.NDArray[np.floating]) -> FloatArray:
    return np.where(x >= 0, np.float32(1), np.float32(-1))


def random_feature_network(images: FloatArray, labels: npt.NDArray[np.uint8]) -> onnx.ModelProto:
    """784 -> HIDDEN random binary features -> 10 binary scores: the signs of a ridge regression on the features.

    Fast to fit without a training framework. A third of the gammas is negative and HIDDEN is no multiple of 32.
    """
    random = np.random.default_rng(3)
    pixels = images.reshape(len(images), -1)
    first = signs(random.standard_normal((HIDDEN, 784)))
    sums = pixels @ first.T
    gamma = np.where(random.random(HIDDEN) < 1 / 3, -1, 1) * random.uniform(0.5, 1.5, HIDDEN)
    norm = [gamma, random.standard_normal(HIDDEN) * 0.3, sums.mean(0), sums.var(0)]
    features = signs((sums - norm[2]) / np.sqrt(norm[3] + 1e-5) * norm[0] + norm[1])
    targets = np.where(labels[:, None] == np.arange(10), 1.0, -1.0)
    normal = features.T @ features + 100 * np.eye(HIDDEN)
    second = signs(np.linalg.solve(normal, features.T @ targets).T)
    scores = features @ second.T
    last = [np.ones(10), np.zeros(10), scores.mean(0), scores.var(0)]
    return _model(first, norm, second, last)


def _model(first: FloatArray, norm: list[FloatArray], second: FloatArray, last: list[FloatArray]) -> onnx.ModelProto:
    constants = {"w1": first, "w2": second, "zero": np.float32(0), "plus": np.float32(1), "minus": np.float32(-1)}
    constants |= {f"n{i}": p.astype(np.float32) for i, p in enumerate(norm)}
    constants |= {f"m{i}": p.astype(np.float32) for i, p in enumerate(last)}
    nodes = [
        helper.make_node("Flatten", ["image"], ["pixels"]),
        helper.make_node("Gemm", ["pixels", "w1"], ["sums"], transB=1),
        helper.make_node("BatchNormalization", ["sums", "n0", "n1", "n2", "n3"], ["normal"]),
        helper.make_node("GreaterOrEqual", ["normal", "zero"], ["positive"]),
        helper.make_node("Where", ["positive", "plus", "minus"], ["features"]),
        helper.make_node("Gemm", ["features", "w2"], ["raw"], transB=1),
        helper.make_node("BatchNormalization", ["raw", "m0", "m1", "m2", "m3"], ["scores"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 28, 28])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 10])
    weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "features", [image], [scores], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def check_on_test_set(model: Path, output: Path, accuracy: float) -> None:
    """The bundle equals onnxruntime bit for bit on all 10,000 test images, and reaches `accuracy`."""
    images, labels = read_split(MNIST, "t10k")
    bundle = qcompiler.compile(model, output=output)
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    settings.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
    inputs = to_input(images)[:, None]
    scores = np.concatenate([bundle.run({"image": image})["scores"] for image in inputs])
    expected = np.concatenate([session.run(None, {"image": image})[0] for image in inputs])
    np.testing.assert_array_equal(scores, expected)
    assert (scores.argmax(1) == labels).mean() >= accuracy


def test_random_features_classify_mnist_as_in_onnxruntime(tmp_path: Path) -> None:
    images, labels = read_split(MNIST, "train")
    network = random_feature_network(to_input(images[:10_000]), labels[:10_000])
    onnx.save(network, tmp_path / "features.onnx")
    check_on_test_set(tmp_path / "features.onnx", tmp_path / "out", accuracy=0.80)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "accuracy"), [("lenet", 0.95), ("mlp", 0.90)])
def test_one_epoch_of_the_recipe_compiles_and_classifies(name: str, accuracy: float, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from examples.binary_layers import export
    from examples.mnist.networks import NETWORKS
    from examples.mnist.train import fit
    from examples.mnist.train import to_input as to_tensor

    torch.manual_seed(1)
    images, labels = read_split(MNIST, "train")
    network = NETWORKS[name]()
    fit(network, to_tensor(images), torch.from_numpy(labels.astype(np.int64)), epochs=1, lr=3e-3)
    export(network, torch.zeros(1, 1, 28, 28), tmp_path / f"{name}.onnx")
    check_on_test_set(tmp_path / f"{name}.onnx", tmp_path / "out", accuracy)
