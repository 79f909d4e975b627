"""From training to a compiled network: qtrain's recipes on real digits, and the example for networks of one's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from examples import custom_model
from qcompiler.train.data import load_data, to_input
from qcompiler.train.evaluate import evaluate
from tests.end_to_end.exact import exact_scores
from tests.end_to_end.recipes import compiled_recipe

pytestmark = pytest.mark.usefixtures("one_thread")

DIGITS = ["dataset=digits", "validation=200", "batch_size=32"]


@pytest.mark.parametrize(
    ("recipe", "settings", "accuracy"),
    [
        ("digits_binary_mlp", ["epochs=4", "hidden=72", "layers=2"], 0.8),
        ("cifar10_binarynet", [*DIGITS, "augment=none", "epochs=5", "lr=0.003", "width=16", "hidden=72"], 0.3),
    ],
)
def test_a_recipe_computes_the_same_bit_for_bit(
    recipe: str, settings: list[str], accuracy: float, tmp_path: Path
) -> None:
    trained = compiled_recipe(recipe, settings, tmp_path)
    assert trained.accuracy >= accuracy
    test = load_data("digits", "", validation=200).test
    images = to_input(test.images)
    scores = exact_scores(trained.bundle, trained.onnx, images.numpy())
    np.testing.assert_array_equal(scores.argmax(1), trained.classes(images).numpy())
    assert evaluate(trained.bundle.directory, test) == evaluate(trained.checkpoint, test) == trained.accuracy
    report = trained.bundle.report
    assert report["binary_layers"] >= report["layers"] - 1


def test_the_example_of_a_custom_model(tmp_path: Path) -> None:
    result = custom_model.run(tmp_path / "digits.qc", epochs=3)
    assert result.accuracy >= 0.9
    # the first layer is float: what it sums up to within rounding of a threshold may fall to either side
    assert result.agreement >= 0.99
    ops = [node.op_type for node in onnx.load(tmp_path / "digits.onnx").graph.node]
    assert (ops.count("BipolarQuant"), ops.count("Quant")) == (4, 1)
    rows = [row for row in result.bundle.report["rows"] if row["macs"]]
    assert [row["w_bits"] for row in rows] == [32, 1, 1, 32]
