"""All files of producers that are tried: where each is from, and how many of its layers are on integers.

    python -m tests.end_to_end.producers.cases

compiles all of them and writes the table of docs/producers.md.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import qcompiler
from tests.end_to_end import idioms, quantizer_graphs
from tests.end_to_end.producers.store import HERE, REFERENCES

Arrays = Mapping[str, np.ndarray]
# of the largest value: sums in another order; chosen
BOUND = 1e-5
PAGE = Path(__file__).resolve().parents[3] / "docs" / "producers.md"
_MARK = "<!-- table -->\n"
_REAL = "others read or hold real numbers"

BREVITAS, TORCH = "Brevitas 0.13.4", "torch 2.13.0"
# file: producer, idiom, layers on integers, layers
FILES: dict[str, tuple[str, str, int, int]] = {
    "brevitas_cnn_w4a4_channels_qonnx": (BREVITAS, "QONNX, w4a4 per channel", 3, 3),
    "brevitas_cnn_w2a2_qcdq": (BREVITAS, "QCDQ, w2a2", 3, 3),
    "brevitas_cnn_w8a8_shifted_qcdq": (BREVITAS, "QCDQ, zero points on both sides, w8a8", 3, 3),
    "brevitas_cnn_w1a1_qonnx": (BREVITAS, "QONNX, w1a1", 3, 3),
    "brevitas_mlp_w7a3_bias8_qonnx": (BREVITAS, "QONNX, w7a3, biases of 8 bits", 3, 3),
    "brevitas_mlp_w5a6_signed_qonnxdyn": (BREVITAS, "QONNX by torch's dynamo, w5a6 signed", 3, 3),
    "brevitas_residual_shared_qonnx": (BREVITAS, "QONNX, a sum of streams of one scale, mean of 64", 2, 3),
    "brevitas_concat_two_scales_qcdq": (BREVITAS, "QCDQ, a concatenation of two scales", 4, 4),
    "brevitas_depthwise_qcdq": (BREVITAS, "QCDQ, depthwise, mean of 16", 4, 4),
    "brevitas_trunc_pool_qonnx": (BREVITAS, "QONNX, TruncAvgPool2d", 2, 2),
    "brevitas_upsample_qonnx": (BREVITAS, "QONNX, upsampling and pixel shuffle, w2a2", 3, 3),
    "brevitas_conv1d_qcdq": (BREVITAS, "QCDQ, conv1d, dilated, QuantTanh", 3, 3),
    "brevitas_transposed_qcdq": (BREVITAS, "QCDQ, a transposed convolution", 1, 2),
    "brevitas_eltwise_qcdq": (BREVITAS, "QCDQ, QuantEltwiseAdd, QuantSigmoid, int32 biases", 4, 4),
    "plain_lsq_w4a4_channels_dyn": (TORCH, "LSQ by dynamo, w4a4 per channel", 4, 4),
    "torch_qat_channels_ts": (TORCH, "torch.ao FakeQuantize (QAT), residual, mean of 16", 3, 4),
    "torch_pt2e_x86_dyn": ("torchao 0.18.0", "PT2E, X86InductorQuantizer", 4, 4),
    "torch_pt2e_xnnpack_pc_dyn": ("torchao 0.18.0", "PT2E, XNNPACKQuantizer, per channel", 4, 4),
    "torch_small_int8da_int4w_dyn": ("torchao 0.18.0", "int8 rows by run time, int4 in groups of 32", 3, 3),
    "torch_small_qat_3_dyn": ("torchao 0.18.0", "QAT, int8 rows with zero points, int3 per channel", 2, 2),
    "torch_small_int4wo_dyn": ("torchao 0.18.0", "int4 weights in groups of 32 alone", 0, 2),
}
WHY_NOT = {
    "brevitas_residual_shared_qonnx": "means of 64 codes of 4 bits take 961 levels",
    "brevitas_transposed_qcdq": "transposed convolutions have no kernel on integers",
    "torch_qat_channels_ts": "means of 16 codes of 8 bits take 4081 levels",
    "torch_small_int4wo_dyn": "activations are real",
}
# layers on integers, layers; TorchScript's exporter
IDIOMS: dict[str, tuple[int, int]] = {
    **{f"DoReFa {widths}": (3, 4) for widths in ("w2a2", "w1a2", "w4a3")},
    "LSQ w3a3": (3, 3),
    "LSQ w4a4, per channel": (3, 3),
    "LSQ w8a8, per channel": (3, 3),
    "PACT and SAWB w4a4": (3, 4),
    "PACT by a minimum, w2a2": (3, 4),
    "TWN, binary head": (3, 4),
    "BitNet b1.58": (2, 2),
    "AdaBin": (4, 5),
    "ReActNet": (3, 4),
    "XNOR-Net": (2, 5),
    **{name: (4, 4) for name in idioms.IDIOMS if name.startswith("QKeras")},
    "larq, channels last": (2, 3),
    "zero points w4a4": (3, 3),
    "zero points w8a8": (3, 3),
    **{name: (2, 2) for name in idioms.IDIOMS if name.startswith("stream: ")},
    "stream: concat of two scales": (4, 4),
    "stream: concat of one scale": (3, 3),
    "stream: sum of one scale": (3, 3),
    "stream: product": (3, 3),
}


@dataclass(frozen=True)
class Case:
    """A file: made in a folder, with an input x and the producer's own result y where there is one."""

    name: str
    producer: str
    idiom: str
    integers: int
    layers: int
    make: Callable[[Path], tuple[Path, Arrays]]

    @property
    def why(self) -> str:
        """Why not all layers are on integers."""
        return "" if self.integers == self.layers else WHY_NOT.get(self.name, _REAL)


