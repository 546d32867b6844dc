"""The works of lm.py, done by one program each, in a process of its own.

    python benchmarks/lm_works.py PROGRAM MODEL [OPTION]

It reads lines "WORK ROUND" from its standard input and answers each with the seconds it took
and a digest of the tokens that came out. Programs: vermilion, llama, openvino (works "bulk" and
"one", on a GGUF file); vermilion-gpt2, vermilion-gpt2-int8, transformers (works "beams" and
"batch", on a folder with GPT-2).
"""

from __future__ import annotations

import hashlib
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

SYSTEM = (
    "You write for a small team that makes things by hand and sells them in its own shop. Keep"
    " every text short, warm and plain. Use simple words, short sentences and one clear picture."
    " Never invent prices, dates, places or names; use only what the request gives you. Do not"
    " use exclamation marks, hashtags or emoji. Write in the present tense, speak to one reader,"
    " and end with a quiet invitation to come by. Answer with the text only."
)
KINDS = ("tagline", "short post", "product text", "card", "shop sign", "headline", "poem", "note")
THINGS = ("teapot", "scarf", "bar of soap", "spoon", "candle", "notebook", "knife", "bowl")
COLOURS = ("red", "blue", "green", "white", "black", "brown", "yellow", "grey", "pink", "plain")
NEW, LONG = 64, 128
GPT2_PROMPT = 16

Work = Callable[[int], object]


def requests(number: int) -> list[str]:
    """64 requests that no other round has, so that no cache knows them."""
    colour = COLOURS[number % len(COLOURS)]
    return [f"Write a {kind} for a {colour} {thing}." for kind in KINDS for thing in THINGS]


def chat(request: str, system: str = SYSTEM) -> str:
    """The model's chat template, written out."""
    first = f"<|im_start|>system\n{system}<|im_end|>\n" if system else ""
    return f"{first}<|im_start|>user\n{request}<|im_end|>\n<|im_start|>assistant\n"


def vermilion(path: str) -> dict[str, Work]:
    """Our int8 decoder under our scheduler."""
    from vermilion.models.lm import io
    from vermilion.models.lm.generate import Generator, Request
    from vermilion.models.lm.native import NativeDecoder
    from vermilion.models.lm.sample import Sampling

    net, tokenizer = io.load(Path(path))
    generator = Generator(NativeDecoder(net, 2**31), tokenizer, max_batch=64)

    def run(texts: Sequence[str], new: int, **options: Any) -> int:
        asked = [
            Request(
                ids=tokenizer.encode(text),
                sampling=Sampling(min_new_tokens=new, seed=i, **options),
                max_new_tokens=new,
            )
            for i, text in enumerate(texts)
        ]
        last = [piece for piece in generator.generate(asked) if piece.finish is not None]
        return sum(piece.tokens for piece in last)

    def bulk(number: int) -> int:
        made = run([chat(r) for r in requests(number)], NEW, temperature=0.8, top_k=50)
        assert made == 64 * NEW
        return made

    def one(number: int) -> int:
        made = run([chat(f"Tell me of the {COLOURS[number % 10]} sea.", "")], LONG, temperature=0.0)
        assert made == LONG
        return made

    return {"bulk": bulk, "one": one}


