"""The first stage of a latent model: an autoencoder (Rombach et al. 2022, sec. 3.1).

    L = |e| + edge_weight (|rows(e)| + |columns(e)|) + coarse_weight |pooled(e)|        e = x' - x
        + kl_weight KL(q(z|x) || N(0, I)) / numbers of z - adversarial_weight D(x')
    L_D = 1/2 (max(0, 1 - D(x)) + max(0, 1 + D(x')))        the hinge loss of Lim & Ye 2017

|e| is the mean absolute error; rows and columns are differences between neighbours, which keep
edges sharp; pooled is the mean of 4x4 px, which keeps large areas at their colours. There is no
perceptual term: it needs another network. D says of each patch how real it looks. Both are learned
in one backward pass: D's weights are constants in L, and x' is one in L_D.

    x' = decode(z + u latent_noise std(z) n)        u ~ U(0, 1), n ~ N(0, I), of each picture

What a diffusion model paints is never quite a latent that the encoder would give. A decoder that
has seen latents with all amounts of noise up to some has learnt what to make of such errors, too
(Zheng et al. 2025, noise-augmented decoding). std(z) is of the picture's own latent, so that the
encoder cannot escape the noise by larger numbers.

N items, C channels of a picture, H W its height and width, Z channels of a latent, h w its sides.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from vermilion.data.pictures import Batch, Batches, to_bytes, to_float
from vermilion.models.diffusion.noise import Noise
from vermilion.models.diffusion.vae import AutoencoderKL
from vermilion.nn.linear import Conv2d
from vermilion.train.diffusion.options import Autoencoder
from vermilion.train.diffusion.task import seed_of, sheet

_CPU_PIXELS = 32768  # of all pictures that a CPU computes at once, or squares of pixels
_NOISE, _COARSE = 1, 4  # what a seed is for; side of the squares of the coarse error, in px
_SHOWN = 8
_SCALED = 32  # batches from which the scale of latents is found
_CHANNELS, _GROUPS = (32, 64, 128), 8


class Discriminator(nn.Module):
    """How real each patch of a picture looks (Isola et al. 2017, sec. 3.2.2).

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        sizes = (channels, *_CHANNELS)
        self.convs = nn.ModuleList(
            Conv2d(into, out, 4, stride=2, padding=1) for into, out in pairwise(sizes)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(_GROUPS, size) for size in _CHANNELS[1:])
        self.last = Conv2d(_CHANNELS[-1], 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, 1, H/8, W/8)."""
        for number, conv in enumerate(self.convs):
            x = conv(x)
            x = F.leaky_relu(self.norms[number - 1](x) if number else x, 0.2)
        y: Tensor = self.last(x)
        return y

    @torch.no_grad()
    def init_weights(self, seed: int) -> None:
        """Draw the first weights, uniform within 1/sqrt(numbers that come in)."""
        draw = torch.Generator().manual_seed(seed)
        for conv in (*self.convs, self.last):
            bound = 1 / math.sqrt(conv.weight[0].numel())
            for weight in conv.parameters():
                weight.copy_(torch.empty(weight.shape).uniform_(-bound, bound, generator=draw))


class Both(nn.Module):
    """An autoencoder and its discriminator, if it has one."""

    def __init__(self, vae: AutoencoderKL, discriminator: Discriminator | None) -> None:
        super().__init__()
        self.vae, self.discriminator = vae, discriminator


@dataclass(frozen=True, slots=True)
class Seen:
    """A batch.

    Attributes:
        x: (N, C, H, W).
        noise: (N, Z, h, w), of the latents; None: they are the means.
        more: (N, Z, h, w), what is added to them before they are decoded, in units of their
            deviation; None: nothing.
        step: that it belongs to; None in a validation.
    """

    x: Tensor
    noise: Tensor | None = None
    more: Tensor | None = None
    step: int | None = None


class AutoencoderTask:
    """Encoding and decoding pictures; see `train.task.Task`.

    Args:
        vae: what is trained.
        data: what is trained on.
        validation: what is held back; None: nothing.
        options: weights of the terms.
        seed: of noise and the discriminator's first weights.
    """

    unit = "pictures"
    per_item = 1
    columns: tuple[str, ...] = ()

    def __init__(
        self,
        vae: AutoencoderKL,
        data: Batches,
        validation: Batches | None,
        options: Autoencoder,
        seed: int,
    ) -> None:
        discriminator = None
        if options.adversarial_weight > 0:
            discriminator = Discriminator(vae.config.in_channels)
            discriminator.init_weights(seed)
        self.both = Both(vae, discriminator)
        self.model: nn.Module = self.both
        self.data, self.validation, self.options, self.seed = data, validation, options, seed
        places = min(h * w for h, w in data.shapes) // vae.config.patch_size**2
        self.at_once = max(1, _CPU_PIXELS // places)

    def batch(self, first: int, size: int, device: torch.device) -> Seen:
        """Pictures number `first` to `first + size - 1`, and noise for their latents."""
        found = self.data.batch(first, size)
        x, vae = _floats(found, device), self.both.vae
        tall, wide = x.shape[2] // vae.factor, x.shape[3] // vae.factor
        seeds = [seed_of(self.seed, first + i) for i in range(size)]
        noise = Noise(seeds, (vae.latent_channels, tall, wide))
        drawn, more = noise.next().to(device), None  # (N, Z, h, w)
        if self.options.latent_noise > 0:
            shares = [self._share(first + i) for i in range(size)]
            amounts = self.options.latent_noise * torch.tensor(shares).view(-1, 1, 1, 1)
            more = (amounts * noise.next()).to(device)  # (N, Z, h, w)
        return Seen(x, drawn, more, first // self.data.batch_size)

    def _share(self, number: int) -> float:
        """Of the most noise that a picture's latent gets, 0 to 1."""
        draw = torch.Generator().manual_seed(seed_of(self.seed, number, _NOISE))
        return float(torch.rand((), generator=draw))

    def weight(self, batch: Seen) -> float:
        """How many pictures."""
        return float(len(batch.x))

    def loss(self, model: nn.Module, batch: Seen) -> Tensor:
        """See above; a mean over a picture and a sum over pictures, ()."""
        assert isinstance(model, Both)  # noqa: S101 - for the type
        o, x = self.options, batch.x
        found = model.vae.encode(x)
        z = found.mean if batch.noise is None else found.sample(batch.noise)  # (N, Z, h, w)
        size = z[0].numel()
        if batch.more is not None:
            deviation = z.detach().std(dim=(1, 2, 3), keepdim=True)  # (N, 1, 1, 1)
            z = z + deviation * batch.more
        said = model.vae.decode(z)  # (N, C, H, W)
        axes = (1, 2, 3)
        each = _error(said - x, o) + o.kl_weight * found.kl() / size  # (N,)
        judge = model.discriminator
        if judge is None or batch.step is None:
            return each.sum()
        if batch.step >= o.adversarial_start:
            fixed = {name: weight.detach() for name, weight in judge.named_parameters()}
            opinion = functional_call(judge, fixed, (said,))  # (N, 1, H/8, W/8)
            each = each - o.adversarial_weight * opinion.mean(dim=axes)
        real, made = judge(x), judge(said.detach())  # (N, 1, H/8, W/8) each
        wrong = F.relu(1 - real).mean(dim=axes) + F.relu(1 + made).mean(dim=axes)  # (N,)
        return (each + 0.5 * wrong).sum()

    def held_back(self, batches: int, device: torch.device) -> Iterator[Seen]:
        """Pictures that are held back, with the means as latents."""
        if self.validation is not None:
            for found in self.validation.in_order(self.validation.batch_size, batches):
                yield Seen(_floats(found, device))

    def figures(self, loss: float) -> dict[str, float]:
        """Absolute error and divergence."""
        return {"loss": loss}

    def samples(self, model: nn.Module, step: int) -> NDArray[np.uint8]:
        """Pictures, and below each what the autoencoder makes of it."""
        vae = self.both.vae
        source = self.validation if self.validation is not None else self.data
        x = _floats(next(source.in_order(_SHOWN, 1)), next(vae.parameters()).device)
        pairs = torch.cat([x, vae.decode(vae.encode(x).mean)])  # (2N, C, H, W)
        return sheet(to_bytes(pairs.float().cpu().numpy()), columns=len(x))


