"""Pictures as A1111, ComfyUI, InvokeAI and Fooocus write them, made with Pillow as they do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.seal import pictures_files as files
from tests.seal.pictures_files import LABEL, PARAMETERS
from vermilion.seal import carriers, foreign
from vermilion.seal.foreign import ForeignRecipe
from vermilion.seal.labels import Statement


def png(**texts: str) -> bytes:
    info = PngInfo()
    for name, words in texts.items():
        info.add_text(name.replace("__", "-"), words)
    return files.picture("png", pnginfo=info)


def read(content: bytes, suffix: str = "png") -> ForeignRecipe:
    found = foreign.read(content, files.form(suffix))
    assert found is not None
    return found


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


BASIC = {
    "3": node(
        "KSampler",
        seed=8566257,
        steps=20,
        cfg=8,
        sampler_name="euler",
        scheduler="normal",
        denoise=1,
        model=["10", 0],
        positive=["6", 0],
        negative=["7", 0],
        latent_image=["5", 0],
    ),
    "4": node("CheckpointLoaderSimple", ckpt_name="v1-5-pruned.safetensors"),
    "5": node("EmptyLatentImage", width=512, height=640, batch_size=1),
    "6": node("CLIPTextEncode", text="a glass bottle 山", clip=["10", 1]),
    "7": node("CLIPTextEncode", text="text, watermark", clip=["4", 1]),
    "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
    "9": node("SaveImage", filename_prefix="ComfyUI", images=["8", 0], is_changed=[float("nan")]),
    "10": node("LoraLoader", lora_name="ink", strength_model=1, model=["4", 0], clip=["4", 1]),
}
FLUX = {
    "1": node("UNETLoader", unet_name="flux1-dev.safetensors", weight_dtype="default"),
    "2": node("DualCLIPLoader", clip_name1="a", clip_name2="b"),
    "4": node("CLIPTextEncode", text=["20", 0], clip=["2", 0]),
    "5": node("FluxGuidance", conditioning=["4", 0], guidance=3.5),
    "7": node("BasicGuider", model=["1", 0], conditioning=["5", 0]),
    "8": node("RandomNoise", noise_seed=["21", 0]),
    "9": node("BasicScheduler", model=["1", 0], scheduler="simple", steps=28, denoise=1.0),
    "10": node("KSamplerSelect", sampler_name="dpmpp_2m"),
    "11": node("EmptySD3LatentImage", width=1024, height=768, batch_size=1),
    "12": node(
        "SamplerCustomAdvanced",
        noise=["8", 0],
        guider=["7", 0],
        sampler=["10", 0],
        sigmas=["9", 0],
        latent_image=["11", 0],
    ),
    "13": node("VAEDecode", samples=["12", 0], vae=["3", 0]),
    "14": node("PreviewImage", images=["13", 0]),
    "20": node("PrimitiveStringMultiline", value="a fox in the snow"),
    "21": node("PrimitiveInt", value=77),
}


def test_comfyui_from_the_sampler_to_the_words() -> None:
    found = read(png(prompt=json.dumps(BASIC), workflow="{}"))
    assert found.tool == "ComfyUI"
    assert found.prompt == "a glass bottle 山"
    assert found.negative_prompt == "text, watermark"
    assert found.model == "v1-5-pruned.safetensors"
    assert found.seed == 8566257
    assert found.settings == {
        "num_inference_steps": 20,
        "guidance_scale": 8,
        "sampler": "euler",
        "scheduler": "normal",
        "strength": 1,
        "width": 512,
        "height": 640,
    }
    assert json.loads(found.raw["prompt"])["3"] == BASIC["3"]


def test_comfyui_with_the_sampler_in_pieces() -> None:
    found = read(png(prompt=json.dumps(FLUX)))
    assert (found.prompt, found.negative_prompt) == ("a fox in the snow", "")
    assert (found.seed, found.model) == (77, "flux1-dev.safetensors")
    assert found.settings == {
        "num_inference_steps": 28,
        "guidance_scale": 3.5,
        "sampler": "dpmpp_2m",
        "scheduler": "simple",
        "strength": 1.0,
        "width": 1024,
        "height": 768,
    }
    guided = FLUX | {
        "7": node("CFGGuider", model=["1", 0], positive=["5", 0], negative=["30", 0], cfg=2.5),
        "30": node("ConditioningZeroOut", conditioning=["4", 0]),
    }
    found = read(png(prompt=json.dumps(guided)))
    assert (found.prompt, found.negative_prompt) == ("a fox in the snow", "")
    assert found.settings["guidance_scale"] == 2.5


def test_comfyui_with_two_samplers_tells_the_first() -> None:
    second = {
        "20": node("LatentUpscale", samples=["3", 0], width=1024, height=1280),
        "21": node(
            "KSampler",
            seed=1,
            steps=9,
            cfg=5,
            sampler_name="ddim",
            scheduler="normal",
            denoise=0.4,
            model=["4", 0],
            positive=["22", 0],
            negative=["7", 0],
            latent_image=["20", 0],
        ),
        "22": node("CLIPTextEncodeSDXL", text_g="finer", text_l="finer", clip=["4", 1]),
        "8": node("VAEDecode", samples=["21", 0], vae=["4", 2]),
    }
    found = read(png(prompt=json.dumps(BASIC | second)))
    assert (found.seed, found.prompt) == (8566257, "a glass bottle 山")
    combined = BASIC | {
        "6": node("ConditioningCombine", conditioning_1=["30", 0], conditioning_2=["31", 0]),
        "30": node("CLIPTextEncode", text="one", clip=["4", 1]),
        "31": node("CLIPTextEncodeSDXL", text_g="two", text_l="two", clip=["4", 1]),
    }
    assert read(png(prompt=json.dumps(combined))).prompt == "one\ntwo"


def test_comfyui_workflow_alone() -> None:
    """As it is drawn: values in the order of the node's fields, links by number."""

    def drawn(number: int, kind: str, values: list[Any], **links: int) -> dict[str, Any]:
        inputs = [{"name": name, "type": "X", "link": link} for name, link in links.items()]
        return {"id": number, "type": kind, "widgets_values": values, "inputs": inputs}

    workflow = {
        "nodes": [
            drawn(
                3,
                "KSampler",
                [5, "randomize", 20, 7.5, "euler", "karras", 1],
                model=1,
                positive=4,
                negative=6,
                latent_image=2,
            ),
            drawn(4, "CheckpointLoaderSimple", ["sdxl.safetensors"]),
            drawn(5, "EmptyLatentImage", [640, 512, 1]),
            drawn(6, "CLIPTextEncode", ["an owl"], clip=3),
            drawn(7, "CLIPTextEncode", ["blurry"], clip=5),
            drawn(9, "SaveImage", ["ComfyUI"], images=9),
        ],
        "links": [
            [1, 4, 0, 3, 0, "MODEL"],
            [2, 5, 0, 3, 3, "LATENT"],
            [3, 4, 1, 6, 0, "CLIP"],
            [4, 6, 0, 3, 1, "CONDITIONING"],
            [5, 4, 1, 7, 0, "CLIP"],
            [6, 7, 0, 3, 2, "CONDITIONING"],
        ],
    }
    found = read(png(workflow=json.dumps(workflow)))
    assert (found.prompt, found.negative_prompt, found.seed) == ("an owl", "blurry", 5)
    assert found.model == "sdxl.safetensors"
    assert found.settings["guidance_scale"] == 7.5
    assert (found.settings["sampler"], found.settings["width"]) == ("euler", 640)


