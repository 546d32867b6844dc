"""A diffusion model as the loop sees it. N items, C channels of a latent, H W of a picture, h w of
a latent.

    x_0 = codec(picture) or out of a file, t ~ p(t), epsilon ~ N(0, I)
    loss = w(t) || target - net(alpha_t x_0 + sigma_t epsilon, t, condition) ||^2

All that is drawn is a function of the seed and the item's number, so that it does not depend on
how items are spread over parts and processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vermilion.data.pictures import Batch, Batches, to_bytes, to_float
from vermilion.models.diffusion.dit import DiT
from vermilion.models.diffusion.guidance import Condition, conditioned
from vermilion.models.diffusion.loss import Distribution, diffusion_loss, sample_times
from vermilion.models.diffusion.net import UNet
from vermilion.models.diffusion.noise import Noise
from vermilion.models.diffusion.pipeline import Painter
from vermilion.models.diffusion.pixels import PixelCodec
from vermilion.models.diffusion.schedule import make_schedule
from vermilion.models.diffusion.scheduler_config import SchedulerConfig
from vermilion.models.diffusion.vae import AutoencoderKL
from vermilion.train.diffusion.latents import Latents, encoded, latents_of
from vermilion.train.diffusion.options import Objective
from vermilion.train.diffusion.words import Reader, hidden

LEVELS = (10, 30, 50, 70, 90)  # of the way from picture to noise, in %, that are validated
_CPU_PLACES = (
    32768  # of latents, that a CPU computes at once: with a quarter a step took a quarter longer
)
_TIMES, _ITEMS, _HELD, _SHOWN = range(4)  # what a seed is for


@dataclass(frozen=True, slots=True)
class Noised:
    """A batch with all that is drawn for it.

    Attributes:
        x0: (N, C, h, w).
        noise: (N, C, h, w).
        t: (N,).
        condition: of N items.
        level: which of `LEVELS` all items have, in a validation; None in training.
    """

    x0: Tensor
    noise: Tensor
    t: Tensor
    condition: Condition
    level: int | None = None


class Teller:
    """What a network is told of pictures.

    Args:
        reader: of captions; None: they are not told.
        labels: our number of a class → the network's; None: classes are not told.
        null: the label that stands for none; None: there is none.
    """

    def __init__(
        self,
        reader: Reader | None = None,
        labels: Sequence[int] | None = None,
        null: int | None = None,
    ) -> None:
        self.reader, self.null = reader, null
        self.labels = None if labels is None else np.asarray(labels, np.int64)

    @property
    def guides(self) -> bool:
        """Whether the network can learn to do without."""
        return self.reader is not None or self.null is not None

    def told(self, captions: Sequence[str], labels: NDArray[np.int64]) -> Condition:
        """Of N items: captions, or the data's numbers of classes, -1: none."""
        if self.reader is not None:
            return self.reader.condition(captions)
        if self.labels is not None:
            null = -1 if self.null is None else self.null
            return Condition(
                labels=torch.from_numpy(np.where(labels < 0, null, self.labels[labels]))
            )
        return Condition()

    def nothing(self, count: int) -> Condition | None:
        """What stands for no condition; None where there is no such thing."""
        if not self.guides:
            return None
        return self.told([""] * count, np.full(count, -1))


