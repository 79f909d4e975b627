from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from qcompiler import nn as q
from qcompiler.errors import UsageError
from qcompiler.nn.updates import clip_weights_, recalibrate_batchnorm, scaled_parameter_groups


def spread(model: nn.Module) -> nn.Module:
    """`model` with parameters far outside of every clip range."""
    for parameter in model.parameters():
        nn.init.uniform_(parameter, -3, 3)
    return model


def test_only_latent_weights_with_a_range_are_clipped() -> None:
    quantizers = [q.Binarize(), q.Ternarize(), q.MoonsWeight(4), q.DoReFaWeight(4), q.LSQ(4)]
    model = spread(nn.Sequential(*[q.QLinear(20, 9, weight_quantizer=each) for each in quantizers], nn.Linear(9, 9)))
    before = copy.deepcopy(model)
    clip_weights_(model)
    for index, (layer, old) in enumerate(zip(model, before, strict=True)):
        expected = old.weight.clamp(-1, 1) if index < 3 else old.weight
        assert torch.equal(layer.weight, expected)
        assert torch.equal(layer.bias, old.bias)
    assert model[0].weight.requires_grad and model[0].weight.grad_fn is None


def test_xnor_weights_are_centred_over_input_channels_before_they_are_clipped() -> None:
    layer = spread(q.XnorConv2d(4, 3, 2))
    old = layer.weight.detach().numpy().copy()
    clip_weights_(layer)
    expected = np.clip(old - old.mean(1, keepdims=True), -1, 1)
    np.testing.assert_allclose(layer.weight.detach(), expected, rtol=1e-5, atol=1e-6)


def test_parametrized_weights_are_clipped() -> None:
    layer = spread(nn.Linear(5, 4))
    parametrize.register_parametrization(layer, "weight", q.Binarize())
    clip_weights_(layer)
    assert layer.parametrizations.weight.original.abs().max() == 1
    normed = parametrizations.weight_norm(nn.Linear(5, 4))
    parametrize.register_parametrization(normed, "weight", q.Binarize())
    clip_weights_(normed)
    assert set(normed.weight.unique().tolist()) == {-1, 1}


def layers_to_scale() -> nn.Sequential:
    return nn.Sequential(
        q.QLinear(4, 2),
        nn.BatchNorm1d(2),
        q.QLinear(2, 4, weight_quantizer=q.Ternarize()),
        q.QLinear(4, 4, w_bits=4),
        nn.Linear(4, 2),
        q.XnorLinear(2, 3),
    ).double()


FACTORS = {"0.weight": math.sqrt(6 / 1.5), "2.weight": math.sqrt(6 / 1.5), "5.weight": math.sqrt(5 / 1.5)}


def test_factors_count_the_kernel_in_both_fans() -> None:
    layer = q.QConv2d(3, 5, (3, 2), bias=False)
    (group,) = scaled_parameter_groups(layer, 0.1)
    assert group["params"] == [layer.weight] or group["params"][0] is layer.weight
    assert group["lr"] == pytest.approx(0.1 * math.sqrt((3 * 6 + 5 * 6) / 1.5), rel=1e-12)
    assert group["lr"] == 0.1 * group["lr_factor"]


