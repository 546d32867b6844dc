"""`python -m vermilion.data.corpora verse|english|drawings OUT`: build a corpus."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from vermilion.data.corpora import english, verse
from vermilion.data.corpora.drawings.build import build as build_drawings
from vermilion.errors import VermilionError

TEXTS = {"verse": verse.build, "english": english.build}


def main(arguments: Sequence[str] | None = None) -> int:
    """Build what is asked for; returns the exit status."""
    given = _parser().parse_args(arguments)
    packages = given.packages or given.out / "packages"
    try:
        if given.corpus in TEXTS:
            corpus = TEXTS[given.corpus](packages, given.out, download=given.download)
            said = (
                f"{corpus.path}: {corpus.texts:,} texts, {corpus.characters:,} characters,"
                f" SHA-256 {corpus.sha256}"
            )
        else:
            drawings = build_drawings(
                packages,
                given.out,
                download=given.download,
                size=given.size,
                sets=given.sets,
                quiet=given.quiet,
            )
            said = "\n".join((*drawings.lines, str(drawings.path)))
    except VermilionError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write(f"{said}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m vermilion.data.corpora", description=__doc__)
    kinds = parser.add_subparsers(dest="corpus", required=True)
    for name in (*TEXTS, "drawings"):
        kind = kinds.add_parser(name)
        kind.add_argument("out", type=Path, help="folder for the corpus and its credits")
        kind.add_argument(
            "--packages", type=Path, help="folder of the packages' files (default: OUT/packages)"
        )
        kind.add_argument(
            "--download", action="store_true", help="fetch the packages that are not there"
        )
    kind.add_argument("--size", type=int, default=64, help="side of a picture in px (64)")
    kind.add_argument(
        "--sets", nargs="+", default=(), help="sets, or groups: emoji, icons, clipart, line (all)"
    )
    kind.add_argument("--quiet", action="store_true", help="show no progress")
    return parser


if __name__ == "__main__":
    sys.exit(main())
