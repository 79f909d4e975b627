"""The passes, one verb-named file each; DEFAULT is the order in which a compile runs them."""

from __future__ import annotations

from qcompiler.passes.cancel_casts import CancelCasts
from qcompiler.passes.cancel_quantizers import CancelQuantizers
from qcompiler.passes.centre_quantizers import CentreQuantizers
from qcompiler.passes.choose_layouts import ChooseLayouts
from qcompiler.passes.decompose_batchnorm import DecomposeBatchnorm
from qcompiler.passes.eliminate_identities import EliminateIdentities
from qcompiler.passes.extract_offsets import ExtractOffsets
from qcompiler.passes.extract_scales import ExtractScales
from qcompiler.passes.fold_constants import FoldConstants
from qcompiler.passes.fold_thresholds import FoldThresholds
from qcompiler.passes.fuse_integer_layers import FuseIntegerLayers
from qcompiler.passes.fuse_integer_products import FuseIntegerProducts
from qcompiler.passes.fuse_wide_biases import FuseWideBiases
from qcompiler.passes.hoist_pools import HoistPools
from qcompiler.passes.lift_1d_convs import Lift1dConvs
from qcompiler.passes.merge_pads import MergePads
from qcompiler.passes.resolve_sign_zero import ResolveSignZero
from qcompiler.passes.result import Pass
from qcompiler.passes.simplify_arithmetic import SimplifyArithmetic
from qcompiler.passes.sink_layouts import SinkLayouts
from qcompiler.passes.sink_pools import SinkPools
from qcompiler.passes.sink_scales import SinkScales
from qcompiler.passes.spell_out_quantizers import SpellOutQuantizers
from qcompiler.passes.spell_out_shapes import SpellOutShapes
from qcompiler.passes.spell_out_sums import SpellOutSums
from qcompiler.passes.split_biases import SplitBiases
from qcompiler.passes.unflatten_matmul import UnflattenMatmul

DEFAULT: tuple[Pass, ...] = (
    FoldConstants(),
    EliminateIdentities(),
    SpellOutSums(),
    CancelCasts(),
    SinkScales(),
    CancelQuantizers(),
    CentreQuantizers(),
    # before layout changes move behind scales
    FuseIntegerProducts(),
    SpellOutShapes(),
    Lift1dConvs(),
    SplitBiases(),
    DecomposeBatchnorm(),
    SinkLayouts(),
    MergePads(),
    # before sums are taken apart: where 0 is reached hangs on how the reference rounds them
    ResolveSignZero(),
    ExtractOffsets(),
    ExtractScales(),
    SinkLayouts(),
    SimplifyArithmetic(),
    HoistPools(),
    FuseIntegerLayers(),
    # the reference rounds larger sums at every addition
    FuseIntegerLayers("fuse-wide-layers", bound=1e-4, wide=True),
    FuseWideBiases(),
    SinkPools(),
    MergePads(),
    SimplifyArithmetic(),
    FoldThresholds(),
    SpellOutQuantizers(),
    UnflattenMatmul(),
    SinkLayouts(),
    ChooseLayouts(),
)
