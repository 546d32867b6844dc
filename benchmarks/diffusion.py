"""Times a UNet of Stable Diffusion 1.5's shapes against diffusers, and training against lucidrains.

    python benchmarks/diffusion.py        everything; --only step parts picture training

The network's 860 million weights are drawn at random, the same for both; float32, 512x512.
- step: the network once, for two contexts of the same picture. The outputs are compared.
- parts: the same without each of the things that make it faster, in turn.
- picture: DDIM with guidance and the decoder, from noise to pixels, with what `--fast` does.
  diffusers runs its own StableDiffusionPipeline. With `--peer-steps 5` diffusers makes fewer
  steps, each of which counts for more; its decoder counts once.
- training: a step of DDPM at 32x32 on pictures drawn at random, its loss, clipping and optimiser
  included. lucidrains' Unet(dim=64), GaussianDiffusion and Adam from the package
  denoising_diffusion_pytorch; ours a UNet2DModel of at least as many weights. What only the
  package's trainer and its scores need may be absent.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import sys
import time
import warnings
from collections.abc import Iterator
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.metadata import version
from statistics import median
from types import ModuleType
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from harness import Work, compare, headline, seconds
from vermilion.models.diffusion.config import UNetConfig, VAEConfig
from vermilion.models.diffusion.guidance import Condition, guided
from vermilion.models.diffusion.net import FeatureCache, UNet
from vermilion.models.diffusion.noise import Noise
from vermilion.models.diffusion.samplers import SAMPLERS
from vermilion.models.diffusion.schedule import make_schedule
from vermilion.models.diffusion.scheduler_config import SchedulerConfig
from vermilion.models.diffusion.vae import AutoencoderKL

SIDE, TOKENS, FEATURES, SCALE = 64, 77, 768, 7.5
SCHEDULER = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
VAE = {
    "down_block_types": 4 * ("DownEncoderBlock2D",),
    "up_block_types": 4 * ("UpDecoderBlock2D",),
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 512,
}
QUIET = 250.0  # below this t `--fast` does not guide
PARTS = {
    "Winograd's convolutions": ("vermilion.nn.convolution", "winograd_fits"),
    "norms and gates in C": ("vermilion.nn.maps", "_fits"),
    "attention in C": ("vermilion.nn.looking", "usable"),
    "the same pictures once": ("vermilion.models.diffusion.net", "_twins"),
}


def networks() -> tuple[UNet, Any]:
    """Ours and diffusers' with the same weights, in the same memory."""
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    theirs = UNet2DConditionModel(
        sample_size=SIDE, cross_attention_dim=FEATURES, attention_head_dim=8
    ).eval()
    config = {"_class_name": "UNet2DConditionModel", **theirs.config}
    with torch.device("meta"):
        ours = UNet(UNetConfig.from_diffusers(config))
    ours.load_state_dict(theirs.state_dict(), assign=True)
    return ours.eval().requires_grad_(False), theirs.requires_grad_(False)


def given() -> tuple[Tensor, Tensor, Tensor]:
    """A noisy picture twice, its time twice, and two contexts."""
    x = torch.randn(1, 4, SIDE, SIDE).repeat(2, 1, 1, 1)
    return x, torch.tensor([500, 500]), torch.randn(2, TOKENS, FEATURES)


def step(ours: UNet, theirs: Any, rounds: int) -> None:
    """A step with guidance."""
    x, t, context = given()
    name = f"diffusers {version('diffusers')}"
    with torch.inference_mode():
        compare(
            "a step with guidance, 512x512",
            seconds(lambda: ours(x, t, context)),
            name,
            seconds(lambda: theirs(x, t, context)),
            rounds=rounds,
        )
        right = theirs(x, t, context).sample
        print(f"difference: {distance(ours(x, t, context), right):.1e} of the output's norm\n")


