"""Sound that FFmpeg's library (PyAV) reads and writes: M4A, and the sound of films."""

from __future__ import annotations

import io
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from typing import TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from vermilion.errors import InputError, MissingExtraError
from vermilion.seal.media.wave import Sound, check_length

try:
    import av
    from av.audio.frame import AudioFrame
    from av.audio.resampler import AudioResampler
    from av.audio.stream import AudioStream
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream
except ImportError:
    raise MissingExtraError("sealing film and M4A", "film") from None

_LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "4.0", 5: "5.0", 6: "5.1", 8: "7.1"}
# The encoder for what a file holds, where it has another name; lossless sound stays lossless.
_ENCODERS = {"mp3": "libmp3lame", "mp3float": "libmp3lame", "opus": "libopus", "vorbis": "libopus"}
_USUAL = 96_000  # bits a second and channel where there is no source
_BLOCK = 1 << 14  # samples that are handed over at once
# From so many bits a second and channel on FFmpeg's documentation calls the coder "fast" the better
# one; it takes 0.6 of the time.
_FAST_FROM = 64_000
Readable = TypeVar("Readable", AudioStream, VideoStream)


def open_file(content: bytes) -> InputContainer:
    """A film or a sound, opened.

    Raises:
        InputError: it is neither.
    """
    try:
        return av.open(io.BytesIO(content), "r", metadata_errors="replace")
    except (av.FFmpegError, ValueError) as error:
        raise InputError(f"file: it cannot be read: {said(error)}") from None


def known(stream: Readable) -> Readable:
    """The stream, if what it holds can be read at all.

    Raises:
        InputError: it says that it holds what nobody knows.
    """
    if getattr(stream, "codec_context", None) is None:
        raise InputError(f"file: its stream {stream.index} ({stream.type}) is of no known kind")
    return stream


def said(error: Exception) -> str:
    """What FFmpeg's library says is wrong, as a part of a sentence."""
    return str(getattr(error, "strerror", None) or error).strip().rstrip(".") or "damaged"


def decode(content: bytes) -> Sound:
    """The first sound of a file.

    Raises:
        InputError: there is none that can be read, or one of more than 400 million samples.
    """
    blocks, count = list[NDArray[np.float32]](), 0
    with open_file(content) as file:
        if not file.streams.audio:
            raise InputError("file: it has no sound")
        stream = known(file.streams.audio[0])
        try:
            for block in _blocks(file, stream):
                blocks.append(block)
                count += block.size
                check_length(count)
        except (av.FFmpegError, ValueError) as error:
            raise InputError(f"file: the sound cannot be read: {said(error)}") from None
        rate, length = int(stream.rate), _length(stream)
    if not blocks or len({block.shape[1] for block in blocks}) != 1:
        raise InputError("file: the sound has no samples, or its number of channels changes")
    return Sound(np.concatenate(blocks)[:length], rate)


def _blocks(file: InputContainer, stream: AudioStream) -> Iterator[NDArray[np.float32]]:
    """Decoded samples (S, C)."""
    resampler = AudioResampler(format="flt", rate=stream.rate, frame_size=_BLOCK)
    for frame in chain(file.decode(stream), (None,)):
        for flat in resampler.resample(frame):
            wave = flat.to_ndarray().astype(np.float32, copy=False)
            yield wave.reshape(-1, flat.layout.nb_channels)  # (S, C)


def _length(stream: AudioStream) -> int | None:
    """Samples of a channel that are heard: encoders fill up the last packet. None: not known."""
    if not stream.duration or stream.time_base is None:
        return None
    return round(stream.duration * stream.time_base * stream.rate) or None


def encode(sound: Sound, like: bytes | None) -> bytes:
    """An M4A file.

    Args:
        sound: what to write.
        like: an M4A file, whose codec and bit rate are kept; None: AAC at 96 kbit/s a channel.

    Raises:
        InputError: the codec has no place for that many channels or that sample rate, or `like`
            cannot be read.
    """
    codec, bit_rate, sample_format, titles = "aac", 0, "", dict[str, str]()
    if like is not None:
        with open_file(like) as file:
            if not file.streams.audio:
                raise InputError("file: it has no sound")
            codec, bit_rate, sample_format = kept(file.streams.audio[0])
            titles = dict(file.metadata)
    buffer = io.BytesIO()
    # The end of the sound stands there in the film's clock, which else counts thousandths.
    clock = {"movie_timescale": str(sound.sample_rate)}
    with av.open(buffer, "w", format="ipod", options=clock) as out:
        out.metadata.update(titles)
        stream = add_sound(out, sound, codec, bit_rate, sample_format)
        for packet in encoded(stream, sound):
            out.mux(packet)
    return buffer.getvalue()


def kept(source: AudioStream) -> tuple[str, int, str]:
    """The encoder for what a stream holds, its bits a second (0: not known), its sample format."""
    context = known(source).codec_context
    name = _ENCODERS.get(context.name, context.name)
    try:
        av.Codec(name, "w")
    except (av.FFmpegError, ValueError):
        raise InputError(f"file: its sound is {context.name}, which cannot be written") from None
    return name, context.bit_rate or 0, context.format.name


def add_sound(
    out: OutputContainer, sound: Sound, codec: str, bit_rate: int, sample_format: str
) -> AudioStream:
    """A stream for a sound.

    Raises:
        InputError: the codec has no place for that many channels or that sample rate.
    """
    channels = sound.wave.shape[1]
    if channels not in _LAYOUTS:
        raise InputError(f"file: {channels} channels of sound cannot be written")
    formats = [f.name for f in av.Codec(codec, "w").audio_formats or ()]
    bit_rate = bit_rate or _USUAL * channels
    fast = codec == "aac" and bit_rate >= _FAST_FROM * channels
    options = {"aac_coder": "fast"} if fast else {}
    added = out.add_stream(
        codec, rate=sound.sample_rate, options=options, layout=_LAYOUTS[channels]
    )
    stream = cast(AudioStream, added)
    stream.codec_context.format = sample_format if sample_format in formats else formats[0]
    stream.codec_context.bit_rate = bit_rate
    try:
        stream.codec_context.open()
    except (av.FFmpegError, ValueError) as error:
        raise InputError(
            f"file: {codec} cannot hold {channels} channels at {sound.sample_rate} Hz:"
            f" {said(error)}"
        ) from None
    return stream


def encoded(stream: AudioStream, sound: Sound, begin: int = 0) -> Iterator[Packet[AudioStream]]:
    """A sound's packets, the first of which begins after so many samples."""
    layout = _LAYOUTS[sound.wave.shape[1]]
    resampler = AudioResampler(stream.codec_context.format.name, layout, sound.sample_rate)
    for start in range(0, len(sound.wave), _BLOCK):
        flat = np.ascontiguousarray(sound.wave[start : start + _BLOCK]).reshape(1, -1)
        frame = AudioFrame.from_ndarray(flat, "flt", layout)
        frame.sample_rate, frame.pts = sound.sample_rate, begin + start
        frame.time_base = Fraction(1, sound.sample_rate)
        for converted in resampler.resample(frame):
            yield from stream.encode(converted)
    for converted in resampler.resample(None):
        yield from stream.encode(converted)
    yield from stream.encode(None)
