"""A painter: network, codec and path together, from noise or a picture to a picture.

    z = noise                                        a new picture
    z = alpha z_0 + sigma noise                      from a picture; `strength` says from where
    z = slerp(z_1, z_2; strength), both noised       between two pictures
    while there is noise: z = sampler(guided(net), z)
    picture = codec.to_pictures(z)

N items, C channels of a latent, H W height and width of a picture, h w of a latent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from vermilion.errors import InputError, ModelError
from vermilion.models.diffusion.dit import DiT, DiTConfig
from vermilion.models.diffusion.edit import (
    inpainting_picture,
    masked_blend,
    resize_mask,
    slerp,
    start_from,
    without_hole,
)
from vermilion.models.diffusion.guidance import Condition, Network, guided
from vermilion.models.diffusion.net import FeatureCache, UNet
from vermilion.models.diffusion.noise import Noise
from vermilion.models.diffusion.pixels import PixelCodec
from vermilion.models.diffusion.samplers import get_sampler, sampler_options
from vermilion.models.diffusion.sampling import Blend, Step
from vermilion.models.diffusion.schedule import make_schedule
from vermilion.models.diffusion.scheduler_config import SchedulerConfig
from vermilion.models.diffusion.timesteps import Timesteps
from vermilion.models.diffusion.vae import AutoencoderKL

# How much of the way is gone again between two pictures. Enough to make one thing of two that lie
# over one another, and not so much that neither can be recognised.
BLENDED = 0.6
# Pictures with a longer side are decoded in tiles: above it the memory of a VAE is larger than that
# of the network.
_WHOLE = 768
_PREVIEW = 16  # longer side of the latent that a preview is decoded from
_QUIET = 0.25  # share of the path, at its end, that `fast` goes without guidance


@dataclass(frozen=True, slots=True, kw_only=True)
class Canvas:
    """What is given besides words.

    Attributes:
        image: picture that it starts from, (N, C, H, W), -1 to 1.
        mask: what of it is painted anew, (N, 1, H, W): 1 where it is, 0 where it stays.
        blend: second picture, to which the first is led over, as `image`.
        strength: above 0 to 1, how far it may go from `image`; with `blend` 0 to 1, how far it
            lies from the first towards the second.
    """

    image: Tensor | None = None
    mask: Tensor | None = None
    blend: Tensor | None = None
    strength: float = 0.75

    def __post_init__(self) -> None:
        if self.image is None and (self.mask is not None or self.blend is not None):
            raise InputError("image: a mask or a second picture needs a first one; name it")
        if self.mask is not None and self.blend is not None:
            raise InputError("mask: two pictures are led over as a whole; leave it out")


class Painter:
    """Paints with one model.

    Args:
        net: the network.
        codec: what lies between pictures and what it sees.
        scheduler: along which path it was trained.

    Raises:
        ModelError: the network is told a picture in a way that is not known.
    """

    def __init__(
        self, net: UNet | DiT, codec: AutoencoderKL | PixelCodec, scheduler: SchedulerConfig
    ) -> None:
        self.net, self.codec, self.scheduler = net, codec, scheduler
        self.schedule = make_schedule(scheduler)
        more = net.config.in_channels - codec.latent_channels
        if more not in (0, codec.latent_channels + 1):
            raise ModelError(
                f"unet: sees {more} channels besides the picture; known are 0, and"
                f" {codec.latent_channels + 1} of a model that was trained to fill holes"
            )
        self.fills_holes = more > 0

    @property
    def size(self) -> tuple[int, int]:
        """Width and height that the model was trained on, in pixels; 64 latents where unknown."""
        side = self.net.config.sample_size or 64
        tall, wide = side if isinstance(side, tuple) else (side, side)
        return wide * self.codec.factor, tall * self.codec.factor

    @property
    def channels(self) -> int:
        """Channels of a picture: 3, or 4 with alpha."""
        codec = self.codec
        return codec.channels if isinstance(codec, PixelCodec) else codec.config.in_channels

    @property
    def any_shape(self) -> bool:
        """Whether it paints well at other shapes than its own: models of latents do.

        One that spreads a label over its places has learnt what stands where in one shape alone.
        """
        spreads = isinstance(self.net, DiT) and self.net.label_map is not None
        return isinstance(self.codec, AutoencoderKL) and not spreads

    @property
    def multiple(self) -> int:
        """What the sides of a picture have to be multiples of, in pixels."""
        config = self.net.config
        if isinstance(config, DiTConfig):
            return self.codec.factor * config.patch_size
        return self.codec.factor << (len(config.block_out_channels) - 1)

    @torch.inference_mode()
    def paint(
        self,
        condition: Condition,
        unconditional: Condition | None,
        seeds: Sequence[int],
        *,
        width: int,
        height: int,
        num_inference_steps: int = 25,
        guidance_scale: float = 7.5,
        guidance_rescale: float = 0.0,
        sampler: str = "",
        eta: float = 0.0,
        canvas: Canvas | None = None,
        fast: bool = False,
    ) -> Iterator[Step]:
        """Paint N pictures, step by step; the last step's x is decoded by `pictures`.

        What an item gives depends on its own seed, condition and canvas alone, up to the last
        digits of a larger product. Closing the iterator stops the work.

        Args:
            condition: of N items, what is to be seen.
            unconditional: of N items, what is not; None: guidance_scale is 1.
            seeds: N of them.
            width: in pixels, a multiple of `multiple`.
            height: likewise.
            num_inference_steps: how many steps a whole run takes.
            guidance_scale: see `guidance.guided`.
            guidance_rescale: likewise.
            sampler: its name; empty: the model's own.
            eta: of ddim, see there.
            canvas: what it starts from; None: noise alone.
            fast: whether speed counts more than the last bit of quality.

        Raises:
            InputError: a setting is out of range or of no use with the others.
        """
        name = sampler or self.scheduler.sampler
        run = get_sampler(name)
        options = sampler_options(self.scheduler, name)
        if eta and name != "ddim":
            raise InputError(f"eta: {name} has none; leave it out, or set sampler to ddim")
        if name == "ddim":
            options["eta"] = eta
        steps = self.schedule.timesteps(num_inference_steps, name)
        noise = Noise(seeds, self._shape(width, height))
        x, steps, blend, seen = self._start(canvas or Canvas(), noise, steps)
        if seen is not None:
            condition = replace(condition, picture=seen)
            unconditional = unconditional and replace(unconditional, picture=seen)
        denoise = guided(
            self._network(fast),
            self._moved(condition),
            None if unconditional is None else self._moved(unconditional),
            guidance_scale,
            guidance_rescale,
            self._interval(fast),
        )
        yield from run(
            denoise,
            x,
            steps,
            prediction_type=self.scheduler.prediction_type,
            noise=noise,
            blend=blend,
            **options,
        )

    @torch.inference_mode()
    def pictures(self, z: Tensor) -> Tensor:
        """Decode what the last step led to: (N, C, h, w) → (N, 3 or 4, H, W), -1 to 1."""
        self._arrange(*(side * self.codec.factor for side in z.shape[2:]))
        return self.codec.to_pictures(z.to(self.net.dtype)).float().clamp(-1, 1)

    @torch.inference_mode()
    def preview(self, x0: Tensor) -> Tensor:
        """What a step expects, decoded small and fast, (N, 3 or 4, H', W'), -1 to 1."""
        side = max(x0.shape[2:])
        if isinstance(self.codec, AutoencoderKL) and side > _PREVIEW:
            tall, wide = (max(round(part * _PREVIEW / side), 1) for part in x0.shape[2:])
            x0 = F.adaptive_avg_pool2d(x0, (tall, wide))  # (N, C, h', w')
        return self.pictures(x0)

    def _shape(self, width: int, height: int) -> tuple[int, int, int]:
        for name, value in (("width", width), ("height", height)):
            if value < self.multiple or value % self.multiple:
                near = max(value // self.multiple, 1) * self.multiple
                raise InputError(
                    f"{name}: must be a multiple of {self.multiple} for this model (found {value});"
                    f" {near} is one"
                )
        factor = self.codec.factor
        return self.codec.latent_channels, height // factor, width // factor

    def _start(
        self, canvas: Canvas, noise: Noise, steps: Timesteps
    ) -> tuple[Tensor, Timesteps, Blend | None, Tensor | None]:
        """Where it begins, the steps from there, what is done after each, and what is shown.

        The order of draws is that of diffusers' pipelines, so that its generators give the same.
        """
        z = None
        if canvas.image is not None and not (self.fills_holes and canvas.strength == 1):
            z = self._latents(canvas.image, noise)  # (N, C, h, w)
        second = None if canvas.blend is None else self._latents(canvas.blend, noise)
        drawn = noise.next().to(self.net.device)  # (N, C, h, w)
        x = drawn * steps.init_noise_sigma
        if z is not None and second is not None:
            one, _ = start_from(z, drawn, steps, BLENDED)
            other, steps = start_from(second, drawn, steps, BLENDED)
            x = slerp(one, other, canvas.strength)
        # A part that is painted anew as a whole begins with noise alone, as in diffusers.
        elif z is not None and not (canvas.mask is not None and canvas.strength == 1):
            x, steps = start_from(z, drawn, steps, canvas.strength)
        blend = None
        if z is not None and canvas.mask is not None and not self.fills_holes:
            blend = _ending(masked_blend(z, drawn, self._mask(canvas.mask)), steps)
        seen = self._seen(canvas, noise) if self.fills_holes else None
        return x, steps, blend, seen

    def _latents(self, picture: Tensor, noise: Noise) -> Tensor:
        """(N, C, H, W) → (N, C, h, w), float32, drawn from what a VAE says."""
        self._arrange(*picture.shape[2:])
        given = picture.to(self.net.device, self.net.dtype)
        drawn = noise.next().to(given) if isinstance(self.codec, AutoencoderKL) else None
        return self.codec.to_latents(given, drawn).float()

    def _mask(self, mask: Tensor) -> Tensor:
        """(N, 1, H, W) → (N, 1, h, w), 0 or 1."""
        small = (side // self.codec.factor for side in mask.shape[2:])
        return resize_mask((mask >= 0.5).float(), *small).to(self.net.device)

    def _seen(self, canvas: Canvas, noise: Noise) -> Tensor:
        """What a network that fills holes is shown: the mask, and the picture without the hole.

        (N, 1 + C, h, w); see Stable Diffusion's inpainting model (Rombach et al. 2022, sec. 4.5).
        """
        tall, wide = noise.shape[1:]
        factor = self.codec.factor
        image, mask = canvas.image, canvas.mask
        if image is None:
            image = torch.zeros(len(noise), 3, tall * factor, wide * factor)
        if mask is None:
            mask = torch.ones(len(noise), 1, *image.shape[2:])
        kept = self._latents(without_hole(image, mask), noise)  # (N, C, h, w)
        return inpainting_picture(kept, self._mask(mask))

    def _network(self, fast: bool) -> Network:
        """The network as the steps call it: whatever it keeps from step to step begins here."""
        net, dtype = self.net, self.net.dtype
        cache = FeatureCache() if fast else None  # what a UNet keeps from step to step

        def call(
            x: Tensor, t: Tensor, context: Tensor | None = None, labels: Tensor | None = None, /
        ) -> Tensor:
            x = x.to(dtype)
            if isinstance(net, UNet):
                return net.forward(x, t, context, labels, cache)  # (N, C, h, w)
            return net.forward(x, t, context, labels)  # (N, C, h, w)

        return call

    def _interval(self, fast: bool) -> tuple[float, float] | None:
        """Where it is guided. Near the end guidance changes least (Kynkäänniemi et al. 2024)."""
        return (_QUIET * self.schedule.num_train_timesteps, torch.inf) if fast else None

    def _moved(self, condition: Condition) -> Condition:
        """On the network's device, in its numbers."""
        where, dtype = self.net.device, self.net.dtype

        def moved(part: Tensor | None) -> Tensor | None:
            if part is None:
                return None
            return part.to(where, dtype if part.is_floating_point() else part.dtype)

        return Condition(
            context=moved(condition.context),
            pooled=moved(condition.pooled),
            labels=moved(condition.labels),
            picture=moved(condition.picture),
        )

    def _arrange(self, height: int, width: int) -> None:
        """Let a VAE work in a way that takes no more memory than it has to."""
        if isinstance(self.codec, AutoencoderKL):
            self.codec.use_slicing = True
            self.codec.use_tiling = max(height, width) > _WHOLE


def _ending(blend: Blend, steps: Timesteps) -> Blend:
    """A masked blend that puts a picture back without noise at last; some runs end with a little.

    What is kept then is as it was, and what is painted ends as it would alone.
    """

    def whole(x: Tensor, alpha: float, sigma: float) -> Tensor:
        return blend(x, 1.0, 0.0) if sigma == steps.sigma[-1] else blend(x, alpha, sigma)

    return whole
