"""The constant quantizer that every quantizer of a trained model becomes before it is exported."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qcompiler.nn.grid import FLOAT_BITS, Grid, quantize

DOMAIN = "qonnx.custom_op.general"


class Fixed(nn.Module):
    """Maps onto a constant grid; in an export it is a QONNX node, Quant or BipolarQuant."""

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self._grid = grid
        self.bits = grid.bits
        self.register_buffer("scale", grid.scale.detach().clone())
        self.register_buffer("zero_point", torch.tensor(float(grid.zero_point)))
        self.register_buffer("bit_width", torch.tensor(float(grid.bits)))

    @property
    def grid(self) -> Grid:
        """The grid, with the scale where the module is."""
        return Grid(self.scale, self._grid.bits, self._grid.signed, self._grid.narrow, self._grid.zero_point)

    def forward(self, x: Tensor) -> Tensor:
        """x: float32 [...]; result: the values on the grid, [...]."""
        if torch.onnx.is_in_onnx_export():
            return self._node(x)
        return quantize(x, self.grid)

    def _node(self, x: Tensor) -> Tensor:
        grid = self.grid
        if grid.bipolar:
            return torch.onnx.ops.symbolic(
                f"{DOMAIN}::BipolarQuant", (x, self.scale), dtype=x.dtype, shape=x.shape, version=1
            )
        attributes = {"signed": int(grid.signed), "narrow": int(grid.narrow), "rounding_mode": "ROUND"}
        inputs = (x, self.scale, self.zero_point, self.bit_width)
        return torch.onnx.ops.symbolic(f"{DOMAIN}::Quant", inputs, attributes, dtype=x.dtype, shape=x.shape, version=1)

    def extra_repr(self) -> str:
        """The grid's shape, for print(model)."""
        return f"bits={self.bits}, signed={self._grid.signed}" if self.bits != FLOAT_BITS else "float"
