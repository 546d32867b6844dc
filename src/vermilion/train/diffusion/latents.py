"""Latents of pictures, encoded once and mapped from then on: a step of training runs no encoder.

    FOLDER/PART.json           what they are of, and how many pictures are encoded
           PART-HxW.bin        float16 (n, O, Z or 2Z, h, w): n pictures of this shape; as they are
                               and, with flips, mirrored; means, and deviations where they are drawn

Latents are numbers of float16 where they are kept and where they are not, and each picture is
encoded alone: so a run that keeps them learns from the very digits of one that does not.

N items, C channels of a picture, H W its height and width, Z channels of a latent, h w its sides,
O 1 or, with flips, 2.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vermilion.data.pictures import Batches, to_float
from vermilion.disk import require_space, storage, write_atomically
from vermilion.errors import ModelError
from vermilion.models.diffusion.vae import AutoencoderKL

_FORMAT = 1
_SAVE_SECONDS = 20.0

OnLatent = Callable[[int, int], None]
"""Told how many pictures are encoded, and of how many."""


@torch.no_grad()
def encoded(vae: AutoencoderKL, pixels: Tensor, *, drawn: bool) -> Tensor:
    """What a diffusion model works on, one picture after another.

    Args:
        vae: the autoencoder.
        pixels: (N, C, H, W), -1 to 1, on its device.
        drawn: whether deviations are wanted too, with which latents are drawn.

    Returns:
        Means, shifted and scaled, (N, Z, h, w), or with the deviations, (N, 2Z, h, w); float16.

    Raises:
        ModelError: they are beyond float16.
    """
    shift, scale = vae.config.shift_factor or 0.0, vae.config.scaling_factor
    found = []
    with torch.autocast(pixels.device.type, enabled=False):
        for picture in pixels.chunk(len(pixels)):
            said = vae.encode(picture)
            parts = [(said.mean - shift) * scale]
            if drawn:
                parts.append((0.5 * said.logvar).exp() * scale)
            found.append(torch.cat(parts, dim=1).half())  # (1, Z or 2Z, h, w)
    z = torch.cat(found)
    if not bool(z.isfinite().all()):
        raise ModelError("vae: its latents are too large for float16; train it longer, or another")
    return z


def latents_of(found: Tensor, noise: Tensor | None) -> Tensor:
    """Latents, drawn where there is noise.

    Args:
        found: see `encoded`.
        noise: standard normal, (N, Z, h, w); None: they are the means.

    Returns:
        (N, Z, h, w), float32.
    """
    if noise is None:
        return found.float()
    mean, deviation = found.float().chunk(2, dim=1)  # (N, Z, h, w) each
    return mean + deviation * noise.to(mean)


class Latents:
    """The latents of a set of pictures.

    Args:
        maps: of each shape of the set, (n, O, Z or 2Z, h, w), float16.
        shape_of: place of each picture's shape, (all,).
    """

    def __init__(self, maps: Sequence[NDArray[np.float16]], shape_of: NDArray[np.int64]) -> None:
        self._maps, self._shape_of = maps, shape_of
        self._rows = _rows(shape_of)

    def take(self, items: NDArray[np.int64], mirrored: NDArray[np.bool_]) -> Tensor:
        """Of pictures of one shape, see `encoded`: (N, Z or 2Z, h, w), float16, on the CPU."""
        found = self._maps[int(self._shape_of[items[0]])]
        return torch.from_numpy(np.asarray(found[self._rows[items], mirrored.astype(np.int64)]))


def open_latents(
    data: Batches,
    vae: AutoencoderKL,
    folder: Path,
    part: str,
    *,
    drawn: bool,
    on_latent: OnLatent | None = None,
    only: NDArray[np.int64] | None = None,
) -> Latents:
    """Encode what is not encoded yet, and map it.

    Args:
        data: the pictures; with flips both orientations are kept.
        vae: the autoencoder, in evaluation mode.
        folder: where the files are; it need not exist.
        part: name of the set there.
        drawn: see `encoded`.
        on_latent: told of progress.
        only: the pictures that will be asked for; None: all.

    Raises:
        ModelError: latents are beyond float16.
        StorageError: there is no room.
    """
    with storage(folder):
        folder.mkdir(parents=True, exist_ok=True)
        head, digest = folder / f"{part}.json", _digest(data, vae, drawn)
        shapes = _shapes(data, vae, drawn)
        paths = [folder / f"{part}-{h}x{w}.bin" for h, w in data.shapes]
        done = _done(head, digest, paths, shapes)
        if not done:
            if only is None:
                require_space(folder, sum(map(_bytes, shapes)), "the pictures' latents")
            for path, shape in zip(paths, shapes, strict=True):
                with path.open("wb") as file:
                    file.truncate(_bytes(shape))
        if done < len(data.cache):
            _encode(data, vae, _mapped(paths, shapes, "r+"), head, digest, done, on_latent, only)
        return Latents(_mapped(paths, shapes, "r"), data.cache.shape_of)


def _encode(
    data: Batches,
    vae: AutoencoderKL,
    maps: Sequence[np.memmap[tuple[int, ...], np.dtype[np.float16]]],
    head: Path,
    digest: str,
    done: int,
    on_latent: OnLatent | None,
    only: NDArray[np.int64] | None,
) -> None:
    """Fill the files from the picture number `done` on."""
    cache = data.cache
    rows, device = _rows(cache.shape_of), next(vae.parameters()).device
    items = np.arange(done, len(cache)) if only is None else only
    drawn = maps[0].shape[2] == 2 * vae.latent_channels
    saved = time.monotonic()

    def save(count: int) -> None:
        for one in maps:
            one.flush()
        write_atomically(head, json.dumps({"digest": digest, "pictures": count}).encode())

    for number, item in enumerate(items.tolist(), done + 1):
        pixels = np.asarray(cache.pixels(item))  # (H, W, C)
        both = np.stack([pixels, pixels[:, ::-1]] if data.flip else [pixels])  # (O, H, W, C)
        z = encoded(vae, torch.from_numpy(to_float(both)).to(device), drawn=drawn)
        maps[int(cache.shape_of[item])][rows[item]] = z.cpu().numpy()
        if on_latent is not None:
            on_latent(number, len(cache))
        if only is None and time.monotonic() - saved > _SAVE_SECONDS:
            save(number)
            saved = time.monotonic()
    if only is None:
        save(len(cache))


def _shapes(data: Batches, vae: AutoencoderKL, drawn: bool) -> list[tuple[int, ...]]:
    counts = np.bincount(data.cache.shape_of, minlength=len(data.shapes))
    channels = vae.latent_channels * (2 if drawn else 1)
    return [
        (int(count), 2 if data.flip else 1, channels, high // vae.factor, wide // vae.factor)
        for count, (high, wide) in zip(counts, data.shapes, strict=True)
    ]


def _bytes(shape: tuple[int, ...]) -> int:
    return 2 * int(np.prod(shape))


def _mapped(
    paths: Sequence[Path], shapes: Sequence[tuple[int, ...]], mode: Literal["r", "r+"]
) -> list[np.memmap[tuple[int, ...], np.dtype[np.float16]]]:
    return [
        np.memmap(path, np.float16, mode, shape=shape)
        for path, shape in zip(paths, shapes, strict=True)
    ]


def _done(head: Path, digest: str, paths: Sequence[Path], shapes: Sequence[tuple[int, ...]]) -> int:
    """How many pictures are encoded; 0 where the files are of something else, or damaged."""
    whole = all(
        path.exists() and path.stat().st_size == _bytes(shape)
        for path, shape in zip(paths, shapes, strict=True)
    )
    try:
        told = json.loads(head.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return 0
    return int(told["pictures"]) if whole and told.get("digest") == digest else 0


def _digest(data: Batches, vae: AutoencoderKL, drawn: bool) -> str:
    """Of all that the latents depend on."""
    cache = data.cache
    told = {
        "format": _FORMAT,
        "pictures": cache.folder.name,
        "flip": data.flip,
        "drawn": drawn,
        "vae": vae.config.to_diffusers(),
    }
    found = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    for numbers in _numbers(data, vae):
        found.update(np.ascontiguousarray(numbers).tobytes())
    return found.hexdigest()


def _numbers(data: Batches, vae: AutoencoderKL) -> Iterator[NDArray[np.generic]]:
    yield data.cache.items
    yield data.cache.shape_of
    for weight in vae.state_dict().values():
        yield weight.float().cpu().numpy()


def _rows(shape_of: NDArray[np.int64]) -> NDArray[np.int64]:
    """The row of each picture among those of its shape, (all,)."""
    rows = np.empty(len(shape_of), np.int64)
    for place in np.unique(shape_of):
        of = np.flatnonzero(shape_of == place)
        rows[of] = np.arange(len(of))
    return rows
