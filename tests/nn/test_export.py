from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn.utils import parametrize

from qcompiler.errors import UnsupportedModel, UsageError, VerificationFailed
from qcompiler.ir import oracle
from qcompiler.nn import (
    LSQ,
    PACT,
    Binarize,
    DoReFaActivation,
    DoReFaWeight,
    MoonsReLU,
    MoonsWeight,
    QActivation,
    QConv1d,
    QConv2d,
    QLinear,
    Ternarize,
    XnorConv2d,
    XnorLinear,
    functions,
    input_quantizer,
)
from qcompiler.nn import export as exporting
from qcompiler.nn.export import IR_VERSION, OPSET, export_onnx
from qcompiler.nn.fixed import DOMAIN
from qcompiler.nn.grid import MAX_BITS, Grid, quantize


def pixels(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape) / 128 - 1


def trained(model: nn.Module, example: Tensor) -> nn.Module:
    """`model` after two batches: BatchNorm has statistics and parameters of its own, learned scales have a start."""
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(layer.weight)
            nn.init.normal_(layer.bias)
    model.train()
    for _ in range(2):
        model(example)
    return model


def binary_network() -> nn.Sequential:
    return nn.Sequential(
        input_quantizer(),
        QConv2d(3, 32, 3, padding=1, bias=False),
        nn.BatchNorm2d(32),
        QActivation(),
        QConv2d(32, 64, 3, padding=1, bias=False, weight_quantizer=Binarize(scale="channel")),
        nn.MaxPool2d(2),
        nn.BatchNorm2d(64),
        QActivation(),
        nn.Flatten(),
        QLinear(64 * 16, 10),
        nn.BatchNorm1d(10),
    )


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(1)
    return trained(binary_network(), pixels(8, 3, 8, 8))


@pytest.fixture(scope="module")
def file(network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_onnx(network, pixels(1, 3, 8, 8), tmp_path_factory.mktemp("export") / "net.onnx").path


@pytest.fixture(scope="module")
def any_batch(network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "any.onnx"
    return export_onnx(network, pixels(1, 3, 8, 8), path, dynamic_batch=True).path


def quantizer_graph(op: str, x: np.ndarray, parameters: dict[str, np.ndarray], **attributes: Any) -> onnx.ModelProto:
    node = helper.make_node(op, ["x", *parameters], ["y"], domain=DOMAIN, **attributes)
    graph = helper.make_graph(
        [node],
        "quantizer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, x.shape)],
        [numpy_helper.from_array(array, name) for name, array in parameters.items()],
    )
    imports = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)]
    model = ir.from_proto(helper.make_model(graph, opset_imports=imports, ir_version=IR_VERSION))
    functions.attach_quantizer_bodies(model)
    return ir.to_proto(model)


@settings(max_examples=60, deadline=None)
@given(
    bits=st.integers(1, MAX_BITS),
    signed=st.booleans(),
    narrow=st.booleans(),
    half_steps=st.integers(-3, 3),
    scale=st.sampled_from([[1.0], [0.25], [1 / 3], [0.0371, 2.0**-7, 3.25]]),
    seed=st.integers(0, 99),
)
def test_the_bodies_quantize_as_torch_does_for_every_width(
    bits: int, signed: bool, narrow: bool, half_steps: int, scale: list[float], seed: int
) -> None:
    factor = torch.tensor(scale) if len(scale) == 1 else torch.tensor(scale)[:, None]
    zero = 0.0 if bits == 1 and signed else half_steps / 2
    grid = Grid(factor.squeeze() if len(scale) == 1 else factor, bits, signed, narrow, zero)
    reach = 2.0**bits + 4
    edges = torch.tensor([-reach, -1.5, -0.5, -0.0, 0.0, 0.5, 1.5, 2.5, reach, *(limit + 0.5 for limit in grid.limits)])
    random = torch.from_numpy(np.random.default_rng(seed).uniform(-reach, reach, 50).astype(np.float32))
    x = (torch.cat([edges, random]) * factor).numpy()
    parameters = {"scale": grid.scale.numpy()}
    if grid.bipolar:
        model = quantizer_graph("BipolarQuant", x, parameters)
    else:
        parameters |= {"zeropt": np.float32(zero), "bitwidth": np.float32(bits)}
        parameters = {name: np.asarray(array) for name, array in parameters.items()}
        model = quantizer_graph("Quant", x, parameters, signed=int(signed), narrow=int(narrow), rounding_mode="ROUND")
    np.testing.assert_array_equal(oracle.run(model, {"x": x})["y"], quantize(torch.from_numpy(x), grid).numpy())


