"""The benchmark networks mean the same in numpy and in ONNX, and compile to what they mean."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import qcompiler
from benchmarks.graphs import float_model, qdq_model
from benchmarks.models import (
    Layer,
    Workload,
    birealnet18,
    conv_chain,
    mobilenet_v1,
    mobilenet_v2,
    product,
    quantized_chain,
    quantized_mobilenet_v1,
    quantized_product,
    quantized_resnet18,
    resnet18,
)
from benchmarks.network import FloatArray, evaluate
from benchmarks.timing import measure, median_sample
from benchmarks.worker import relative_error


def expected(workload: Workload) -> FloatArray:
    return evaluate(workload.network, workload.x)[workload.network.output]


def in_onnxruntime(model: onnx.ModelProto, x: FloatArray) -> FloatArray:
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    result: FloatArray = session.run(None, {"input": x})[0]
    return result


@pytest.mark.parametrize(
    "make",
    [
        lambda: conv_chain(Layer(32, 6), 3, binary=True),
        lambda: product(4, 64, 48, binary=True),
        lambda: quantized_chain(Layer(24, 6), 3, 1, 2),
        lambda: quantized_chain(Layer(24, 6), 3, 2, 2),
        lambda: quantized_chain(Layer(24, 6), 3, 8, 8),
        lambda: quantized_chain(Layer(24, 6, kernel=1), 3, "ternary", 8),
        lambda: quantized_chain(Layer(24, 6, depthwise=True), 3, 4, 4),
        lambda: quantized_product(5, 40, 24, 3, 3),
    ],
    ids=["conv-chain", "product", "w1a2", "w2a2", "w8a8", "1x1-ternary", "depthwise", "w3a3-product"],
)
def test_layers_of_few_bits_are_exact_in_onnx(make: Callable[[], Workload]) -> None:
    work = make()
    np.testing.assert_array_equal(in_onnxruntime(float_model(work.network, work.x), work.x), expected(work))


@pytest.mark.parametrize("stem", [True, False])
@pytest.mark.parametrize("make", [birealnet18, resnet18])
def test_networks_agree_with_onnxruntime(make: Callable[..., Workload], stem: bool) -> None:
    work = make(size=64, stem=stem)
    found = in_onnxruntime(float_model(work.network, work.x), work.x)
    assert found.shape == (1, 1000)
    assert relative_error(found, expected(work)) < 1e-5


@pytest.mark.parametrize(
    "make",
    [
        lambda: quantized_resnet18(2, 2, size=64),
        lambda: quantized_mobilenet_v1(4, 4, size=64),
        lambda: mobilenet_v1(64),
        lambda: mobilenet_v2(64),
    ],
    ids=["resnet18-w2a2", "mobilenet1-w4a4", "mobilenet1", "mobilenet2"],
)
def test_networks_of_few_bits_and_light_ones_agree_with_onnxruntime(make: Callable[[], Workload]) -> None:
    work = make()
    found = in_onnxruntime(float_model(work.network, work.x), work.x)
    assert relative_error(found, expected(work)) < 1e-5
    assert np.ptp(found) > 0


@pytest.mark.parametrize(
    "make",
    [lambda: conv_chain(Layer(16, 6), 3, False), lambda: product(4, 64, 48, False), lambda: resnet18(64)],
    ids=["conv-chain", "product", "resnet18"],
)
def test_eight_bits_cost_a_few_percent(make: Callable[[], Workload]) -> None:
    work = make()
    error = relative_error(in_onnxruntime(qdq_model(work.network, work.x), work.x), expected(work))
    assert 1e-4 < error < 0.05


def test_binary_chain_compiles_to_exact_results(tmp_path: Path) -> None:
    work = conv_chain(Layer(64, 7), 2, binary=True)
    onnx.save(float_model(work.network, work.x), tmp_path / "chain.onnx")
    bundle = qcompiler.compile(tmp_path / "chain.onnx", output=tmp_path / "out", verify=False)
    (found,) = bundle.run({"input": work.x}).values()
    np.testing.assert_array_equal(found, expected(work))


def test_wrong_outputs_have_large_errors() -> None:
    x = np.ones((2, 3), np.float32)
    assert relative_error(x, x) == 0
    assert relative_error(x[:1], x) == float("inf")
    assert relative_error(x * np.float32("nan"), x) == float("inf")
    assert relative_error(-x, x) == 2


def test_a_round_times_every_call() -> None:
    calls: list[int] = []
    timed = measure(lambda: calls.append(1), 0.01)
    assert 0 < timed.minimum <= timed.median
    assert len(calls) > timed.runs > 5


def test_samples_of_the_warm_up_do_not_count() -> None:
    values = iter([1000.0] * 3 + [2.0] * 1000)

    def sample() -> float:
        time.sleep(0.002)
        return next(values)

    assert median_sample(sample, 0.06) == 2
