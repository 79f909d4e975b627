"""The blocks, each with the shape of its input."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from tests.architectures import images, sequences
from tests.architectures.layers import Layers

Make = Callable[[Layers], nn.Module]

IMAGE = (1, 3, 12, 12)

BLOCKS: dict[str, tuple[Make, tuple[int, ...]]] = {
    "densenet": (images.DenseNet, IMAGE),
    "squeeze_excite": (images.SqueezeExcite, (2, 3, 9, 9)),
    "eca": (images.EfficientAttention, IMAGE),
    "aspp": (images.AtrousPyramid, IMAGE),
    "unet": (images.UNet, IMAGE),
    "fpn": (images.FeaturePyramid, IMAGE),
    "shuffle": (images.Shuffle, IMAGE),
    "ghost": (images.Ghost, IMAGE),
    "inverted_residual": (images.InvertedResidual, IMAGE),
    "res2net": (images.Res2Net, IMAGE),
    "inception": (images.Inception, IMAGE),
    "convnext": (images.ConvNext, IMAGE),
    "cbam": (images.Cbam, IMAGE),
    "repvgg": (images.RepVgg, (2, 3, 8, 8)),
    "bireal": (images.BiReal, IMAGE),
    "pixel_shuffle": (images.PixelShuffle, (1, 3, 7, 9)),
    "non_local": (images.NonLocal, IMAGE),
    "self_attention": (sequences.SelfAttention, (2, 9, 32)),
    "conformer": (sequences.Conformer, (1, 11, 16)),
    "tcn": (sequences.TemporalConvolution, (1, 6, 20)),
    "point_net": (sequences.PointNet, (2, 3, 30)),
    "mixer": (sequences.Mixer, IMAGE),
    "gmlp": (sequences.GatedMlp, (1, 10, 16)),
    "wave_unet": (sequences.WaveUNet, (1, 1, 32)),
    "vit": (sequences.VisionTransformer, IMAGE),
}