def test_comfyui_in_webp() -> None:
    """SaveAnimatedWEBP: tags from Model downwards, each "name:JSON"."""
    exif = Image.Exif()
    exif[0x0110] = f"prompt:{json.dumps(BASIC)}"
    exif[0x010F] = 'workflow:{"nodes": []}'
    content = files.picture("webp", exif=exif)
    assert read(content, "webp").prompt == "a glass bottle 山"
    form = files.form("webp")
    kept = carriers.write(content, form, replace(carriers.read(content, form), label=LABEL))
    assert files.opened(kept).getexif()[0x0110] == exif[0x0110]
    assert read(kept, "webp").seed == 8566257
    private = carriers.write(content, form, Statement(label=LABEL))
    assert foreign.read(private, form) is None
    assert b"glass" not in private
    assert 0x0110 not in files.opened(private).getexif()


INVOKE = {
    "app_version": "3.3.0post3",
    "generation_mode": "txt2img",
    "positive_prompt": "landscape",
    "negative_prompt": "low quality",
    "width": 768,
    "height": 432,
    "seed": 356120443,
    "rand_device": "cpu",
    "cfg_scale": 7.5,
    "steps": 50,
    "scheduler": "dpmpp_2m_sde_k",
    "clip_skip": 0,
    "model": {"model_name": "amixx", "base_model": "sd-1", "model_type": "main"},
    "loras": [],
}


