"""How many single-byte changes to signed files are found out, of every kind of file.

    python benchmarks/tamper.py [--count 1000] [--kinds png,jpg] [--seed 0]

Each byte is changed to a random other value, one at a time, in the file or in its sidecar, and
the file is read again. The table names the parts in which a change was not found out.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.seal import signing

from vermilion.seal import credentials
from vermilion.seal.authority import Authority
from vermilion.seal.formats import FORMATS


def survey(
    suffix: str, authority: Authority, count: int, seed: int
) -> tuple[Counter[str], list[int]]:
    """The states after each change, and the offsets of those after which all seemed well."""
    form = FORMATS[suffix]
    signed = signing.sign(suffix, authority)
    sidecar = signed.sidecar or b""
    whole = bytearray(signed.content + sidecar)
    size = len(signed.content)
    states: Counter[str] = Counter()
    missed = []
    for offset, mask in signing.flips(len(whole), count, seed):
        whole[offset] ^= mask
        content, beside = bytes(whole[:size]), bytes(whole[size:]) or None
        state = credentials.read(content, form, beside, authority).state
        whole[offset] ^= mask
        states[state] += 1
        if state in ("ours", "trusted"):
            missed.append(offset)
    return states, sorted(missed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--kinds", default=",".join(FORMATS))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        authority = Authority.open(Path(folder) / "authority")
        print(
            "| kind | bytes | changed | invalid | none | unknown-signer | missed | ms a reading |"
        )
        print("| --- | --- | --- | --- | --- | --- | --- | --- |")
        for suffix in arguments.kinds.split(","):
            began = time.perf_counter()
            states, missed = survey(suffix, authority, arguments.count, arguments.seed)
            spent = (time.perf_counter() - began) / states.total() * 1e3
            signed = signing.sign(suffix, authority)
            size = len(signed.content) + len(signed.sidecar or b"")
            print(
                f"| {suffix} | {size} | {states.total()} | {states['invalid']} | {states['none']}"
                f" | {states['unknown-signer']} | {len(missed)} | {spent:.1f} |",
                flush=True,
            )
            inside = signing.outside(signed.content, FORMATS[suffix]) if not signed.sidecar else []
            if missed:
                print(f"  {suffix}: {missed}; outside the hash: {inside}", file=sys.stderr)


if __name__ == "__main__":
    main()
