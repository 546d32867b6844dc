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

from vermilion.errors import ModelError, StorageError

WHOLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
MAX_SHARD_BYTES = 5_000_000_000


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

    Attributes:
        names: of all tensors.

    Raises:
        ModelError: there is no such file, or one is broken.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[Path, Any] = {}
        self._where = {name: path for path in _files(folder) for name in self._open(path).keys()}  # noqa: SIM118
        if not self._where:
            raise ModelError(f"{folder}: there is no *.safetensors file in this folder")
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

    def count(self, spare: Callable[[str], bool] | None = None) -> int:
        """How many numbers the tensors hold, from the files' headers; not counting spare ones."""
        counted = [name for name in self.names if spare is None or not spare(name)]
        return sum(
            prod(self._open(self._where[name]).get_slice(name).get_shape()) for name in counted
        )


def _files(folder: Path) -> Iterable[Path]:
    """The files of one model; found in the order in which transformers looks."""
    if (folder / WHOLE).exists():
        return [folder / WHOLE]
    if not (folder / INDEX).exists():
        return sorted(folder.glob("*.safetensors"))
    index = read_json(folder / INDEX).get("weight_map")
    if not isinstance(index, dict) or not all(isinstance(f, str) for f in index.values()):
        raise ModelError(f"{folder / INDEX}: weight_map: must say which file holds which tensor")
    return {folder / file for file in index.values()}


def save_tensors(
    state: Mapping[str, Tensor], folder: Path, *, max_shard_bytes: int = MAX_SHARD_BYTES
) -> None:
    """Write tensors as model.safetensors, or in shards with their index where they are larger.

    Args:
        state: name → tensor.
        folder: where to; it exists.
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
        file = WHOLE if len(shards) == 1 else f"model-{number:05}-of-{len(shards):05}.safetensors"
        save_file(shard, folder / file, metadata={"format": "pt"})
        where.update(dict.fromkeys(shard, file))
    if len(shards) > 1:
        write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": where})


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """A folder beside, to write a model into; its files take their places when all are complete.

    A new folder appears in one step. One that exists keeps what else is in it: each file is
    replaced whole, and weights of the model that was there before are removed.

    Raises:
        StorageError: the disk is full or read-only.
    """
    staged = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    try:
        staged.mkdir(parents=True)
        yield staged
        for file in staged.iterdir():
            _flush(file)
        _flush(staged)
        if not folder.exists():
            staged.rename(folder)
        else:
            written = {file.name for file in staged.iterdir()}
            for file in sorted(staged.iterdir()):
                file.replace(folder / file.name)
            # Last: until here a reader finds the old whole file before new shards.
            for old in (*folder.glob("model*.safetensors"), folder / INDEX):
                if old.name not in written:
                    old.unlink(missing_ok=True)
            _flush(folder)
        _flush(folder.parent)
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise StorageError(
            f"{folder}: cannot be written ({reason}); free some space or choose another folder"
        ) from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _flush(path: Path) -> None:
    """See that a file or folder is on the disk. Windows cannot do it for folders."""
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