def parts(ours: UNet, rounds: int) -> None:
    """What each part is worth: a step without it against a step with all."""
    x, t, context = given()
    ways = {"all": contextlib.nullcontext()}
    ways |= {
        name: patch(f"{room}.{what}", return_value=False) for name, (room, what) in PARTS.items()
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    with torch.inference_mode():
        ours(x, t, context)
        for _ in range(rounds):
            for name, way in ways.items():
                with way:
                    times[name].append(seconds(lambda: ours(x, t, context))())
    whole = median(times.pop("all"))
    print(f"a step with all: {whole:.2f} s")
    for name, taken in times.items():
        print(f"without {name}: {median(taken):.2f} s, {median(taken) / whole:.2f}x")


def picture(ours: UNet, theirs: Any, rounds: int, steps: int, peer_steps: int) -> None:
    """A whole picture."""
    from diffusers import AutoencoderKL as TheirVAE
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    scheduler = DDIMScheduler(**SCHEDULER)
    their_vae = TheirVAE(**VAE).eval().requires_grad_(False)
    vae = AutoencoderKL(
        VAEConfig.from_diffusers({"_class_name": "AutoencoderKL", **their_vae.config})
    )
    vae.load_state_dict(their_vae.state_dict())
    vae.eval().requires_grad_(False)
    config = SchedulerConfig.from_json({"_class_name": "DDIMScheduler", **scheduler.config})
    context = torch.randn(2, TOKENS, FEATURES)
    told, untold = Condition(context=context[:1]), Condition(context=context[1:])

    def paint(count: int, fast: bool, side: int = SIDE) -> Tensor:
        cache = FeatureCache() if fast else None
        noise = Noise([0], (4, side, side))

        def net(x: Tensor, t: Tensor, seen: Tensor | None = None, *_: Any) -> Tensor:
            return ours(x, t, seen, cache=cache)

        interval = (QUIET, float("inf")) if fast else None
        denoise = guided(net, told, untold, SCALE, interval=interval)
        levels = make_schedule(config).timesteps(count, "ddim")
        z = noise.next() * levels.init_noise_sigma
        for done in SAMPLERS["ddim"](
            denoise, z, levels, prediction_type="epsilon", noise=noise, eta=0.0
        ):
            z = done.x
        return vae.to_pictures(z).clamp(-1, 1)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe = StableDiffusionPipeline(
            vae=their_vae,
            text_encoder=None,
            tokenizer=None,
            unet=theirs,
            scheduler=scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    pipe.set_progress_bar_config(disable=True)

    def their_paint(count: int, side: int = SIDE) -> Tensor:
        return pipe(
            prompt_embeds=context[:1],
            negative_prompt_embeds=context[1:],
            latents=Noise([0], (4, side, side)).next(),
            height=8 * side,
            width=8 * side,
            guidance_scale=SCALE,
            num_inference_steps=count,
            output_type="pt",
        ).images * 2 - 1  # fmt: skip

    def counted() -> float:
        begun = time.perf_counter()
        their_paint(peer_steps)
        whole = time.perf_counter() - begun
        z = torch.randn(1, 4, SIDE, SIDE)
        decoding = seconds(lambda: their_vae.decode(z))()
        return decoding + (whole - decoding) * steps / peer_steps

    with torch.inference_mode():
        few = distance(paint(4, fast=False, side=16), their_paint(4, side=16))
        print(f"\npictures of 128x128 in 4 steps, without --fast: difference {few:.1e} of the norm")
        ours_times = [seconds(lambda: paint(steps, fast=True))() for _ in range(rounds)]
        peer = [counted() for _ in range(rounds)]
        mine, other = median(ours_times), median(peer)
        print(
            f"{steps} steps: {mine:.1f} s with --fast, diffusers {other:.1f} s: {other / mine:.2f}x"
        )


def training(rounds: int, batch: int) -> None:
    """A step of DDPM."""
    x = torch.rand(batch, 3, 32, 32)
    net, peer = ddpm(x), lucidrains(x)
    compare(
        f"training a DDPM at 32x32, {batch} pictures a step",
        lambda: batch / net(),
        f"denoising_diffusion_pytorch {version('denoising_diffusion_pytorch')}",
        lambda: batch / peer(),
        unit="pictures/s",
        rounds=rounds,
        higher_is_better=True,
    )


def ddpm(x: Tensor) -> Work:
    """A step of ours, after that of lucidrains' trainer: Adam, gradients clipped at 1."""
    net = UNet(
        UNetConfig.from_diffusers(
            {
                "_class_name": "UNet2DModel",
                "in_channels": 3,
                "out_channels": 3,
                "block_out_channels": (64, 128, 256, 512),
                "down_block_types": (*3 * ("DownBlock2D",), "AttnDownBlock2D"),
                "up_block_types": ("AttnUpBlock2D", *3 * ("UpBlock2D",)),
                "layers_per_block": 1,
                "attention_head_dim": 32,
                "norm_num_groups": 8,
            }
        )
    ).train()
    net.init_weights(0)
    print(f"weights: ours {sum(p.numel() for p in net.parameters()) / 1e6:.1f} million", end=", ")
    schedule = make_schedule(SchedulerConfig(beta_schedule="linear"))
    optimizer = torch.optim.Adam(net.parameters(), lr=8e-5, betas=(0.9, 0.99), fused=True)

    def advance() -> None:
        t = torch.randint(0, 1000, (len(x),))
        noise = torch.randn_like(x)
        loss = (net(schedule.add_noise(x * 2 - 1, noise, t), t) - noise).square().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()

    return seconds(advance)


def lucidrains(x: Tensor) -> Work:
    """A step of lucidrains' own network, loss and optimiser."""
    with absent(
        *("torchvision.transforms", "torchvision.utils", "ema_pytorch.ema", "accelerate.utils"),
        *("pytorch_fid.fid_score", "pytorch_fid.inception"),
    ):
        package = import_module("denoising_diffusion_pytorch.denoising_diffusion_pytorch")
    net = package.Unet(dim=64, dim_mults=(1, 2, 4, 8))
    diffusion = package.GaussianDiffusion(net, image_size=32)
    print(f"theirs {sum(p.numel() for p in net.parameters()) / 1e6:.1f}")
    optimizer = torch.optim.Adam(diffusion.parameters(), lr=8e-5, betas=(0.9, 0.99))

    def advance() -> None:
        loss = diffusion(x)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(diffusion.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return seconds(advance)


@contextlib.contextmanager
def absent(*names: str) -> Iterator[None]:
    """Empty modules in the place of those that are not installed."""
    made: list[str] = []
    for name in names:
        room, _, last = name.partition(".")
        if room not in made and importlib.util.find_spec(room) is not None:
            continue
        for whole in (room, name):
            if whole not in sys.modules:
                made.append(whole)
                sys.modules[whole] = ModuleType(whole)
                sys.modules[whole].__spec__ = ModuleSpec(whole, None)
                sys.modules[whole].__getattr__ = lambda what: None  # type: ignore[method-assign]
        setattr(sys.modules[room], last, sys.modules[name])

    yield
    for name in made:
        del sys.modules[name]


def distance(ours: Tensor, theirs: Tensor) -> float:
    """How far off, as a share of the norm."""
    return float((ours - theirs).norm() / theirs.norm())


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    works = ("step", "parts", "picture", "training")
    parser.add_argument("--only", nargs="+", choices=works, default=works)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=25, help="of a picture")
    parser.add_argument("--peer-steps", type=int, help="that diffusers makes; all if not given")
    parser.add_argument("--batch", type=int, nargs="+", default=[32, 64], help="pictures of a step")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    headline()
    if "training" in args.only:
        for batch in args.batch:
            training(args.rounds, batch)
    if {"step", "parts", "picture"} & set(args.only):
        ours, theirs = networks()
        if "step" in args.only:
            step(ours, theirs, args.rounds)
        if "parts" in args.only:
            parts(ours, args.rounds)
        if "picture" in args.only:
            picture(ours, theirs, args.rounds, args.steps, args.peer_steps or args.steps)


if __name__ == "__main__":
    main()
