from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

import qcompiler
from qcompiler import nn as qnn
from qcompiler.bundle.load import Bundle
from qcompiler.errors import UnsupportedModel, UsageError
from qcompiler.nn import QActivation, QLinear, TorchBundle

Arrays = dict[str, npt.NDArray[Any]]


class Pair(nn.Module):
    """Two inputs and two outputs; signs of sums that no rounding decides."""

    def __init__(self) -> None:
        super().__init__()
        self.sign, self.dense = QActivation(), QLinear(64, 6, bias=False)

    def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        signs = self.sign(left + right)
        return self.dense(signs), signs


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1 if x.sum() > 0 else x


def classifier() -> nn.Module:
    return nn.Sequential(QActivation(), QLinear(64, 32, bias=False), nn.BatchNorm1d(32), QActivation(), QLinear(32, 5))


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, TorchBundle]:
    torch.manual_seed(3)
    model = classifier().eval()
    folder = tmp_path_factory.mktemp("compiled") / "net.qc"
    return model, qnn.compile(model, torch.randn(1, 64), output=folder, dynamic_batch=True)


def expected(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        scores: Tensor = model(x)
    return scores


def test_it_computes_what_the_module_computes_on_tensors_and_arrays(compiled: tuple[nn.Module, TorchBundle]) -> None:
    model, network = compiled
    x = torch.randn(7, 64)
    scores = network(x)
    assert isinstance(scores, Tensor)
    torch.testing.assert_close(scores, expected(model, x))
    arrays = network(x.numpy())
    assert isinstance(arrays, np.ndarray)
    np.testing.assert_array_equal(arrays, scores.numpy())
    assert torch.equal(network.run({"image": x}, threads=2)["scores"], scores)
    # what has to be copied: strides, a gradient
    assert torch.equal(network(x.T.contiguous().T), scores)
    assert torch.equal(network(x.clone().requires_grad_()), scores)
    assert torch.equal(TorchBundle(qcompiler.load(network.bundle.directory))(x), scores)


def test_tensors_are_read_and_written_where_they_lie(
    compiled: tuple[nn.Module, TorchBundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    places: list[int] = []
    run = Bundle.run

    def watched(self: Bundle, inputs: Arrays, threads: int = 1) -> Arrays:
        results = run(self, inputs, threads)
        places.extend(array.ctypes.data for array in (*inputs.values(), *results.values()))
        return results

    monkeypatch.setattr(Bundle, "run", watched)
    x = torch.randn(2, 64)
    scores = compiled[1](x)
    assert places == [x.data_ptr(), scores.data_ptr()]


def test_several_inputs_and_outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = Pair().eval()
    left, right = torch.randn(1, 64), torch.randn(1, 64)
    network = qnn.compile(model, [left, right], inputs=("left", "right"), outputs=("scores", "signs"))
    assert network.bundle.directory == Path("pair.qc")
    scores, signs = network(left, right)
    assert torch.equal(scores, model(left, right)[0])
    assert torch.equal(signs, model(left, right)[1])
    with pytest.raises(
        UsageError, match=r"1 inputs given, the network takes 2; give 'left' float32 \[1, 64\], 'right'"
    ):
        network(left)
    with pytest.raises(UsageError, match="some inputs are tensors and some are not"):
        network(left, right.numpy())
    with pytest.raises(UsageError, match="unknown input 'up'"):
        network.run({"up": left})


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(1, 64, dtype=torch.float64), r"is torch.float64, expected torch.float32; convert it with \.to\("),
        (torch.zeros(1, 64, dtype=torch.bfloat16), r"is torch.bfloat16, expected torch.float32"),
        (torch.zeros(1, 64, device="meta"), r"lies on meta, expected the CPU; call \.cpu\(\)"),
        (torch.zeros(1, 64).to_sparse(), r"is torch.sparse_coo, expected a dense tensor"),
        (torch.zeros(1, 63), r"has shape \[1, 63\], expected \[any number, 64\]"),
        (torch.full((1, 64), torch.nan), "has 64 NaN elements"),
        ([0.0] * 64, "is a list, expected a numpy array"),
    ],
)
def test_wrong_values(compiled: tuple[nn.Module, TorchBundle], x: Tensor, message: str) -> None:
    with pytest.raises(UsageError, match=f"input 'image' {message}"):
        compiled[1](x)


@pytest.mark.parametrize(
    ("module", "example", "error", "message"),
    [
        (nn.Sequential, torch.zeros(1, 64), UsageError, "the module is the class Sequential, expected"),
        (torch.relu, torch.zeros(1, 64), UsageError, "expected a torch.nn.Module; give the network itself"),
        (classifier(), torch.zeros(1, 64), UsageError, r"the module is in training mode; call \.eval\(\) first"),
        (classifier().eval(), np.zeros((1, 64)), UsageError, "the example is of type ndarray"),
        (classifier().eval(), torch.zeros(1, 63), UsageError, r"cannot run on an example of shape \[1, 63\]"),
        (classifier().eval(), torch.zeros(1, 64, device="meta"), UsageError, "the example is a meta tensor"),
        (classifier().to("meta").eval(), torch.zeros(1, 64), UsageError, "has no values yet; load or initialise the"),
        (nn.LazyLinear(3).eval(), torch.zeros(1, 64), UsageError, "'weight' has no values yet"),
        (Branching().eval(), torch.zeros(1, 64), UnsupportedModel, "shapes and branches do not depend on data"),
        (nn.Sequential(classifier().eval()).train(False).append(nn.Dropout()), torch.zeros(1, 64), UsageError,
         r"'1' is in training mode"),
    ],
)  # fmt: skip
def test_refused_modules_leave_nothing(
    module: nn.Module, example: Tensor, error: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message) as raised:
        qnn.compile(module, example, output=tmp_path / "net.qc")
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_the_place_is_looked_at_first(tmp_path: Path) -> None:
    (tmp_path / "net.qc").mkdir()
    (tmp_path / "net.qc" / "mine.txt").touch()
    # an example that does not fit, so that a later check would say something else
    with pytest.raises(UsageError, match="net.qc"):
        qnn.compile(classifier().eval(), torch.zeros(1, 63), output=tmp_path / "net.qc")
