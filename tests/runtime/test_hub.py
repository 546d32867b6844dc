"""The hub's client reads its environment when it is imported, so each pull has its own process."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from .servers import COMMIT, Hub

PULLING = str(Path(__file__).with_name("pulling.py"))
SOURCE = "hf:owner/tiny"

Pull = Callable[..., dict[str, Any]]


@pytest.fixture
def pull(tmp_path: Path, hub: Hub) -> Pull:
    def pull(source: str = SOURCE, **environment: str) -> dict[str, Any]:
        inherited = {name: value for name, value in os.environ.items() if name[:3] != "HF_"}
        result = subprocess.run(
            [sys.executable, "-W", "error", PULLING, str(tmp_path / "models"), source],
            env={
                **inherited,
                "HF_ENDPOINT": hub.url,
                "HF_HOME": str(tmp_path / "hf"),
                "HF_HUB_DISABLE_TELEMETRY": "1",
                "NO_PROXY": "127.0.0.1",
                **environment,
            },
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=60,
        )
        return dict(json.loads(result.stdout))

    return pull


def _rename_store(tmp_path: Path) -> None:
    (tmp_path / "models").rename(tmp_path / "models-before")


def test_weights_stay_in_the_cache_of_the_hub(
    pull: Pull, hub: Hub, tmp_path: Path, model_files: dict[str, bytes]
) -> None:
    got = pull()
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in model_files.items()}
    assert got["files"] == hashes
    assert got["name"] == "tiny"
    assert got["folder"] == got["path"]
    assert Path(got["folder"]).is_relative_to(tmp_path / "hf")
    assert got["revision"] == COMMIT
    assert (got["licence"], got["languages"]) == ("Apache-2.0", ["en", "zh"])
    assert [p.name for p in (tmp_path / "models" / "tiny").iterdir()] == ["card.json"]

    total = sum(map(len, model_files.values()))
    assert got["plan"] == total
    assert ["tiny: fetching", total, total] in got["steps"]

    asked = len(hub.requests)
    assert pull()["files"] == hashes
    assert len(hub.requests) == asked

    # Another store finds them in the cache, with the hub and without it.
    _rename_store(tmp_path)
    fetched = len(hub.downloads())
    assert pull()["plan"] == 0
    assert len(hub.downloads()) == fetched
    (tmp_path / "models" / "tiny" / "card.json").unlink()
    offline = pull(HF_HUB_OFFLINE="1")
    assert (offline["files"], offline["revision"], offline["plan"]) == (hashes, COMMIT, 0)


def test_a_broken_connection_is_taken_up(pull: Pull, hub: Hub) -> None:
    # The client keeps what it has in steps of 10 MB.
    hub.files["large.gguf"] = b"GGUF" + bytes(25_000_000)
    hub.cuts = 1
    assert pull(f"{SOURCE}:large.gguf")["name"] == "large"
    first, second = hub.downloads()
    assert first is None
    assert second is not None


def test_one_named_file(pull: Pull, hub: Hub) -> None:
    hub.files["gguf/tiny-Q4.gguf"] = b"GGUF" + bytes(100)
    got = pull(f"{SOURCE}@main:gguf/tiny-Q4.gguf")
    assert got["name"] == "tiny-q4"
    assert got["path"].endswith("gguf/tiny-Q4.gguf")
    assert list(got["files"]) == ["gguf/tiny-Q4.gguf"]


def test_a_hash_other_than_stated(pull: Pull, hub: Hub) -> None:
    hub.stated["model.safetensors"] = "0" * 64
    got = pull()
    assert got["error"] == "FetchError"
    assert "model.safetensors has SHA-256" in got["message"]


def test_a_repository_with_pickles_only(pull: Pull, hub: Hub) -> None:
    del hub.files["model.safetensors"]
    got = pull()
    assert got["error"] == "UnsafeModelError"
    assert "pytorch_model.bin is a pickle" in got["message"]
    assert not hub.downloads()


def test_a_truncated_upload(pull: Pull, hub: Hub, tmp_path: Path) -> None:
    hub.files["model.safetensors"] = hub.files["model.safetensors"][:-4]
    got = pull()
    assert got["error"] == "ModelError"
    assert "where its header says" in got["message"]
    assert not (tmp_path / "models" / "tiny").exists()


def test_a_pipeline_is_fetched_once_and_without_pickles(
    pull: Pull, hub: Hub, tmp_path: Path, model_files: dict[str, bytes]
) -> None:
    weights = model_files["model.safetensors"]
    networks = ("unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model")
    hub.files = {"model_index.json": b"{}", "v1-5-pruned.safetensors": weights, "v1.ckpt": b""}
    for network in networks:
        hub.files[f"{network.partition('/')[0]}/config.json"] = b"{}"
        for variant in ("", ".fp16", ".non_ema"):
            hub.files[f"{network}{variant}.safetensors"] = weights
            hub.files[f"{network}{variant}.bin"] = b"\x80\x02"
    needed = {f"{network}.fp16.safetensors" for network in networks} | {
        *("model_index.json", "unet/config.json", "vae/config.json", "text_encoder/config.json")
    }
    got = pull()
    assert set(got["files"]) == needed
    assert got["path"] == got["folder"]
    here = Path(got["folder"])
    assert {p.relative_to(here).as_posix() for p in here.rglob("*") if p.is_file()} == needed
    card = json.loads((tmp_path / "models" / "tiny" / "card.json").read_text())
    assert (card["kind"], card["family"]) == ("picture", "diffusion")

    # Another store finds it in the cache, without the hub.
    _rename_store(tmp_path)
    offline = pull(HF_HUB_OFFLINE="1")
    assert (offline["files"], offline["plan"]) == (got["files"], 0)

    # What is there in part only is not taken for a model.
    (here / "vae" / "config.json").unlink()
    (tmp_path / "models" / "tiny" / "card.json").unlink()
    assert "HF_HUB_OFFLINE is set" in pull(HF_HUB_OFFLINE="1")["message"]


def test_a_single_checkpoint_of_a_pipeline(pull: Pull, hub: Hub) -> None:
    hub.files["model_index.json"] = b"{}"
    hub.files["v1-5.safetensors"] = save(
        {"model.diffusion_model.out.0.weight": np.zeros(2, dtype=np.float32)}
    )
    got = pull(f"{SOURCE}:v1-5.safetensors")
    assert (got["name"], list(got["files"])) == ("v1-5", ["v1-5.safetensors"])
    assert got["path"].endswith("/v1-5.safetensors")


@pytest.mark.parametrize(
    ("source", "environment", "error", "words"),
    [
        (SOURCE, {"HF_HUB_OFFLINE": "1"}, "FetchError", "HF_HUB_OFFLINE is set"),
        (SOURCE, {"HF_ENDPOINT": "http://127.0.0.1:9"}, "FetchError", "HF_ENDPOINT to a mirror"),
        ("hf:owner/none", {}, "NotFoundError", "does not exist on the hub or is private"),
        ("hf:owner/gated", {}, "FetchError", "gated; accept its terms"),
        (f"{SOURCE}@v9", {}, "NotFoundError", "no revision v9"),
        (f"{SOURCE}:none.gguf", {}, "NotFoundError", "there is no none.gguf"),
        ("hf:owner", {}, "InputError", "write hf:OWNER/NAME"),
        (f"{SOURCE}:../x", {}, "InputError", "write hf:OWNER/NAME"),
    ],
)
def test_failures_are_one_sentence(
    pull: Pull, source: str, environment: dict[str, str], error: str, words: str
) -> None:
    got = pull(source, **environment)
    kinds = {"FetchError": ("FetchError", "HubUnreachableError")}
    assert got["error"] in kinds.get(error, (error,)), got
    assert words in got["message"]
    assert "\n" not in got["message"]
