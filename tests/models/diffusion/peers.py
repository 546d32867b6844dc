"""A tiny network with random weights, and loops of diffusers around it to compare with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers
import torch
from torch import Tensor
from torch.nn import functional as F

from vermilion.models.diffusion.noise import Noise
from vermilion.models.diffusion.samplers import SAMPLERS, sampler_options
from vermilion.models.diffusion.sampling import Step
from vermilion.models.diffusion.schedule import make_schedule
from vermilion.models.diffusion.scheduler_config import SchedulerConfig

SHAPE = (3, 8, 8)
SEEDS = (1, 2, 3)

Net = Callable[[Tensor, Tensor], Tensor]


def tiny_net(scheduler: Any, kind: str, out_channels: int = 3) -> Net:
    """Random convolutions that paint a picture from x and t, and say so in the words of `kind`.

    As of a trained network, what it says of x is consistent with some picture within -1 to 1. A
    network of mere noise would drive x to thousands, where float32 has no fourth decimal left.
    """
    abar = getattr(scheduler, "alphas_cumprod", None)
    if abar is not None:
        log_ratio = ((1 - abar.double()) / abar.double().clamp(min=2**-24)).log() / 2  # (T,)
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(8, 3, 3, 3, generator=generator) / 4
    last = torch.randn(out_channels, 8, 3, 3, generator=generator) / 4
    rates = torch.randn(8, generator=generator) / 300
    shifts = torch.randn(8, generator=generator)

    @torch.no_grad()
    def denoise(x: Tensor, t: Tensor) -> Tensor:
        told = torch.sin(t.float()[:, None] * rates + shifts)  # (N, 8)
        hidden = F.silu(F.conv2d(x, first, padding=1) + told[:, :, None, None])
        painted = torch.tanh(F.conv2d(hidden, last, padding=1))
        picture, rest = painted[:, :3], painted[:, 3:]
        if kind == "flow_prediction" or abar is None:
            sigma = (t / 1000)[:, None, None, None]
            alpha = 1 - sigma
        else:
            low = t.long().clamp(max=len(abar) - 2)
            ratio = torch.lerp(log_ratio[low], log_ratio[low + 1], t.double() - low).exp()
            alpha = (1 + ratio**2).rsqrt()[:, None, None, None].float()
            sigma = ratio[:, None, None, None].float() * alpha
        noise = (x - alpha * picture) / sigma
        said = {
            "epsilon": noise,
            "sample": picture,
            "v_prediction": alpha * noise - sigma * picture,
            "flow_prediction": noise - picture,
        }[kind]
        return torch.cat([said, rest], dim=1)

    return denoise


def tiny_unet(seed: int = 0) -> Net:
    """The UNet2DModel of diffusers, at toy size."""
    torch.manual_seed(seed)
    net = diffusers.UNet2DModel(
        sample_size=8,
        layers_per_block=1,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    ).eval()

    @torch.no_grad()
    def denoise(x: Tensor, t: Tensor) -> Tensor:
        said: Tensor = net(x, t).sample
        return said * 2.0  # random weights say less than trained ones would

    return denoise


def first_noise(seeds: tuple[int, ...] = SEEDS) -> Tensor:
    return Noise(seeds, SHAPE).next()


def theirs(scheduler: Any, denoise: Net, count: int, **step: Any) -> Tensor:
    """diffusers' pipelines' loop: scale the start, scale each input, step."""
    generators = [torch.Generator().manual_seed(seed) for seed in SEEDS]
    start = [torch.randn((1, *SHAPE), generator=generator) for generator in generators]
    scheduler.set_timesteps(count)
    if hasattr(scheduler, "set_begin_index"):  # two timesteps may be rounded to the same
        scheduler.set_begin_index(0)
    flow = not hasattr(scheduler, "init_noise_sigma")
    x = torch.cat(start) * (1.0 if flow else scheduler.init_noise_sigma)
    if "generator" in step:
        step = step | {"generator": generators}
    for t in scheduler.timesteps:
        shown = x if flow else scheduler.scale_model_input(x, t)
        said = denoise(shown, t.expand(len(x)))
        x = scheduler.step(said, t, x, **step).prev_sample
    return x


def run_of(config: SchedulerConfig, name: str, denoise: Net, count: int, **own: Any) -> list[Step]:
    """Our loop, as a pipeline runs it."""
    steps = make_schedule(config).timesteps(count, name)
    noise = Noise(SEEDS, SHAPE)
    x = noise.next() * steps.init_noise_sigma
    options = sampler_options(config, name) | own
    kind = config.prediction_type
    return list(SAMPLERS[name](denoise, x, steps, prediction_type=kind, noise=noise, **options))


def ours(config: SchedulerConfig, name: str, denoise: Net, count: int, **own: Any) -> Tensor:
    return run_of(config, name, denoise, count, **own)[-1].x
