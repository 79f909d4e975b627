"""What quantizers of all dialects become: codes by qcompiler::Quantize, and the numbers that they stand for."""

from __future__ import annotations

from collections.abc import Sequence

from qcompiler.frontend.dialects.parameters import is_all
from qcompiler.frontend.emitter import Emitter
from qcompiler.ir.ops import DOMAIN
from qcompiler.ir.quantizing import Quantizer


def codes(emitter: Emitter, x: str, scale: str, zero: str, quantizer: Quantizer) -> str:
    """The codes of `x` [...]; scale and zero are float32 and broadcast against it."""
    return emitter.op(
        "Quantize",
        [x, scale, zero],
        domain=DOMAIN,
        low=float(quantizer.low),
        high=float(quantizer.high),
        rounding=quantizer.rounding,
        order=quantizer.order,
    )


def numbers(emitter: Emitter, found: str, scale: str, zero: str, outputs: Sequence[str]) -> str:
    """(codes - zero) * scale."""
    return emitter.op("Mul", [shifted(emitter, found, zero), scale], outputs)


def shifted(emitter: Emitter, found: str, zero: str) -> str:
    """The codes without their zero point."""
    return found if is_all(emitter, zero, 0.0) else emitter.op("Sub", [found, zero])
