"""What the generator claims of its networks, and what the runner sees of those that do harm."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx.parser
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from qcompiler import passes, targets
from qcompiler.errors import VerificationFailed
from qcompiler.frontend import canonicalize
from qcompiler.ir import oracle
from qcompiler.ir.program import Program
from qcompiler.lowering.module import lower
from qcompiler.passes.runner import run_passes
from tests.fuzz import isolated, judge, library, sweep
from tests.fuzz.case import case_of, reduced
from tests.fuzz.grid import Grid
from tests.fuzz.net import Network
from tests.fuzz.networks import networks
from tests.fuzz.samples import samples

SOFTMAX = """<ir_version: 10, opset_import: ["" : 17]>
g (float[1,4,16] x) => (float[1,4,16] y) { y = Softmax (x) }"""


@given(networks())
@settings(max_examples=60, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
def test_values_lie_on_the_grids_that_are_claimed(network: Network) -> None:
    session = oracle.Session(network.model)
    for sample in samples(network):
        values = session.run(sample)
        for output in network.model.graph.output:
            array, grid = values[output.name], network.exact.get(output.name)
            assert array.shape == tuple(dim.dim_value for dim in output.type.tensor_type.shape.dim)
            if grid is not None:
                assert np.all(np.abs(array) <= grid.peak)
                assert np.array_equal(array / grid.step, np.round(array / grid.step))


def test_a_seed_and_a_number_always_give_the_same_networks() -> None:
    def digests(seed: int, batch: int) -> list[str]:
        found: list[str] = []
        sweep.drawn(lambda network: found.append(sweep.digest_of(network)), seed, batch, (Phase.generate,))
        return found

    assert digests(1, 2) == digests(1, 2)
    assert not set(digests(1, 2)[1:]) & set(digests(1, 3)[1:])
    assert not set(digests(1, 2)[1:]) & set(digests(2, 2)[1:])


def test_a_right_network_is_found_equal() -> None:
    assert isolated.call(lambda: judge.judge(case_of(_softmax()), "baseline").kind, 60) == "equal"


def test_a_wrong_result_is_seen() -> None:
    array = np.float32([1, 2, 3])
    assert judge.compare(array, array, True) == judge.compare(array + np.float32(1e-6), array, False) == ""
    assert "1 of 3" in judge.compare(np.float32([1, 2, 4]), array, True)
    assert "differs" in judge.compare(array * np.float32(1.0001), array, False)
    assert "NaN" in judge.compare(np.float32([1, np.nan, 3]), array, False)
    assert "instead of" in judge.compare(array[:2], array, True)


@pytest.mark.parametrize("kind", ["outputs", "inputs"])
def test_touching_what_lies_beyond_a_buffer_is_a_crash(kind: str, tmp_path: Path) -> None:
    program = _program(tmp_path)
    smaller = replace(program, **{kind: (replace(getattr(program, kind)[0], shape=(1, 1, 4)),)})
    with library.isolated_bundle(smaller, tmp_path) as bundle, pytest.raises(VerificationFailed):
        for _ in range(2):
            bundle.run({"x": np.zeros(smaller.inputs[0].shape, np.float32)})


def test_a_failing_case_is_cut_down_to_what_fails() -> None:
    text = """<ir_version: 10, opset_import: ["" : 17]>
    g (float[1,4] x, float[1,4] z) => (float[1,4] left, float[1,4] right) {
        a = Relu (x)
        b = Neg (a)
        c = Exp (b)
        left = Tanh (c)
        right = Abs (z)
    }"""
    network = Network(onnx.parser.parse_model(text), {"x": Grid(1.0, 1.0), "z": Grid(1.0, 1.0)}, {})
    case = reduced(case_of(network), lambda case: "Exp" in {node.op_type for node in case.model.graph.node})
    assert [node.op_type for node in case.model.graph.node] == ["Exp", "Tanh"]
    assert [value.name for value in case.model.graph.input] == ["b"]
    session = oracle.Session(network.model, ["b", "left"])
    for before, after in zip(samples(network), case.samples, strict=True):
        wanted = session.run(before)
        assert np.array_equal(after["b"], wanted["b"])
        assert np.array_equal(oracle.run(case.model, after)["left"], wanted["left"])


def test_a_process_that_ends_or_hangs_is_named() -> None:
    with pytest.raises(isolated.Ended, match="SIGALRM"):
        isolated.call(lambda: [0 for _ in iter(int, 1)], 1)
    with pytest.raises(isolated.Ended, match="exit status 1"):
        isolated.call(lambda: 1 // 0, 10)
    assert isolated.call(lambda: 3, 10) == 3


def _softmax() -> Network:
    return Network(onnx.parser.parse_model(SOFTMAX), {"x": Grid(1.0, 1.0)}, {})


def _program(folder: Path) -> Program:
    path = folder / "net.onnx"
    path.write_bytes(_softmax().model.SerializeToString())
    graph = canonicalize(path, {})
    run_passes(graph, passes.DEFAULT)
    return lower(graph, "x86", [v for v in targets.get("x86").variants(()) if v.name == "baseline"], "net")
