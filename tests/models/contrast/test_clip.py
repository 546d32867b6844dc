"""CLIP against transformers, at toy size and at the size of ViT-B/32; both ways."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    AutoModel,
    AutoProcessor,
    ChineseCLIPConfig,
    ChineseCLIPModel,
    CLIPConfig,
    CLIPModel,
    CLIPVisionModelWithProjection,
    ResNetConfig,
    ResNetModel,
)

from tests.models.contrast.reference import (
    TOWER,
    photo,
    pixels,
    tiny_clip,
    tiny_clip_folder,
)
from tests.tiny import draw_weights
from vermilion.errors import ModelError
from vermilion.models.contrast import io
from vermilion.models.contrast.config import ResNetConfig as OurResNetConfig
from vermilion.models.contrast.config import TextConfig, VisionConfig
from vermilion.models.contrast.net import CLIP, TextTransformer, VisionTransformer
from vermilion.models.contrast.preprocess import Preprocess
from vermilion.models.contrast.resnet import ResNet
from vermilion.models.contrast.tokenizer import Tokenizer
from vermilion.models.files import TensorFiles
from vermilion.models.weights import Part

CAPTIONS = ["a photo of a cat", "a photo of a dog", "红色的印章"]


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("hidden_act", ["quick_gelu", "gelu"])
def test_a_folder_of_transformers(tmp_path: Path, hidden_act: str) -> None:
    model = tiny_clip_folder(tmp_path, hidden_act=hidden_act)
    clip, tokenizer = io.load_clip(tmp_path), Tokenizer.from_folder(tmp_path)
    ids, pictures = tokenizer.encode(CAPTIONS), pixels(4, 32)
    with torch.inference_mode():
        expected = model(input_ids=ids, pixel_values=pictures)
        images, texts = clip(pictures, ids)
        close(images, expected.image_embeds)
        close(texts, expected.text_embeds)
        close(clip.logits(images, texts), expected.logits_per_image)
        hidden = model.vision_model(pictures).last_hidden_state
        close(io.load_tower(tmp_path).hidden(pictures), hidden)
        close(TextTransformer.from_folder(tmp_path)(ids), model.text_model(ids).pooler_output)
    assert not any(weight.requires_grad for weight in clip.parameters())


def test_the_well_known_three_lines(tmp_path: Path) -> None:
    """Picture and captions → processor → model → softmax, as the model's page has it."""
    tiny_clip_folder(tmp_path)
    model, processor = CLIPModel.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)
    picture = Image.fromarray(photo(50, 40))
    inputs = processor(text=CAPTIONS[:2], images=picture, return_tensors="pt", padding=True)
    clip = io.load_clip(tmp_path)
    with torch.inference_mode():
        expected = model.eval()(**inputs).logits_per_image.softmax(dim=1)
        vectors = clip(
            io.load_preprocess(tmp_path)([picture]),
            Tokenizer.from_folder(tmp_path).encode(CAPTIONS[:2]),
        )
        found = clip.logits(*vectors).softmax(dim=1)
    assert float(expected.min()) > 0.02  # else the tiny model cannot tell
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_what_is_written_opens_in_transformers(tmp_path: Path) -> None:
    tiny_clip_folder(tmp_path / "a", seed=3)
    clip, tokenizer = io.load_clip(tmp_path / "a"), Tokenizer.from_folder(tmp_path / "a")
    preprocess = io.load_preprocess(tmp_path / "a")
    io.save_clip(clip, tmp_path / "b", preprocess, tokenizer)
    theirs, info = AutoModel.from_pretrained(tmp_path / "b", output_loading_info=True)
    assert isinstance(theirs, CLIPModel)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    inputs = AutoProcessor.from_pretrained(tmp_path / "b")(
        text=CAPTIONS, images=photo(40, 60), return_tensors="pt", padding=True
    )
    with torch.inference_mode():
        logits = theirs.eval()(**inputs).logits_per_image
        vectors = clip(preprocess([photo(40, 60)]), tokenizer.encode(CAPTIONS))
        close(clip.logits(*vectors), logits)
    again = io.load_clip(tmp_path / "b")
    assert again.vision_model.config == clip.vision_model.config
    assert all(map(torch.equal, again.state_dict().values(), clip.state_dict().values()))
    io.save_clip(clip, tmp_path / "half", preprocess, tokenizer, dtype=torch.float16)
    assert load_file(tmp_path / "half" / "model.safetensors")["logit_scale"].dtype == torch.float16
    with torch.inference_mode():
        halved = CLIPModel.from_pretrained(tmp_path / "half").float().eval()(**inputs)
    torch.testing.assert_close(halved.logits_per_image, logits, atol=0.05, rtol=0.05)


def test_the_size_of_vit_b_32() -> None:
    """151 million random weights; the state dicts are one another's."""
    model = CLIPModel(CLIPConfig()).eval()
    with torch.device("meta"):
        clip = CLIP(VisionTransformer(VisionConfig()), TextTransformer(TextConfig()))
    clip.load_state_dict(model.state_dict(), assign=True)
    ids = Tokenizer.train(["a photo of a cat and a dog"], 600).encode(CAPTIONS)
    ids[ids == ids.max()] = 49407
    with torch.inference_mode():
        expected = model(input_ids=ids, pixel_values=pixels(2, 224))
        images, texts = clip.eval()(pixels(2, 224), ids)
        close(images, expected.image_embeds)
        close(texts, expected.text_embeds)
        close(clip.logits(images, texts), expected.logits_per_image)


