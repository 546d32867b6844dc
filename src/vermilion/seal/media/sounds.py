"""Sound in memory: decode, and encode like the file it came from.

WAV and FLAC come back to the bit where nothing was changed, with 16 bits or, where the source has
more, with its own. MP3, OGG and M4A are encoded at about the bit rate of the source.
"""

from __future__ import annotations

import io
import struct
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vermilion.errors import InputError, MissingExtraError
from vermilion.seal.carriers import id3, riff, vorbis
from vermilion.seal.formats import Format
from vermilion.seal.media.wave import Sound, check_length

try:
    import soundfile
except ImportError:
    raise MissingExtraError("sealing sound", "speech") from None

_BLOCK = 1 << 20
__all__ = ["Sound", "decode", "encode"]

_BITS = {"PCM_16": 16, "PCM_24": 24, "PCM_32": 32}
_HEAD = 210  # bytes
_USUAL_MP3 = 0.25  # libsndfile's level where there is no source: variable, near 190 kbit/s of music


def decode(content: bytes, form: Format) -> Sound:
    """A sound file's samples.

    Raises:
        InputError: it is no sound that can be read, or one of more than 400 million samples.
        MissingExtraError: M4A needs PyAV, which is not installed.
    """
    if form.suffix == "m4a":
        sound: Sound = _streams().decode(content)
        return sound
    blocks, count = list[NDArray[np.float32]](), 0
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            rate = int(file.samplerate)
            while len(block := file.read(_BLOCK, dtype="float32", always_2d=True)):
                blocks.append(block)
                count += block.size
                check_length(count)
    except soundfile.SoundFileError as error:
        raise InputError(f"file: the sound cannot be read: {_said(error)}") from None
    if not blocks:
        raise InputError("file: the sound has no samples")
    return Sound(np.concatenate(blocks), rate)


def encode(sound: Sound, form: Format, like: bytes | None = None) -> bytes:
    """A sound file's bytes.

    Args:
        sound: what to write.
        form: its format.
        like: a file of that format, whose tags and whose bit depth or bit rate are kept; None: 16
            bits, and the usual quality of the format.

    Raises:
        InputError: the format has no place for that many channels or that sample rate, or `like`
            cannot be read.
        MissingExtraError: M4A needs PyAV, which is not installed.
    """
    if form.suffix == "m4a":
        made: bytes = _streams().encode(sound, like)
        return made
    if form.suffix == "ogg" and not (
        sound.wave.shape[1] <= 8 and 1000 <= sound.sample_rate <= 200_000
    ):
        # libsndfile ends the whole program there.
        raise _no_place(sound, form, "it takes 8 channels and 1 to 200 kHz")
    options = _OPTIONS[form.suffix](sound, like)
    wave: NDArray[Any] = sound.wave
    if (bits := _BITS.get(options.get("subtype", ""))) is not None:
        wave = _whole_numbers(sound.wave, bits)
    buffer = io.BytesIO()
    try:
        soundfile.write(buffer, wave, sound.sample_rate, **options)
    except (soundfile.SoundFileError, ValueError) as error:
        raise _no_place(sound, form, _said(error)) from None
    made = buffer.getvalue()
    return made if like is None else _ADOPT[form.suffix](made, like)


def _no_place(sound: Sound, form: Format, reason: str) -> InputError:
    return InputError(
        f"file: a .{form.suffix} cannot hold {sound.wave.shape[1]} channels at"
        f" {sound.sample_rate} Hz: {reason}"
    )


def _whole_numbers(wave: NDArray[np.float32], bits: int) -> NDArray[Any]:
    """Samples as integers in the upper bits of their type.

    libsndfile multiplies by 32767 what it read by dividing by 32768, so that samples would not come
    back as they were.
    """
    top = 2.0 ** (bits - 1)
    whole = np.clip(np.rint(wave.astype(np.float64) * top), -top, top - 1)  # (S, C)
    if bits == 16:
        return whole.astype(np.int16)
    return whole.astype(np.int32) << (32 - bits)