def test_the_file_is_what_qonnx_tools_read(file: Path) -> None:
    model = onnx.load(file)
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version == IR_VERSION
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": OPSET, DOMAIN: 1}
    assert {function.name for function in model.functions} == {"Quant", "BipolarQuant"}
    quant = next(node for node in model.graph.node if node.op_type == "Quant")
    assert (quant.domain, len(quant.input)) == (DOMAIN, 4)
    found = {attribute.name: helper.get_attribute_value(attribute) for attribute in quant.attribute}
    assert found == {"signed": 1, "narrow": 0, "rounding_mode": b"ROUND"}
    bipolar = [node for node in model.graph.node if node.op_type == "BipolarQuant"]
    assert len(bipolar) == 5 and all(len(node.input) == 2 for node in bipolar)


def test_normalization_stays_apart_and_nodes_are_named_after_modules(file: Path) -> None:
    model = onnx.load(file)
    names = [node.name for node in model.graph.node]
    assert names == [
        "0/Quant",
        "1.weight_quantizer/BipolarQuant",
        "1/Conv",
        "2/BatchNormalization",
        "3.quantizer/BipolarQuant",
        "4.weight_quantizer/BipolarQuant",
        "4/Conv",
        "5/MaxPool",
        "6/BatchNormalization",
        "7.quantizer/BipolarQuant",
        "8/Reshape",
        "9.weight_quantizer/BipolarQuant",
        "9/Gemm",
        "10/BatchNormalization",
    ]
    assert all(len(node.input) == 2 for node in model.graph.node if node.op_type == "Conv")
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert set(np.unique(weights["1.weight"])) == {-1, 1}


def test_the_exporters_notes_are_gone(file: Path) -> None:
    content = file.read_bytes()
    assert b"pkg.torch" not in content and b"site-packages" not in content and str(Path.cwd()).encode() not in content


def test_stock_onnxruntime_runs_it_and_the_model_is_untouched(network: nn.Module, file: Path) -> None:
    assert network.training and all(module.training for module in network.modules())
    x = pixels(1, 3, 8, 8)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = network.eval()(x).numpy()
    network.train()
    np.testing.assert_allclose(session.run(["scores"], {"image": x.numpy()})[0], expected, rtol=1e-5, atol=1e-5)


def test_any_batch(network: nn.Module, any_batch: Path) -> None:
    graph = onnx.load(any_batch).graph
    assert (
        graph.input[0].type.tensor_type.shape.dim[0].dim_param
        == graph.output[0].type.tensor_type.shape.dim[0].dim_param
    )
    assert "Shape" not in [node.op_type for node in graph.node]
    session = oracle.Session(onnx.load(any_batch))
    for count in (1, 5):
        x = pixels(count, 3, 8, 8)
        with torch.no_grad():
            expected = network.eval()(x).numpy()
        network.train()
        np.testing.assert_allclose(session.run({"image": x.numpy()})["scores"], expected, rtol=1e-5, atol=1e-5)


def test_it_compiles_to_binary_kernels(network: nn.Module, any_batch: Path, tmp_path: Path) -> None:
    import qcompiler

    shapes = {"image": (1, 3, 8, 8)}
    bundle = qcompiler.compile(any_batch, output=tmp_path / "out", shapes=shapes, mcpu=["x86-64-v3"])
    layers = {row["nodes"][0]: row["op"] for row in bundle.report["rows"] if row["macs"]}
    assert layers == {"1/Conv": "IntegerConv", "4/Conv": "IntegerConv", "9/Gemm": "IntegerConv"}
    x = pixels(1, 3, 8, 8)
    with torch.no_grad():
        expected = network.eval()(x).numpy()
    network.train()
    np.testing.assert_allclose(bundle.run({"image": x.numpy()})["scores"], expected, rtol=1e-5, atol=1e-5)


