"""Changing pictures, against loops of diffusers' schedulers and against what has to come out."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from tests.models.diffusion.peers import SEEDS, SHAPE, tiny_net
from vermilion.errors import InputError
from vermilion.models.diffusion.edit import (
    ddim_inversion,
    inpainting_picture,
    masked_blend,
    outpaint,
    resize_mask,
    slerp,
    start_from,
    without_hole,
)
from vermilion.models.diffusion.guidance import Condition, conditioned
from vermilion.models.diffusion.noise import Noise
from vermilion.models.diffusion.samplers import SAMPLERS, sampler_options
from vermilion.models.diffusion.schedule import make_schedule
from vermilion.models.diffusion.scheduler_config import SchedulerConfig

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy")

PICTURE = torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(9)) * 2 - 1
MASK = (torch.arange(8) < 3).float().expand(3, 1, 8, 8).contiguous()
PEERS = [
    (diffusers.DDIMScheduler, "ddim", {"clip_sample": False}),
    (diffusers.EulerDiscreteScheduler, "euler", {}),
    (diffusers.DPMSolverMultistepScheduler, "dpmpp_2m", {}),
    (diffusers.DPMSolverMultistepScheduler, "dpmpp_2m_karras", {"use_karras_sigmas": True}),
    (diffusers.FlowMatchEulerDiscreteScheduler, "flow_euler", {"shift": 2.0}),
]


def close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def theirs(
    scheduler: Any, net: Any, count: int, strength: float, mask: Tensor | None = None
) -> Tensor:
    """The loop of diffusers' pipelines that start from a picture, and of those that keep a part."""
    scheduler.set_timesteps(count)
    begin = count - min(int(count * strength), count)
    times = scheduler.timesteps[begin:]
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(begin)
    flow = hasattr(scheduler, "scale_noise")
    noise = Noise(SEEDS, SHAPE).next()

    def noisy(t: Tensor) -> Tensor:
        if flow:
            return scheduler.scale_noise(PICTURE, t[None], noise)
        return scheduler.add_noise(PICTURE, noise, t[None])

    x = noisy(times[0])
    for index, t in enumerate(times):
        shown = x if flow else scheduler.scale_model_input(x, t)
        x = scheduler.step(net(shown, t.expand(3)), t, x).prev_sample
        if mask is not None:
            kept = PICTURE if index + 1 == len(times) else noisy(times[index + 1])
            x = (1 - mask) * kept + mask * x
    return x


@pytest.mark.parametrize(("peer", "name", "fields"), PEERS)
@pytest.mark.parametrize("strength", [0.3, 0.75, 1.0])
@pytest.mark.parametrize("masked", [False, True])
def test_a_picture_is_changed_as_diffusers_changes_it(
    peer: Any, name: str, fields: dict[str, Any], strength: float, masked: bool
) -> None:
    scheduler = peer(**fields)
    config = SchedulerConfig.from_json({"_class_name": peer.__name__, **scheduler.config})
    net = tiny_net(scheduler, config.prediction_type)
    wanted = theirs(scheduler, net, 20, strength, MASK if masked else None)
    noise = Noise(SEEDS, SHAPE)
    first = noise.next()
    steps = make_schedule(config).timesteps(20, name)
    x, left = start_from(PICTURE, first, steps, strength)
    run = SAMPLERS[name](
        net,
        x,
        left,
        prediction_type=config.prediction_type,
        noise=noise,
        **sampler_options(config, name),
        blend=masked_blend(PICTURE, first, MASK) if masked else None,
    )
    done = list(run)
    assert len(done) == int(20 * strength)
    close(done[-1].x, wanted)
    if masked:
        kept = (MASK == 0).expand_as(PICTURE)
        close(done[-1].x[kept], PICTURE[kept])


def test_the_channels_of_an_inpainting_network_are_those_of_diffusers() -> None:
    """Of its pipeline: torch.cat([latents, mask, masked image's latents], dim=1)."""
    x, t = torch.randn(3, *SHAPE), torch.full((3,), 7.0)
    shown: list[Tensor] = []

    def net(x: Tensor, t: Tensor, *told: Tensor | None) -> Tensor:
        shown.append(x)
        return x[:, :3]

    hidden = without_hole(PICTURE, MASK)
    condition = Condition(picture=inpainting_picture(hidden, MASK[:1]))
    conditioned(net, condition)(x, t)
    assert torch.equal(shown[0], torch.cat([x, MASK, hidden], dim=1))
    assert torch.equal(hidden[:, :, :, :3], torch.zeros(3, 3, 8, 3))
    assert torch.equal(hidden[:, :, :, 3:], PICTURE[:, :, :, 3:])


def test_a_mask_is_made_smaller_as_in_diffusers() -> None:
    mask = (torch.rand(1, 1, 64, 64) < 0.5).float()
    assert torch.equal(resize_mask(mask, 8, 8), mask[:, :, ::8, ::8])


