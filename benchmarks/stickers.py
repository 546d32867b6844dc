"""Times the sticker model as a whole process: the first sticker, and many.

    vermilion pull all-minilm-l6-v2 && python benchmarks/stickers.py [--model stickers]

`first` is from the command to its end, with one sticker enlarged, sealed, kept in a library and
written; the files have been read once before. `bulk` is the same with --n 64. A process without
any painting, `vermilion models list`, is timed between them, as a measure of the machine.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from harness import headline, seconds

LABELS = ("red heart", "rocket", "cat face", "pizza", "house")


def main() -> None:
    """Print both figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="stickers")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--n", type=int, default=64, help="stickers of a bulk run")
    asked = parser.parse_args()
    vermilion = str(Path(sys.executable).parent / "vermilion")
    headline()
    first: list[float] = []
    bulk: list[float] = []
    idle: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(asked.rounds + 1):
            out = Path(folder) / str(turn)
            label = LABELS[turn % len(LABELS)]

            def paint(n: int, label: str = label, out: Path = out, turn: int = turn) -> None:
                run(vermilion, "paint", label, "--n", str(n), "--model", asked.model,
                    "--seed", str(turn), "--quiet", "--out", str(out / str(n)))  # fmt: skip

            times = (
                seconds(lambda: paint(1))(),
                seconds(lambda: run(vermilion, "models", "list"))(),
                seconds(lambda: paint(asked.n))(),
            )
            if turn:  # the first one warms the disk
                first.append(times[0])
                idle.append(times[1])
                bulk.append(60 * asked.n / times[2])
    print(f"models list: {told(idle, 's')}")
    print(f"first sticker: {told(first, 's')}")
    print(f"{asked.n} stickers: {told(bulk, 'a minute')}")


def told(values: list[float], unit: str) -> str:
    """The median and the range."""
    return f"{median(values):.2f} {unit} ({min(values):.2f} to {max(values):.2f})"


def run(*command: str) -> None:
    """Run a command to its end."""
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
