"""The names are those of stable-diffusion-v1-5 as it lies on its hub."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from vermilion.errors import InputError, ModelError, UnsafeModelError
from vermilion.runtime.pipelines import family_of_tensors, select_pipeline
from vermilion.runtime.store import Store

UNET = "unet/diffusion_pytorch_model"
PLAIN = {
    "README.md",
    "feature_extractor/preprocessor_config.json",
    "model_index.json",
    "safety_checker/config.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "tokenizer/merges.txt",
    "tokenizer/special_tokens_map.json",
    "tokenizer/tokenizer_config.json",
    "tokenizer/vocab.json",
    "unet/config.json",
    "v1-inference.yaml",
    "vae/config.json",
}
WEIGHTS = {
    f"{folder}/{name}{variant}.{suffix}"
    for folder, stem, pickle in (
        ("safety_checker", "model", "pytorch_model"),
        ("text_encoder", "model", "pytorch_model"),
        ("unet", "diffusion_pytorch_model", "diffusion_pytorch_model"),
        ("vae", "diffusion_pytorch_model", "diffusion_pytorch_model"),
    )
    for variant in ("", ".fp16")
    for name, suffix in ((stem, "safetensors"), (pickle, "bin"))
}
SINGLE = {"v1-5-pruned.ckpt", "v1-5-pruned.safetensors", "v1-5-pruned-emaonly.safetensors"}
ALL = PLAIN | WEIGHTS | SINGLE | {f"{UNET}.non_ema.bin", f"{UNET}.non_ema.safetensors"}
CHECKER = {"feature_extractor/preprocessor_config.json", "safety_checker/config.json"}
KEPT = PLAIN - CHECKER - {"README.md", "v1-inference.yaml"}


def weights(names: tuple[str, ...]) -> set[str]:
    return {name for name in names if name.endswith(".safetensors")}


def test_a_hub_gives_each_network_once_and_in_half() -> None:
    chosen = select_pipeline(ALL, "here", half=True)
    halves = {
        "text_encoder/model.fp16.safetensors",
        f"{UNET}.fp16.safetensors",
        "vae/diffusion_pytorch_model.fp16.safetensors",
    }
    assert weights(chosen) == halves
    assert set(chosen) == KEPT | halves


def test_one_network_without_half_takes_all_in_full() -> None:
    chosen = select_pipeline(ALL - {f"{UNET}.fp16.safetensors"}, "here", half=True)
    assert weights(chosen) == {
        "text_encoder/model.safetensors",
        f"{UNET}.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
    }


def test_where_no_variant_is_whole_each_network_gives_what_it_has() -> None:
    names = ALL - {f"{UNET}.fp16.safetensors", "vae/diffusion_pytorch_model.safetensors"}
    assert weights(select_pipeline(names, "here", half=True)) == {
        "text_encoder/model.safetensors",
        f"{UNET}.safetensors",
        "vae/diffusion_pytorch_model.fp16.safetensors",
    }


def test_a_folder_gives_the_full_weights() -> None:
    chosen = select_pipeline(ALL, "here", half=False)
    assert weights(chosen) == {
        "text_encoder/model.safetensors",
        f"{UNET}.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
    }
    assert not set(chosen) & CHECKER


def test_shards_come_with_their_index() -> None:
    shards = {f"{UNET}-0000{n}-of-00002.safetensors" for n in (1, 2)}
    index = {f"{UNET}.safetensors.index.json"}
    names = {"model_index.json", "unet/config.json"} | shards | index
    assert set(select_pipeline(names, "here", half=True)) == names


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (PLAIN - {"unet/config.json"}, "no unet"),
        (ALL - {"vae/config.json"}, r"here/vae has no config\.json"),
        (PLAIN, "here/unet holds no safetensors"),
    ],
)
def test_what_is_missing_is_named(names: set[str], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        select_pipeline(names, "here", half=True)


def test_pickles_alone_are_refused() -> None:
    names = {name for name in ALL if not name.endswith(".safetensors")}
    with pytest.raises(UnsafeModelError, match=r"unet/diffusion_pytorch_model\.bin is a pickle"):
        select_pipeline(names, "here", half=True)


def tensors(path: Path, *names: str, shape: tuple[int, ...] = (4, 2)) -> Path:
    save_file({name: np.zeros(shape, dtype=np.float32) for name in names}, path)
    return path


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("model.diffusion_model.out.0.weight", "first_stage_model.x"), ("picture", "diffusion")),
        (("lora_unet_x.lora_down.weight", "lora_unet_x.alpha"), ("adapter", "lora")),
        (("unet.mid.to_q.lora_A.weight", "unet.mid.to_q.lora_B.weight"), ("adapter", "lora")),
        (("unet.mid.to_q.lora.down.weight", "unet.mid.to_q.lora.up.weight"), ("adapter", "lora")),
        (("unet.a.processor.to_q_lora.down.weight", "b.c"), ("adapter", "lora")),
        (("emb_params",), ("adapter", "textual-inversion")),
        (("<cat-toy>",), ("adapter", "textual-inversion")),
        (("a.weight", "b.weight"), ("", "")),
    ],
)
def test_what_a_file_of_tensors_is(
    tmp_path: Path, names: tuple[str, ...], found: tuple[str, str]
) -> None:
    assert family_of_tensors(tensors(tmp_path / "x.safetensors", *names)) == found


def test_one_file_becomes_a_model(store: Store, tmp_path: Path) -> None:
    path = tensors(tmp_path / "Dream 8.safetensors", "model.diffusion_model.out.0.weight")
    card = store.pull(str(path))
    assert (card.name, card.kind, card.family) == ("dream-8", "picture", "diffusion")
    assert store.locate("dream-8") == (card, path)
    style = tensors(tmp_path / "style.safetensors", "lora_te_x.lora_up.weight")
    assert store.pull(str(style)).family == "lora"
    with pytest.raises(InputError, match="only a part of a model"):
        store.pull(str(tensors(tmp_path / "part.safetensors", "a.b", "c.d")))


def test_a_pipelines_folder_becomes_a_model(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "Mine"
    for name in PLAIN | {"unet/diffusion_pytorch_model.bin", "old/deep/x.bin"}:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
    with pytest.raises(UnsafeModelError, match="is a pickle"):
        store.pull(str(folder))
    for name in ("unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model"):
        tensors(folder / f"{name}.safetensors", "x.weight")
    tensors(folder / "text_encoder" / "model.safetensors", "x.weight")
    card = store.pull(str(folder))
    assert (card.kind, card.family, card.entry(folder)) == ("picture", "diffusion", folder)
    assert store.locate(str(folder))[1] == folder
    assert "safety_checker/config.json" not in card.files