def _error(off: Tensor, o: Autoencoder) -> Tensor:
    """Terms of the absolute error of each picture: of e, (N, C, H, W), giving (N,)."""
    axes = (1, 2, 3)
    each = off.abs().mean(dim=axes)
    if o.edge_weight > 0:
        edges = sum(off.diff(dim=axis).abs().mean(dim=axes) for axis in (2, 3))
        each = each + o.edge_weight * edges
    if o.coarse_weight > 0:
        each = each + o.coarse_weight * F.avg_pool2d(off, _COARSE).abs().mean(dim=axes)
    return each


def _floats(found: Batch, device: torch.device) -> Tensor:
    return torch.from_numpy(to_float(found.pixels)).to(device)  # (N, C, H, W)


@torch.no_grad()
def scaled(
    vae: AutoencoderKL, data: Batches, seed: int, *, drawn: bool = True, shift: bool = False
) -> None:
    """Give it the factor with which its latents have a deviation of 1 (ibid., app. G).

    Args:
        vae: the autoencoder, whose config is changed.
        data: pictures.
        seed: of the noise of their latents.
        drawn: whether latents are drawn, or the means.
        shift: whether their mean is found too, and taken off them.
    """
    device = next(vae.parameters()).device
    total, squares, count = 0.0, 0.0, 0
    for found in data.in_order(data.batch_size, _SCALED):
        said = vae.encode(_floats(found, device))
        seeds = [seed_of(seed, int(item)) for item in found.items]
        shape = (said.mean.shape[1], said.mean.shape[2], said.mean.shape[3])
        z = said.sample(Noise(seeds, shape).next()) if drawn else said.mean  # (N, Z, h, w)
        z = z.double()
        total, squares = total + float(z.sum()), squares + float(z.square().sum())
        count += z.numel()
    mean = total / count
    deviation = math.sqrt(max(squares / count - mean**2, 1e-12))
    vae.config = replace(
        vae.config,
        scaling_factor=round(1 / deviation, 6),
        shift_factor=round(mean, 6) if shift else None,
    )
