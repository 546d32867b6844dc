"""Folders of safetensors, as every room of models reads and writes them."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vermilion.errors import ModelError, StorageError, UnsafeModelError

STEM = "model"
"""What transformers calls a model's weights, before the ending; diffusers has another word."""
MAX_SHARD_BYTES = 5_000_000_000
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_HALF = "fp16"  # the variant that is published beside, or instead of, the full weights


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a model's folder.

    Raises:
        ModelError: the file is missing or is no JSON object.
    """
    value = _parse(path)
    if not isinstance(value, dict):
        raise ModelError(f"{path}: this is not a JSON object; pull the model again")
    return value


def read_json_list(path: Path) -> list[dict[str, Any]]:
    """A JSON array of objects from a model's folder.

    Raises:
        ModelError: the file is missing or is none.
    """
    value = _parse(path)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ModelError(f"{path}: this is not a JSON array of objects; pull the model again")
    return value


def _parse(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path.parent}: {path.name} is missing; pull the model again") from None
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: this is not JSON ({error}); pull the model again") from None


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object as transformers does."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


class TensorFiles:
    """The tensors in a folder's safetensors files, whole or in shards, read when asked for.

    Where the full weights are missing, those of the variant fp16 are taken.

    Args:
        path: the folder, or a single file.
        stem: what the files' names begin with.

    Attributes:
        names: of all tensors.

    Raises:
        UnsafeModelError: there are only pickles.
        ModelError: there is no such file, or one is broken.
    """

    def __init__(self, path: Path, stem: str = STEM) -> None:
        self.folder = path
        self._files: dict[Path, Any] = {}
        files = [path] if path.is_file() else _files(path, stem)
        _refuse_pickles(path, files)
        self._where = {name: file for file in files for name in self._open(file).keys()}  # noqa: SIM118
        if not self._where:
            raise ModelError(f"{path}: there is no *.safetensors file in this folder")
        self.names = frozenset(self._where)

    def _open(self, path: Path) -> Any:
        if path not in self._files:
            try:
                self._files[path] = safe_open(path, framework="pt")
            except (SafetensorError, OSError) as error:
                raise ModelError(f"{path}: cannot be read ({error}); pull it again") from None
        return self._files[path]

    def load(self, name: str) -> Tensor:
        """A tensor, on the CPU, as it is stored."""
        tensor: Tensor = self._open(self._where[name]).get_tensor(name)
        return tensor

    def shape(self, name: str) -> tuple[int, ...]:
        """Of a tensor, from its file's header."""
        return tuple(self._open(self._where[name]).get_slice(name).get_shape())

    def count(self, spare: Callable[[str], bool] | None = None) -> int:
        """How many numbers the tensors hold, from the files' headers; not counting spare ones."""
        counted = (name for name in self.names if spare is None or not spare(name))
        return sum(prod(self.shape(name)) for name in counted)


def _files(folder: Path, stem: str) -> list[Path]:
    """The files of one model; found in the order in which transformers and diffusers look."""
    for variant in ("", f".{_HALF}"):
        whole = folder / f"{stem}{variant}.safetensors"
        if whole.exists():
            return [whole]
        index = folder / f"{stem}.safetensors.index{variant}.json"
        if index.exists():
            files = read_json(index).get("weight_map")
            if not isinstance(files, dict) or not all(isinstance(f, str) for f in files.values()):
                raise ModelError(f"{index}: weight_map: must say which file holds which tensor")
            return sorted({folder / file for file in files.values()})
    return sorted(folder.glob("*.safetensors"))


def _refuse_pickles(path: Path, files: Iterable[Path]) -> None:
    """Raise UnsafeModelError where the weights are there as pickles only."""
    found = [] if any(files) else sorted(f for f in path.glob("*") if f.suffix in _PICKLES)
    found += [file for file in files if file.suffix in _PICKLES]
    if found:
        raise UnsafeModelError(
            f"{found[0]} is a pickle, which may run code when it is opened; open the model once in"
            " a throw-away environment that you trust and save it there as safetensors"
            " (save_pretrained with safe_serialization=True)"
        )


def save_tensors(
    state: Mapping[str, Tensor],
    folder: Path,
    *,
    stem: str = STEM,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> None:
    """Write tensors as a safetensors file, or in shards with their index where they are larger.

    Args:
        state: name → tensor.
        folder: where to; it exists.
        stem: what the files' names begin with.
        max_shard_bytes: most bytes of tensors in a file; one that is larger stands alone.
    """
    shards: list[dict[str, Tensor]] = [{}]
    size = total = 0
    for name, tensor in state.items():
        if shards[-1] and size + tensor.nbytes > max_shard_bytes:
            shards.append({})
            size = 0
        shards[-1][name] = tensor.contiguous()
        size, total = size + tensor.nbytes, total + tensor.nbytes
    where: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        part = "" if len(shards) == 1 else f"-{number:05}-of-{len(shards):05}"
        file = f"{stem}{part}.safetensors"
        save_file(shard, folder / file, metadata={"format": "pt"})
        where.update(dict.fromkeys(shard, file))
    if len(shards) > 1:
        index = folder / f"{stem}.safetensors.index.json"
        write_json(index, {"metadata": {"total_size": total}, "weight_map": where})


@contextmanager
def written_whole(folder: Path, stem: str = STEM) -> Iterator[Path]:
    """A folder beside, to write a model into; its files take their places when all are complete.

    A new folder appears in one step. One that exists keeps what else is in it: each file and each
    folder is replaced whole, and weights of the model that was there before are removed.

    Args:
        folder: where to; made if it does not exist.
        stem: what the names of its weights begin with.

    Raises:
        StorageError: the disk is full or read-only.
    """
    staged = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    try:
        staged.mkdir(parents=True)
        yield staged
        for file in staged.rglob("*"):
            _flush(file)
        _flush(staged)
        if not folder.exists():
            staged.rename(folder)
        else:
            _replace(folder, staged, stem)
        _flush(folder.parent)
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise StorageError(
            f"{folder}: cannot be written ({reason}); free some space or choose another folder"
        ) from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _replace(folder: Path, staged: Path, stem: str) -> None:
    """Put what is staged in the places of what is in the folder, folders before files."""
    written = {file.name for file in staged.iterdir()}
    for file in sorted(staged.iterdir(), key=lambda file: (file.is_file(), file)):
        target = folder / file.name
        if file.is_dir() and target.exists():
            target.rename(staged / f".{file.name}.old")  # goes with the staged folder
        file.replace(target)
    # Last: until here a reader finds the old whole file before new shards.
    index = folder / f"{stem}.safetensors.index.json"
    for old in (*folder.glob(f"{stem}*.safetensors"), index):
        if old.name not in written:
            old.unlink(missing_ok=True)
    _flush(folder)


def _flush(path: Path) -> None:
    """See that a file or folder is on the disk. Windows cannot do it for folders."""
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
