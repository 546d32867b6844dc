"""Losses: targets, weights and the choice of levels."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch
from diffusers.training_utils import compute_snr
from torch import Tensor

from vermilion.errors import InputError
from vermilion.models.diffusion.guidance import Condition
from vermilion.models.diffusion.loss import (
    diffusion_loss,
    drop_condition,
    loss_weights,
    sample_times,
)
from vermilion.models.diffusion.prediction import convert, target
from vermilion.models.diffusion.schedule import Schedule, make_schedule
from vermilion.models.diffusion.scheduler_config import SchedulerConfig

VP = make_schedule(SchedulerConfig())
FLOW = make_schedule(SchedulerConfig.rectified_flow(shift=3.0))
KINDS: tuple[Any, ...] = ("epsilon", "sample", "v_prediction", "flow_prediction")


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


x0, noise = draw(4, 3, 4, 4), draw(4, 3, 4, 4, seed=1)
t = torch.tensor([1, 100, 500, 999])


@pytest.mark.parametrize("schedule", [VP, FLOW])
@pytest.mark.parametrize("kind", KINDS)
def test_a_network_that_is_right_loses_nothing(schedule: Schedule, kind: Any) -> None:
    alpha, sigma = schedule.coefficients(t)

    def right(x: Tensor, _: Tensor) -> Tensor:
        torch.testing.assert_close(x, schedule.add_noise(x0, noise, t))
        return target(kind, x0, noise, alpha, sigma)

    for weighting in ("simple", "min_snr", "p2"):
        lost = diffusion_loss(
            right, x0, noise, t, schedule, prediction_type=kind, weighting=weighting
        )
        assert lost.tolist() == [0.0] * 4


def test_the_simple_loss_is_the_mean_square_of_each_item() -> None:
    lost = diffusion_loss(lambda x, t: x * 0, x0, noise, t, VP, prediction_type="epsilon")
    torch.testing.assert_close(lost, noise.square().mean(dim=(1, 2, 3)))


@pytest.mark.parametrize("gamma", [1.0, 5.0])
def test_min_snr_weights_are_those_of_the_paper(gamma: float) -> None:
    """Hang et al. 2023, section 3.4, as diffusers' training scripts have it."""
    snr = compute_snr(diffusers.DDPMScheduler(), t)
    least = snr.clamp(max=gamma)
    for kind, wanted in (
        ("epsilon", least / snr),
        ("sample", least),
        ("v_prediction", least / (snr + 1)),
    ):
        found = loss_weights(VP, t, kind, "min_snr", snr_gamma=gamma)  # type: ignore[arg-type]
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-6)


def test_velocity_weights_are_the_error_of_the_velocity() -> None:
    """Li & He 2025: u = (x_t - x_0) / s, whose error is that of x_0 over s."""
    levels = torch.tensor([50.0, 100.0, 400.0, 1000.0])
    said = draw(4, 3, 4, 4, seed=2)
    lost = diffusion_loss(
        lambda x, t: said, x0, noise, levels, FLOW, prediction_type="sample", weighting="velocity"
    )
    s = (levels / 1000).view(4, 1, 1, 1)
    x = (1 - s) * x0 + s * noise
    s = s.clamp(min=0.1)
    wanted = ((x - said) / s - (x - x0) / s).square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(lost, wanted)
    plain = loss_weights(FLOW, levels[1:], "flow_prediction", "velocity")
    torch.testing.assert_close(plain, torch.ones(3))
    with pytest.raises(InputError, match="velocity is for a rectified flow"):
        loss_weights(VP, t, "sample", "velocity")


@pytest.mark.parametrize("power", [0.0, 0.5, 2.0])
def test_a_power_weighs_the_error_of_the_picture(power: float) -> None:
    levels = torch.tensor([50.0, 100.0, 400.0, 1000.0])
    said = draw(4, 3, 4, 4, seed=2)
    lost = diffusion_loss(
        lambda x, t: said, x0, noise, levels, FLOW,
        prediction_type="sample", weighting="power", weighting_power=power,
    )  # fmt: skip
    s = torch.tensor([0.1, 0.1, 0.4, 1.0]).view(4, 1, 1, 1)
    torch.testing.assert_close(lost, ((said - x0).square() / s**power).mean(dim=(1, 2, 3)))
    if power == 2:
        velocity = loss_weights(FLOW, levels, "sample", "velocity")
        found = loss_weights(FLOW, levels, "sample", "power", weighting_power=power)
        torch.testing.assert_close(found, velocity, rtol=0, atol=0)
    with pytest.raises(InputError, match="power is for a rectified flow"):
        loss_weights(VP, t, "sample", "power")


def test_p2_weights_are_those_of_the_paper() -> None:
    """Choi et al. 2022: the weight of an error of epsilon is 1 / (k + SNR)^gamma."""
    snr = VP.snr(t)
    found = loss_weights(VP, t, "epsilon", "p2", p2_gamma=0.5, p2_k=2.0)
    torch.testing.assert_close(found, (2.0 + snr) ** -0.5)
    plain = loss_weights(VP, t, "epsilon", "p2", p2_gamma=0.0)
    torch.testing.assert_close(plain, torch.ones(4))


