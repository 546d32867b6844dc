"""Language models: writing in bulk, one stream, beam search and sampling, against their peers.

    make models && .venv/bin/python benchmarks/lm.py [--rounds 5] [--only bulk one beams batch]

Every program runs in a process of its own (lm_works.py) and they take turns: one works, the
others wait. Peers: llama.cpp (the package xllamacpp) and OpenVINO GenAI (openvino-genai), both of
which have to be installed by hand and read the same GGUF file, and transformers on a GPT-2 of
random weights. llama.cpp is given the number of slots that is fastest here. Training against
minGPT: train.py.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import vermilion as vm
from harness import compare, headline

WORKS = Path(__file__).with_name("lm_works.py")
TOKENS = {"bulk": 64 * 64, "one": 128, "beams": 84, "batch": 32 * 32}


class Program:
    """A program that does works when it is asked."""

    def __init__(self, *command: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(WORKS), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._rounds: dict[str, int] = {}
        self.digests: list[str] = []
        if self._answer() != ["ready"]:
            raise RuntimeError(f"{command[0]} did not start")

    def _answer(self) -> list[str]:
        assert self._process.stdout is not None
        return self._process.stdout.readline().split()

    def __call__(self, work: str) -> float:
        """Tokens a second; each time with requests that it has not had."""
        assert self._process.stdin is not None
        number = self._rounds[work] = self._rounds.get(work, -1) + 1
        print(work, number, file=self._process.stdin, flush=True)
        seconds, digest = self._answer()
        self.digests.append(digest)
        return TOKENS[work] / float(seconds)

    def close(self) -> None:
        """Let it end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)


def row(name: str, ours: Program, work: str, peer_name: str, peer: Program, rounds: int) -> None:
    """Measure one line of the table."""
    compare(
        name,
        lambda: ours(work),
        peer_name,
        lambda: peer(work),
        unit="tok/s",
        rounds=rounds,
        higher_is_better=True,
    )


def fastest_llama(gguf: str, tried: list[int]) -> tuple[Program, int]:
    """llama.cpp with the number of slots that is fastest in bulk, of those that are tried."""
    if len(tried) == 1:
        return Program("llama", gguf, str(tried[0])), tried[0]
    speeds = {}
    for slots in tried:
        program = Program("llama", gguf, str(slots))
        speeds[slots] = program("bulk")
        program.close()
    best = max(speeds, key=lambda slots: speeds[slots])
    said = ", ".join(f"{slots}: {speed:.0f}" for slots, speed in speeds.items())
    print(f"llama.cpp by slots, tok/s: {said}", file=sys.stderr)
    return Program("llama", gguf, str(best)), best


def smollm2(only: set[str], rounds: int, tried: list[int], peers: list[str]) -> None:
    """Bulk and one stream on the default model."""
    _, gguf = vm.Store(vm.get_settings().models_dir).locate("smollm2-135m")
    ours = Program("vermilion", str(gguf))
    works = {
        "bulk": "SmolLM2-135M, 64 chats, shared instruction, 64 tokens each",
        "one": "SmolLM2-135M, one stream, 128 tokens",
    }
    found = []
    if "llama" in peers and find_spec("xllamacpp") is not None:
        llama, slots = fastest_llama(str(gguf), tried)
        found.append((f"llama.cpp ({version('xllamacpp')}), {slots} slots", llama))
    if "openvino" in peers and find_spec("openvino_genai") is not None:
        openvino = Program("openvino", str(gguf))
        found.append((f"OpenVINO GenAI {version('openvino-genai')}", openvino))
    for peer_name, peer in found:
        for work, name in works.items():
            if work in only:
                row(name, ours, work, peer_name, peer, rounds)
        peer.close()
    ours.close()


def gpt2(only: set[str], rounds: int) -> None:
    """Beam search and sampling on GPT-2's shape."""
    from tests.tiny import tiny_tokenizer
    from transformers import GPT2Config, GPT2LMHeadModel, set_seed

    with tempfile.TemporaryDirectory() as folder:
        set_seed(0)
        GPT2LMHeadModel(GPT2Config()).save_pretrained(folder)
        tiny_tokenizer().save_pretrained(folder)
        peer_name = f"transformers {version('transformers')}"
        peer, ours = Program("transformers", folder), Program("vermilion-gpt2", folder)
        if "beams" in only:
            row("GPT-2 124M, 5 beams, float32", ours, "beams", peer_name, peer, rounds)
            same = sum(a == b for a, b in zip(ours.digests, peer.digests, strict=True))
            print(f"same tokens in {same} of {len(ours.digests)} searches", file=sys.stderr)
        if "batch" in only:
            row("GPT-2 124M, batch 32, float32", ours, "batch", peer_name, peer, rounds)
            ours.close()
            ours = Program("vermilion-gpt2-int8", folder)
            row("GPT-2 124M, batch 32, int8", ours, "batch", peer_name, peer, rounds)
        ours.close()
        peer.close()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", default=list(TOKENS), choices=TOKENS)
    parser.add_argument("--slots", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--peers", nargs="+", default=["llama", "openvino"])
    options = parser.parse_args()
    only = set(options.only)
    headline()
    if only & {"bulk", "one"}:
        smollm2(only, options.rounds, options.slots, options.peers)
    if only & {"beams", "batch"}:
        sys.path.insert(0, str(Path(__file__).parent.parent))
        gpt2(only, options.rounds)


if __name__ == "__main__":
    main()