def test_every_weight_with_a_range_is_scaled_and_no_other() -> None:
    """All layers with all weight quantizers there are, given as modules, by width or through parametrize."""
    of_width = [
        *(q.MoonsWeight(bits) for bits in range(2, 17)),
        *(q.DoReFaWeight(bits) for bits in range(2, 17)),
        *(q.LSQ(bits) for bits in range(2, 17)),
    ]
    quantizers = [q.Binarize(), q.Binarize(scale="channel", centre=True), q.Ternarize(threshold="mean"), *of_width]
    known = {type(each) for each in quantizers} | {q.DoReFaActivation, q.FixedPoint, q.MoonsReLU, q.PACT}
    assert known == {each for each in vars(q).values() if isinstance(each, type) and issubclass(each, q.Quantizer)} - {
        q.Quantizer
    }
    for quantizer in quantizers:
        for layer in (
            q.QLinear(5, 3, weight_quantizer=quantizer),
            q.QConv1d(4, 6, 3, weight_quantizer=quantizer),
            q.QConv2d(4, 6, (3, 2), groups=2, weight_quantizer=quantizer),
            q.QConv3d(4, 6, (3, 2, 1), weight_quantizer=quantizer),
            q.QConvTranspose2d(4, 6, (3, 2), weight_quantizer=quantizer),
            parametrized(quantizer),
        ):
            weight = next(each for _, each, _ in q.quantized_weights(layer))
            (factor,) = {
                group["lr_factor"]
                for group in scaled_parameter_groups(layer, 1.0)
                if any(each is weight for each in group["params"])
            }
            fans = sum(weight.shape[:2]) * math.prod(weight.shape[2:])
            assert factor == pytest.approx(1 if quantizer.clip is None else math.sqrt(fans / 1.5)), quantizer


def parametrized(quantizer: nn.Module) -> nn.Module:
    layer = nn.Linear(7, 2)
    parametrize.register_parametrization(layer, "weight", quantizer)
    return layer


@given(low=st.floats(-4, 0), high=st.floats(0.1, 4))
def test_wider_ranges_are_crossed_as_fast(low: float, high: float) -> None:
    quantizer = q.MoonsWeight(4)
    quantizer.clip = (low, high)
    (group,) = scaled_parameter_groups(q.QLinear(5, 3, bias=False, weight_quantizer=quantizer), 1.0)
    assert group["lr_factor"] == pytest.approx((high - low) / 2 * math.sqrt(8 / 1.5))


def test_groups_hold_every_parameter_once_in_a_fixed_order() -> None:
    model = layers_to_scale()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = scaled_parameter_groups(model, 1.0)
    found = [[names[id(parameter)] for parameter in group["params"]] for group in groups]
    assert sorted(sum(found, [])) == sorted(names.values())
    assert found[0] == ["0.weight", "2.weight"] and found[2] == ["5.weight"]
    twin_groups = scaled_parameter_groups(copy.deepcopy(model), 1.0)
    assert [(len(each["params"]), each["lr"]) for each in twin_groups] == [
        (len(each["params"]), each["lr"]) for each in groups
    ]
    for group, member_names in zip(groups, found, strict=True):
        assert {FACTORS.get(name, 1.0) for name in member_names} == {group["lr_factor"]}


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.SGD])
def test_scaled_rate_scales_each_update_exactly(kind: Callable[..., torch.optim.Optimizer]) -> None:
    """The same gradients, three times: every step of a scaled weight is the factor times the plain step."""
    plain, scaled = layers_to_scale(), layers_to_scale()
    start = {name: value.detach().clone() for name, value in plain.named_parameters()}
    scaled.load_state_dict(plain.state_dict())
    optimizers = [kind(plain.parameters(), lr=1e-3), kind(scaled_parameter_groups(scaled, 1e-3), lr=1e-3)]
    for _ in range(3):
        for ours, theirs in zip(scaled.parameters(), plain.parameters(), strict=True):
            theirs.grad = torch.randn_like(theirs)
            ours.grad = theirs.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for (name, ours), theirs in zip(scaled.named_parameters(), plain.parameters(), strict=True):
        expected = (theirs - start[name]) * FACTORS.get(name, 1.0)
        torch.testing.assert_close(ours - start[name], expected, rtol=1e-10, atol=1e-15)


def test_schedules_keep_the_factor() -> None:
    optimizer = torch.optim.Adam(scaled_parameter_groups(layers_to_scale(), 0.1), lr=0.1)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    optimizer.step()
    schedule.step()
    for group in optimizer.param_groups:
        assert group["lr"] == pytest.approx(0.05 * group["lr_factor"], rel=1e-12)


def batch_norm_networks() -> nn.Sequential:
    return nn.Sequential(
        nn.BatchNorm2d(3), nn.Dropout(0.5), q.QConv2d(3, 4, 3), nn.BatchNorm2d(4, momentum=None), nn.Flatten()
    )