def llama(path: str, slots: str) -> dict[str, Work]:
    """llama.cpp's server (xllamacpp), called from as many threads as there are requests."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = path
    params.n_parallel = int(slots)
    params.n_ctx = 512 * int(slots)
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = os.cpu_count() or 1
    server = xllamacpp.Server(params)

    def ask(prompt: str, new: int, temperature: float, counts: list[int]) -> None:
        answer = server.handle_completions(
            {
                "prompt": prompt,
                "max_tokens": new,
                "temperature": temperature,
                "top_k": 50,
                "ignore_eos": True,
                "cache_prompt": True,
                "seed": 1,
            }
        )
        counts.append(answer["usage"]["completion_tokens"])

    def bulk(number: int) -> int:
        counts: list[int] = []
        threads = [
            threading.Thread(target=ask, args=(chat(r), NEW, 0.8, counts)) for r in requests(number)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(counts) == 64 * NEW, counts
        return sum(counts)

    def one(number: int) -> int:
        counts: list[int] = []
        ask(chat(f"Tell me of the {COLOURS[number % 10]} sea.", ""), LONG, 0.0, counts)
        assert counts == [LONG]
        return LONG

    return {"bulk": bulk, "one": one}


def openvino(path: str) -> dict[str, Work]:
    """OpenVINO GenAI on the same GGUF file, continuous batching with its prefix cache."""
    import openvino_genai as genai

    scheduler = genai.SchedulerConfig()
    scheduler.cache_size = 2
    scheduler.max_num_seqs = 64
    scheduler.enable_prefix_caching = True
    pipeline = genai.LLMPipeline(path, "CPU", scheduler_config=scheduler)

    def run(texts: Sequence[str], new: int, **options: Any) -> int:
        config = genai.GenerationConfig()
        config.max_new_tokens, config.ignore_eos = new, True
        config.apply_chat_template = False
        for name, value in options.items():
            setattr(config, name, value)
        pipeline.generate(list(texts), config)
        return new * len(texts)

    def bulk(number: int) -> int:
        options = {"do_sample": True, "temperature": 0.8, "top_k": 50, "rng_seed": 1}
        return run([chat(r) for r in requests(number)], NEW, **options)

    def one(number: int) -> int:
        return run([chat(f"Tell me of the {COLOURS[number % 10]} sea.", "")], LONG, do_sample=False)

    return {"bulk": bulk, "one": one}


def gpt2_prompts(number: int, count: int) -> list[list[int]]:
    """Random tokens: the weights are random too, and arithmetic does not care."""
    import torch

    draw = torch.Generator().manual_seed(number)
    return torch.randint(0, 50_000, (count, GPT2_PROMPT), generator=draw).tolist()


def vermilion_gpt2(path: str, int8: bool = False) -> dict[str, Work]:
    """Our float32 (or int8) decoder on GPT-2."""
    from vermilion.models.lm import io
    from vermilion.models.lm.beam import BeamSearch, Task, search
    from vermilion.models.lm.generate import Generator, Request
    from vermilion.models.lm.logits import Row
    from vermilion.models.lm.native import NativeDecoder
    from vermilion.models.lm.sample import Sampling

    net, tokenizer = io.load(Path(path))
    decoder = NativeDecoder(net, 2**31, "int8" if int8 else "float32")
    generator = Generator(decoder, tokenizer, max_batch=32)

    def beams(number: int) -> list[int]:
        (prompt,) = gpt2_prompts(number, 1)
        sampling = Sampling(temperature=0, no_repeat_ngram_size=2)
        task = Task(
            row=Row(sampling, prompt, ends=(50_256,)),
            beams=BeamSearch(num_beams=5, early_stopping=True),
            max_new_tokens=100 - GPT2_PROMPT,
        )
        ((_, (best, *_)),) = search(decoder, [task])
        return [*prompt, *best.ids]

    def batch(number: int) -> int:
        asked = [
            Request(
                ids=ids,
                sampling=Sampling(top_k=50, min_new_tokens=32, seed=i),
                max_new_tokens=32,
            )
            for i, ids in enumerate(gpt2_prompts(number, 32))
        ]
        return sum(piece.tokens for piece in generator.generate(asked) if piece.finish is not None)

    return {"beams": beams, "batch": batch}


def transformers(path: str) -> dict[str, Work]:
    """Transformers' generate on the same folder."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(path).eval()

    def beams(number: int) -> list[int]:
        found = model.generate(
            torch.tensor(gpt2_prompts(number, 1)),
            num_beams=5,
            no_repeat_ngram_size=2,
            early_stopping=True,
            max_length=100,
            do_sample=False,
            eos_token_id=50_256,
            pad_token_id=50_256,
        )
        return list(found[0].tolist())

    def batch(number: int) -> int:
        prompts = torch.tensor(gpt2_prompts(number, 32))
        torch.manual_seed(number)
        found = model.generate(
            prompts,
            do_sample=True,
            top_k=50,
            min_new_tokens=32,
            max_new_tokens=32,
            pad_token_id=50_256,
        )
        return found.shape[0] * (found.shape[1] - GPT2_PROMPT)

    return {"beams": beams, "batch": batch}


PROGRAMS: dict[str, Callable[..., dict[str, Work]]] = {
    "vermilion": vermilion,
    "llama": llama,
    "openvino": openvino,
    "vermilion-gpt2": vermilion_gpt2,
    "vermilion-gpt2-int8": lambda path: vermilion_gpt2(path, int8=True),
    "transformers": transformers,
}


def main() -> None:
    """Answer lines until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a program prints of its own does not stand among the answers
    program, *options = sys.argv[1:]
    works = PROGRAMS[program](*options)
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        work, number = line.split()
        started = time.perf_counter()
        made = works[work](int(number))
        seconds = time.perf_counter() - started
        digest = hashlib.sha256(repr(made).encode()).hexdigest()[:16]
        print(seconds, digest, file=answers, flush=True)
    answers.flush()
    os._exit(0)  # llama.cpp's threads would keep the process alive


if __name__ == "__main__":
    main()
