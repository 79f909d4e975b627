"""3-D and transposed convolutions on their way out: exported, compiled, and the reason why not on integers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import qcompiler
from qcompiler import nn as q

VOLUMES, IMAGES = (4, 6, 6, 6), (4, 6, 6)
NETS: dict[str, tuple[Callable[[], list[nn.Module]], tuple[int, ...], str]] = {
    "volumes of 1 bit": (
        lambda: [q.QActivation(1), q.QConv3d(4, 8, 3, padding=1), nn.BatchNorm3d(8), q.QConv3d(8, 4, 3, act_bit=1)],
        VOLUMES,
        "only 2-D convolutions",
    ),
    "volumes of 4 bits": (
        lambda: [q.QConv3d(4, 8, 2, 2, act_bit=4, groups=2, weight_quantizer=q.LSQ(4, channels=8)), nn.BatchNorm3d(8)],
        VOLUMES,
        "only 2-D convolutions",
    ),
    "transposed of 1 bit": (
        lambda: [
            q.QConvTranspose2d(4, 8, 3, 2, 1, output_padding=1, act_bit=1),
            nn.BatchNorm2d(8),
            q.QConvTranspose2d(8, 6, 2, act_bit=1, bias=False),
        ],
        IMAGES,
        "transposed convolutions",
    ),
    "transposed with scales": (
        lambda: [q.QConvTranspose2d(4, 8, 3, 2, act_bit=2, weight_quantizer=q.Binarize(scale="channel"))],
        IMAGES,
        "transposed convolutions",
    ),
    "transposed in groups": (
        lambda: [q.QConvTranspose2d(4, 8, 3, 2, groups=2, act_bit=2, weight_quantizer=q.LSQ(4, channels=8))],
        IMAGES,
        "transposed convolutions",
    ),
}


@pytest.mark.parametrize("name", NETS)
def test_layers_are_exported_and_compiled(name: str, tmp_path: Path) -> None:
    layers, shape, reason = NETS[name]
    model = nn.Sequential(*layers())
    for _ in range(2):
        model.train()(torch.randn(4, *shape))
    model.eval()
    x = torch.randn(1, *shape)
    exported = q.export_onnx(model, x, tmp_path / "net.onnx")
    assert exported.largest_difference is not None and exported.largest_difference < 1e-5
    bundle = qcompiler.compile(tmp_path / "net.onnx", target="x86", mcpu=["x86-64"], output=tmp_path / "net.qc")
    (found,) = bundle.run({"image": x.numpy()}).values()
    with torch.no_grad():
        expected = model(x).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    rows = [row for row in bundle.report["rows"] if row["macs"]]
    assert rows and all(reason in row["note"] for row in rows)


def test_float_models_become_quantized() -> None:
    layers = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.ConvTranspose2d(4, 4, 3, 2, 1, output_padding=1, groups=2), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Conv2d(4, 3, 3))
    converted = q.quantize_model(model, act_bit=3)
    assert isinstance(converted[2], q.QConvTranspose2d) and converted[2].weight_quantizer.bits == 3
    assert repr(model[2])[len("ConvTranspose2d(") : -1] in repr(converted[2])
    assert converted(torch.randn(1, 3, 8, 8)).shape == model(torch.randn(1, 3, 8, 8)).shape
    volumes = nn.Sequential(nn.Conv3d(1, 2, 3), nn.ReLU(), nn.Conv3d(2, 2, 3, padding=1, padding_mode="replicate"))
    converted = q.quantize_model(volumes, act_bit=2, w_bits=4, skip_last=False)
    assert isinstance(converted[2], q.QConv3d) and converted[2].weight_quantizer.bits == 4
    assert converted(torch.randn(1, 1, 5, 5, 5)).shape == (1, 2, 3, 3, 3)