@pytest.mark.parametrize("schedule", [VP, FLOW])
@pytest.mark.parametrize("weighting", ["min_snr", "p2"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_weighted_loss_is_the_same_in_whatever_words(
    schedule: Schedule, weighting: Any, kind: Any
) -> None:
    alpha, sigma = schedule.coefficients(t)
    wrong = noise + 0.3 * draw(4, 3, 4, 4, seed=2)
    x = schedule.add_noise(x0, noise, t)
    said = convert(wrong, x, alpha, sigma, "epsilon", kind)
    found, wanted = (
        diffusion_loss(
            lambda x, t, told=told: told,
            x0,
            noise,
            t,
            schedule,
            prediction_type=spoken,
            weighting=weighting,
        )
        for told, spoken in ((said, kind), (wrong, "epsilon"))
    )
    torch.testing.assert_close(found, wanted, rtol=5e-3, atol=1e-6)


def test_weights_are_finite_at_both_ends() -> None:
    zero = make_schedule(
        SchedulerConfig(rescale_betas_zero_snr=True, prediction_type="v_prediction")
    )
    for weighting in ("min_snr", "p2"):
        v = loss_weights(zero, torch.tensor([0, 999]), "v_prediction", weighting)
        u = loss_weights(FLOW, torch.tensor([1e-3, 1000.0]), "flow_prediction", weighting)
        assert torch.isfinite(torch.cat([v, u])).all()


def test_a_gradient_reaches_the_network() -> None:
    weight = torch.ones((), requires_grad=True)
    lost = diffusion_loss(lambda x, t: x * weight, x0, noise, t, VP, prediction_type="epsilon")
    lost.mean().backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None
    assert weight.grad.abs() > 0


@pytest.mark.parametrize("stratified", [False, True])
def test_levels_are_drawn_evenly(stratified: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    times = sample_times(20000, VP, generator, stratified=stratified)
    assert times.dtype == torch.int64
    assert (times.min(), times.max()) == (0, 999)
    assert times.double().mean().item() == pytest.approx(499.5, abs=7)
    again = sample_times(20000, VP, torch.Generator().manual_seed(0), stratified=stratified)
    assert torch.equal(times, again)


def test_stratified_levels_are_one_of_each_part() -> None:
    generator = torch.Generator().manual_seed(0)
    times = sample_times(10, VP, generator, stratified=True)
    assert sorted(int(time) // 100 for time in times) == list(range(10))
    assert times.tolist() != sorted(times.tolist())


def test_levels_of_a_flow() -> None:
    from diffusers.training_utils import compute_density_for_timestep_sampling

    plain = make_schedule(SchedulerConfig.rectified_flow())
    even = sample_times(20000, plain, torch.Generator().manual_seed(0))
    assert even.dtype == torch.float32
    assert even.min() > 0
    assert even.max() <= 1000
    shifted = sample_times(20000, FLOW, torch.Generator().manual_seed(0)) / 1000
    torch.testing.assert_close(shifted, 3 * even / 1000 / (1 + 2 * even / 1000))
    middle = sample_times(
        20000,
        plain,
        torch.Generator().manual_seed(0),
        distribution="logit_normal",
        mean=-0.5,
        std=0.8,
    )
    wanted = compute_density_for_timestep_sampling("logit_normal", 20000, -0.5, 0.8)
    for share in (0.05, 0.5, 0.95):
        found = torch.quantile(middle / 1000, share).item()
        assert found == pytest.approx(torch.quantile(wanted, share).item(), abs=0.02)


def test_conditions_are_dropped_as_often_as_asked() -> None:
    told = Condition(context=torch.ones(4000, 2, 3), labels=torch.ones(4000, dtype=torch.int64))
    untold = Condition(context=torch.zeros(1, 2, 3), labels=torch.zeros(1, dtype=torch.int64))
    mixed = drop_condition(told, untold, 0.1, torch.Generator().manual_seed(0))
    assert mixed.labels is not None
    assert mixed.context is not None
    assert mixed.labels.double().mean().item() == pytest.approx(0.9, abs=0.02)
    assert torch.equal(mixed.context[:, 0, 0].long(), mixed.labels)  # one decision an item
    for probability, left in ((0.0, 1), (1.0, 0)):
        all_or_none = drop_condition(told, untold, probability, torch.Generator()).labels
        assert all_or_none is not None
        assert all_or_none.unique().tolist() == [left]


def test_a_picture_that_has_no_opposite_is_kept() -> None:
    told = Condition(labels=torch.tensor([1, 2]), picture=draw(2, 3, 4, 4))
    untold = Condition(labels=torch.tensor([0]))
    mixed = drop_condition(told, untold, 1.0, torch.Generator())
    assert mixed.picture is told.picture
    assert mixed.labels is not None
    assert mixed.labels.tolist() == [0, 0]