class DiffusionTask:
    """Telling pictures from noise; see `train.task.Task`.

    Args:
        net: what is trained.
        codec: what lies between pictures and it; it is not trained.
        scheduler: the path.
        data: what is trained on.
        validation: what is held back; None: nothing.
        teller: what the network is told.
        objective: what is minimised.
        seed: of noise, levels and what is hidden.
        latents: of the data, for a codec that is an autoencoder; None: they are encoded at every
            step.
        held: of the validation, likewise.
    """

    unit = "pictures"
    per_item = 1
    columns = tuple(f"loss_{level}" for level in LEVELS)

    def __init__(
        self,
        net: UNet | DiT,
        codec: AutoencoderKL | PixelCodec,
        scheduler: SchedulerConfig,
        data: Batches,
        validation: Batches | None,
        teller: Teller,
        objective: Objective,
        seed: int,
        latents: Latents | None = None,
        held: Latents | None = None,
    ) -> None:
        self.model: nn.Module = net
        self.net, self.codec, self.scheduler = net, codec, scheduler
        self.schedule = make_schedule(scheduler)
        self.data, self.validation, self.teller = data, validation, teller
        self.objective, self.seed = objective, seed
        self.latents, self.held = latents, held
        places = min(h * w for h, w in data.shapes) // codec.factor**2
        self.at_once = max(1, _CPU_PLACES // places)
        self._found: dict[int, list[float]] = {}

    def batch(self, first: int, size: int, device: torch.device) -> Noised:
        """Pictures number `first` to `first + size - 1`, noised."""
        found = self.data.batch(first, size, pixels=self.latents is None)
        step, place = divmod(first, self.data.batch_size)
        draw = torch.Generator().manual_seed(seed_of(self.seed, _TIMES, step))
        rows = slice(place, place + size)
        o = self.objective
        usual: Distribution = "logit_normal" if self.scheduler.is_flow else "uniform"
        t = sample_times(
            self.data.batch_size,
            self.schedule,
            draw,
            distribution=o.timestep_sampling or usual,
            mean=o.logit_mean,
            std=o.logit_std,
            stratified=o.stratified,
        )[rows]
        shares = torch.rand(self.data.batch_size, 2, generator=draw)[rows]  # (N, 2)
        captions, labels = found.captions, found.labels
        dropout = o.condition_dropout if self.teller.guides else 0.0
        if self.teller.reader is not None:
            captions = tuple(
                hidden(captions, shares, condition_dropout=dropout, style_dropout=o.style_dropout)
            )
        else:
            labels = np.where(shares[:, 0].numpy() < dropout, -1, labels)
        seeds = [seed_of(self.seed, _ITEMS, first + i) for i in range(size)]
        found = replace(found, captions=captions, labels=labels)
        return self._noised(found, self.latents, seeds, t, device)

    def _noised(
        self,
        found: Batch,
        latents: Latents | None,
        seeds: Sequence[int],
        t: Tensor,
        device: torch.device,
        level: int | None = None,
    ) -> Noised:
        z = self._seen(found, latents, device)  # (N, C or 2C, h, w)
        noise = Noise(seeds, (self.codec.latent_channels, z.shape[2], z.shape[3]))
        drawn = noise.next().to(device)  # (N, C, h, w)
        x0 = z  # (N, C, h, w)
        if isinstance(self.codec, AutoencoderKL):
            x0 = latents_of(z, noise.next() if self.objective.latent_sample else None)
        told = self.teller.told(found.captions, found.labels)
        return Noised(x0, drawn, t.to(device), _moved(told, device), level)

    def _seen(self, found: Batch, latents: Latents | None, device: torch.device) -> Tensor:
        """What is noised of pictures; of an autoencoder see `latents.encoded`."""
        if latents is not None:
            return latents.take(found.items, found.mirrored).to(device)
        pixels = torch.from_numpy(to_float(found.pixels)).to(device)  # (N, 3 or 4, H, W)
        if isinstance(self.codec, AutoencoderKL):
            return encoded(self.codec, pixels, drawn=self.objective.latent_sample)
        return self.codec.to_latents(pixels)  # (N, C, h, w)

    def weight(self, batch: Noised) -> float:
        """How many pictures."""
        return float(len(batch.x0))

    def loss(self, model: nn.Module, batch: Noised) -> Tensor:
        """Weighted squared error, a mean over a picture and a sum over pictures, ()."""
        o = self.objective
        each = diffusion_loss(
            conditioned(model, batch.condition),
            batch.x0,
            batch.noise,
            batch.t,
            self.schedule,
            prediction_type=self.scheduler.prediction_type,
            weighting=o.weighting,
            snr_gamma=o.snr_gamma,
            p2_gamma=o.p2_gamma,
            weighting_power=o.weighting_power,
        )  # (N,)
        if batch.level is not None:
            self._found.setdefault(batch.level, []).extend(each.tolist())
        return each.sum()

    def held_back(self, batches: int, device: torch.device) -> Iterator[Noised]:
        """Pictures that are held back, each at every one of `LEVELS`, with noise of its own."""
        self._found.clear()
        if self.validation is None:
            return
        size = min(self.validation.batch_size, self.at_once)
        most = max(1, batches * self.validation.batch_size // size)
        for found in self.validation.in_order(size, most, pixels=self.held is None):
            for level in LEVELS:
                seeds = [seed_of(self.seed, _HELD, int(i), level) for i in found.items]
                t = torch.full((len(seeds),), self._time(level))
                yield self._noised(found, self.held, seeds, t, device, level)

    def _time(self, level: int) -> int | float:
        steps = self.schedule.num_train_timesteps
        return level / 100 * steps if self.scheduler.is_flow else level * steps // 100

    def figures(self, loss: float) -> dict[str, float]:
        """Mean loss of all levels, and of each."""
        each = {f"loss_{k}": float(np.mean(v)) for k, v in sorted(self._found.items())}
        return {"loss": loss, **each}

    def samples(self, model: nn.Module, step: int) -> NDArray[np.uint8]:
        """A sheet of pictures, (H, W, 3 or 4); the same noise and captions at every step."""
        o, painter = self.objective, Painter(self.net, self.codec, self.scheduler)
        told = self._shown()
        count = len(told) or o.sample_pictures
        # A network that never did without a condition cannot be guided.
        without = self.teller.nothing(count) if o.condition_dropout > 0 else None
        width, height = painter.size
        with torch.autocast(self.net.device.type, enabled=False):
            for last in painter.paint(
                told,
                without,
                [seed_of(self.seed, _SHOWN, number) for number in range(count)],
                width=width,
                height=height,
                num_inference_steps=o.num_inference_steps or 25,
                guidance_scale=o.guidance_scale if without is not None else 1.0,
            ):
                z = last.x
            made = painter.pictures(z)
        if isinstance(self.codec, AutoencoderKL):
            # A painter arranges it as it needs it; training has to go on with the same digits.
            self.codec.use_slicing = self.codec.use_tiling = False
        return sheet(to_bytes(made.cpu().numpy()))

    def _shown(self) -> Condition:
        """What is shown on sample sheets: what a person names, else what the data say."""
        o, teller = self.objective, self.teller
        if teller.labels is not None:
            every = np.arange(len(teller.labels))
            return teller.told([], every[np.arange(o.sample_pictures) % len(every)])
        if teller.reader is None:
            return Condition()
        prompts = [part.strip() for part in o.sample_prompts.split("|") if part.strip()]
        if not prompts:
            source = self.validation if self.validation is not None else self.data
            cache = source.cache
            few = np.linspace(0, len(cache) - 1, min(o.sample_pictures, len(cache))).astype(int)
            prompts = [cache.pictures.captions(int(cache.items[i]))[0] for i in few]
        return teller.told(prompts, np.zeros(0, np.int64))


def _moved(condition: Condition, device: torch.device) -> Condition:
    def moved(part: Tensor | None) -> Tensor | None:
        return None if part is None else part.to(device)

    return Condition(
        context=moved(condition.context),
        pooled=moved(condition.pooled),
        labels=moved(condition.labels),
    )


def seed_of(*parts: int) -> int:
    """A seed that no other parts give."""
    high, low = np.random.SeedSequence(parts).generate_state(2, np.uint32).tolist()
    return int(high) << 31 ^ int(low)


def sheet(pictures: NDArray[np.uint8], columns: int = 8, gap: int = 2) -> NDArray[np.uint8]:
    """Pictures (N, H, W, C) side by side in rows, as one (H', W', C); between them is white."""
    count, height, width, channels = pictures.shape
    across = min(columns, count)
    rows = -(-count // across)
    whole = np.full(
        (rows * (height + gap) - gap, across * (width + gap) - gap, channels), 255, np.uint8
    )
    for number, picture in enumerate(pictures):
        top, left = number // across * (height + gap), number % across * (width + gap)
        whole[top : top + height, left : left + width] = picture
    return whole
