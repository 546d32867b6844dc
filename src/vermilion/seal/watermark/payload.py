"""What a watermark of pictures and sound carries: 64 bits, an asset's id and check bits.

8 characters of 5 bits, then 24 check bits. In a signal they travel as a convolutional code of rate
1/3 and constraint length 9 (generators 557, 663, 711 octal; Proakis, Digital Communications, table
8-2-2), which is decoded softly (Viterbi, 1967).
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vermilion.errors import InputError

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # of asset ids
ID_LENGTH = 8
BITS = 64
CHECK_BITS = 24
PRESENT = 1e-6  # a watermark is called present when chance gives it less often than this

_MEMORY = 8
_STATES = 1 << _MEMORY
_GENERATORS = (0o557, 0o663, 0o711)
CODE_BITS = (BITS + _MEMORY) * len(_GENERATORS)  # 216


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a detector found.

    Attributes:
        present: chance gives such a finding less often than `PRESENT`.
        payload: the 64 bits, where their check bits agree; None where they could not be read.
        asset_id: the id in them.
        probability: of a finding at least as strong where no watermark of this key is, 0 to 1;
            an upper bound over the random signs of the key (see `evidence`).
        bit_confidence: share of the code's bits that arrived as the decoded payload says,
            0 to 1; by chance it is about 0.74.
    """

    present: bool
    payload: int | None
    asset_id: str | None
    probability: float
    bit_confidence: float

    @property
    def names_asset(self) -> bool:
        """Whether watermarks of this kind name an asset."""
        return True


def pack(asset_id: str) -> int:
    """The payload of an asset.

    Raises:
        InputError: it is no asset's id.
    """
    if len(asset_id) != ID_LENGTH or not set(asset_id) <= set(ALPHABET):
        raise InputError(
            f"asset id: {asset_id!r} cannot be hidden; an id has {ID_LENGTH} characters of"
            f" {ALPHABET}"
        )
    number = 0
    for letter in asset_id:
        number = number << 5 | ALPHABET.index(letter)
    return number << CHECK_BITS | _check(number)


def asset_id_of(payload: int) -> str | None:
    """The id in a payload; None where the check bits do not agree."""
    number = payload >> CHECK_BITS
    if not 0 <= payload < 1 << BITS or payload & (1 << CHECK_BITS) - 1 != _check(number):
        return None
    return "".join(ALPHABET[number >> shift & 31] for shift in range(35, -1, -5))


def _check(number: int) -> int:
    digest = hashlib.blake2b(number.to_bytes(5, "big"), digest_size=3, person=b"vermilion id")
    return int.from_bytes(digest.digest(), "big")


def encode(payload: int) -> NDArray[np.int8]:
    """The code of a payload: (216,) of -1 (a 0) and 1.

    Raises:
        InputError: it was not made by `pack`.
    """
    if asset_id_of(payload) is None:
        raise InputError("payload: its check bits do not agree; make it with payload.pack(id)")
    bits = [payload >> shift & 1 for shift in range(BITS - 1, -1, -1)] + [0] * _MEMORY
    register, code = 0, []
    for bit in bits:
        register = (bit << _MEMORY) | (register >> 1)
        code += [(register & g).bit_count() & 1 for g in _GENERATORS]
    return (2 * np.array(code) - 1).astype(np.int8)


def _trellis() -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """For each state and each of its two forerunners: which one, and the three signs sent."""
    states = np.arange(_STATES)
    before = np.stack([(states << 1) % _STATES, (states << 1) % _STATES | 1])  # (2, 256)
    registers = (states >> (_MEMORY - 1) << _MEMORY) | before
    parity = np.stack([np.bitwise_count(registers & g) & 1 for g in _GENERATORS], axis=-1)
    return before, 2.0 * parity - 1.0


_BEFORE, _SIGNS = _trellis()


def decode(evidence: NDArray[np.float64]) -> tuple[int, float]:
    """The likeliest payload, whether or not its check bits agree, and the bits' confidence.

    Args:
        evidence: (216,), positive for a 1; its size tells how sure it is.
    """
    steps = evidence.reshape(-1, len(_GENERATORS))
    score = np.full(_STATES, -np.inf)
    score[0] = 0.0
    choices = np.empty((len(steps), _STATES), np.int8)
    for step, received in enumerate(steps):
        paths = score[_BEFORE] + _SIGNS @ received  # (2, 256)
        choices[step] = paths[1] > paths[0]
        score = np.maximum(paths[0], paths[1])
        if step >= BITS:
            score[_STATES // 2 :] = -np.inf  # the tail is zeros
    state, payload, sent = 0, 0, np.empty_like(steps)
    for step in range(len(steps) - 1, -1, -1):
        choice = choices[step, state]
        sent[step] = _SIGNS[choice, state]
        if step < BITS:
            payload |= (state >> (_MEMORY - 1)) << (BITS - 1 - step)
        state = int(_BEFORE[choice, state])
    return payload, float(np.mean((steps > 0) == (sent > 0)))


def evidence(score: float, trials: int, asset_id: str | None, readings: int = 1) -> float:
    """How probable a finding is where no watermark of this key is: an upper bound.

    The null model: the content does not depend on the key, whose signs are independent fair
    coins. `score` is the sum of n of those signs with weights of length 1, so its upper tail is
    at most exp(-score^2 / 2) (Hoeffding, 1963, theorem 2), for each of the `trials` places that
    were tried. Check bits agree by chance in 2^-24 of the `readings`, whatever the score, because
    other signs carry them. The factor 2 is for looking at both.
    """
    chance = min(1.0, trials * math.exp(-(max(score, 0.0) ** 2) / 2))
    checked = 1.0 if asset_id is None else min(1.0, readings * 2.0**-CHECK_BITS)
    return min(1.0, 2.0 * chance * checked)


def found(sums: NDArray[np.float64], score: float, trials: int, readings: int = 1) -> Found:
    """What the evidence for each bit of the code says, and how probable it is by chance.

    Args:
        sums: (CODE_BITS,), as `decode` takes them.
        score: as `evidence`.
        trials: likewise.
        readings: likewise.
    """
    payload, confidence = decode(sums)
    asset_id = asset_id_of(payload)
    probability = evidence(score, trials, asset_id, readings)
    present = probability < PRESENT
    known = present and asset_id is not None
    return Found(
        present=present,
        payload=payload if known else None,
        asset_id=asset_id if known else None,
        probability=probability,
        bit_confidence=confidence,
    )
