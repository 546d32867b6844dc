"""What lies in a model's files, as far as can be told without opening them as a model.

Only safetensors, GGUF and ONNX hold weights here. A pickle is recognised and never opened.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from vermilion.errors import ModelError, UnsafeModelError

WEIGHTS = (".safetensors", ".gguf", ".onnx")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_INDEX = "model.safetensors.index.json"
# The one file that sentence-transformers keeps in a folder of its own and that is needed.
POOLING = "1_Pooling/config.json"
_BESIDE = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "vocab.txt",
    "modules.json",
    "sentence_bert_config.json",
    "preprocessor_config.json",
    POOLING,
)
_CHUNK = 1 << 20
# The limit of the safetensors format itself.
_MAX_HEADER = 100_000_000


def sha256_of(path: Path, on_bytes: Callable[[int], None] | None = None) -> str:
    """SHA-256 of a file, hexadecimal.

    Args:
        path: the file.
        on_bytes: called with the bytes read so far.
    """
    digest, done = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            done += len(chunk)
            if on_bytes is not None:
                on_bytes(done)
    return digest.hexdigest()


def stays_inside(name: str) -> bool:
    """Whether a file's name, with "/" between folders, stays inside the folder it belongs to."""
    parts = set(name.split("/"))
    return not (parts & {"", ".", ".."} or set(name) & {"\\", ":", "\0"})


def select(names: Iterable[str], where: str) -> tuple[str, ...]:
    """The files that make a language model or an encoder, out of all that lie in one place.

    Safetensors with their configuration and tokenizer come before GGUF.

    Args:
        names: relative to the place, with "/" between folders.
        where: the place, for messages.

    Raises:
        UnsafeModelError: there are weights, but only as pickles.
        ModelError: there is no model, an incomplete one, or more than one.
    """
    every = set(names)
    weights = {name for name in every if name.endswith((".safetensors", ".gguf"))}
    if not weights:
        pickles = sorted(name for name in every if name.endswith(PICKLES))
        if pickles:
            raise unsafe(f"{where}: {pickles[0]}")
        raise ModelError(f"{where} holds no *.safetensors and no *.gguf; name a place that does")
    folders = {str(PurePosixPath(name).parent) for name in weights}
    if len(folders) > 1:
        raise ModelError(f"{where} holds weights in several folders; name one of them or one file")
    prefix = "" if folders == {"."} else f"{folders.pop()}/"
    tensors = _pick_tensors(every, prefix)
    if not tensors:
        if len(weights) > 1:
            names_of_all = ", ".join(sorted(weights)[:4])
            raise ModelError(f"{where} holds {len(weights)} GGUF files ({names_of_all}); name one")
        return tuple(weights)
    # A tower of pictures may have no tokenizer.
    for needed, instead in (("config.json", ""), ("tokenizer.json", "vocab.txt")):
        silent = needed == "tokenizer.json" and prefix + "preprocessor_config.json" in every
        if not silent and prefix + needed not in every and prefix + instead not in every:
            raise ModelError(
                f"{where} has no {needed}; save the model there with save_pretrained of "
                "transformers, its tokenizer too"
            )
    beside = {prefix + name for name in _BESIDE} & every
    return tuple(sorted(beside | tensors))


def _pick_tensors(every: set[str], prefix: str) -> set[str]:
    """Safetensors files of one model; some places hold a second copy under another name."""
    found = {name for name in every if name.startswith(prefix) and name.endswith(".safetensors")}
    if prefix + "model.safetensors" in found:
        return {prefix + "model.safetensors"}
    if prefix + _INDEX in every:
        shards = {name for name in found if name.startswith(prefix + "model-")}
        return shards | {prefix + _INDEX}
    return found


def check_file(path: Path, remedy: str) -> None:
    """Look at the first bytes of a model's file, which costs next to nothing.

    Args:
        path: the file.
        remedy: what to do about a broken file, the end of a sentence.

    Raises:
        UnsafeModelError: it is a pickle, whatever its name says.
        ModelError: its header is broken or the file is shorter than its header says.
    """
    if path.suffix in PICKLES:
        raise unsafe(str(path))
    with path.open("rb") as file:
        head = file.read(256)
    problem = ""
    if path.suffix == ".safetensors":
        problem = _safetensors_problem(path, head)
    elif path.suffix == ".gguf" and (head[:4] != b"GGUF" or len(head) < 24):
        problem = "has no GGUF header"
    elif path.suffix == ".onnx" and head[:1] != b"\x08":
        problem = "has no ONNX header"
    elif path.name == _INDEX:
        problem = _index_problem(path)
    # A safetensors file may by chance begin like a pickle, so that its own header is read first.
    elif path.suffix not in WEIGHTS and _is_pickle(head):
        raise unsafe(str(path))
    if problem:
        if _is_pickle(head):
            raise unsafe(str(path))
        raise ModelError(f"{path} {problem}; {remedy}")


def unsafe(what: str) -> UnsafeModelError:
    """The error for a pickle: why it is refused and how it becomes safetensors."""
    return UnsafeModelError(
        f"{what} is a pickle, which may run code when it is opened; load it once in a throw-away "
        "environment that you trust, save its tensors with safetensors.torch.save_file(state_dict, "
        "'model.safetensors'), and use that file with its config.json and tokenizer.json"
    )


def _is_pickle(head: bytes) -> bool:
    """Pickles since protocol 2, torch's zip archives, and numpy arrays of objects."""
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return True
    return head[:4] == b"PK\x03\x04" or (head[:6] == b"\x93NUMPY" and b"'|O'" in head)


def _safetensors_problem(path: Path, head: bytes) -> str:
    """What is wrong with a safetensors file, or nothing. The layout is the format's README."""
    size = path.stat().st_size
    if len(head) < 9 or head[8:9] != b"{":
        return "has no safetensors header"
    (length,) = struct.unpack("<Q", head[:8])
    if length > min(_MAX_HEADER, size - 8):
        return "has a safetensors header that is longer than the file"
    with path.open("rb") as file:
        file.seek(8)
        text = file.read(length)
    try:
        tensors = {
            name: value for name, value in json.loads(text).items() if name != "__metadata__"
        }
        end = max((int(value["data_offsets"][1]) for value in tensors.values()), default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return "has a broken safetensors header"
    if size != 8 + length + end:
        return f"has {size} bytes where its header says {8 + length + end}"
    return ""


def _index_problem(path: Path) -> str:
    try:
        shards = set(json.loads(path.read_bytes())["weight_map"].values())
    except (ValueError, TypeError, KeyError, AttributeError):
        return "is not an index of safetensors files"
    missing = sorted(str(name) for name in shards if not (path.parent / str(name)).is_file())
    return f"names {missing[0]}, which is not there" if missing else ""