def test_invokeai() -> None:
    found = read(png(invokeai_metadata=json.dumps(INVOKE), invokeai_graph='{"id": "1"}'))
    assert (found.tool, found.prompt, found.negative_prompt) == (
        "InvokeAI",
        "landscape",
        "low quality",
    )
    assert (found.seed, found.model) == (356120443, "amixx")
    assert found.settings == {
        "num_inference_steps": 50,
        "guidance_scale": 7.5,
        "scheduler": "dpmpp_2m_sde_k",
        "width": 768,
        "height": 432,
        "clip_skip": 0,
        "version": "3.3.0post3",
    }
    assert set(found.raw) == {"invokeai_metadata", "invokeai_graph"}
    newer = INVOKE | {"model": {"key": "1", "hash": "blake3:9", "name": "flux", "type": "main"}}
    found = read(png(invokeai_metadata=json.dumps(newer)))
    assert (found.model, found.settings["model_hash"]) == ("flux", "blake3:9")


def test_invokeai_before_three() -> None:
    said = {
        "model": "stable diffusion",
        "model_weights": "stable-diffusion-1.5",
        "model_hash": "cc6c",
        "app_id": "invoke-ai/InvokeAI",
        "app_version": "v2.2.0",
        "image": {
            "prompt": [{"prompt": "a ((dog)) in a park [blurry] [grey, dull]", "weight": 1.0}],
            "steps": 50,
            "cfg_scale": 7.5,
            "height": 512,
            "width": 512,
            "seed": 3561693215,
            "type": "txt2img",
            "postprocessing": None,
            "sampler": "k_lms",
            "variations": [],
        },
    }
    dream = '"a dog [blurry]" -s 50 -S 3561693215 -W 512 -H 448 -C 7.5 -A k_lms'
    found = read(png(sd__metadata=json.dumps(said), Dream=dream))
    assert (found.prompt, found.negative_prompt) == ("a ((dog)) in a park", "blurry, grey, dull")
    assert (found.seed, found.model) == (3561693215, "stable-diffusion-1.5")
    assert (found.settings["sampler"], found.settings["version"]) == ("k_lms", "v2.2.0")
    found = read(png(Dream=dream))
    assert (found.tool, found.prompt, found.negative_prompt) == ("InvokeAI", "a dog", "blurry")
    assert found.seed == 3561693215
    assert found.settings == {
        "num_inference_steps": 50,
        "width": 512,
        "height": 448,
        "guidance_scale": 7.5,
        "sampler": "k_lms",
    }


FOOOCUS = {
    "adm_guidance": "(1.5, 0.8, 0.3)",
    "base_model": "juggernautXL_v8",
    "base_model_hash": "aeb7e9e689",
    "clip_skip": 2,
    "guidance_scale": 4,
    "loras": [["offset", 0.1, "4852686128"]],
    "metadata_scheme": "fooocus",
    "negative_prompt": "",
    "performance": "Speed",
    "prompt": "a lake",
    "resolution": "(1152, 896)",
    "sampler": "dpmpp_2m_sde_gpu",
    "scheduler": "karras",
    "seed": "3219746834",
    "sharpness": 2,
    "steps": 30,
    "styles": "['Fooocus V2', 'Fooocus Enhance']",
    "version": "Fooocus v2.3.1",
}


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_fooocus(suffix: str) -> None:
    words = json.dumps(FOOOCUS)
    exif = Image.Exif()
    exif[0x9286], exif[0x0131], exif[0x927C] = words, "Fooocus v2.3.1", "fooocus"
    content = png(parameters=words, fooocus_scheme="fooocus")
    if suffix != "png":
        content = files.picture(suffix, exif=exif)
    found = read(content, suffix)
    assert (found.tool, found.prompt, found.model) == ("Fooocus", "a lake", "juggernautXL_v8")
    assert found.seed == 3219746834
    assert found.settings["num_inference_steps"] == 30
    assert (found.settings["width"], found.settings["height"]) == (1152, 896)
    assert found.raw["fooocus_scheme"] == "fooocus"
    form = files.form(suffix)
    kept = carriers.write(content, form, replace(carriers.read(content, form), label=LABEL))
    assert read(kept, suffix) == found
    private = carriers.write(content, form, Statement(label=LABEL))
    assert foreign.read(private, form) is None
    assert b"lake" not in private


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "avif", "gif"])
def test_a1111(suffix: str) -> None:
    comment = b"UNICODE\0" + PARAMETERS.encode("utf-16-be")
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = comment
    content = {
        "png": lambda: png(parameters=PARAMETERS),
        "gif": lambda: files.picture("gif", comment=PARAMETERS),
    }.get(suffix, lambda: files.picture(suffix, exif=exif.tobytes()))()
    found = read(content, suffix)
    assert (found.tool, found.prompt, found.negative_prompt) == (
        "A1111",
        "a lighthouse, 山水",
        "blurry",
    )
    assert (found.seed, found.model, found.settings["sampler"]) == (5, "tiny", "Euler a")
    assert found.raw == {"parameters": PARAMETERS}


