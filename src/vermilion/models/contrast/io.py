"""Contrastive models in and out: transformers' folders both ways, open_clip's in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vermilion.errors import ModelError
from vermilion.models.contrast import open_clip
from vermilion.models.contrast.config import ResNetConfig, TextConfig, VisionConfig, section
from vermilion.models.contrast.net import CLIP, TextTransformer, VisionTransformer
from vermilion.models.contrast.preprocess import Preprocess
from vermilion.models.contrast.resnet import ResNet
from vermilion.models.contrast.tokenizer import Tokenizer
from vermilion.models.files import TensorFiles, read_json, save_tensors, write_json, written_whole
from vermilion.models.weights import Part, Tensors, fill, laid_out

STUDENT = "student"  # a folder in a model's, see `bag.Bag`: other languages than its encoder's
_OTHER = "other"  # model_type of a text tower that is not of this room
_VISION, _TEXT = "vision_model", "text_model"


def load_clip(
    folder: Path,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    *,
    text_model: nn.Module | None = None,
) -> CLIP:
    """Open a CLIP: a folder of transformers or open_clip, or one that `save_clip` wrote.

    Args:
        folder: with the model.
        device: where its weights go.
        dtype: of its weights.
        text_model: its text tower, where that is none of CLIP: a Chinese-CLIP's BERT, whose
            tensors are `Part(TensorFiles(folder), "text_model.")`, or the tower that a picture
            tower was trained with. `nn.Identity` where vectors will be made beforehand.

    Returns:
        The model in evaluation mode, without gradients.

    Raises:
        ModelError: a file is missing or broken, or of another kind; or the text tower is.
    """
    where = str(folder)
    tensors: Tensors = TensorFiles(folder)
    if _is_open_clip(folder):
        config = open_clip.described(read_json(folder / open_clip.FILE))
        tensors = open_clip.OpenClip(tensors)
    else:
        config = read_json(folder / "config.json")
    vision, text = _towers(config, where)
    own = text.get("model_type", "clip_text_model") == "clip_text_model"
    if not own and text_model is None:
        raise ModelError(
            f"{where}: its text tower ({text.get('name', text['model_type'])}) is of another"
            " family; it has to be given"
        )
    sizes = TextConfig.from_transformers(text) if own else None
    projection = config.get("projection_dim", 512)
    if sizes is None and text.get("projected") is False:
        projection = None

    def make() -> CLIP:
        # Whatever the text tower is, it comes last and is not filled here.
        texts = nn.Identity() if sizes is None else TextTransformer(sizes)
        size = text.get("hidden_size", 768) if sizes is None else None
        bias = "logit_bias" in tensors.names
        return CLIP(
            _tower(vision), texts, text_size=size, projection_dim=projection, logit_bias=bias
        )

    clip = laid_out(make, _layers(vision), tensors, where)
    fill(clip, tensors, where, device, dtype, () if own else (_TEXT,))
    if not own and text_model is not None:
        clip.text_model = text_model
    return clip.eval().requires_grad_(requires_grad=False)


def load_tower(
    folder: Path, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> VisionTransformer | ResNet:
    """Open a picture tower alone: of a CLIP, a CLIPVisionModel or a ResNetModel.

    Args:
        folder: with the model; what does not belong to the tower is not read.
        device: where its weights go.
        dtype: of its weights.

    Returns:
        The tower in evaluation mode, without gradients.

    Raises:
        ModelError: a file is missing or broken, or of another kind.
    """
    config = read_json(folder / "config.json")
    if config.get("model_type") == "resnet":
        vision: VisionConfig | ResNetConfig = ResNetConfig.from_transformers(config)
    else:
        vision, _ = _towers(config, str(folder))
    tensors = TensorFiles(folder)
    prefixes = (f"{_VISION}.", "resnet.")
    inner = next((p for p in (Part(tensors, prefix) for prefix in prefixes) if p.names), tensors)
    tower = laid_out(lambda: _tower(vision), _layers(vision), tensors, str(folder))
    fill(tower, inner, str(folder), device, dtype, ("visual_projection", "classifier"))
    return tower.eval().requires_grad_(requires_grad=False)


def load_preprocess(folder: Path) -> Preprocess:
    """What a model's folder says is done to a picture: transformers' file or open_clip's.

    Raises:
        ModelError: it is missing, or a field cannot be used.
    """
    if _is_open_clip(folder):
        return open_clip.preprocess(read_json(folder / open_clip.FILE))
    return Preprocess.from_folder(folder)


def save_clip(
    clip: CLIP,
    folder: Path,
    preprocess: Preprocess,
    tokenizer: Tokenizer | None = None,
    *,
    text_tower: str = "",
    dtype: torch.dtype | None = None,
) -> None:
    """Write a CLIP as a folder that transformers opens.

    With CLIP's own towers that is a CLIPModel. Where the text tower is another module it is not
    written, and the folder is a CLIPVisionModelWithProjection. One whose picture tower is a
    ResNet opens here alone; transformers has no such model.

    Args:
        clip: the model.
        folder: where to; made if it does not exist.
        preprocess: what is done to pictures.
        tokenizer: of the text tower, where it is CLIP's.
        text_tower: name of the text tower where it is another module.
        dtype: of the weights in the files; None: as they are.

    Raises:
        StorageError: the disk is full or read-only.
    """
    own = isinstance(clip.text_model, TextTransformer)
    if isinstance(clip.text_model, TextTransformer):
        text = {"model_type": "clip_text_model", **asdict(clip.text_model.config)}
    else:
        projected = isinstance(clip.text_projection, nn.Linear)
        size = clip.text_projection.in_features if projected else clip.projection_dim
        text = {"model_type": _OTHER, "name": text_tower, "hidden_size": size}
        text |= {"projected": projected}
    vision = _described(clip.vision_model) | {"projection_dim": clip.projection_dim}
    config: dict[str, Any] = {"projection_dim": clip.projection_dim, "text_config": text}
    if own or isinstance(clip.vision_model, ResNet):
        text["projection_dim"] = clip.projection_dim
        config |= {"architectures": ["CLIPModel"], "model_type": "clip", "vision_config": vision}
        config["logit_scale_init_value"] = float(clip.logit_scale.detach())
    else:
        config |= {**vision, "architectures": ["CLIPVisionModelWithProjection"]}
    state = {
        name: tensor
        for name, tensor in clip.state_dict().items()
        if own or not name.startswith(f"{_TEXT}.")
    }
    _write(state, config, folder, preprocess, tokenizer, dtype)


def save_tower(
    tower: VisionTransformer | ResNet,
    folder: Path,
    preprocess: Preprocess,
    *,
    dtype: torch.dtype | None = None,
) -> None:
    """Write a picture tower alone, as transformers' CLIPVisionModel or ResNetModel.

    Args:
        tower: the network; SimCLR's without its projection head, which is of no use after.
        folder: where to; made if it does not exist.
        preprocess: what is done to pictures.
        dtype: of the weights in the files; None: as they are.

    Raises:
        StorageError: the disk is full or read-only.
    """
    name = "ResNetModel" if isinstance(tower, ResNet) else "CLIPVisionModel"
    config = {"architectures": [name], **_described(tower)}
    _write(tower.state_dict(), config, folder, preprocess, None, dtype)


def _write(
    state: Mapping[str, Tensor],
    config: dict[str, Any],
    folder: Path,
    preprocess: Preprocess,
    tokenizer: Tokenizer | None,
    dtype: torch.dtype | None,
) -> None:
    stored = {
        name: tensor.to("cpu", dtype if tensor.is_floating_point() else None)
        for name, tensor in state.items()
    }
    kind = next(tensor.dtype for tensor in stored.values())
    with written_whole(folder) as staged:
        save_tensors(stored, staged)
        write_json(staged / "config.json", {**config, "dtype": str(kind).removeprefix("torch.")})
        preprocess.save(staged)
        if tokenizer is not None:
            tokenizer.save(staged)


def _is_open_clip(folder: Path) -> bool:
    """Whether only open_clip's files are there; some folders hold transformers' beside them."""
    return (folder / open_clip.FILE).exists() and not (folder / "config.json").exists()


def _towers(
    config: Mapping[str, Any], where: str
) -> tuple[VisionConfig | ResNetConfig, dict[str, Any]]:
    """What a config.json says of the picture tower, and the fields about the text tower."""
    kind = config.get("model_type")
    if kind not in ("clip", "chinese_clip", "clip_vision_model"):
        raise ModelError(
            f"{where}: model_type: {kind!r} is not supported; known are clip, chinese_clip,"
            " clip_vision_model"
        )
    text = section(config, "text_config")
    if kind == "chinese_clip":
        text = {"model_type": "chinese_clip_text_model", **text}
    elif kind == "clip_vision_model" and not text:
        text = {"model_type": "none"}
    vision = dict(config) if kind == "clip_vision_model" else section(config, "vision_config")
    if vision.get("model_type") == "resnet":
        return ResNetConfig.from_transformers(vision), text
    return VisionConfig.from_transformers(vision), text


def _layers(config: VisionConfig | ResNetConfig) -> int:
    return sum(config.depths) if isinstance(config, ResNetConfig) else config.num_hidden_layers


def _tower(config: VisionConfig | ResNetConfig) -> VisionTransformer | ResNet:
    return ResNet(config) if isinstance(config, ResNetConfig) else VisionTransformer(config)


def _described(tower: VisionTransformer | ResNet) -> dict[str, Any]:
    """A picture tower's part of config.json."""
    kind = "resnet" if isinstance(tower, ResNet) else "clip_vision_model"
    return {"model_type": kind, **asdict(tower.config)}
