"""A line of the ledger: an entry, what it follows, and its hash; and the head, where it ends."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal, Self, get_args

from vermilion.errors import InputError
from vermilion.seal.fingerprints import FILMPRINT_BYTES, MINHASH_BYTES, SOUNDPRINT_BYTES
from vermilion.seal.originality import Prints

Action = Literal["sealed", "exported", "opted-out", "imported", "repaired", "damaged"]
_ACTIONS: tuple[str, ...] = get_args(Action)
Sign = Callable[[bytes], bytes]
Verify = Callable[[bytes, bytes], bool]  # of a message and its signature

START = "0" * 64  # what the first entry follows

_LINE = re.compile(rb'\{"entry":(?P<entry>\{.*\}),"sha256":"(?P<sha256>[0-9a-f]{64})"\}\n')
_PHASH = re.compile("[0-9a-f]{16}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing that happened.

    Attributes:
        action: "sealed", "exported", "opted-out" (exported without a mark) or "imported"; the
            ledger itself writes "repaired" (a torn line was cut away) and "damaged" (what the
            head promised was missing).
        asset_id: of the library; empty where the file is none of its assets.
        sha256: of the file that was released, hexadecimal.
        original_sha256: of the file that it was made from.
        format: the released file's suffix.
        phash: of a picture, from `fingerprints.phash`.
        soundprint: of a sound, from `fingerprints.soundprint`.
        filmprint: of a film, from `fingerprints.filmprint`.
        minhash: of a text, from `fingerprints.minhash`.
        opt_outs: what was left out: "visible mark", "label", ...
        reason: why; needed where something was left out.
        time: UTC, ISO 8601; given when it is written.
        number: from 1; given when it is written.

    Raises:
        InputError: a value cannot be used.
    """

    action: Action
    asset_id: str = ""
    sha256: str = ""
    original_sha256: str = ""
    format: str = ""
    phash: int | None = None
    soundprint: bytes | None = None
    filmprint: bytes | None = None
    minhash: bytes | None = None
    opt_outs: tuple[str, ...] = ()
    reason: str = ""
    time: str = ""
    number: int = 0

    def __post_init__(self) -> None:
        if self.action not in _ACTIONS:
            raise InputError(f"action: {self.action!r} is none of {', '.join(_ACTIONS)}")
        if (self.opt_outs or self.action == "opted-out") and not self.reason.strip():
            raise InputError("reason: is empty; say why the mark is left out, it is kept")

    @property
    def prints(self) -> Prints:
        """Its fingerprints."""
        return Prints(
            picture=self.phash, sound=self.soundprint, film=self.filmprint, text=self.minhash
        )

    def to_json(self, previous: str) -> str:
        """Its canonical JSON: sorted keys, no spaces, ASCII; what is empty is left out."""
        values = {key: value for key, value in asdict(self).items() if value not in ("", (), None)}
        if self.phash is not None:
            values["phash"] = f"{self.phash:016x}"
        for key in ("soundprint", "filmprint", "minhash"):
            if key in values:
                values[key] = base64.b64encode(values[key]).decode()
        values["previous"] = previous
        return json.dumps(values, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The entry of what `to_json` wrote; keys of later versions are passed over.

        Raises:
            ValueError: it is none.
        """
        prints = prints_of(values)
        known = {key: values[key] for key in _PLAIN if key in values}
        if any(
            type(value) is not (int if key == "number" else str) for key, value in known.items()
        ):
            raise ValueError("a value is of another type")
        try:
            return cls(
                **known,
                phash=prints.picture,
                soundprint=prints.sound,
                filmprint=prints.film,
                minhash=prints.text,
                opt_outs=tuple(values.get("opt_outs", ())),
            )
        except (TypeError, AttributeError, InputError) as error:
            raise ValueError(str(error)) from None


_PLAIN = (
    "action",
    "asset_id",
    "sha256",
    "original_sha256",
    "format",
    "reason",
    "time",
    "number",
)


def prints_of(values: Mapping[str, Any]) -> Prints:
    """The fingerprints in an entry's JSON.

    Raises:
        ValueError: one of them is none.
    """
    keys = ("phash", "soundprint", "filmprint", "minhash")
    picture, sound, film, text = map(values.get, keys)
    if picture is None and sound is None and film is None and text is None:
        return _NONE
    try:
        return Prints(
            picture=None if picture is None else _hash(picture),
            sound=None if sound is None else _bytes(sound, SOUNDPRINT_BYTES),
            film=None if film is None else _bytes(film, FILMPRINT_BYTES),
            text=None if text is None else _bytes(text, MINHASH_BYTES),
        )
    except TypeError as error:
        raise ValueError(str(error)) from None


_NONE = Prints()


def _hash(text: str) -> int:
    if _PHASH.fullmatch(text) is None:
        raise ValueError(f"a hash of a picture has 16 digits of 0 to f, not {text[:20]!r}")
    return int(text, 16)


def _bytes(text: str, size: int) -> bytes:
    content = binascii.a2b_base64(text, strict_mode=True)
    if len(content) != size:
        raise ValueError(f"a fingerprint has {len(content)} bytes, not {size}")
    return content


@dataclass(frozen=True, slots=True)
class Head:
    """Where the ledger ends.

    Attributes:
        number: of its last entry; 0: there is none.
        sha256: of that entry.
        size: of all lines, in bytes.
        signature: base64; empty: not signed.
    """

    number: int = 0
    sha256: str = START
    size: int = 0
    signature: str = ""

    @property
    def message(self) -> bytes:
        """What is signed."""
        return f"vermilion ledger\n{self.number} {self.size} {self.sha256}\n".encode()

    def is_signed(self, verify: Verify) -> bool:
        """Whether its signature is good."""
        try:
            return verify(self.message, base64.b64decode(self.signature, validate=True))
        except binascii.Error:
            return False


@dataclass(frozen=True, slots=True)
class Line:
    """What a line holds.

    Attributes:
        entry: the same.
        previous: SHA-256 of the entry that it follows, as it says.
        sha256: of its entry, as it says.
        is_whole: whether that is so.
    """

    entry: Entry
    previous: str
    sha256: str
    is_whole: bool


def parse(line: bytes) -> Line | None:
    """Read a line with its line feed; None: it is none of a ledger."""
    shape, values = _LINE.fullmatch(line), values_of(line)
    if shape is None or values is None:
        return None
    try:
        entry = Entry.from_json(values)
    except ValueError:
        return None
    found = hashlib.sha256(shape["entry"]).hexdigest()
    said = shape["sha256"].decode()
    return Line(entry, str(values.get("previous", "")), said, found == said)


def values_of(line: bytes) -> dict[str, Any] | None:
    """The JSON of a line's entry, unchecked; None: it has none."""
    shape = _LINE.fullmatch(line)
    if shape is None:
        return None
    try:
        values: dict[str, Any] = json.loads(shape["entry"].decode("ascii"))
    except (ValueError, RecursionError):
        return None
    return values


def follow(head: Head, entries: Sequence[Entry]) -> tuple[Head, bytes]:
    """The lines of entries that follow a head, with time and number, and the head after them."""
    lines, number, previous = [], head.number, head.sha256
    for entry in entries:
        number += 1
        time = datetime.now(UTC).isoformat(timespec="microseconds")
        content = replace(entry, number=number, time=time).to_json(previous)
        previous = hashlib.sha256(content.encode()).hexdigest()
        lines.append(f'{{"entry":{content},"sha256":"{previous}"}}\n')
    written = "".join(lines).encode()
    return Head(number, previous, head.size + len(written)), written
