"""What a quantizer, whose derivative is zero almost everywhere, hands to the gradient instead.

Three ways: `straight_through` with the derivative of a named surrogate of sign, `clipped_gradient` with a range, and
`replace_gradient` with a surrogate tensor that autograd differentiates. All return the quantized value bit for bit,
unlike `s + (q - s).detach()`, whose float sum rounds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from qcompiler.errors import UsageError

SWISH_BETA = 5.0


@dataclass(frozen=True)
class Estimator:
    """A smooth stand-in for sign: `surrogate` and its `derivative`, both elementwise."""

    name: str
    surrogate: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor], Tensor]


def _polynomial(x: Tensor) -> Tensor:
    x = x.clamp(-1, 1)
    return 2 * x - x * x.abs()


def _identity(x: Tensor) -> Tensor:
    return x


def _clip_derivative(x: Tensor) -> Tensor:
    return (x.abs() <= 1).to(x.dtype)


def _polynomial_derivative(x: Tensor) -> Tensor:
    return (2 - 2 * x.abs()).clamp_min(0)


def _swish(x: Tensor) -> Tensor:
    gate = torch.sigmoid(SWISH_BETA * x)
    return 2 * gate * (1 + SWISH_BETA * x * (1 - gate)) - 1


def _swish_derivative(x: Tensor) -> Tensor:
    gate = torch.sigmoid(SWISH_BETA * x)
    return 2 * SWISH_BETA * gate * (1 - gate) * (2 + SWISH_BETA * x * (1 - 2 * gate))


# Hubara et al., "Binarized Neural Networks", 2016, section 1.3
CLIP = Estimator("clip", functional.hardtanh, _clip_derivative)
# Bengio et al., "Estimating or Propagating Gradients Through Stochastic Neurons", 2013
IDENTITY = Estimator("identity", _identity, torch.ones_like)
# Liu et al., "Bi-Real Net", 2018, equation 7
POLYNOMIAL = Estimator("polynomial", _polynomial, _polynomial_derivative)
# Darabi et al., "Regularized Binary Network Training" (SignSwish), 2018, with beta = 5
SWISH = Estimator("swish", _swish, _swish_derivative)
ESTIMATORS = {each.name: each for each in (CLIP, IDENTITY, POLYNOMIAL, SWISH)}


def estimator(name: str | Estimator) -> Estimator:
    """The estimator of that name, or the one given; UsageError names the nearest one if there is none."""
    if isinstance(name, Estimator):
        return name
    if not isinstance(name, str):
        raise UsageError(f"estimator is {name!r}", remedy=f"give an Estimator or one of {', '.join(ESTIMATORS)}")
    if name not in ESTIMATORS:
        nearest = get_close_matches(name, ESTIMATORS, 1)
        hint = f"did you mean '{nearest[0]}'?" if nearest else f"known: {', '.join(ESTIMATORS)}"
        raise UsageError(f"no gradient estimator '{name}'", remedy=hint)
    return ESTIMATORS[name]


class _StraightThrough(torch.autograd.Function):
    """`value` forward; the gradient times the estimator's derivative at x backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor, through: Estimator) -> Tensor:
        ctx.save_for_backward(x)
        ctx.through = through
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return gradients[0] * ctx.through.derivative(x), None, None


class _Clipped(torch.autograd.Function):
    """`value` forward; the gradient where x is in range backward, in one pass over memory."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor, low: float, high: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.limits = _beyond(low), _beyond(high)
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (x,) = ctx.saved_tensors
        return torch.ops.aten.hardtanh_backward(gradients[0], x, *ctx.limits), None, None, None


class _ReplaceGradient(torch.autograd.Function):
    """`value` forward; the gradient goes to `surrogate` unchanged."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, surrogate: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        return None, gradients[0]


def straight_through(value: Tensor, x: Tensor, through: Estimator) -> Tensor:
    """`value` (shape of x, computed from x), with the gradient through.derivative(x) with respect to x."""
    if through is CLIP:
        return clipped_gradient(value, x, -1.0, 1.0)
    result: Tensor = _StraightThrough.apply(x, value.detach(), through)
    return result


def clipped_gradient(value: Tensor, x: Tensor, low: float, high: float) -> Tensor:
    """`value` (shape of x, computed from x), with the gradient 1 where low <= x <= high, else 0.

    A limit of exactly 0 does not belong to the range.
    """
    result: Tensor = _Clipped.apply(x, value.detach(), low, high)
    return result


def replace_gradient(value: Tensor, surrogate: Tensor) -> Tensor:
    """`value` forward, exactly; differentiated as if it were `surrogate` (the same shape)."""
    result: Tensor = _ReplaceGradient.apply(value.detach(), surrogate)
    return result


def _beyond(limit: float) -> float:
    """The float32 next to `limit`, away from zero: torch's hardtanh leaves its limits out of the range."""
    return limit * (1 + 2.0**-23)