def test_a_canvas_grows_on_the_sides_that_are_asked_for() -> None:
    canvas, mask = outpaint(PICTURE, left=4, bottom=2)
    assert canvas.shape == (3, 3, 10, 12)
    assert mask.shape == (3, 1, 10, 12)
    assert torch.equal(canvas[:, :, :8, 4:], PICTURE)
    assert torch.equal(canvas[:, :, :8, 0], PICTURE[:, :, :, 0])  # the edge drawn out
    assert not mask[:, :, :8, 4:].any()
    assert bool(mask[:, :, 8:].all())
    assert bool(mask[:, :, :, :4].all())


def test_a_mask_falls_over_the_overlap() -> None:
    _, mask = outpaint(PICTURE, right=4, overlap=4)
    torch.testing.assert_close(
        mask[0, 0, 0], torch.tensor([0, 0, 0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1, 1, 1])
    )


@pytest.mark.parametrize(
    ("sides", "sentence"),
    [
        ({}, "left, top, right, bottom: at least one has to be above 0"),
        ({"left": -1}, "left: must be a whole number of pixels"),
        ({"left": 1.5}, "left: must be a whole number of pixels"),
        ({"left": 1, "right": 1, "overlap": 4}, "overlap: 4 pixels leave nothing of 8 x 8"),
    ],
)
def test_a_canvas_that_cannot_be(sides: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        outpaint(PICTURE, **sides)


def test_a_mask_of_another_size() -> None:
    for mask in (torch.ones(3, 1, 4, 4), torch.ones(3, 3, 8, 8), torch.ones(8, 8)):
        with pytest.raises(InputError, match=r"mask: is of shape .* needs \(N, 1, 8, 8\)"):
            masked_blend(PICTURE, PICTURE, mask)


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_inversion_is_that_of_diffusers(kind: Any, spacing: Any) -> None:
    inverse = diffusers.DDIMInverseScheduler(
        prediction_type=kind, clip_sample=False, timestep_spacing=spacing, set_alpha_to_one=False
    )
    net = tiny_net(inverse, kind)
    inverse.set_timesteps(25)
    x = PICTURE
    for t in inverse.timesteps:
        x = inverse.step(net(x, t.expand(3)), t, x).prev_sample
    config = SchedulerConfig(prediction_type=kind, timestep_spacing=spacing, set_alpha_to_one=False)
    steps = make_schedule(config).timesteps(25, "ddim")
    close(ddim_inversion(net, PICTURE, steps, kind), x)


@pytest.mark.parametrize("flow", [False, True])
def test_the_noise_that_is_found_paints_the_picture_again(flow: bool) -> None:
    """The closer, the more steps; the network is the exact one for normal data."""
    name = "flow_euler" if flow else "ddim"
    config = SchedulerConfig.rectified_flow() if flow else SchedulerConfig()
    schedule = make_schedule(config)

    def exact(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = schedule.coefficients(t)
        epsilon = sigma * x / (alpha**2 * 0.25 + sigma**2)
        return epsilon - alpha * x * 0.25 / (alpha**2 * 0.25 + sigma**2) if flow else epsilon

    def error(count: int) -> float:
        steps = schedule.timesteps(count, name)
        kind = config.prediction_type
        x = ddim_inversion(exact, PICTURE, steps, kind)
        noise = Noise(SEEDS, SHAPE)
        run = SAMPLERS[name](exact, x, steps, prediction_type=kind, noise=noise)
        return float(([step.x for step in run][-1] - PICTURE).abs().max())

    assert error(200) < error(50) / 2
    assert error(200) < 0.05


def test_no_noise_is_made_up_for_a_network_that_says_pictures() -> None:
    steps = make_schedule(SchedulerConfig(prediction_type="sample")).timesteps(5)
    with pytest.raises(InputError, match="of a network that says sample no noise can be found"):
        ddim_inversion(lambda x, t: x, PICTURE, steps, "sample")


def test_slerp_is_that_of_diffusers() -> None:
    from diffusers.pipelines.deprecated.audio_diffusion import pipeline_audio_diffusion as audio

    first, second = torch.randn(2, 1, 64)
    for amount in (0.0, 0.3, 1.0):
        wanted = audio.AudioDiffusionPipeline.slerp(first[0], second[0], amount)
        close(slerp(first, second, amount)[0], wanted)


def test_slerp_stays_on_the_sphere() -> None:
    first, second = torch.randn(2, 3, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    for amount in (0.0, 0.25, 0.5, 1.0):
        assert slerp(first, second, amount).std().item() == pytest.approx(1.0, abs=0.02)
    each = slerp(first, second, torch.tensor([0.0, 0.5, 1.0]))
    torch.testing.assert_close(each[0], first[0])
    torch.testing.assert_close(each[2], second[2])
    torch.testing.assert_close(each[1:2], slerp(first[1:2], second[1:2], 0.5))
    same = slerp(first, first, 0.5)
    torch.testing.assert_close(same, first)
    for amount in (-0.1, 1.1, float("nan")):
        with pytest.raises(InputError, match="amount: must be from 0 to 1"):
            slerp(first, second, amount)