def test_fooocus_in_the_words_of_a1111() -> None:
    found = read(png(parameters=PARAMETERS, fooocus_scheme="a1111"))
    assert (found.tool, found.seed) == ("Fooocus", 5)


def test_what_is_ours_is_not_foreign() -> None:
    form = files.form("png")
    ours = Statement(parameters=PARAMETERS, recipe={"prompt": {"text": "a lighthouse"}})
    assert foreign.read(carriers.write(files.small("png"), form, ours), form) is None
    assert foreign.read(files.small("png"), form) is None
    both = replace(ours, foreign={"prompt": json.dumps(BASIC)})
    assert read(carriers.write(files.small("png"), form, both)).tool == "ComfyUI"


def test_keys_that_say_nothing_leave_the_tool() -> None:
    for words in ("{", "[]", "null", "{}", '{"1": 5}', "[" * 100_000, '{"a":' * 50_000):
        assert read(png(prompt=words)) == ForeignRecipe(tool="ComfyUI", raw={"prompt": words})
        found = read(png(invokeai_metadata=words))
        assert (found.tool, found.prompt, found.settings) == ("InvokeAI", "", {})
        assert read(png(sd__metadata=words)).prompt == ""
        assert read(png(Dream=words)).prompt == ""
    assert read(png(prompt="{}", parameters=PARAMETERS)).tool == "A1111"


def test_graphs_that_go_round_end() -> None:
    ring = {
        str(i): node("KSampler", positive=[str(i + 1), 0], latent_image=[str(i + 1), 0], seed=i)
        for i in range(500)
    }
    ring["499"]["inputs"] |= {"positive": ["0", 0], "latent_image": ["0", 0]}
    assert read(png(prompt=json.dumps(ring))).tool == "ComfyUI"
    deep = {str(i): node("Text", text=f"{i}", next=[str(i + 1), 0]) for i in range(9_000)}
    deep["s"] = node("KSampler", positive=["0", 0], latent_image=["x", 0], steps=1)
    assert read(png(prompt=json.dumps(deep))).prompt.startswith("0\n1\n2")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)
links = st.lists(st.sampled_from(["1", "2", "3", 1, 0, None]), min_size=2, max_size=2)
inputs = st.dictionaries(
    st.sampled_from(
        ["positive", "negative", "latent_image", "guider", "seed", "steps", "text", "model", "cfg"]
    ),
    values | links | st.sampled_from(["a", "b"]),
)
some_graphs = st.dictionaries(
    st.sampled_from(["1", "2", "3"]),
    values | st.fixed_dictionaries({"class_type": values, "inputs": values | inputs}),
)
keys = st.sampled_from(["prompt", "workflow", "invokeai_metadata", "sd-metadata", "parameters"])
known = [*INVOKE, *FOOOCUS, "image", "nodes", "links"]


@settings(max_examples=250, deadline=None)
@given(
    said=st.dictionaries(
        keys,
        (values | some_graphs | st.dictionaries(st.sampled_from(known), values)).map(json.dumps),
    )
)
def test_any_json_is_read_without_an_error(said: Mapping[str, str]) -> None:
    texts = dict(said)
    statement = Statement(parameters=texts.pop("parameters", ""), foreign=texts)
    found = foreign.of(statement)
    assert (found is None) == (not said)
    if found is not None:
        assert isinstance(found.prompt, str)
        assert found.seed is None or isinstance(found.seed, int)