def _wav(sound: Sound, like: bytes | None) -> dict[str, Any]:
    subtype = "PCM_16" if like is None else _info(like).subtype
    kept = {"PCM_24": "PCM_24", "PCM_32": "PCM_32", "FLOAT": "FLOAT", "DOUBLE": "FLOAT"}
    return {"format": "WAV", "subtype": kept.get(subtype, "PCM_16")}


def _flac(sound: Sound, like: bytes | None) -> dict[str, Any]:
    deep = like is not None and _info(like).subtype == "PCM_24"
    return {"format": "FLAC", "subtype": "PCM_24" if deep else "PCM_16"}


def _mp3(sound: Sound, like: bytes | None) -> dict[str, Any]:
    if like is None:
        return {"format": "MP3", "compression_level": _USUAL_MP3}
    rate, wanted = sound.sample_rate, _bit_rate(like)
    highest, lowest = (320, 32) if rate >= 32_000 else (160, 8) if rate >= 16_000 else (64, 8)
    level = (highest - wanted / 1000) / (highest - lowest)
    # Without the head that says how much silence an encoder adds, players hear it too. It is
    # written into a frame of its own, and is left out where frames of one size are too small.
    small = wanted * (144 if rate >= 32_000 else 72) / rate < _HEAD
    return {
        "format": "MP3",
        "compression_level": min(max(level, 0.0), 0.99),  # at 1 libsndfile reports an error
        "bitrate_mode": "AVERAGE" if small else "CONSTANT",
    }


def _ogg(sound: Sound, like: bytes | None) -> dict[str, Any]:
    if like is None:
        return {"format": "OGG", "subtype": "VORBIS"}
    if _info(like).subtype == "OPUS":
        # libsndfile: level 0 is 256 kbit/s a channel and level 1 is 6.
        level = 1 - (_bit_rate(like) / sound.wave.shape[1] - 6_000) / 250_000
        return {"format": "OGG", "subtype": "OPUS", "compression_level": min(max(level, 0.0), 1.0)}
    wanted = _nominal(like) or _bit_rate(like)
    levels = [step / 10 for step in range(10)]
    level = min(levels, key=lambda level: abs(_nominal_at(sound, level) - wanted))
    return {"format": "OGG", "subtype": "VORBIS", "compression_level": level}


_ADOPT = {"wav": riff.adopt, "mp3": id3.adopt, "flac": vorbis.adopt, "ogg": vorbis.adopt}
_OPTIONS = {"wav": _wav, "flac": _flac, "mp3": _mp3, "ogg": _ogg}


def _info(content: bytes) -> Any:
    try:
        return soundfile.info(io.BytesIO(content))
    except soundfile.SoundFileError as error:
        raise InputError(f"file: the sound cannot be read: {_said(error)}") from None


def _bit_rate(content: bytes) -> float:
    """Bits a second, of the whole file."""
    info = _info(content)
    return float(len(content) * 8 * info.samplerate / max(info.frames, 1))


def _nominal(content: bytes) -> int:
    """The bit rate that Vorbis' first header names; 0: it names none."""
    at = content.find(b"\x01vorbis", 0, 4096)
    if at < 0 or at + 24 > len(content):
        return 0
    return max(0, int(struct.unpack_from("<i", content, at + 20)[0]))


def _nominal_at(sound: Sound, level: float) -> int:
    """The bit rate that a file of this level would name: a file without samples tells it."""
    buffer = io.BytesIO()
    nothing = np.zeros((0, sound.wave.shape[1]), np.float32)
    try:
        soundfile.write(
            buffer, nothing, sound.sample_rate, "VORBIS", format="OGG", compression_level=level
        )
    except soundfile.SoundFileError:
        return 0  # Vorbis has no such level at this sample rate.
    return _nominal(buffer.getvalue())


def _streams() -> ModuleType:
    """PyAV's part, which is an extra of its own and needed for M4A alone."""
    return import_module("vermilion.seal.media.streams")


def _said(error: Exception) -> str:
    text = str(getattr(error, "error_string", None) or error)
    return text.strip().rstrip(".").removeprefix("Error : ")