def _stored(name: str) -> Callable[[Path], tuple[Path, Arrays]]:
    def make(_: Path) -> tuple[Path, Arrays]:
        references = np.load(REFERENCES)
        return HERE / f"{name}.onnx", {key: references[f"{name}.{key}"] for key in "xy"}

    return make


def _exported(name: str, dynamo: bool) -> Callable[[Path], tuple[Path, Arrays]]:
    return lambda folder: idioms.exported(folder, name, dynamo)


def _graph(name: str) -> Callable[[Path], tuple[Path, Arrays]]:
    return lambda folder: (quantizer_graphs.written(folder, name), {})


# such as torch.round of constants beside the layer, which this exporter writes as the other does
DYNAMO = ("DoReFa w4a3", "PACT and SAWB w4a4", "BitNet b1.58", "QKeras tanh, channels last")


def cases() -> Iterator[Case]:
    """All of them."""
    for name, (producer, idiom, integers, layers) in FILES.items():
        yield Case(name, producer, idiom, integers, layers, _stored(name))
    for name, (integers, layers) in IDIOMS.items():
        yield Case(name, f"{TORCH}, TorchScript", name, integers, layers, _exported(name, False))
    for name in DYNAMO:
        yield Case(f"{name}, dynamo", f"{TORCH}, dynamo", name, *IDIOMS[name], _exported(name, True))
    for name, (_, integers, layers) in quantizer_graphs.GRAPHS.items():
        yield Case(name, "node by node", name, integers, layers, _graph(name))


def check(case: Case, folder: Path, mcpu: tuple[str, ...] = ()) -> float | None:
    """Compile, with verification against onnxruntime or the file's own meaning; assert what became of the layers.

    The result is the largest difference from the producer's own result, of its largest value; None where it has none.
    """
    path, reference = case.make(folder)
    bundle = qcompiler.compile(path, output=folder / "out", mcpu=mcpu)
    layers = [row for row in bundle.report["rows"] if row["macs"]]
    on_integers = [row for row in layers if row["op"].startswith("Integer")]
    assert (len(on_integers), len(layers)) == (case.integers, case.layers), layers
    assert all(row["note"] for row in layers if row not in on_integers)
    if not reference:
        return None
    (found,) = bundle.run({bundle.inputs[0].name: reference["x"]}).values()
    difference = float(np.abs(found - reference["y"]).max() / np.abs(reference["y"]).max())
    assert difference <= BOUND
    return difference


def _row(case: Case) -> str:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        difference = check(case, Path(folder), ("avx2",))
    found = "-" if difference is None else f"{difference:.0e}"
    counts = f"{case.integers} of {case.layers}"
    return f"| {case.producer} | {case.idiom} | {counts} | yes | {found} | {case.why} |\n"


def main() -> None:
    """Write the table into the page, behind its mark."""
    head = "| producer | idiom | layers on integers | exact | from the producer's result | why not all |\n"
    lines = [head, "| --- | --- | --- | --- | --- | --- |\n", *(_row(case) for case in cases())]
    before, _, _ = PAGE.read_text().partition(_MARK)
    PAGE.write_text(before + _MARK + "".join(lines))


if __name__ == "__main__":
    main()
