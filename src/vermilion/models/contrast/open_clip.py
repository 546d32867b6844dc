"""How open_clip describes a CLIP and calls its tensors: OpenAI's names. No other file knows it.

D features of a tower, P of a vector.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from PIL import Image
from torch import Tensor

from vermilion.errors import ModelError
from vermilion.models.contrast.config import section
from vermilion.models.contrast.preprocess import MEAN, STD, Preprocess
from vermilion.models.weights import Tensors

FILE = "open_clip_config.json"

# Fields of the two towers; others, but those with a usual value, are of variants that there is
# no code for here.
_VISION = {"image_size", "layers", "width", "patch_size", "head_width", "mlp_ratio"}
_TEXT = {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"}
_USUAL: dict[str, Any] = {
    "pool_type": ("tok", "argmax"),
    "hf_tokenizer_name": None,
    "tokenizer_kwargs": None,
}

_BLOCK = re.compile(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.+)\.(weight|bias)")
_IN_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_ALONE = {
    "logit_scale": "logit_scale",
    "logit_bias": "logit_bias",
    "text_projection": "text_projection.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "visual.proj": "visual_projection.weight",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
}
# Stored (D, P), to be multiplied from the left.
_TURNED = ("text_projection", "visual.proj")


class OpenClip:
    """open_clip's tensors under transformers' names; see `weights.Tensors`.

    Args:
        tensors: of a CLIP, or of a CustomTextCLIP, which puts "text." before those of its text
            tower.
    """

    def __init__(self, tensors: Tensors) -> None:
        self._tensors = tensors
        self._where = {ours: (name, third) for name in tensors.names for ours, third in _ours(name)}
        self.names = frozenset(self._where)

    def load(self, name: str) -> Tensor:
        """One of them, on the CPU."""
        theirs, third = self._where[name]
        tensor = self._tensors.load(theirs)
        if third is not None:
            return tensor.chunk(3)[third].contiguous()
        turned = theirs.removeprefix("text.") in _TURNED
        return tensor.t().contiguous() if turned else tensor

    def shape(self, name: str) -> tuple[int, ...]:
        """Of one of them, which is not loaded for it."""
        theirs, third = self._where[name]
        shape = self._tensors.shape(theirs)
        if third is not None:
            return shape[0] // 3, *shape[1:]
        return shape[::-1] if theirs.removeprefix("text.") in _TURNED else shape


def described(config: Mapping[str, Any]) -> dict[str, Any]:
    """A parsed open_clip_config.json in the words of transformers' config.json.

    Raises:
        ModelError: a field is missing, or of a variant that is not supported.
    """
    model = section(config, "model_cfg")
    vision, text = section(model, "vision_cfg"), section(model, "text_cfg")
    for part, known in ((vision, _VISION), (text, _TEXT)):
        for name, value in part.items():
            usual = _USUAL.get(name, ())
            if name not in known and usual is not None and value not in usual:
                raise ModelError(f"{FILE}: {name}: {value!r} is not supported")
    act = "quick_gelu" if model.get("quick_gelu", False) else "gelu"
    try:
        width, words = vision["width"], text["vocab_size"]
        return {
            "model_type": "clip",
            "projection_dim": model["embed_dim"],
            "vision_config": {
                **_tower(vision, act),
                "num_attention_heads": width // vision.get("head_width", 64),
                "image_size": vision.get("image_size", 224),
                "patch_size": vision.get("patch_size", 16),
            },
            "text_config": {
                **_tower(text, act),
                "num_attention_heads": text["heads"],
                "max_position_embeddings": text.get("context_length", 77),
                "vocab_size": words,
                "bos_token_id": words - 2,
                "eos_token_id": words - 1,
            },
        }
    except KeyError as error:
        raise ModelError(f"{FILE}: the field {error.args[0]!r} is missing") from None
    except (TypeError, ArithmeticError) as error:
        raise ModelError(f"{FILE}: a field cannot be used: {error}") from None


def _tower(fields: Mapping[str, Any], act: str) -> dict[str, Any]:
    return {
        "hidden_size": fields["width"],
        "intermediate_size": int(fields["width"] * fields.get("mlp_ratio", 4)),
        "num_hidden_layers": fields["layers"],
        "hidden_act": act,
    }


def preprocess(config: Mapping[str, Any]) -> Preprocess:
    """What a parsed open_clip_config.json says is done to a picture.

    Raises:
        ModelError: a field cannot be used.
    """
    given = section(config, "preprocess_cfg")
    side = given.get("size", section(section(config, "model_cfg"), "vision_cfg").get("image_size"))
    side = side[-1] if isinstance(side, list) and len(set(side[-2:])) == 1 else side
    filters = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
    kind, mode = given.get("interpolation", "bicubic"), given.get("resize_mode", "shortest")
    if kind not in filters or mode not in ("shortest", "squash"):
        raise ModelError(f"{FILE}: preprocess_cfg: {kind}, {mode} is not supported")
    return Preprocess.from_transformers(
        {
            "size": {"height": side, "width": side} if mode == "squash" else side,
            "crop_size": side,
            "resample": filters[kind],
            "image_mean": given.get("mean", MEAN),
            "image_std": given.get("std", STD),
        }
    )


def _ours(name: str) -> Iterator[tuple[str, int | None]]:
    """Our tensors that one of theirs holds: our name, and which third of it where not all."""
    plain = name.removeprefix("text.")
    block = _BLOCK.fullmatch(plain.replace("in_proj_", "in_proj."))
    if block is None:
        # What has no place here keeps its name, so that it is complained about.
        yield _ALONE.get(plain, name), None
        return
    picture, number, module, kind = block.groups()
    prefix = f"{'vision' if picture else 'text'}_model.encoder.layers.{number}"
    if module == "attn.in_proj":
        for third, part in enumerate("qkv"):
            yield f"{prefix}.self_attn.{part}_proj.{kind}", third
    else:
        yield f"{prefix}.{_IN_BLOCK.get(module, module)}.{kind}", None
