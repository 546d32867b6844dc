"""Folders of open_clip against its own networks, with random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModel

from tests.models.contrast.published import open_clip_model
from tests.models.contrast.reference import pixels
from tests.tiny import draw_weights
from vermilion.errors import ModelError
from vermilion.models.contrast import io
from vermilion.models.contrast.open_clip import OpenClip
from vermilion.models.contrast.preprocess import Preprocess
from vermilion.models.files import TensorFiles

VISION = {"image_size": 32, "layers": 2, "width": 32, "patch_size": 8, "head_width": 8}
TEXT = {"context_length": 20, "vocab_size": 120, "width": 24, "heads": 3, "layers": 3}


def write(folder: Path, custom: bool = False, **fields: Any) -> Any:
    """A model of open_clip, written as its push_to_hf_hub does."""
    module = open_clip_model()
    config = {"embed_dim": 16, "vision_cfg": VISION, "text_cfg": TEXT, **fields}
    model = (module.CustomTextCLIP if custom else module.CLIP)(**config).eval()
    draw_weights(model, 4)
    folder.mkdir(exist_ok=True)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    normal = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}
    whole = {"model_cfg": config | {"custom_text": custom}, "preprocess_cfg": normal}
    (folder / "open_clip_config.json").write_text(json.dumps(whole))
    return model


@pytest.mark.parametrize("custom", [False, True])
@pytest.mark.parametrize("quick_gelu", [False, True])
@pytest.mark.parametrize("bias", [{}, {"init_logit_bias": -10.0}])
def test_vectors(tmp_path: Path, custom: bool, quick_gelu: bool, bias: dict[str, float]) -> None:
    model = write(tmp_path / "a", custom, quick_gelu=quick_gelu, **bias)
    ids = torch.randint(1, 118, (3, 20), generator=torch.Generator().manual_seed(0))
    ids[:, 0] = 118
    for row, length in enumerate((4, 11, 20)):
        ids[row, length - 1 :] = 0
        ids[row, length - 1] = 119
    clip = io.load_clip(tmp_path / "a")
    tensors = OpenClip(TensorFiles(tmp_path / "a"))
    assert all(tensors.shape(name) == tensors.load(name).shape for name in tensors.names)
    with torch.inference_mode():
        images, texts = clip(pixels(2, 32), ids)
        expected = model.get_logits(pixels(2, 32), ids)[0]
        for found, wanted in (
            (images, model.encode_image(pixels(2, 32), normalize=True)),
            (texts, model.encode_text(ids, normalize=True)),
            (clip.logits(images, texts), expected),
        ):
            torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
    preprocess = io.load_preprocess(tmp_path / "a")
    assert preprocess == Preprocess.for_size(32, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    io.save_clip(clip, tmp_path / "b", preprocess)
    theirs = AutoModel.from_pretrained(tmp_path / "b").eval()
    with torch.inference_mode():
        vectors = theirs.get_image_features(pixels(2, 32)).pooler_output
        torch.testing.assert_close(clip.get_image_features(pixels(2, 32)), vectors)


def test_variants_that_are_not_supported(tmp_path: Path) -> None:
    write(tmp_path)
    path = tmp_path / "open_clip_config.json"
    whole = json.loads(path.read_text())
    for part, field in (("vision_cfg", {"pool_type": "avg"}), ("text_cfg", {"embed_cls": True})):
        model = whole["model_cfg"] | {part: whole["model_cfg"][part] | field}
        path.write_text(json.dumps({"model_cfg": model}))
        with pytest.raises(ModelError, match=f"{next(iter(field))}: .* is not supported"):
            io.load_clip(tmp_path)
    path.write_text(json.dumps({"model_cfg": {"embed_dim": 4, "vision_cfg": {}}}))
    with pytest.raises(ModelError, match="the field 'width' is missing"):
        io.load_clip(tmp_path)
    path.write_text(json.dumps({**whole, "preprocess_cfg": {"resize_mode": "longest"}}))
    with pytest.raises(ModelError, match="longest is not supported"):
        io.load_preprocess(tmp_path)
