"""Losses, optimizers and schedules against their formulas."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.errors import UsageError
from qcompiler.train.optimisation import (
    SCHEDULES,
    Schedule,
    loss_function,
    make_optimizer,
    make_schedule,
    squared_hinge,
)
from tests.train.tiny import CLASSES, SHAPE, config, mlp


def test_squared_hinge_by_hand() -> None:
    scores = torch.tensor([[0.5, -2.0], [0.0, 3.0]])
    # targets (1, -1) and (1, -1): margins .5, 0 and 1, 4
    assert squared_hinge(scores, torch.tensor([0, 0])).item() == pytest.approx((0.25 + 0 + 1 + 16) / 4)


def test_cross_entropy_is_torchs() -> None:
    scores, labels = torch.randn(5, 3), torch.tensor([0, 1, 2, 0, 1])
    expected = -(scores.log_softmax(1)[torch.arange(5), labels]).mean()
    assert loss_function("cross_entropy")(scores, labels).item() == pytest.approx(expected.item())


def test_exponential_is_binarynets() -> None:
    epochs = 7
    schedule = Schedule("exponential", 3e-7 / 3e-3, epochs, steps_per_epoch=11)
    decay = (3e-7 / 3e-3) ** (1 / epochs)
    for epoch in range(epochs):
        for step in (0, 10):
            assert schedule(epoch * 11 + step) == pytest.approx(decay**epoch)


def test_steps_end_at_the_final_rate() -> None:
    schedule = Schedule("step", 1e-3, 20, steps_per_epoch=2)
    factors = [schedule(2 * epoch) for epoch in range(20)]
    assert factors == pytest.approx([1.0] * 10 + [0.1] * 5 + [0.01] * 3 + [0.001] * 2)


@given(
    name=st.sampled_from(sorted(SCHEDULES.keys() - {"onecycle"})),
    final=st.floats(1e-6, 1),
    epochs=st.integers(1, 40),
    steps=st.integers(1, 30),
)
def test_every_schedule_begins_at_the_given_rate(name: str, final: float, epochs: int, steps: int) -> None:
    schedule = Schedule(name, final, epochs, steps)
    assert schedule(0) == 1
    if name in ("step", "exponential"):
        assert [schedule(step) for step in range(steps)] == [1] * steps
    factors = [schedule(step) for step in range(epochs * steps)]
    assert factors == sorted(factors, reverse=True)


def test_cosine_and_one_cycle_at_their_corners() -> None:
    cosine = Schedule("cosine", 0.1, 2, steps_per_epoch=10)
    assert [cosine(0), cosine(10), cosine(20)] == pytest.approx([1, 0.55, 0.1])
    # by steps, not by epochs
    assert cosine(5) == pytest.approx(0.1 + 0.9 * (1 + 0.5**0.5) / 2)
    cycle = Schedule("onecycle", 0.01, 2, steps_per_epoch=10)
    assert [cycle(0), cycle(6), cycle(20)] == pytest.approx([1 / 25, 1, 0.01])
    assert cycle(3) == pytest.approx((1 + 1 / 25) / 2)


@given(
    name=st.sampled_from(sorted(SCHEDULES)),
    final=st.floats(1e-6, 1),
    epochs=st.integers(1, 40),
    steps=st.integers(1, 30),
    data=st.data(),
)
def test_factors_stay_between_their_ends(name: str, final: float, epochs: int, steps: int, data: st.DataObject) -> None:
    schedule = Schedule(name, final, epochs, steps)
    factor = schedule(data.draw(st.integers(0, epochs * steps)))
    assert min(final, 1 / 25) - 1e-9 <= factor <= 1 + 1e-9


def test_scheduled_updates_keep_their_scale(tmp_path: Path) -> None:
    model = mlp().build(SHAPE, CLASSES)
    chosen = config(tmp_path, scale_updates=True, lr_final=1e-4)
    optimizer = make_optimizer(model, chosen)
    before = [group["lr"] for group in optimizer.param_groups]
    assert len(set(before)) > 1
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, make_schedule(chosen, 1))
    optimizer.step()
    scheduler.step()
    factor = (chosen.lr_final / chosen.lr) ** (1 / chosen.epochs)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([rate * factor for rate in before])


def test_adam_takes_rate_and_weight_decay(tmp_path: Path) -> None:
    optimizer = make_optimizer(mlp().build(SHAPE, CLASSES), config(tmp_path, lr=0.02, weight_decay=0.01))
    assert isinstance(optimizer, torch.optim.Adam)
    # binary weights too, where updates are not scaled
    assert [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups] == [(0.02, 0.01)]


def test_sgd_takes_momentum_and_weight_decay(tmp_path: Path) -> None:
    model = mlp().build(SHAPE, CLASSES)
    optimizer = make_optimizer(model, config(tmp_path, optimizer="sgd", momentum=0.7, weight_decay=0.01))
    assert isinstance(optimizer, torch.optim.SGD)
    assert (optimizer.defaults["momentum"], optimizer.defaults["weight_decay"]) == (0.7, 0.01)


def test_unknown_names_are_refused(tmp_path: Path) -> None:
    chosen = config(tmp_path)
    with pytest.raises(UsageError, match="unknown loss 'hinge'; choose one of: squared_hinge, cross_entropy"):
        loss_function("hinge")
    with pytest.raises(UsageError, match="unknown optimizer 'lion'"):
        make_optimizer(torch.nn.Linear(1, 1), replace(chosen, optimizer="lion"))
    with pytest.raises(UsageError, match="unknown schedule 'linear'"):
        make_schedule(replace(chosen, schedule="linear"), 1)
    with pytest.raises(UsageError, match="lr_final is 0"):
        make_schedule(replace(chosen, schedule="step", lr_final=0.0), 1)
    with pytest.raises(UsageError, match="lr is 0"):
        make_schedule(replace(chosen, lr=0.0), 1)
