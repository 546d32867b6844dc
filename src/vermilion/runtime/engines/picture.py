"""The engine of diffusion models: prompts, and pictures to start from, to pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import psutil
import torch
from numpy.typing import NDArray

from vermilion.errors import InputError
from vermilion.models.diffusion import io
from vermilion.models.diffusion.adapters import Adapter, Merged
from vermilion.models.diffusion.config import UNetConfig
from vermilion.models.diffusion.dit import DiT
from vermilion.models.diffusion.embeddings import Learnt
from vermilion.models.diffusion.manifest import Manifest
from vermilion.models.diffusion.net import UNet
from vermilion.models.diffusion.pipeline import Canvas, Painter
from vermilion.models.diffusion.sampling import Step
from vermilion.models.lm.encode import Encoder
from vermilion.runtime.cards import Card
from vermilion.runtime.device import choose_device
from vermilion.runtime.engines import OnPiece, OnStep
from vermilion.runtime.engines.canvas import fitted, from_tensor, mask_of, put_back, to_tensor
from vermilion.runtime.engines.glossary import Glossary
from vermilion.runtime.engines.towers import Classes, SentenceTower, Tower, clip_tower
from vermilion.runtime.shipped import WEIGHTS
from vermilion.runtime.store import Store
from vermilion.settings import Settings
from vermilion.types import PictureSettings, Prompt, Sample

Pixels = NDArray[np.uint8]

_STEPS = 25
_ANCESTRAL_STEPS = 250  # ddpm needs many more
_GUIDANCE = 7.5
# Bytes that a pass may work in on a CPU: larger batches fall out of its caches and gain nothing.
_CPU_WORKING = 256_000_000
_SHARE = 0.6  # of the memory that is free, for a batch
_CLIP_WORDS = WEIGHTS / "clip-tokenizer"


@dataclass(frozen=True, slots=True)
class Job:
    """A prompt with all that was left open decided.

    Attributes:
        number: of the prompt.
        prompt: the prompt.
        settings: its settings, with width, height, steps, guidance and sampler filled in.
        text: with its style word.
    """

    number: int
    prompt: Prompt
    settings: PictureSettings
    text: str
    negative_text: str

    @property
    def key(self) -> tuple[Any, ...]:
        """What has to be alike in a batch; the pictures themselves may differ."""
        said = self.settings
        shown = (bool(said.image), bool(said.mask), bool(said.blend))
        named = ("image", "mask", "blend", "size", "svg", "style", "loras")
        rest = [getattr(said, name) for name in said.__dataclass_fields__ if name not in named]
        return (*_loras(said), *shown, *rest)


class PictureEngine:
    """A diffusion model, opened.

    Args:
        painter: network, codec and path.
        tower: what reads the prompts.
        manifest: what is known of the model besides.
        store: where adapters are found.
        max_batch: most pictures that are painted at once.
        glossary: Chinese words for it; None: prompts are read as they are.

    Attributes:
        painter: the same.
        tower: the same.
    """

    def __init__(
        self,
        painter: Painter,
        tower: Tower,
        manifest: Manifest,
        store: Store,
        max_batch: int = 64,
        glossary: Glossary | None = None,
    ) -> None:
        self.painter, self.tower = painter, tower
        self._manifest, self._store, self._max_batch = manifest, store, max_batch
        self._glossary = glossary
        self._merged = Merged(painter.net, "unet")
        self._adapters: dict[str, str] = {}
        where = painter.net.device
        self.device = f"{where} {str(painter.net.dtype).removeprefix('torch.')}"
        networks = (painter.net, painter.codec)
        self.parameters = tower.parameters + sum(
            weight.numel()
            for network in networks
            if isinstance(network, torch.nn.Module)
            for weight in network.parameters()
        )
        self.versions: Mapping[str, str] = {"torch": torch.__version__}

    @classmethod
    def memory(cls, card: Card, path: Path) -> int:
        """About how many bytes the opened model takes while it paints one picture."""
        needed = io.needs(path)
        return needed.weights + needed.working

    @classmethod
    def open(cls, card: Card, path: Path, settings: Settings) -> Self:
        """Open a diffusers folder, or Stable Diffusion 1.x in a single safetensors file.

        Raises:
            ModelError: the files are broken or not supported.
            NotFoundError: its text encoder is another model, which is not here.
        """
        device = choose_device(settings)
        dtype = torch.float32 if device == "cpu" else torch.bfloat16
        found = io.open_pipeline(path, device, dtype)
        painter = Painter(found.net, found.codec, found.scheduler)
        manifest, store = found.manifest, Store(settings.models_dir)
        tower: Tower
        if manifest.text_encoder:
            _, folder = store.locate(manifest.text_encoder)
            encoder = Encoder.from_folder(folder, device)
            tower = SentenceTower(
                encoder, manifest.max_tokens, pooled=manifest.pooled, tokens=_reads(found.net)
            )
        elif found.text_encoder is not None:
            words = found.tokenizer or _CLIP_WORDS
            config, tensors = found.text_encoder
            tower = clip_tower(config, tensors, words, where=str(path), device=device, dtype=dtype)
        else:
            tower = Classes(manifest, *_classes(found.net))
        glossary = Glossary.read(path) if path.is_dir() else None
        return cls(painter, tower, manifest, store, settings.max_batch, glossary)

    def generate(
        self,
        prompts: Sequence[Prompt],
        on_piece: OnPiece | None = None,
        *,
        pictures: Mapping[str, Pixels] | None = None,
        on_step: OnStep | None = None,
    ) -> Iterator[tuple[int, Sample]]:
        """Yield (number, sample) as pictures are finished; see `Engine.generate`.

        Samples are uint8, (H, W, 3), or (H, W, 4) of a model that paints transparency. Notes:
        "num_inference_steps", "guidance_scale", "sampler", "width" and "height" as they were, and
        "adapters", their names with the SHA-256 of their files.

        Args:
            prompts: what to paint.
            on_piece: called after each step with a prompt's number and a preview, (H, W, C).
            pictures: the pictures that settings name in image, mask and blend, (H, W, 3 or 4).
            on_step: called with a prompt's number, the steps that are done, and all of them.

        Raises:
            InputError: a setting cannot be used with this model.
            NotFoundError: an adapter is not here.
            ModelError: an adapter was made for another model.
        """
        given = pictures or {}
        jobs = [self._job(number, prompt, given) for number, prompt in enumerate(prompts)]
        for key in dict.fromkeys(job.key for job in jobs):
            alike = [job for job in jobs if job.key == key]
            self._adapt(alike[0].settings)
            # Texts of one length only: a longer one beside it would change what a network sees.
            lengths = [self._chunks(job) for job in alike]
            for length in dict.fromkeys(lengths):
                chosen = [job for job, own in zip(alike, lengths, strict=True) if own == length]
                size = self._batch_size(chosen[0].settings)
                for first in range(0, len(chosen), size):
                    batch = chosen[first : first + size]
                    yield from self._painted(batch, length, given, on_piece, on_step)

    def _job(self, number: int, prompt: Prompt, given: Mapping[str, Pixels]) -> Job:
        """Fill in what a prompt leaves open, and see that the rest can be used."""
        said, manifest = PictureSettings(**prompt.settings), self._manifest
        for name in ("image", "mask", "blend"):
            reference = getattr(said, name)
            if reference and reference not in given:
                raise InputError(f"{name}: the picture {reference} was not given to the engine")
        width, height = self._sides(said, given.get(said.image))
        sampler = said.sampler or manifest.sampler or self.painter.scheduler.sampler
        usual = _ANCESTRAL_STEPS if sampler == "ddpm" else _STEPS
        usual = min(usual, self.painter.schedule.num_train_timesteps)
        text = manifest.prompt(self._read(prompt.text), said.style)
        return Job(
            number,
            prompt,
            replace(
                said,
                width=width,
                height=height,
                sampler=sampler,
                num_inference_steps=_first(
                    said.num_inference_steps, manifest.num_inference_steps, usual
                ),
                guidance_scale=self._guidance(said, prompt),
            ),
            text,
            self._read(prompt.negative_text),
        )

    def _read(self, text: str) -> str:
        """A text in the words that the model reads."""
        return text if self._glossary is None else self._glossary.translated(text)

    def _guidance(self, said: PictureSettings, prompt: Prompt) -> float:
        if self.tower.guides:
            scale: float = _first(said.guidance_scale, self._manifest.guidance_scale, _GUIDANCE)
            return scale
        if said.guidance_scale not in (None, 1.0):
            raise InputError("guidance_scale: this model cannot be guided; leave it out")
        if prompt.negative_text:
            raise InputError("negative_text: this model cannot be guided; leave it out")
        return 1.0

    def _sides(self, said: PictureSettings, image: Pixels | None) -> tuple[int, int]:
        """Width and height: as asked for, or about as large as the model's own, shaped as the
        picture that it starts from.
        """
        own_width, own_height = self.painter.size
        if image is not None and said.width is None and said.height is None:
            if not self.painter.any_shape:
                return own_width, own_height
            step = self.painter.multiple
            tall, wide = image.shape[:2]
            scale = (own_width * own_height / (tall * wide)) ** 0.5
            sides = (max(round(side * scale / step), 1) * step for side in (wide, tall))
            return next(sides), next(sides)
        return _first(said.width, own_width), _first(said.height, own_height)

    def _adapt(self, said: PictureSettings) -> None:
        """Have the adapters of these settings, and no others."""
        wanted: list[tuple[Adapter, float]] = []
        learnt: list[Learnt] = []
        self._adapters = {}
        for name, weight in _loras(said):
            card, path = self._store.locate(name)
            self._adapters[name] = card.weights_sha256
            if card.family == "lora":
                wanted.append((Adapter.read(path), weight))
            elif card.family == "textual-inversion" and weight == 1:
                word = Learnt.read(path)
                # Its file's name is a matter of where it lies; its name here is what people know.
                learnt.append(replace(word, word=card.name) if word.word == path.stem else word)
            elif card.family == "textual-inversion":
                raise InputError(
                    f"loras: {name} is a learnt word, whose weight belongs into the prompt:"
                    f" write ({name}:{weight:g}) there and 1 here"
                )
            else:
                raise InputError(f"loras: {name} is no adapter, it makes {card.kind}")
        self._merged.use(())
        self.tower.use(wanted, learnt)
        self._merged.use(wanted)

    def _chunks(self, job: Job) -> int:
        return max(self.tower.chunks(job.text), self.tower.chunks(job.negative_text))

    def _batch_size(self, said: PictureSettings) -> int:
        """How many pictures of these sides fit into memory, or into a CPU's caches."""
        net, factor = self.painter.net, self.painter.codec.factor
        width, height = said.width or 0, said.height or 0
        each = net.working_bytes(2, height // factor, width // factor)
        if net.device.type == "cpu":
            room = min(int(psutil.virtual_memory().available * _SHARE), _CPU_WORKING)
        else:
            room = int(torch.cuda.mem_get_info(net.device)[0] * _SHARE)
        return min(max(room // max(each, 1), 1), self._max_batch)

    def _painted(
        self,
        jobs: Sequence[Job],
        chunks: int,
        given: Mapping[str, Pixels],
        on_piece: OnPiece | None,
        on_step: OnStep | None,
    ) -> Iterator[tuple[int, Sample]]:
        """Paint what is alike but for its words, its seed and its pictures."""
        said = jobs[0].settings
        scale = _first(said.guidance_scale, 1.0)
        texts = [job.text for job in jobs]
        condition = self.tower.condition(texts, chunks=chunks, skip=said.clip_skip)
        without = None
        if scale != 1:
            texts = [job.negative_text for job in jobs]
            without = self.tower.condition(texts, chunks=chunks, skip=said.clip_skip)
        step: Step | None = None
        for step in self.painter.paint(
            condition,
            without,
            [job.prompt.seed for job in jobs],
            width=_first(said.width, 0),
            height=_first(said.height, 0),
            num_inference_steps=_first(said.num_inference_steps, _STEPS),
            guidance_scale=scale,
            guidance_rescale=said.guidance_rescale,
            sampler=said.sampler,
            eta=said.eta,
            canvas=self._canvas(jobs, given),
            fast=said.fast,
        ):
            self._tell(step, jobs, on_piece, on_step)
        if step is not None:
            for job, picture in zip(jobs, self.painter.pictures(step.x), strict=True):
                yield job.number, self._sample(job, from_tensor(picture), given)

    def _tell(
        self, step: Step, jobs: Sequence[Job], on_piece: OnPiece | None, on_step: OnStep | None
    ) -> None:
        if on_step is not None:
            for job in jobs:
                on_step(job.number, step.index + 1, step.total)
        if on_piece is not None and step.index + 1 < step.total:
            for job, preview in zip(jobs, self.painter.preview(step.x0), strict=True):
                on_piece(job.number, from_tensor(preview))

    def _canvas(self, jobs: Sequence[Job], given: Mapping[str, Pixels]) -> Canvas | None:
        """The pictures that a batch starts from, as tensors of its sides."""
        said = jobs[0].settings
        if not said.image:
            return None
        sides, channels = (_first(said.width, 0), _first(said.height, 0)), self.painter.channels

        def rows(name: str) -> torch.Tensor:
            found = [given[getattr(job.settings, name)] for job in jobs]
            return torch.stack([to_tensor(fitted(one, *sides), channels) for one in found])

        def masks() -> torch.Tensor:
            found = [given[job.settings.mask] for job in jobs]
            return torch.stack([mask_of(fitted(one, *sides)) for one in found])

        return Canvas(
            image=rows("image"),
            mask=masks() if said.mask else None,
            blend=rows("blend") if said.blend else None,
            strength=said.strength,
        )

    def _sample(self, job: Job, picture: Pixels, given: Mapping[str, Pixels]) -> Sample:
        said = job.settings
        if said.mask:
            sides = _first(said.width, 0), _first(said.height, 0)
            before, mask = (fitted(given[name], *sides) for name in (said.image, said.mask))
            picture = put_back(picture, before, mask)
        names = ("num_inference_steps", "guidance_scale", "sampler", "width", "height")
        notes: dict[str, Any] = {name: getattr(said, name) for name in names}
        if self._adapters:
            notes["adapters"] = dict(self._adapters)
        return Sample(prompt=job.prompt, content=picture, notes=notes)


def _reads(net: UNet | DiT) -> bool:
    """Whether a network looks at the tokens of a text."""
    return net.config.cross_attention_dim is not None if isinstance(net, DiT) else net.reads


def _classes(net: UNet | DiT) -> tuple[int, int | None]:
    """How many classes a network knows, and which of them stands for none, if that is certain."""
    config = net.config
    if isinstance(config, UNetConfig):
        return config.num_class_embeds or 0, None
    count = config.num_embeds_ada_norm
    return (0, None) if count is None else (count + 1, count)


def _loras(said: PictureSettings) -> tuple[tuple[str, float], ...]:
    """Adapters and weights; from JSON they come as lists."""
    return tuple((str(name), float(weight)) for name, weight in said.loras)


def _first(*values: Any) -> Any:
    """The first that is given; 0 is a value."""
    return next(value for value in values if value is not None)
