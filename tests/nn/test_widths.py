"""Every width that act_bit takes: a step of training, the export, and what the compiler makes of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import qcompiler
from qcompiler import nn as q
from qcompiler.nn.grid import EXACT_BITS, WIDEST_BITS

WIDTHS = range(1, 33)
FAST = (1, 4, 17, 25, 31, 32)


def network(act_bit: int) -> nn.Module:
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), q.QConv2d(8, 8, 3, act_bit=act_bit), nn.BatchNorm2d(8)]
    return nn.Sequential(*layers, nn.Flatten(), q.QLinear(8 * 4 * 4, 5, act_bit=act_bit))


def trained(act_bit: int) -> nn.Module:
    """After one step, which must reach every weight."""
    model = network(act_bit).train()
    optimizer = torch.optim.Adam(q.scaled_parameter_groups(model, 1e-3))
    before = [parameter.detach().clone() for parameter in model.parameters() if parameter.dim() > 1]
    loss = nn.functional.cross_entropy(model(torch.randn(16, 3, 8, 8)), torch.arange(16) % 5)
    loss.backward()
    optimizer.step()
    q.clip_weights_(model)
    after = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    assert all((one != two).float().mean() > 0.5 for one, two in zip(before, after, strict=True))
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
    return model.eval()


@pytest.mark.parametrize(
    "act_bit", [pytest.param(bits, marks=() if bits in FAST else pytest.mark.slow) for bits in WIDTHS]
)
def test_every_width_is_trained_exported_and_compiled(act_bit: int, tmp_path: Path) -> None:
    model, x = trained(act_bit), torch.randn(1, 3, 8, 8)
    assert q.export_onnx(model, x, tmp_path / "net.onnx").largest_difference < 1e-5
    bundle = qcompiler.compile(tmp_path / "net.onnx", target="x86", mcpu=["x86-64"], output=tmp_path / "net.qc")
    with torch.no_grad():
        expected = model(x).numpy()
    (found,) = bundle.run({"image": x.numpy()}).values()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    layers = [row for row in bundle.report["rows"] if row["macs"]][1:]
    if act_bit <= 8:
        assert [(row["w_bits"], row["a_bits"]) for row in layers] == [(act_bit, act_bit)] * 2
    elif act_bit < 32:
        assert all("of more than 8 bits" in row["note"] for row in layers)


@pytest.mark.parametrize("bits", range(17, WIDEST_BITS + 1))
def test_wide_quantizers_are_as_near_to_their_formula_as_float32_lets_them(bits: int) -> None:
    """A step of the width, where a near tie is rounded to the other side, and the rounding of float32 around 1 or 2."""
    steps = 2**bits - 1
    x = torch.rand(1000) * 1.5 - 0.25
    expected = np.round(np.clip(x.double().numpy(), 0, 1) * steps) / steps
    assert np.abs(q.DoReFaActivation(bits)(x).double().numpy() - expected).max() <= 1 / steps + 2.0**-23
    weight = torch.randn(1000)
    squashed = np.tanh(weight.double().numpy())
    expected = 2 * np.round((squashed / np.abs(squashed).max() + 1) / 2 * steps) / steps - 1
    assert np.abs(q.DoReFaWeight(bits)(weight).double().numpy() - expected).max() <= 2 / steps + 2.0**-22


@pytest.mark.parametrize("bits", [EXACT_BITS, EXACT_BITS + 1, WIDEST_BITS])
def test_beyond_float32_a_width_only_clips(bits: int) -> None:
    x = torch.rand(1000) * 1.5 - 0.25
    assert ((q.DoReFaActivation(bits)(x) - x.clamp(0, 1)).abs() <= 2.0**-23).all()
