"""Quantized layers for PyTorch, ready for export and compilation."""

from qcompiler.nn.binary import Binarize, Ternarize
from qcompiler.nn.compiled import TorchBundle, compile
from qcompiler.nn.convert import LayerBits, quantize_model
from qcompiler.nn.estimators import CLIP, IDENTITY, POLYNOMIAL, SWISH, Estimator, estimator
from qcompiler.nn.export import Export, export_onnx
from qcompiler.nn.fixed import Fixed
from qcompiler.nn.freeze import freeze
from qcompiler.nn.grid import Grid
from qcompiler.nn.layers import (
    QActivation,
    QConv1d,
    QConv2d,
    QConv3d,
    QConvTranspose2d,
    QLinear,
    XnorConv2d,
    XnorLinear,
    quantized_weights,
    real_weights,
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
from qcompiler.nn.react import RPReLU, RSign
from qcompiler.nn.updates import clip_weights_, recalibrate_batchnorm, scaled_parameter_groups

__all__ = [
    "CLIP", "IDENTITY", "LSQ", "PACT", "POLYNOMIAL", "SWISH", "Binarize", "DoReFaActivation", "DoReFaWeight",
    "Estimator", "Export", "Fixed", "FixedPoint", "Grid", "LayerBits", "MoonsReLU", "MoonsWeight",
    "QActivation", "QConv1d", "QConv2d", "QConv3d", "QConvTranspose2d", "QLinear", "Quantizer", "RPReLU", "RSign",
    "Ternarize",
    "TorchBundle", "XnorConv2d", "XnorLinear",
    "clip_weights_", "compile", "estimator", "export_onnx", "freeze", "input_quantizer", "quantize_model",
    "quantized_weights", "real_weights", "recalibrate_batchnorm", "scaled_parameter_groups",
]  # fmt: skip
