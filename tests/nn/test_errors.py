"""Bad input is refused with a message that names the thing, what was found and what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from qcompiler import nn as q
from qcompiler.errors import UsageError

BITS: dict[str, Callable[[Any], Any]] = {
    "MoonsWeight": q.MoonsWeight,
    "MoonsReLU": q.MoonsReLU,
    "DoReFaWeight": q.DoReFaWeight,
    "DoReFaActivation": q.DoReFaActivation,
    "LSQ": q.LSQ,
    "LSQ unsigned": lambda bits: q.LSQ(bits, signed=False),
    "PACT": q.PACT,
    "FixedPoint": lambda bits: q.FixedPoint(bits, 0.5),
    "QLinear weights": lambda bits: q.QLinear(2, 2, w_bits=bits),
    "QLinear input": lambda bits: q.QLinear(2, 2, act_bit=bits),
    "QConv1d": lambda bits: q.QConv1d(2, 2, 3, w_bits=bits),
    "QConv2d": lambda bits: q.QConv2d(2, 2, 3, act_bit=bits),
    "QConv3d": lambda bits: q.QConv3d(2, 2, 3, w_bits=bits),
    "QConvTranspose2d": lambda bits: q.QConvTranspose2d(2, 2, 3, act_bit=bits),
    "QActivation": q.QActivation,
}


WIDE = {
    "DoReFaWeight",
    "DoReFaActivation",
    "QLinear weights",
    "QLinear input",
    *(name for name in BITS if name[:2] in ("QC", "QA")),
}
"""What takes act_bit and w_bits as BMXNet does."""


@pytest.mark.parametrize("bits", [0, "beyond", -1, 2.0, True, "4"])
@pytest.mark.parametrize("name", BITS)
def test_bits_outside_the_range(name: str, bits: Any) -> None:
    most = 31 if name in WIDE else 16
    bits = {"beyond": most + 2}.get(bits, bits)
    with pytest.raises(UsageError) as caught:
        BITS[name](bits)
    assert repr(bits) in str(caught.value) and f"to {most}" in str(caught.value)
    assert caught.value.exit_code == 2


def chain() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: q.MoonsReLU(1), "constant zero.*Binarize"),
        (lambda: q.MoonsWeight(1), "Binarize"),
        (lambda: q.DoReFaWeight(1), "Binarize"),
        (lambda: q.LSQ(1), r"bits of LSQ \(for 1 bit use Binarize, or signed=False\) is 1, expected an integer from 2"),
        (
            lambda: q.FixedPoint(1, 0.5),
            r"bits of FixedPoint \(for 1 bit use Binarize.*is 1, expected an integer from 2",
        ),
        (lambda: q.QConv2d(1, 1, 1, w_bits=33), "w_bits is 33, expected an integer from 1 to 31, or 32 for float"),
        (lambda: q.QActivation(33), "act_bit is 33, expected an integer from 1 to 31, or 32 for float"),
        (lambda: q.QActivation(quantizer=q.Binarize), r"is the class Binarize.* write quantizer=Binarize\("),
        (lambda: q.QLinear(2, 2, weight_quantizer="sign"), "weight_quantizer is 'sign', expected a module"),
        (
            lambda: q.QConv2d(1, 8, 3, weight_quantizer=q.LSQ(4, channels=4))(torch.zeros(1, 1, 8, 8)),
            r"LSQ\(channels=4\) on a weight of 8 output channels; set channels=8",
        ),
        (
            lambda: q.quantize_model(q.quantize_model(chain(), act_bit=32), act_bit=32),
            "no layer to quantize among the 3 .* layers of the model, 1 of them quantized already",
        ),
        (lambda: q.Binarize(estimator="polynomal"), "did you mean 'polynomial'"),
        (lambda: q.Binarize(estimator="?"), "known: clip, identity"),
        (lambda: q.Ternarize(estimator="clipp"), "did you mean 'clip'"),
        (lambda: q.Binarize(estimator=3), "estimator is 3; give an Estimator or one of clip, identity"),
        (lambda: q.Binarize(scale="row"), "row.*channel"),
        (lambda: q.Ternarize(scale="row"), "row.*channel"),
        (lambda: q.Ternarize(threshold=0), "threshold.*0"),
        (lambda: q.Ternarize(threshold=1.5), "threshold.*1.5"),
        (lambda: q.Ternarize(threshold="median"), "threshold.*median"),
        (lambda: q.Ternarize(threshold=float("nan")), "threshold.*nan"),
        (lambda: q.PACT(4, alpha=0), "alpha.*0"),
        (lambda: q.PACT(4, alpha=-1.0), "alpha.*-1"),
        (lambda: q.PACT(4, alpha=float("inf")), "alpha.*inf"),
        (lambda: q.FixedPoint(4, 0.0), "scale.*0"),
        (lambda: q.FixedPoint(4, -1.0), "scale.*-1"),
        (lambda: q.FixedPoint(4, float("nan")), "scale.*nan"),
        (lambda: q.LSQ(4, channels=0), "channels.*0"),
        (lambda: q.XnorConv2d(4, 4, 3, groups=2), "groups=1"),
        (lambda: q.XnorConv2d(4, 4, 3, padding=1, padding_mode="reflect"), "zeros"),
    ],
)
def test_other_refusals(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()
