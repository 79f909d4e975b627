"""A token that is not in the table: what Python, C and an emulator say, and that nothing else happens."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import qcompiler
from qcompiler.bundle.isolated import IsolatedBundle
from qcompiler.bundle.tensors import random_inputs
from qcompiler.bundle.toolchain import emulator_for
from qcompiler.errors import QCompilerError
from tests.end_to_end.test_arm import needs

ROWS, WIDTH, TOKENS = 50, 8, 12
TABLE = np.random.default_rng(0).standard_normal((ROWS, WIDTH)).astype(np.float32)
MESSAGE = "Gather /emb/Gather: an index lies outside of its axis"

C_PROGRAM = """
#include <stdio.h>
#include <stdlib.h>
#include "tokens.h"

static _Alignas(TOKENS_ALIGNMENT) unsigned char workspace[TOKENS_WORKSPACE_SIZE];
static float out[TOKENS_OUTPUT0_ELEMENTS];
static tokens_pool pool;

int main(int argc, char **argv) {
    int64_t given[TOKENS_INPUT0_ELEMENTS] = {0};
    given[argc - 1] = atoll(argv[1]);
    if (tokens_pool_start(&pool, 2) != TOKENS_OK) return 1;
    for (int threads = 1; threads <= 2; threads++) {
        const void *inputs[] = {given};
        void *outputs[] = {out};
        int status = threads == 1 ? tokens_run(inputs, outputs, workspace, sizeof workspace)
                                  : tokens_run_pool(&pool, inputs, outputs, workspace, sizeof workspace);
        int step = TOKENS_STATUS_STEP(status);
        printf("%d %s: %s\\n", TOKENS_STATUS_ERROR(status), step < 0 ? "-" : tokens_step_name(step),
               tokens_status_text(status));
    }
    return tokens_pool_stop(&pool);
}
"""


def model() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Gather", ["table", "t"], ["rows"], "/emb/Gather"),
        helper.make_node("Relu", ["rows"], ["positive"], "/relu"),
        helper.make_node("ReduceSum", ["positive", "axes"], ["y"], "/sum", keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "tokens",
        [helper.make_tensor_value_info("t", onnx.TensorProto.INT64, [1, TOKENS])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, WIDTH])],
        [numpy_helper.from_array(TABLE, "table"), numpy_helper.from_array(np.array([1]), "axes")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def compiled(folder: Path, target: str) -> Any:
    onnx.save(model(), folder / "tokens.onnx")
    return qcompiler.compile(folder / "tokens.onnx", target, output=folder / "out", verify=target == "x86")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tokens")


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Any:
    return compiled(folder, "x86")


def expected(tokens: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.maximum(TABLE[tokens], 0).sum(1)


@pytest.mark.parametrize("threads", [1, 2])
def test_python_raises_and_goes_on(bundle: Any, threads: int) -> None:
    tokens = np.arange(TOKENS).reshape(1, TOKENS)
    for token in (0, ROWS - 1, -1, -ROWS):
        tokens[0, 3] = token
        np.testing.assert_allclose(bundle.run({"t": tokens}, threads=threads)["y"], expected(tokens), rtol=1e-5)
    for token in (ROWS, -ROWS - 1, 10**6, 2**31, -(2**63), 2**63 - 1):
        tokens[0, 3] = token
        with pytest.raises(QCompilerError, match=MESSAGE):
            bundle.run({"t": tokens}, threads=threads)
    tokens[0, 3] = 1
    np.testing.assert_allclose(bundle.run({"t": tokens}, threads=threads)["y"], expected(tokens), rtol=1e-5)


def test_c_ends_with_a_status_that_names_the_node(bundle: Any, folder: Path, tmp_path: Path) -> None:
    """Under the sanitizers of the C compiler, on one thread and two."""
    (tmp_path / "main.c").write_text(C_PROGRAM)
    sanitize = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    files = ["main.c", str(folder / "out" / "libtokens.a")]
    command = ["cc", "-O1", "-g", *sanitize, f"-I{folder / 'out'}", *files, "-lm", "-pthread", "-o", "main"]
    subprocess.run(command, cwd=tmp_path, check=True)

    def run(token: int) -> list[str]:
        done = subprocess.run(["./main", str(token)], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and done.stderr == "", done.stderr
        return done.stdout.splitlines()

    assert run(ROWS - 1) == ["0 -: ok"] * 2
    for token in (ROWS, 10**6, -ROWS - 1):
        assert run(token) == [f"10 Gather /emb/Gather: {MESSAGE}"] * 2


@pytest.mark.parametrize("architecture", ["x86", pytest.param("aarch64", marks=needs("aarch64"))])
def test_a_process_of_its_own_says_the_same(architecture: str, tmp_path: Path) -> None:
    """As verification runs it, with guard pages around all memory; the other architecture under an emulator."""
    native = architecture == "x86"
    bundle = compiled(tmp_path, "x86" if native else "arm")
    tokens = np.zeros((1, TOKENS), np.int64)
    emulator = "" if native else emulator_for(architecture) or ""
    with IsolatedBundle(tmp_path / "out", bundle.manifest, emulator) as running:
        np.testing.assert_allclose(running.run({"t": tokens})["y"], expected(tokens), rtol=1e-5)
        tokens[0, 0] = 10**6
        with pytest.raises(QCompilerError, match=MESSAGE):
            running.run({"t": tokens})


def test_random_inputs_point_into_the_table(bundle: Any) -> None:
    assert [tensor.indices for tensor in bundle.inputs] == [ROWS]


def test_qrun_draws_indices_that_are_there(tmp_path: Path) -> None:
    """Of a table of two rows; the limit goes through the layout that the index is given in."""
    nodes = [helper.make_node("Squeeze", ["t"], ["flat"]), helper.make_node("Gather", ["table", "flat"], ["y"])]
    given = [helper.make_tensor_value_info("t", onnx.TensorProto.INT64, [1, TOKENS])]
    wanted = [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [TOKENS, WIDTH])]
    graph = helper.make_graph(nodes, "g", given, wanted, [numpy_helper.from_array(TABLE[:2], "table")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "t.onnx")
    bundle = qcompiler.compile(tmp_path / "t.onnx", output=tmp_path / "out", verify=False)
    bundle.run(random_inputs(bundle.inputs))
