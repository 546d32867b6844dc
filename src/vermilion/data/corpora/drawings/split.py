"""Which drawings are held back: by what they show, never by picture, and by a hash, not a draw.

What a hash decides stays so when sets are added or left out.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

TRAIN, CONCEPT, STYLE = "train", "validation-concept", "validation-style"
SPLITS = (TRAIN, CONCEPT, STYLE)
CONCEPTS_HELD, PAIRS_HELD = 0.05, 0.04  # shares of all families, and of the pairs that are left


def share(key: str) -> float:
    """A number from 0 to below 1 that depends on the key alone, evenly spread.

    Args:
        key: any text.
    """
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) / 2**64


def assign(drawn: Sequence[tuple[str, str]]) -> list[str]:
    """The split of each drawing.

    A family is trained on or held back as a whole ("validation-concept"). Of those that are
    trained on, some are held back in one style or another ("validation-style"), and at least one
    other style of them is in the training. Sets that draw a thing alike count as one style here.

    Args:
        drawn: family of each, and what its style is known by.
    """
    styles: dict[str, set[str]] = defaultdict(set)
    for family, style in drawn:
        styles[family].add(style)
    held: set[tuple[str, str]] = set()
    for family, found in styles.items():
        order = sorted(found, key=lambda style: share(f"style:{family}:{style}"))
        below = [style for style in order if share(f"style:{family}:{style}") < PAIRS_HELD]
        held |= {(family, style) for style in below[: len(order) - 1]}
    return [
        CONCEPT
        if share(f"concept:{family}") < CONCEPTS_HELD
        else (STYLE if (family, style) in held else TRAIN)
        for family, style in drawn
    ]
