"""Start, load, first word and speech, each against a named peer.

    make models && .venv/bin/python benchmarks/start.py [--rounds 5]

Peers: the `hf` command for the start; llama.cpp (the package xllamacpp, which has to be
installed by hand) for loading the same GGUF file and for the first word; hibari itself for
speech. A peer that is not installed is left out with a word.
"""

from __future__ import annotations

import argparse
import os
import pty
import subprocess
import sys
import time
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import vermilion as vm
from harness import compare, headline, seconds
from vermilion.models.lm import io

PROMPT = "Write a short welcome text for the website of a small bakery."
TEXT = (
    "Freshly roasted this morning. Come by before ten, or we will have drunk it all ourselves. "
    "The door is open, the cups are warm, and there is a chair by the window for you."
)
LLAMA_LOAD = """
import os, sys, xllamacpp as x
p = x.CommonParams(); p.model.path = sys.argv[1]; p.n_ctx = 2048
s = x.Server(p)
"""
LLAMA_EXIT = "os._exit(0)\n"  # its server's threads would keep the process alive
LLAMA_WORD = (
    LLAMA_LOAD
    + """
def show(chunk):
    for choice in (chunk if isinstance(chunk, dict) else {}).get("choices", []):
        text = choice.get("delta", {}).get("content")
        if text: sys.stdout.write(text); sys.stdout.flush()
    return False
s.handle_chat_completions({"messages": [{"role": "user", "content": sys.argv[2]}],
    "max_tokens": 64, "stream": True}, show)
"""
)
OUR_LOAD = """
import sys
from pathlib import Path
from vermilion.models.lm import io
io.load(Path(sys.argv[1]))
"""


def run(*command: str) -> None:
    """Run a command to its end."""
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def first_word(*command: str) -> float:
    """Seconds from the command to the first character that it prints on a terminal."""
    ours, theirs = pty.openpty()
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=theirs, stderr=subprocess.DEVNULL)
    os.close(theirs)
    os.read(ours, 1)
    waited = time.perf_counter() - started
    process.kill()
    process.wait()
    os.close(ours)
    return waited


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    python, here = sys.executable, Path(sys.executable).parent
    vermilion = str(here / "vermilion")
    _, gguf = vm.Store(vm.get_settings().models_dir).locate("smollm2-135m")
    headline()
    compare(
        "`vermilion --help`",
        seconds(lambda: run(vermilion, "--help")),
        f"`hf --help` {version('huggingface_hub')}",
        seconds(lambda: run(str(here / "hf"), "--help")),
        rounds=rounds,
    )
    if find_spec("xllamacpp") is None:
        print("xllamacpp is not installed: load and first word are left out", file=sys.stderr)
    else:
        llama = f"llama.cpp (xllamacpp {version('xllamacpp')})"
        compare(
            "new process, SmolLM2-135M Q4_1 loaded",
            seconds(lambda: run(python, "-c", OUR_LOAD, str(gguf))),
            llama,
            seconds(lambda: run(python, "-c", LLAMA_LOAD + LLAMA_EXIT, str(gguf))),
            rounds=rounds,
        )
        compare(
            "first word of `vermilion write`",
            lambda: first_word(vermilion, "write", PROMPT, "--seed", "1"),
            llama,
            lambda: first_word(python, "-c", LLAMA_WORD, str(gguf), PROMPT),
            rounds=rounds,
        )
    speech(rounds)
    started = time.perf_counter()
    io.load(gguf)
    print(f"\nloading alone, in this process: {time.perf_counter() - started:.2f} s")


def speech(rounds: int) -> None:
    """Seconds of speech a second of work; ours with loudness, a WAV file and the library."""
    if find_spec("hibari") is None:
        print("hibari-tts is not installed: speech is left out", file=sys.stderr)
        return
    from hibari import Hibari

    voice = Hibari()

    def plain() -> float:
        started = time.perf_counter()
        samples = len(voice(TEXT, seed=1))
        return samples / voice.sample_rate / (time.perf_counter() - started)

    def kept() -> float:
        started = time.perf_counter()
        duration = vm.speak(TEXT, seed=1).notes["duration"]
        return float(duration) / (time.perf_counter() - started)

    compare(
        "speech, evened, kept: x real time",
        kept,
        f"hibari-tts {version('hibari-tts')} alone",
        plain,
        unit="x",
        rounds=rounds,
        higher_is_better=True,
    )


if __name__ == "__main__":
    main()