@pytest.mark.parametrize(
    ("patch", "width", "layers", "heads", "text", "projection"),
    [(16, 768, 12, 12, 512, 512), (14, 1024, 24, 16, 768, 768)],
)
def test_the_shapes_of_the_larger_ones(
    patch: int, width: int, layers: int, heads: int, text: int, projection: int
) -> None:
    """ViT-B/16 and ViT-L/14, without weights."""
    vision = {
        "hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers,
        "num_attention_heads": heads, "patch_size": patch,
    }  # fmt: skip
    words = {"hidden_size": text, "intermediate_size": 4 * text, "num_attention_heads": text // 64}
    config = CLIPConfig(vision_config=vision, text_config=words, projection_dim=projection)
    with torch.device("meta"):
        theirs = CLIPModel(config).state_dict()
        ours = CLIP(
            VisionTransformer(VisionConfig.from_transformers(config.vision_config.to_dict())),
            TextTransformer(TextConfig.from_transformers(config.text_config.to_dict())),
            projection_dim=projection,
        ).state_dict()
    assert {n: t.shape for n, t in ours.items()} == {n: t.shape for n, t in theirs.items()}


def test_first_weights_are_spread_as_transformers_spreads_them() -> None:
    torch.manual_seed(0)
    ours = CLIP(
        VisionTransformer(VisionConfig(num_hidden_layers=2)),
        TextTransformer(TextConfig(num_hidden_layers=2, vocab_size=1000)),
    ).state_dict()
    sizes = {"num_hidden_layers": 2}
    theirs = CLIPModel(
        CLIPConfig(vision_config=sizes, text_config=sizes | {"vocab_size": 1000})
    ).state_dict()
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        if tensor.dim():
            assert float(ours[name].std()) == pytest.approx(float(tensor.std()), rel=0.1), name
            assert float(ours[name].mean()) == pytest.approx(float(tensor.mean()), abs=0.02), name


@pytest.mark.parametrize("layer_type", ["basic", "bottleneck"])
@pytest.mark.parametrize("early", [False, True])
def test_resnet(tmp_path: Path, layer_type: str, early: bool) -> None:
    config = ResNetConfig(
        embedding_size=8, hidden_sizes=[16, 24, 32], depths=[1, 2, 1], layer_type=layer_type,
        hidden_act="gelu", downsample_in_bottleneck=early, downsample_in_first_stage=early,
    )  # fmt: skip
    model = ResNetModel(config)
    draw_weights(model, 0)
    model(pixels(8, 64, seed=9))  # the means that BatchNorm runs are no longer 0
    model.eval().save_pretrained(tmp_path / "a")
    tower = io.load_tower(tmp_path / "a")
    with torch.inference_mode():
        expected = model(pixels(2, 64))
        close(tower.hidden(pixels(2, 64)), expected.last_hidden_state)
        close(tower(pixels(2, 64)), expected.pooler_output.flatten(1))
    io.save_tower(tower, tmp_path / "b", Preprocess.for_size(64))
    theirs, info = AutoModel.from_pretrained(tmp_path / "b", output_loading_info=True)
    assert isinstance(theirs, ResNetModel)
    assert not info["missing_keys"]
    with torch.inference_mode():
        close(theirs.eval()(pixels(2, 64)).pooler_output, expected.pooler_output)


def test_a_picture_tower_alone(tmp_path: Path) -> None:
    tiny_clip_folder(tmp_path / "a")
    tower = io.load_tower(tmp_path / "a")
    io.save_tower(tower, tmp_path / "b", Preprocess.for_size(32))
    theirs, info = AutoModel.from_pretrained(tmp_path / "b", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    with torch.inference_mode():
        close(tower(pixels(2, 32)), theirs.eval()(pixels(2, 32)).pooler_output)
    theirs.save_pretrained(tmp_path / "c")
    again = io.load_tower(tmp_path / "c")
    assert all(map(torch.equal, again.state_dict().values(), tower.state_dict().values()))


def test_a_text_tower_of_another_kind(tmp_path: Path) -> None:
    """Its vectors stay as they are; transformers opens the picture tower and its projection."""
    tower = VisionTransformer(VisionConfig(**TOWER, image_size=32, patch_size=8))
    clip = CLIP(tower, nn.Identity(), text_size=16, projection_dim=None, logit_bias=True).eval()
    vectors = torch.randn(3, 16, generator=torch.Generator().manual_seed(0))
    io.save_clip(clip, tmp_path, Preprocess.for_size(32), text_tower="all-minilm-l6-v2")
    with pytest.raises(ModelError, match=r"its text tower \(all-minilm-l6-v2\)"):
        io.load_clip(tmp_path)
    again = io.load_clip(tmp_path, text_model=nn.Identity())
    with torch.inference_mode():
        images, texts = again(pixels(2, 32), vectors)
        close(texts, nn.functional.normalize(vectors, dim=-1))
        close(again.logits(images, texts), clip.logits(*clip(pixels(2, 32), vectors)))
        theirs = CLIPVisionModelWithProjection.from_pretrained(tmp_path).eval()
        expected = theirs(pixels(2, 32)).image_embeds
        close(again.get_image_features(pixels(2, 32)), expected)


def test_a_resnet_as_the_picture_tower(tmp_path: Path) -> None:
    sizes = OurResNetConfig(embedding_size=8, hidden_sizes=(16, 32), depths=(1, 1))
    words = TextConfig(**TOWER, vocab_size=600)
    clip = CLIP(ResNet(sizes), TextTransformer(words), projection_dim=24).eval()
    io.save_clip(clip, tmp_path, Preprocess.for_size(64))
    again = io.load_clip(tmp_path)
    assert again.vision_model.config == sizes
    with torch.inference_mode():
        close(
            again.get_image_features(pixels(2, 64)),
            clip.visual_projection(clip.vision_model(pixels(2, 64))),
        )


class Bert(nn.Module):
    """Chinese-CLIP's text tower: BERT's features of the first token."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.net(ids, mask)[:, 0]


def test_chinese_clip(tmp_path: Path) -> None:
    """Its BERT is opened by the room of language models and passed in."""
    from vermilion.models.lm.encoder import EncoderConfig, EncoderNet
    from vermilion.models.lm.io import fill
    from vermilion.models.lm.names import BERT

    sizes = {**TOWER, "vocab_size": 120, "max_position_embeddings": 52}
    config = ChineseCLIPConfig(
        text_config=sizes, vision_config={**TOWER, "image_size": 32, "patch_size": 8},
        projection_dim=24,
    )  # fmt: skip
    model = ChineseCLIPModel(config).eval()
    draw_weights(model, 2)
    model.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="of another family; it has to be given"):
        io.load_clip(tmp_path)
    text = json.loads((tmp_path / "config.json").read_text())["text_config"]
    net = EncoderNet(EncoderConfig.from_transformers(text | {"model_type": "bert"})).eval()
    tensors = Part(TensorFiles(tmp_path), "text_model.")
    fill(net, tensors, BERT, str(tmp_path), "cpu", torch.float32, {})
    clip = io.load_clip(tmp_path, text_model=Bert(net))
    ids = torch.randint(1, 120, (3, 10), generator=torch.Generator().manual_seed(0))
    mask = torch.arange(10) < torch.tensor([[10], [4], [7]])
    with torch.inference_mode():
        expected = model(input_ids=ids, attention_mask=mask.long(), pixel_values=pixels(2, 32))
        images, texts = clip(pixels(2, 32), ids, mask)
        close(clip.logits(images, texts), expected.logits_per_image)


def test_older_folders_and_broken_ones(tmp_path: Path) -> None:
    model = tiny_clip_folder(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    places = torch.arange(17)[None]
    save_file(tensors | {"vision_model.embeddings.position_ids": places}, path)
    config = json.loads((tmp_path / "config.json").read_text())
    old = config | {"vision_config": {"hidden_size": 8}, "text_config": None}
    for part in ("vision_config", "text_config"):
        old[f"{part}_dict"] = config[part]
    (tmp_path / "config.json").write_text(json.dumps(old))
    with torch.inference_mode():
        features = model.get_image_features(pixels(1, 32)).pooler_output
        close(io.load_clip(tmp_path).get_image_features(pixels(1, 32)), features)
    save_file({n: t for n, t in tensors.items() if n != "logit_scale"}, path)
    with pytest.raises(ModelError, match="the tensor logit_scale is missing"):
        io.load_clip(tmp_path)
    save_file(tensors | {"logit_scale": torch.zeros(2)}, path)
    with pytest.raises(ModelError, match=r"logit_scale has the shape \(2,\)"):
        io.load_clip(tmp_path)
    for field, message in (
        ({"patch_size": 0}, "patch_size: must be a whole number above 0"),
        ({"hidden_act": "swish"}, "hidden_act: 'swish' is not one of"),
        ({"num_attention_heads": 5}, "hidden_size: must be a multiple"),
        ({"num_hidden_layers": 10**9}, "fewer tensors than layers"),
        ({"layer_norm_eps": "x"}, "layer_norm_eps: must be a number"),
    ):
        broken = config | {"vision_config": config["vision_config"] | field}
        (tmp_path / "config.json").write_text(json.dumps(broken))
        with pytest.raises(ModelError, match=message):
            io.load_clip(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "siglip"}')
    with pytest.raises(ModelError, match="known are clip, chinese_clip, clip_vision_model"):
        io.load_clip(tmp_path)


def test_pictures_of_another_size() -> None:
    tower = VisionTransformer(VisionConfig(**TOWER, image_size=32, patch_size=8))
    with pytest.raises(ValueError, match=r"^pictures: must be \(N, 3, 32, 32\)"):
        tower(pixels(1, 40))
    assert tiny_clip().vision_model.embeddings.patch_embedding.weight.shape == (32, 3, 8, 8)
