"""A trainer's steps against the same steps written out, and its state."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from qcompiler.errors import UsageError
from qcompiler.nn import quantized_weights
from qcompiler.train.data import to_input
from qcompiler.train.distributed import Group
from qcompiler.train.networks import Network
from qcompiler.train.optimisation import make_schedule, squared_hinge
from qcompiler.train.trainer import Totals, Trainer, restore_rng, rng_state, seed_everything
from tests.train.tiny import CLASSES, SHAPE, config, conv, data, mlp

PLAIN = {"optimizer": "sgd", "momentum": 0.0, "lr": 0.1, "schedule": "cosine"}


class Peer(Group):
    """A process of several, whose model is not wrapped."""

    def wrap(self, model: torch.nn.Module) -> torch.nn.Module:
        return model


def plain_mlp() -> Network:
    return mlp(weights="float", stochastic=False, activation="relu", dropout_hidden=0.0)


def trainer(network: Network, group: Group | None = None, **settings: Any) -> Trainer:
    chosen = config(Path("unused"), network, **{**PLAIN, **settings})
    return Trainer(chosen, network, data(), group or Group(torch.device("cpu")))


def epoch(given: Trainer, number: int = 1) -> Totals:
    totals = given.run_epoch(number, lambda: None, lambda: False)
    assert totals is not None
    return totals


def test_epochs_by_hand() -> None:
    """Two epochs: every step has its own gradient and its own rate, and the totals are means over the images."""
    found = trainer(plain_mlp())
    seed_everything(found.config.seed)
    model = plain_mlp().build(SHAPE, CLASSES)
    schedule = make_schedule(found.config, len(found.batches))
    for number in (1, 2):
        losses, right = [], []
        for step, (images, labels) in enumerate(found.batches.epoch(number), (number - 1) * len(found.batches)):
            scores = model(to_input(images))
            loss = squared_hinge(scores, labels)
            gradients = torch.autograd.grad(loss, list(model.parameters()))
            with torch.no_grad():
                for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                    parameter -= 0.1 * schedule(step) * gradient
            losses.append(loss.item())
            right.append((scores.argmax(1) == labels).double().mean().item())
        totals = epoch(found, number)
        assert totals.loss == pytest.approx(np.mean(losses)) and totals.accuracy == pytest.approx(np.mean(right))
    for mine, theirs in zip(model.parameters(), found.model.parameters(), strict=True):
        torch.testing.assert_close(theirs, mine)
    assert found.learning_rate(2) == pytest.approx(0.1 * schedule(len(found.batches)))


@pytest.mark.parametrize("clip", [True, False])
def test_latent_weights_are_clipped_where_asked(clip: bool) -> None:
    given = trainer(mlp(), lr=100.0, lr_final=100.0, clip_weights=clip)
    epoch(given)
    largest = max(parameter.abs().max().item() for _, parameter, _ in quantized_weights(given.model))
    assert (largest <= 1) == clip


def test_training_images_are_augmented() -> None:
    assert epoch(trainer(plain_mlp())) != epoch(trainer(plain_mlp(), augment="shift", shift=2))


def test_splits_are_not_mixed_up() -> None:
    given = trainer(plain_mlp(), lr=0.3)
    epoch(given)
    given.model.eval()

    def share(part: Any) -> float:
        return (given.model(to_input(part.images)).argmax(1) == part.labels).double().mean().item()

    splits = given.data.train, given.data.validation, given.data.test
    assert len({share(each) for each in splits}) == 3
    assert (given.validate(), given.test()) == pytest.approx((share(splits[1]), share(splits[2])))


def test_recalibration_sees_every_training_image_as_it_is() -> None:
    given = trainer(conv(), augment="shift", shift=2)
    given.recalibrate()
    first = next(each for each in given.model.modules() if isinstance(each, torch.nn.Conv2d))
    norm = next(each for each in given.model.modules() if isinstance(each, torch.nn.BatchNorm2d))
    with torch.no_grad():
        values = first(to_input(given.data.train.images)).double()
    torch.testing.assert_close(norm.running_mean.double(), values.mean((0, 2, 3)), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(norm.running_var.double(), values.var((0, 2, 3)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_epochs_with_dropout_leave_the_statistics_of_whole_activations(share: float) -> None:
    given = trainer(mlp(stochastic=False, dropout_hidden=share), recalibrate=True)
    epoch(given)
    left = copy.deepcopy(given.model.state_dict())
    given.recalibrate()
    names = [name for name in left if "running" in name]
    equal = [torch.equal(left[name], given.model.state_dict()[name]) for name in names]
    # without dropout they are taken once, at the end
    assert names and equal == [share > 0] * len(names)


def test_mixed_precision_multiplies_in_16_bits_and_sums_the_loss_in_32() -> None:
    given = trainer(conv(), amp="bf16", batch_size=160)
    types = []
    layer = next(each for each in given.model.modules() if isinstance(each, torch.nn.Conv2d))
    layer.register_forward_hook(lambda module, inputs, output: types.append(output.dtype))
    loss = torch.tensor(epoch(given).loss)
    assert types == [torch.bfloat16]
    assert loss.bfloat16().float() != loss


def test_network_is_compiled_where_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[torch.nn.Module] = []
    monkeypatch.setattr(torch, "compile", lambda model: compiled.append(model) or model)
    trainer(plain_mlp())
    assert compiled == []
    given = trainer(plain_mlp(), compile=True)
    assert compiled == [given.model]


def test_scaled_gradients_give_the_same_step() -> None:
    plain, scaled = trainer(plain_mlp()), trainer(plain_mlp())
    scaled.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    epoch(plain)
    epoch(scaled)
    for mine, theirs in zip(plain.model.parameters(), scaled.model.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_state_is_restored() -> None:
    before, after = (trainer(plain_mlp(), momentum=0.9) for _ in range(2))
    before.scaler, after.scaler = (torch.amp.GradScaler("cpu", init_scale=scale) for scale in (8.0, 2.0))
    epoch(before)
    after.model.load_state_dict(before.model.state_dict())
    # torch's optimizers would share their tensors
    after.restore(**copy.deepcopy(before.state()))
    assert after.scaler.get_scale() == 8
    assert after.scheduler.get_last_lr() == before.scheduler.get_last_lr() != [0.1]
    assert epoch(before, 2) == epoch(after, 2)


def test_state_of_more_processes_is_refused() -> None:
    given = trainer(plain_mlp())
    state = given.state()
    with pytest.raises(UsageError, match="the checkpoint is of 2 processes, this run has 1; resume with as many"):
        given.restore(**{**state, "rng": state["rng"] * 2})


def test_every_generator_is_restored() -> None:
    def draws() -> tuple[float, float, float]:
        return torch.rand(()).item(), float(np.random.rand()), random.random()

    seed_everything(3)
    state = rng_state(torch.device("cpu"))
    first = draws()
    seed_everything(4)
    assert not {*first} & {*draws()}
    restore_rng(state, torch.device("cpu"))
    assert draws() == first


def test_processes_begin_alike_and_draw_differently() -> None:
    weights, drawn = [], []
    for rank in range(2):
        given = trainer(mlp(), Peer(torch.device("cpu"), rank, 2))
        weights.append(torch.cat([each.detach().flatten() for each in given.model.parameters()]))
        drawn.append(torch.rand(()).item())
    assert torch.equal(*weights)
    assert drawn[0] != drawn[1]


def test_seed_decides_the_weights() -> None:
    first, same, other = (next(iter(trainer(mlp(), seed=seed).model.parameters())) for seed in (3, 3, 4))
    assert torch.equal(first, same) and not torch.equal(first, other)
