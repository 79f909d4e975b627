"""Binary networks on MNIST, compiled and run over the whole test set."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import qcompiler
from qcompiler.train.data import Data, load_data, to_input
from qcompiler.train.evaluate import bundle_classes
from tests.end_to_end.exact import FloatArray, exact_scores
from tests.end_to_end.recipes import compiled_recipe

MNIST = Path(__file__).resolve().parents[3] / "shared" / "data" / "mnist"
HIDDEN = 1000

pytestmark = [
    pytest.mark.skipif(not MNIST.is_dir(), reason="MNIST (../shared/data/mnist) is not there"),
    pytest.mark.usefixtures("one_thread"),
]


@cache
def mnist() -> Data:
    return load_data("mnist", MNIST, validation=10_000)


def signs(x: npt.NDArray[np.floating]) -> FloatArray:
    return np.where(x >= 0, np.float32(1), np.float32(-1))


def random_feature_network(images: FloatArray, labels: npt.NDArray[np.int64]) -> onnx.ModelProto:
    """784 -> HIDDEN random binary features -> 10 binary scores: the signs of a ridge regression on the features.

    Plain ONNX, as other exporters write it. A third of the gammas is negative and HIDDEN is no multiple of 32, which
    trained networks seldom offer.
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


def test_random_features_classify_all_test_images_as_in_onnxruntime(tmp_path: Path) -> None:
    train, test = mnist().train, mnist().test
    network = random_feature_network(to_input(train.images[:10_000]).numpy(), train.labels[:10_000].numpy())
    onnx.save(network, tmp_path / "features.onnx")
    bundle = qcompiler.compile(tmp_path / "features.onnx", output=tmp_path / "out")
    scores = exact_scores(bundle, tmp_path / "features.onnx", to_input(test.images).numpy())
    assert (scores.argmax(1) == test.labels.numpy()).mean() >= 0.80


@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "accuracy"), [("mnist_lenet_small", 0.95), ("mnist_binary_mlp", 0.90)])
def test_one_epoch_of_a_recipe_compiles_and_classifies(recipe: str, accuracy: float, tmp_path: Path) -> None:
    trained = compiled_recipe(recipe, [f"data_dir={MNIST}", "epochs=1", "baseline=false"], tmp_path, mnist())
    assert trained.accuracy >= accuracy
    same = bundle_classes(trained.bundle, mnist().test) == trained.classes(to_input(mnist().test.images)).numpy()
    assert same.all()
