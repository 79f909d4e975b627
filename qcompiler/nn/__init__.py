"""Quantized layers for PyTorch, ready for export and compilation."""

from qcompiler.nn.binary import Binarize, Ternarize
from qcompiler.nn.estimators import CLIP, IDENTITY, POLYNOMIAL, SWISH, Estimator, estimator
from qcompiler.nn.fixed import Fixed
from qcompiler.nn.freeze import freeze
from qcompiler.nn.grid import Grid
from qcompiler.nn.layers import (
    QActivation,
    QConv1d,
    QConv2d,
    QLinear,
    XnorConv2d,
    XnorLinear,
    quantized_weights,
)
from qcompiler.nn.learned import LSQ, PACT
from qcompiler.nn.quantizers import (
    DoReFaActivation,
    DoReFaWeight,
    FixedPoint,
    MoonsReLU,
    MoonsWeight,
    Quantizer,
    input_quantizer,
)

__all__ = [
    "CLIP", "IDENTITY", "LSQ", "PACT", "POLYNOMIAL", "SWISH", "Binarize", "DoReFaActivation", "DoReFaWeight",
    "Estimator", "Fixed", "FixedPoint", "Grid", "MoonsReLU", "MoonsWeight", "QActivation", "QConv1d", "QConv2d",
    "QLinear", "Quantizer", "Ternarize", "XnorConv2d", "XnorLinear", "estimator", "freeze", "input_quantizer",
    "quantized_weights",
]  # fmt: skip