def statistics(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and unbiased variance per channel over all other axes, in float64."""
    values = np.moveaxis(x.astype(np.float64), 1, 0).reshape(x.shape[1], -1)
    return values.mean(1), values.var(1, ddof=1)


@settings(max_examples=20, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=5),
    shift=st.sampled_from([0.0, 3.0, 1000.0]),
    as_pairs=st.booleans(),
)
def test_statistics_are_those_of_the_whole_data(sizes: list[int], shift: float, as_pairs: bool) -> None:
    model = batch_norm_networks()
    # batches of unequal size and unequal mean: the mean over batches would be wrong
    batches = [torch.randn(size, 3, 4, 5) * (i + 1) + shift * i for i, size in enumerate(sizes)]
    recalibrate_batchnorm(model, [(x, torch.zeros(len(x))) for x in batches] if as_pairs else iter(batches))
    mean, variance = statistics(torch.cat(batches).numpy())
    np.testing.assert_allclose(model[0].running_mean, mean, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(model[0].running_var, variance, rtol=1e-5)
    assert model[0].num_batches_tracked == len(sizes)


def test_deeper_layers_see_inputs_normalised_by_their_batch_and_no_dropout() -> None:
    model = batch_norm_networks()
    batches = [torch.randn(4, 3, 6, 6) * 2 + 1 for _ in range(3)]
    recalibrate_batchnorm(model, batches)
    with torch.no_grad():
        seen = torch.cat([model[2](nn.BatchNorm2d(3)(x)) for x in batches])
    mean, variance = statistics(seen.numpy())
    np.testing.assert_allclose(model[3].running_mean, mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model[3].running_var, variance, rtol=1e-4)


@pytest.mark.parametrize(("layer", "shape"), [(nn.BatchNorm1d(3), (9, 3)), (nn.BatchNorm1d(3), (4, 3, 5))])
def test_one_dimensional_inputs(layer: nn.Module, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    recalibrate_batchnorm(layer, [x])
    mean, variance = statistics(x.numpy())
    np.testing.assert_allclose(layer.running_mean, mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(layer.running_var, variance, rtol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_all_else_is_left_as_it_was(training: bool) -> None:
    model = batch_norm_networks().train(training)
    model[1].eval()
    modes = [module.training for module in model.modules()]
    parameters = copy.deepcopy(dict(model.named_parameters()))
    recalibrate_batchnorm(model, [torch.randn(2, 3, 4, 4)])
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, parameters[name]) for name, value in model.named_parameters())
    assert (model[0].momentum, model[3].momentum) == (0.1, None)
    assert all(layer.track_running_stats and not layer._forward_pre_hooks for layer in (model[0], model[3]))


def test_recalibration_repairs_stale_statistics() -> None:
    torch.manual_seed(0)
    layer = nn.BatchNorm1d(4)
    x = torch.randn(200, 4) * 5 + 7
    recalibrate_batchnorm(layer, x.split(50))
    out = layer.eval()(x)
    assert out.mean(0).abs().max() < 1e-5 and (out.var(0) - 1).abs().max() < 1e-4


def failing(count: int) -> Iterator[torch.Tensor]:
    yield from (torch.full((2, 3, 4, 4), math.nan) for _ in range(count))
    raise OSError("no more data")


def test_after_an_error_the_model_is_as_before() -> None:
    model = batch_norm_networks()
    state = copy.deepcopy(model.state_dict())
    with pytest.raises(OSError, match="no more data"):
        recalibrate_batchnorm(model, failing(2))
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert model.training and model[0].track_running_stats and not model[0]._forward_pre_hooks


def test_no_batches() -> None:
    with pytest.raises(UsageError, match="at least one batch"):
        recalibrate_batchnorm(batch_norm_networks(), [])


def test_a_single_value_per_channel() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    with pytest.raises(UsageError, match="node '1'.*larger batches"):
        recalibrate_batchnorm(model, [torch.randn(4, 3), torch.randn(1, 3)])
    assert torch.equal(model[1].running_mean, torch.zeros(3))
