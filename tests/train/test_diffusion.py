"""Whole runs of diffusion models: taken up bit for bit, published, opened by diffusers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, UNet2DConditionModel, UNet2DModel
from PIL import Image

import vermilion as vm
from tests.train.pictures import COLOURS, SMALL, disc, discs, engine, put_encoder
from tests.train.runs import column, weights
from tests.train.test_processes import LAUNCH
from vermilion.errors import InputError
from vermilion.models.diffusion import io
from vermilion.models.diffusion.guidance import Condition
from vermilion.models.diffusion.noise import Noise
from vermilion.models.diffusion.pipeline import Painter
from vermilion.train.loop import Event


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return discs(tmp_path / "discs")


def killed_after(step: int) -> Any:
    def watch(event: Event) -> None:
        if event.kind == "step" and event.step == step:
            os.kill(os.getpid(), signal.SIGTERM)

    return watch


def assert_classes_are_published(home: Path) -> None:
    _, folder = vm.Store(home / "models").locate("half")
    told = json.loads((folder / "vermilion.json").read_text())
    assert (told["classes"], told["null_class"]) == (["blue", "green", "red"], 3)
    theirs, ours = UNet2DModel.from_pretrained(folder / "unet").eval(), io.open_pipeline(folder)
    x, t, labels = Noise([1, 2], (3, 16, 16)).next(), torch.tensor([10.0, 900.0]), [3, 1]
    with torch.no_grad():
        wanted = theirs(x, t, class_labels=torch.tensor(labels)).sample
        found = ours.net(x, t, None, torch.tensor(labels))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    prompt = vm.Prompt(kind="picture", text="red", model="half", seed=3)
    ((_, sample),) = engine("half").generate([prompt])
    assert sample.content.shape == (16, 16, 3)


@pytest.mark.parametrize("told", ["captions", "classes"])
def test_a_run_that_was_stopped_goes_on_bit_for_bit(
    told: str, pictures: Path, home: Path, tmp_path: Path
) -> None:
    settings = {**SMALL, "max_steps": 8, "unet_dropout": 0.2, "flip": True, "ema_gamma": 6.94}
    settings |= {"eval_steps": 4}
    order: dict[str, Any] = {"classes": told == "classes"}
    if told == "captions":
        order["text"] = str(tmp_path / "told.jsonl")
        (tmp_path / "told.jsonl").rename(pictures / "captions.jsonl")
        order["text"] = None
        settings |= {"text_encoder": put_encoder(home, tmp_path), "style_dropout": 0.3}
    vm.train_diffusion(pictures, name="straight", settings=settings, **order)
    half = vm.train_diffusion(
        pictures, name="half", settings=settings, watch=killed_after(5), **order
    )
    assert (half.run.outcome.state, half.run.outcome.step, half.card) == ("stopped", 5, None)
    whole = vm.train_diffusion(pictures, name="half", settings=settings, **order)
    assert whole.run.outcome.step == 8
    one, two = weights("straight", home), weights("half", home)
    assert one.keys() == two.keys()
    assert any(key.startswith("ema/") for key in one)
    assert all(torch.equal(one[key], two[key]) for key in one)
    for heading in ("loss", "validation_loss", "loss_10", "loss_90"):
        assert column("straight", home, heading) == column("half", home, heading)
    assert whole.run.config["data"]["told"] == told
    if told == "classes":
        assert_classes_are_published(home)
    mean = [column("half", home, f"loss_{level}")[-1] for level in (10, 30, 50, 70, 90)]
    assert column("half", home, "validation_loss")[-1] == pytest.approx(np.mean(mean), rel=1e-4)


@pytest.mark.parametrize(
    "path",
    [
        {"path": "discrete"},
        {"path": "discrete", "prediction_type": "v_prediction", "rescale_betas_zero_snr": True},
        {"path": "flow", "weighting": "min_snr"},
        {"path": "flow", "prediction_type": "sample", "weighting": "velocity"},
    ],
    ids=["epsilon", "v", "flow", "x0"],
)
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # theirs
def test_diffusers_draws_the_same_picture(path: dict[str, Any], pictures: Path, home: Path) -> None:
    settings = {**SMALL, "max_steps": 3, **path}
    trained = vm.train_diffusion(pictures, text="none", name="discs", settings=settings)
    assert trained.card is not None
    assert (trained.card.kind, trained.card.family) == ("picture", "diffusion")
    assert trained.card.options["recipe"]["steps"] == 3
    _, folder = vm.Store(home / "models").locate("discs")
    theirs = DiffusionPipeline.from_pretrained(folder)
    assert type(theirs) is diffusers.DDPMPipeline
    draw = torch.Generator().manual_seed(5)
    pixels = theirs(num_inference_steps=4, generator=draw, output_type="np").images[0]
    found = io.open_pipeline(folder)
    painter = Painter(found.net, found.codec, found.scheduler)
    *_, last = painter.paint(
        Condition(), None, [5], width=16, height=16, num_inference_steps=4, guidance_scale=1.0
    )
    ours = painter.pictures(last.x)[0].permute(1, 2, 0).numpy() / 2 + 0.5
    np.testing.assert_allclose(ours, pixels, atol=1e-4)


def test_captions_are_read_as_they_are_when_painting(
    pictures: Path, home: Path, tmp_path: Path
) -> None:
    name = put_encoder(home, tmp_path)
    settings = {
        **SMALL, "max_steps": 30, "channels": 4, "patch": 2, "text_encoder": name, "max_tokens": 8,
        "prediction_type": "sample", "weighting": "velocity", "sample_steps": 15,
        "sample_prompts": "red seal | blue seal", "tensorboard": True,
        "learning_rate": 0.01, "ema_decay": 0, "eval_steps": 15,
    }  # fmt: skip
    events: list[Event] = []
    vm.train_diffusion(
        pictures, text=str(tmp_path / "told.jsonl"), name="seals", settings=settings,
        watch=events.append,
    )  # fmt: skip
    shown = [event.picture for event in events if event.kind == "sample"]
    assert [path.name for path in shown if path] == ["step-00000015.png", "step-00000030.png"]
    assert shown[0] is not None
    with Image.open(shown[0]) as sheet:
        assert (sheet.size, sheet.mode) == ((2 * 16 + 2, 16), "RGBA")
    _, folder = vm.Store(home / "models").locate("seals")
    told = json.loads((folder / "vermilion.json").read_text())
    assert (told["text_encoder"], told["max_tokens"], told["pooled"]) == (name, 8, True)
    assert (told["patch"], told["channels"], told["guidance_scale"]) == (2, 4, 3.0)
    net, ours = (
        UNet2DConditionModel.from_pretrained(folder / "unet").eval(),
        io.open_pipeline(folder),
    )
    x = Noise([1, 2], (16, 8, 8)).next()
    t, context, pooled = torch.tensor([10.0, 900.0]), torch.randn(2, 8, 32), torch.randn(2, 32)
    with torch.no_grad():
        wanted = net(x, t, context, class_labels=pooled).sample
        torch.testing.assert_close(ours.net(x, t, context, pooled), wanted, rtol=1e-4, atol=1e-4)
    prompts = [
        vm.Prompt(kind="picture", text=text, model="seals", seed=3)
        for text in ("red seal", "blue seal")
    ]
    made = {number: sample.content for number, sample in engine("seals").generate(prompts)}
    assert made[0].shape == (16, 16, 4)
    assert not np.array_equal(made[0], made[1])


def test_what_cannot_be_used_is_named_and_training_goes_on(home: Path, tmp_path: Path) -> None:
    folder = discs(tmp_path / "mixed", 21)
    red = Image.fromarray(disc(1, COLOURS["red"])).convert("RGB")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    red.convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(np.full((24, 24), 40000, np.uint16)).save(folder / "deep.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    red.resize((30, 20)).save(folder / "turned.jpg", exif=exif)
    red.save(folder / "moves.gif", save_all=True, append_images=[red.rotate(90)])
    Image.new("1", (30000, 30000)).save(folder / "vast.png")
    settings = {**SMALL, "max_steps": 2, "max_faults": 0.2}
    trained = vm.train_diffusion(folder, text="none", settings=settings)
    assert trained.name == "mixed"
    assert trained.run.outcome.step == 2
    report = trained.run.report
    assert "2 of" in report.replace("1 of", "2 of")
    for name in ("broken.png", "vast.png"):
        assert name in report
    for name in ("cmyk.jpg", "deep.png", "turned.jpg", "moves.gif"):
        assert name not in report


def test_buckets_keep_proportions(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shapes"
    folder.mkdir()
    for number in range(24):
        pixels = disc(number, COLOURS["blue"], 32)
        Image.fromarray(pixels).resize((32, 16 if number % 2 else 32)).save(
            folder / f"{number}.png"
        )
    settings = {
        **SMALL, "max_steps": 4, "size": 32, "buckets": True, "bucket_step": 8, "validation": 0,
    }  # fmt: skip
    trained = vm.train_diffusion(folder, settings=settings)
    assert trained.run.outcome.state == "finished"
    with pytest.raises(InputError, match="multiple of 2"):
        vm.train_diffusion(folder, name="b", settings=settings | {"size": 31, "buckets": False})


@pytest.mark.parametrize(
    ("order", "settings", "sentence"),
    [
        ({"lora": True}, {}, "name one with --from"),
        ({"classes": True, "text": "name"}, {}, "leave one of them out"),
        ({}, {"lora_r": 2}, "add --lora"),
        ({}, {"vae_steps": 2}, "add --latent"),
        ({"latent": True}, {"patch": 2}, "patch is for models on pixels"),
        ({}, {"path": "flow", "prediction_type": "epsilon"}, "needs flow_prediction or sample"),
        ({}, {"path": "discrete", "weighting": "velocity"}, "velocity is for a rectified flow"),
        ({}, {"block_out_channels": "8,x"}, "block_out_channels.*integer"),
        ({}, {"norm_num_groups": 5}, "norm_num_groups: 8 channels"),
        ({}, {"down_block_types": "DownBlock,DownBlock2D"}, "down_block_types"),
        ({}, {"ema_gamma": 3, "ema_decay": 0.9}, "in place of ema_decay"),
        ({"text": "txt"}, {}, "no captions|no caption"),
        ({"text": "name"}, {"text_encoder": "nowhere"}, "there is no model 'nowhere'"),
    ],
)
def test_mistakes_are_one_sentence(
    order: dict[str, Any], settings: dict[str, Any], sentence: str, pictures: Path, home: Path
) -> None:
    with pytest.raises(InputError, match=sentence):
        vm.train_diffusion(
            pictures, settings={**SMALL, "max_steps": 1, **settings}, **{"text": None, **order}
        )


def test_two_processes_have_the_numbers_of_one(pictures: Path, home: Path) -> None:
    settings = {**SMALL, "max_steps": 4, "eval_steps": 2, "micro_batch": 1, "sample_steps": 4}
    vm.train_diffusion(pictures, classes=True, name="one", settings=settings | {"micro_batch": 4})
    pairs = [f"{key}={value}" for key, value in settings.items()]
    command = ["train", "diffusion", "--data", str(pictures), "--classes", "--name", "two"]
    done = subprocess.run(
        [*LAUNCH, "-m", "vermilion", *command, "--set", *pairs],
        env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    for heading in ("loss", "grad_norm", "validation_loss", "loss_50"):
        one, two = column("one", home, heading), column("two", home, heading)
        assert two == pytest.approx(one, rel=1e-4)
    one_net, two_net = weights("one", home), weights("two", home)
    for key, value in one_net.items():
        torch.testing.assert_close(two_net[key], value, rtol=1e-3, atol=1e-5)
    assert vm.Store(home / "models").show("two").state == "ready"


def test_the_loss_falls(pictures: Path, home: Path) -> None:
    settings = {**SMALL, "max_steps": 60, "eval_steps": 30, "learning_rate": 0.005, "ema_decay": 0}
    vm.train_diffusion(pictures, text="none", settings=settings)
    losses = column("discs", home, "loss")
    assert np.mean(losses[-10:]) < 0.6 * np.mean(losses[:5])
