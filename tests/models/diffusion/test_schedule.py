"""Paths against the published tables and against diffusers' schedulers."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vermilion.errors import InputError, ModelError
from vermilion.models.diffusion.schedule import DiscreteSchedule, FlowSchedule, make_schedule
from vermilion.models.diffusion.scheduler_config import SchedulerConfig

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy")

STABLE_DIFFUSION: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
}
COSINE = {"beta_schedule": "squaredcos_cap_v2"}


def config(**fields: Any) -> SchedulerConfig:
    return SchedulerConfig(**fields)


@pytest.mark.parametrize(
    ("fields", "snr", "rate"),
    [
        ({}, 4.035993e-05, 0.006353),
        (COSINE, 2.428735e-09, 4.928220e-05),
        (STABLE_DIFFUSION, 0.004682, 0.068265),
    ],
)
def test_the_last_level_is_that_of_table_1_of_lin_et_al(
    fields: dict[str, Any], snr: float, rate: float
) -> None:
    schedule = DiscreteSchedule(config(**fields))
    last = torch.tensor([999])
    assert schedule.snr(last).item() == pytest.approx(snr, rel=2e-4)
    assert schedule.alpha(last).item() == pytest.approx(rate, rel=2e-4)


@pytest.mark.parametrize(
    ("spacing", "offset", "levels"),
    [
        ("leading", 0, [901, 801, 701, 601, 501, 401, 301, 201, 101, 1]),
        ("linspace", 0, [1000, 889, 778, 667, 556, 445, 334, 223, 112, 1]),
        ("trailing", 0, [1000, 900, 800, 700, 600, 500, 400, 300, 200, 100]),
    ],
)
def test_ten_of_a_thousand_levels_are_those_of_table_2_of_lin_et_al(
    spacing: Any, offset: int, levels: list[int]
) -> None:
    schedule = DiscreteSchedule(config(timestep_spacing=spacing, steps_offset=offset))
    steps = schedule.timesteps(10, "ddim")
    assert [int(t) + 1 for t in steps.t] == levels  # the table counts from 1


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize(
    "fields", [{}, COSINE, STABLE_DIFFUSION, {"beta_schedule": "sigmoid"}, {"beta_end": 0.01}]
)
def test_betas_are_those_of_diffusers(fields: dict[str, Any], zero: bool) -> None:
    fields = fields | {"rescale_betas_zero_snr": zero, "prediction_type": "v_prediction"}
    ours = DiscreteSchedule(config(class_name="DDPMScheduler", **fields))
    theirs = diffusers.DDPMScheduler(**fields)
    np.testing.assert_allclose(ours.betas, theirs.betas, atol=2e-7, rtol=0)
    np.testing.assert_allclose(ours.alphas_cumprod, theirs.alphas_cumprod, atol=1e-7, rtol=1e-5)
    if zero:
        assert ours.snr(torch.tensor(999)).item() == 0.0
        assert ours.betas[-1] == 1.0


def test_given_betas_are_taken_as_they_are() -> None:
    betas = (0.1, 0.2, 0.3)
    ours = DiscreteSchedule(config(num_train_timesteps=3, trained_betas=betas))
    np.testing.assert_allclose(ours.alphas_cumprod, [0.9, 0.72, 0.504], rtol=1e-6)


@pytest.mark.parametrize("fields", [{}, COSINE, STABLE_DIFFUSION])
def test_the_posterior_is_that_of_diffusers(fields: dict[str, Any]) -> None:
    ours = DiscreteSchedule(config(**fields))
    theirs = diffusers.DDPMScheduler(**fields, clip_sample=False, prediction_type="sample")
    # In float32 their differences of numbers near 1 lose three digits.
    theirs.alphas_cumprod = ours.alphas_cumprod.double()
    x, x0 = torch.randn(2, 1, 3, 4, 4, dtype=torch.float64)
    for t in (1, 2, 10, 500, 999):
        a, b, variance = ours.posterior(t)
        assert variance == pytest.approx(float(theirs._get_variance(t)), rel=1e-9)
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        generator.manual_seed(0)
        wanted = theirs.step(x0, t, x, generator=generator).prev_sample
        found = a * x0 + b * x + variance**0.5 * noise
        torch.testing.assert_close(found, wanted)
    assert ours.posterior(0)[2] == 0.0


def test_many_small_steps_are_one_large_one() -> None:
    """q(x_t | x_0) is what the steps q(x_t | x_{t-1}) make of x_0 (Ho et al. 2020, eq. 4)."""
    schedule = DiscreteSchedule(config(num_train_timesteps=50, beta_end=0.2))
    x0 = torch.full((1, 1, 300, 300), 0.7)
    generator = torch.Generator().manual_seed(0)
    x = x0
    for t in range(31):
        noise = torch.randn(x.shape, generator=generator)
        x = schedule.forward_step(x, noise, torch.tensor([t]))
    at = torch.tensor([30])
    assert x.mean().item() == pytest.approx(0.7 * schedule.alpha(at).item(), abs=0.01)
    assert x.std().item() == pytest.approx(schedule.sigma(at).item(), abs=0.01)


@pytest.mark.parametrize("fields", [{}, COSINE, STABLE_DIFFUSION])
def test_noise_is_added_as_in_diffusers(fields: dict[str, Any]) -> None:
    x0, noise = torch.randn(4, 3, 8, 8), torch.randn(4, 3, 8, 8)
    t = torch.tensor([0, 3, 500, 999])
    wanted = diffusers.DDPMScheduler(**fields).add_noise(x0, noise, t)
    torch.testing.assert_close(DiscreteSchedule(config(**fields)).add_noise(x0, noise, t), wanted)


def test_noise_is_added_to_a_flow_as_in_diffusers() -> None:
    theirs = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    ours = FlowSchedule(SchedulerConfig.rectified_flow(shift=3.0))
    x0, noise = torch.randn(3, 3, 8, 8), torch.randn(3, 3, 8, 8)
    t = theirs.timesteps[[0, 400, 999]]
    torch.testing.assert_close(ours.add_noise(x0, noise, t), theirs.scale_noise(x0, t, noise))


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 300), st.floats(1e-5, 0.01), st.floats(0.011, 0.3), st.booleans())
def test_a_path_only_loses_signal(steps: int, first: float, last: float, zero: bool) -> None:
    fields = {"rescale_betas_zero_snr": zero, "prediction_type": "v_prediction"}
    schedule = DiscreteSchedule(
        config(num_train_timesteps=steps, beta_start=first, beta_end=last, **fields)
    )
    t = torch.arange(steps)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones(steps))
    assert (schedule.snr(t).diff() < 0).all()
    assert alpha[0].item() == pytest.approx((1 - first) ** 0.5)


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(["ddpm", "ddim", "euler", "euler_ancestral", "heun", "dpmpp_2m"]),
    st.sampled_from(["leading", "linspace", "trailing"]),
    st.integers(1, 400),
)
def test_levels_fall_to_none(sampler: str, spacing: Any, count: int) -> None:
    steps = DiscreteSchedule(config()).timesteps(count, sampler, timestep_spacing=spacing)
    assert len(steps) == count == len(steps.alpha) - 1 == len(steps.sigma) - 1
    assert (steps.t.diff() < 0).all()
    assert (torch.tensor(steps.sigma).diff() < 0).all()
    assert (steps.alpha[-1], steps.sigma[-1]) == (1.0, 0.0)


@pytest.mark.parametrize("count", [1, 2, 7, 10, 25, 30, 50])
@pytest.mark.parametrize("spacing", ["leading", "linspace", "trailing"])
@pytest.mark.parametrize(
    ("sampler", "peer", "more"),
    [
        ("ddim", diffusers.DDIMScheduler, {}),
        ("ddpm", diffusers.DDPMScheduler, {}),
        ("euler", diffusers.EulerDiscreteScheduler, {}),
        ("euler", diffusers.EulerDiscreteScheduler, {"use_karras_sigmas": True}),
        ("euler_ancestral", diffusers.EulerAncestralDiscreteScheduler, {}),
        ("dpmpp_2m", diffusers.DPMSolverMultistepScheduler, {}),
        ("dpmpp_2m", diffusers.DPMSolverMultistepScheduler, {"use_karras_sigmas": True}),
    ],
)
def test_timesteps_are_those_of_diffusers(
    sampler: str, peer: Any, more: dict[str, Any], spacing: Any, count: int
) -> None:
    fields = STABLE_DIFFUSION | {"timestep_spacing": spacing, "steps_offset": 1} | more
    theirs = peer(**fields)
    theirs.set_timesteps(count)
    ours = DiscreteSchedule(config(**fields)).timesteps(count, sampler)
    torch.testing.assert_close(ours.t, theirs.timesteps.float(), atol=2e-3, rtol=1e-5)
    if hasattr(theirs, "sigmas"):
        ratio = torch.tensor(ours.sigma) / torch.tensor(ours.alpha)
        torch.testing.assert_close(ratio, theirs.sigmas, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("count", [1, 4, 28])
def test_a_flows_timesteps_are_those_of_diffusers(count: int, shift: float) -> None:
    theirs = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    theirs.set_timesteps(count)
    ours = FlowSchedule(SchedulerConfig.rectified_flow(shift=shift)).timesteps(count)
    torch.testing.assert_close(ours.t, theirs.timesteps, atol=1e-3, rtol=1e-5)
    torch.testing.assert_close(torch.tensor(ours.sigma), theirs.sigmas, atol=1e-6, rtol=1e-5)


def test_strength_keeps_the_latter_steps() -> None:
    steps = DiscreteSchedule(config()).timesteps(10)
    part = steps.from_strength(0.35)
    assert part.t.tolist() == [200.0, 100.0, 0.0]
    assert part.sigma == steps.sigma[7:]
    assert part.num_inference_steps == 10
    assert len(steps.from_strength(1.0)) == 10
    for strength in (0.0, -0.1, 1.1, float("nan")):
        with pytest.raises(InputError, match="strength: must be above 0 and at most 1"):
            steps.from_strength(strength)
    with pytest.raises(InputError, match=r"strength: 0.05 of 10 steps is none; use at least 0.1"):
        steps.from_strength(0.05)


@pytest.mark.parametrize("count", [0, -1, 1001, 2.5, True])
def test_a_number_of_steps_that_there_is_not(count: Any) -> None:
    for fields in (config(), SchedulerConfig.rectified_flow()):
        with pytest.raises(InputError, match="num_inference_steps: must be a whole number from 1"):
            make_schedule(fields).timesteps(count)


def test_steps_that_a_path_does_not_have() -> None:
    discrete, flow = DiscreteSchedule(config()), FlowSchedule(SchedulerConfig.rectified_flow())
    with pytest.raises(InputError, match="sampler: flow_euler is not defined for this model"):
        discrete.timesteps(10, "flow_euler")
    with pytest.raises(InputError, match="sampler: ddpm is not defined for a rectified flow"):
        flow.timesteps(10, "ddpm")
    with pytest.raises(InputError, match="use_karras_sigmas: ddim takes whole timesteps"):
        discrete.timesteps(10, "ddim", use_karras_sigmas=True)
    with pytest.raises(InputError, match="a rectified flow has a shift"):
        flow.timesteps(10, timestep_spacing="leading")
    with pytest.raises(InputError, match="1000 are too many for timestep_spacing leading"):
        DiscreteSchedule(config(steps_offset=1)).timesteps(1000)
    with pytest.raises(InputError, match="1000 are too many for timestep_spacing leading"):
        discrete.timesteps(1000, "dpmpp_2m")
    for schedule, outside in ((discrete, 1000.0), (discrete, 0.5), (flow, 1000.5), (flow, -1.0)):
        with pytest.raises(ValueError, match="t: must be"):
            schedule.alpha(torch.tensor([outside]))


CLASSES = [
    diffusers.DDPMScheduler,
    diffusers.DDIMScheduler,
    diffusers.PNDMScheduler,
    diffusers.EulerDiscreteScheduler,
    diffusers.EulerAncestralDiscreteScheduler,
    diffusers.HeunDiscreteScheduler,
    diffusers.DPMSolverMultistepScheduler,
    diffusers.FlowMatchEulerDiscreteScheduler,
    diffusers.UniPCMultistepScheduler,
    diffusers.LMSDiscreteScheduler,
]


@pytest.mark.parametrize("peer", CLASSES)
def test_what_diffusers_wrote_is_read_and_written_back(peer: Any, tmp_path: Path) -> None:
    theirs = peer()
    theirs.save_pretrained(tmp_path / "theirs")
    path = tmp_path / "theirs" / "scheduler_config.json"
    ours = SchedulerConfig.read(path)
    assert ours.class_name == peer.__name__
    for name, value in theirs.config.items():
        if hasattr(ours, name) and value is not None and name != "variance_type":
            assert getattr(ours, name) == value, name
    # An empty file means the class's defaults: they have to be the same ones.
    assert SchedulerConfig.from_json({"_class_name": peer.__name__}) == SchedulerConfig.from_json(
        {k: v for k, v in json.loads(path.read_text()).items() if hasattr(ours, k) or k[0] == "_"}
    )
    again = tmp_path / "ours"
    again.mkdir()
    ours.write(again / "scheduler_config.json")
    assert SchedulerConfig.read(again / "scheduler_config.json") == ours
    back = peer.from_pretrained(again)
    assert {k: v for k, v in back.config.items() if k[0] != "_"} == {
        k: v for k, v in theirs.config.items() if k[0] != "_"
    }
    if hasattr(back, "betas"):
        betas = make_schedule(ours).betas  # type: ignore[attr-defined]
        np.testing.assert_allclose(betas, back.betas, atol=1e-7)


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        ({}, "_class_name: is missing"),
        ({"_class_name": "LCMScheduler"}, "_class_name: 'LCMScheduler' is no scheduler"),
        ({"beta_schedule": "laplace"}, "beta_schedule: must be one of linear"),
        ({"prediction_type": "noise"}, "prediction_type: must be one of epsilon"),
        ({"prediction_type": "flow_prediction"}, "flow_prediction needs a rectified flow"),
        ({"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr: at the last level there is"),
        ({"num_train_timesteps": 0}, "num_train_timesteps: must be a whole number"),
        ({"beta_start": 1.5}, "beta_start, beta_end, trained_betas: must be from 0"),
        ({"trained_betas": [0.1]}, "trained_betas: there are 1 for 1000 timesteps"),
        ({"trained_betas": 0.1}, "trained_betas: must be a list"),
        ({"beta_end": "much"}, "beta_end: must be a number"),
        ({"beta_end": float("nan")}, "beta_end: must be a number"),
        ({"clip_sample": 1}, "clip_sample: must be true or false"),
        ({"use_beta_sigmas": True}, "use_beta_sigmas: True is not supported"),
        ({"variance_type": "fixed_large_log"}, "variance_type: must be one of"),
        (
            {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 0},
            "shift: must be above 0",
        ),
        (
            {"_class_name": "FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting": True},
            "use_dynamic_shifting: True is not supported",
        ),
        (
            {"_class_name": "DPMSolverMultistepScheduler", "use_flow_sigmas": True},
            "prediction_type: a rectified flow needs flow_prediction or sample",
        ),
    ],
)
def test_a_configuration_that_cannot_be_used_is_refused(
    found: dict[str, Any], sentence: str
) -> None:
    given = {"_class_name": "DDIMScheduler"} | found if found else {}
    with pytest.raises(ModelError, match=sentence):
        SchedulerConfig.from_json(given)


def test_a_configuration_can_be_a_key_and_be_copied() -> None:
    found = SchedulerConfig.from_json({"_class_name": "PNDMScheduler", "skip_prk_steps": True})
    assert {found: 1}[copy.deepcopy(found)] == 1
    assert found.to_json()["skip_prk_steps"] is True


def test_a_solver_that_reads_half_of_what_is_said_is_written_as_one() -> None:
    solver = {"_class_name": "DPMSolverMultistepScheduler", "variance_type": "learned"}
    written = SchedulerConfig.from_json(solver).to_json()
    assert diffusers.DPMSolverMultistepScheduler.from_config(written).config.variance_type
    assert SchedulerConfig.from_json(written) == SchedulerConfig.from_json(solver)


def test_a_class_that_cannot_say_it_is_not_written() -> None:
    with pytest.raises(InputError, match="beta_schedule: only DDPMScheduler knows sigmoid"):
        config(beta_schedule="sigmoid").to_json()
    heun = config(
        class_name="HeunDiscreteScheduler",
        rescale_betas_zero_snr=True,
        prediction_type="v_prediction",
    )
    with pytest.raises(InputError, match="rescale_betas_zero_snr: HeunDiscreteScheduler"):
        heun.to_json()


def test_files_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "scheduler_config.json"
    with pytest.raises(ModelError, match="is missing"):
        SchedulerConfig.read(path)
    path.write_text("[1]")
    with pytest.raises(ModelError, match="not a JSON object"):
        SchedulerConfig.read(path)