class Everything(nn.Module):
    """Every quantizer and every layer; one quantizer in two places, a parametrized layer, a sum and two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.input = input_quantizer()
        pairs: list[tuple[nn.Module, nn.Module]] = [
            (Binarize(scale="tensor"), Binarize()),
            (Ternarize(threshold="mean", scale="channel"), Ternarize()),
            (MoonsWeight(4), MoonsReLU(4)),
            (DoReFaWeight(3), DoReFaActivation(2)),
            (LSQ(4, channels=4), LSQ(3, signed=False)),
            (DoReFaWeight(16), PACT(5)),
        ]
        self.convs = nn.ModuleList(QConv2d(4, 4, 3, padding=1, weight_quantizer=weight) for weight, _ in pairs)
        self.norms = nn.ModuleList(nn.BatchNorm2d(4) for _ in pairs)
        self.quantizers = nn.ModuleList(QActivation(quantizer=quantizer) for _, quantizer in pairs)
        self.xnor = XnorConv2d(4, 4, 3, padding=1)
        self.sign = QActivation()
        self.line = QConv1d(4, 6, 3, act_bit=4, w_bits=2)
        self.plain = nn.Linear(6 * 34, 8)
        parametrize.register_parametrization(self.plain, "weight", MoonsWeight(2))
        self.xnor_linear = XnorLinear(8, 8)
        self.last = QLinear(8, 3, w_bits=32)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.input(x)
        for conv, norm, quantizer in zip(self.convs, self.norms, self.quantizers, strict=True):
            x = x + quantizer(norm(conv(x)))
        x = self.sign(self.xnor(self.sign(x - 1)) - 0.25)
        line = self.line(x.flatten(2))
        scores = self.last(self.xnor_linear(self.plain(line.flatten(1))))
        return scores, line


def test_every_quantizer_and_layer(tmp_path: Path) -> None:
    model = trained(Everything(), pixels(8, 4, 6, 6))
    exported = export_onnx(model, pixels(3, 4, 6, 6), tmp_path / "all.onnx", outputs=("scores", "line"))
    assert exported.largest_difference is not None and exported.largest_difference < 1e-5
    assert exported.bytes == exported.path.stat().st_size
    nodes = [node.op_type for node in onnx.load(exported.path).graph.node]
    # the input, 6 weights and 6 activations; the sign stands in two places
    assert (nodes.count("Quant"), nodes.count("BipolarQuant")) == (1 + 5 + 5 + 2 + 1, 1 + 1 + 2 + 2 + 2)


def test_a_wrong_body_is_found_and_named_and_the_old_file_stays(
    network: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"old")
    wrong = functions._BODIES["BipolarQuant"].replace("GreaterOrEqual", "LessOrEqual")
    monkeypatch.setitem(functions._BODIES, "BipolarQuant", wrong)
    with pytest.raises(VerificationFailed, match=r"quantizer '3\.quantizer'.*differs between onnxruntime and torch"):
        export_onnx(network, pixels(1, 3, 8, 8), path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["net.onnx"] and path.read_bytes() == b"old"


def test_a_wrong_activation_quantizer_is_told_by_its_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = functions._BODIES["Quant"].replace("Round (", "Floor (")
    monkeypatch.setitem(functions._BODIES, "Quant", wrong)
    with pytest.raises(VerificationFailed, match=r"quantizer '0' gives \d+ of 40 other values in onnxruntime"):
        export_onnx(nn.Sequential(DoReFaActivation(2)), torch.rand(4, 10), tmp_path / "net.onnx")


def test_a_wrong_output_is_named(network: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def damage(model: ir.Model) -> None:
        bias = model.graph.initializers["10.bias"]
        bias.const_value = ir.tensor(bias.const_value.numpy() + np.float32(0.01), name="10.bias")
        tidy(model)

    tidy = exporting.tidy
    monkeypatch.setattr(exporting, "tidy", damage)
    with pytest.raises(VerificationFailed, match="output 'scores' differs between onnxruntime and torch by"):
        export_onnx(network, pixels(1, 3, 8, 8), tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())
    assert export_onnx(network, pixels(1, 3, 8, 8), tmp_path / "net.onnx", check=False).largest_difference is None


def test_numbers_between_two_codes_are_no_failure(tmp_path: Path) -> None:
    """Real sums fall on either side of zero by rounding alone; the comparison goes on with one of the two."""
    torch.manual_seed(2)
    mixed = nn.Conv2d(64, 64, 3, bias=False)
    with torch.no_grad():
        # half of the sums cancel, all but what the order of summation leaves
        mixed.weight[:32, 32:] = -mixed.weight[:32, :32].flip(1)
    model = nn.Sequential(mixed, QActivation(), QConv2d(64, 8, 3), nn.Flatten(), nn.Linear(8 * 16, 3))
    x = torch.randn(2, 32, 8, 8)
    x = torch.cat([x, x.flip(1)], 1)
    exported = export_onnx(model, x, tmp_path / "net.onnx")
    assert exported.largest_difference is not None and exported.largest_difference < 1e-5
    with torch.no_grad():
        expected = model.eval()(x).numpy()
    assert np.abs(oracle.run(onnx.load(exported.path), {"image": x.numpy()})["scores"] - expected).max() > 1e-3


def test_refusals(network: nn.Module, tmp_path: Path) -> None:
    x = pixels(1, 3, 8, 8)
    with pytest.raises(UsageError, match=r"cannot write .*choose a writable place"):
        export_onnx(network, x, tmp_path / "missing" / "net.onnx")
    with pytest.raises(UsageError, match=r"cannot run on an example of shape \[1, 4, 8, 8\]"):
        export_onnx(network, pixels(1, 4, 8, 8), tmp_path / "net.onnx")
    with pytest.raises(UsageError, match="2 example tensors for 1 inputs"):
        export_onnx(network, [x, x], tmp_path / "net.onnx")
    with pytest.raises(UnsupportedModel, match="no constant scale"):
        export_onnx(nn.Sequential(QActivation(quantizer=Binarize(scale="tensor"))), x, tmp_path / "net.onnx")
    with pytest.raises(UnsupportedModel, match="torch cannot export the model"):
        export_onnx(DependsOnData(), x, tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


def test_what_is_no_float32_network_of_tensors_is_refused(network: nn.Module, tmp_path: Path) -> None:
    x, path = pixels(1, 3, 8, 8), tmp_path / "net.onnx"
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        with pytest.raises(UsageError, match=rf"is {dtype}, expected float32; call \.float\(\)"):
            export_onnx(copy.deepcopy(network).to(dtype), x.to(dtype), path)
    with pytest.raises(UsageError, match="the example is torch.float64, expected float32"):
        export_onnx(network, x.double(), path)
    with pytest.raises(UsageError, match="the example is of type ndarray, expected a tensor.*from_numpy"):
        export_onnx(network, x.numpy(), path)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="cannot run on an example of shape .*: 'mask'"):
        export_onnx(NeedsMask(), x, path)
    with pytest.raises(UsageError, match="the model returns dict, expected a tensor"):
        export_onnx(ReturnsDict(), x, path)
    with pytest.raises(UsageError, match=r"the model has 1 outputs, 2 are named \(a, b\)"):
        export_onnx(network, x, path, outputs=("a", "b"))
    with pytest.raises(UsageError, match="'a' names two inputs or outputs"):
        export_onnx(network, x, path, inputs=("a",), outputs=("a",))
    assert not list(tmp_path.iterdir())


def test_the_place_is_looked_at_first(tmp_path: Path) -> None:
    # no model, so that any other check would fail
    for place in (tmp_path, tmp_path / "missing" / "net.onnx", "/proc/none/net.onnx"):
        with pytest.raises(UsageError, match="cannot write"):
            export_onnx(None, None, place)  # type: ignore[arg-type]


def test_a_refused_graph_is_not_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UnsupportedModel, match="torch cannot export the model"):
        export_onnx(DependsOnData(), pixels(1, 3, 8, 8), tmp_path / "net.onnx")
    assert capfd.readouterr() == ("", "")


class NeedsMask(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return {"x": x}["mask"]


class ReturnsDict(nn.Module):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"scores": x}


class DependsOnData(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1 if x.sum() > 0 else x
