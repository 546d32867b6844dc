"""Films: one pass of decode, change, encode; streams that are not changed are copied.

H height, W width.

Pictures are encoded with what the source used, at a high quality: H.264 and HEVC with x264 and x265
(both GPL; the wheels of PyAV carry them, this package does not), else MPEG-4 Part 2, VP8, VP9 and
AV1 with libvpx and SVT-AV1. Times, rotation, colours and the shape of pixels stay. A picture that
is not changed is not turned into RGB.
"""

from __future__ import annotations

import io
import math
import os
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import cast

import numpy as np
from numpy.typing import NDArray

from vermilion.errors import InputError, MissingExtraError
from vermilion.seal.formats import Format
from vermilion.seal.media import streams
from vermilion.seal.media.wave import Sound

try:
    import av
    from av.audio.stream import AudioStream
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet
    from av.sidedata.sidedata import SideData
    from av.stream import Stream
    from av.video.frame import PictureType, VideoFrame
    from av.video.reformatter import ColorRange
    from av.video.stream import VideoStream
except ImportError:
    raise MissingExtraError("sealing film", "film") from None

os.environ.setdefault("SVT_LOG", "1")  # the AV1 encoder else writes its settings to the terminal

Pixels = NDArray[np.uint8]

MOST_PIXELS = 8192 * 8192  # of one picture
# Encoders by the source's codec, the first that is there, with the options of a high quality.
_QUALITY = {
    "libx264": {"crf": "18", "preset": "medium"},
    "libx265": {"crf": "20", "preset": "medium", "x265-params": "log-level=error"},
    "libvpx": {"crf": "6", "b": "0", "deadline": "good", "cpu-used": "4", "auto-alt-ref": "0"},
    "libvpx-vp9": {"crf": "20", "b": "0", "deadline": "good", "cpu-used": "5", "row-mt": "1"},
    "libsvtav1": {"crf": "24", "preset": "8"},
    "mpeg4": {"qmin": "2", "qmax": "4"},
    "mjpeg": {"qmin": "2", "qmax": "3"},
    "ffv1": {},
    "prores_ks": {},
}
_ENCODERS = {
    "h264": ("libx264", "mpeg4"),
    "hevc": ("libx265", "libx264", "mpeg4"),
    "vp8": ("libvpx",),
    "vp9": ("libvpx-vp9", "libvpx"),
    "av1": ("libsvtav1", "libvpx-vp9"),
    "libdav1d": ("libsvtav1", "libvpx-vp9"),
    "mpeg4": ("mpeg4",),
    "mjpeg": ("mjpeg",),
    "ffv1": ("ffv1",),
    "prores": ("prores_ks",),
}
_CONTAINERS = {"mp4": "mp4", "mov": "mov", "mkv": "matroska", "webm": "webm"}
# What a muxer states by itself; from another file it would be wrong.
_MUXERS_OWN = (
    "major_brand",
    "minor_version",
    "compatible_brands",
    "encoder",
    "duration",
    "bps",
    "number_of_frames",
    "number_of_bytes",
    "_statistics",
)
_FINEST = 65_535  # ticks a second that MPEG-4 Part 2 can say


def edit(
    content: bytes,
    form: Format,
    picture: Callable[[Pixels, float], Pixels] | None = None,
    sound: Callable[[Sound], Sound] | None = None,
) -> bytes:
    """A film with changed pictures, changed sound, or both.

    Args:
        content: the film.
        form: its format.
        picture: gets every picture upright, (H, W, 3) uint8 RGB, and its time in seconds; gives
            one of the same shape. Where it gives back the very array that it got, the picture
            is encoded as it was decoded.
        sound: gets the first sound, whole, and gives one of as many channels and the same sample
            rate. A film without sound stays without.

    Returns:
        The film. Its tags stay, also an old label; the new one is written over it.

    Raises:
        InputError: the film cannot be read, has no picture, or has a stream that can neither be
            written nor copied.
    """
    changed = None
    if sound is not None and _has_sound(content):
        changed = sound(streams.decode(content))
    turned = _display_matrix(content) if picture is not None else None
    buffer = io.BytesIO()
    tags = {"movflags": "use_metadata_tags"} if form.suffix in ("mp4", "mov") else {}
    with streams.open_file(content) as source:
        try:
            with av.open(buffer, "w", format=_CONTAINERS[form.suffix], options=tags) as out:
                _Pass(source, out, picture, changed, turned).run()
        except (av.FFmpegError, ValueError) as error:
            raise InputError(
                f"file: the film cannot be read or written: {streams.said(error)}"
            ) from None
    return buffer.getvalue()


def opening(content: bytes) -> Iterator[tuple[Pixels, float]]:
    """A film's pictures from the first on, upright and grey, (H, W) uint8, with their seconds.

    Raises:
        InputError: the film cannot be read or has no picture.
    """
    with streams.open_file(content) as file:
        if not file.streams.video:
            raise InputError("file: the film has no picture")
        try:
            for frame in file.decode(streams.known(file.streams.video[0])):
                grey = np.rot90(frame.to_ndarray(format="gray"), round(frame.rotation / 90) % 4)
                yield grey.astype(np.uint8, copy=False), float(frame.time or 0.0)
        except (av.FFmpegError, ValueError) as error:
            raise InputError(f"file: the film cannot be read: {streams.said(error)}") from None


class _Pass:
    """One pass through a film: what is copied goes past what is decoded and encoded."""

    def __init__(
        self,
        source: InputContainer,
        out: OutputContainer,
        picture: Callable[[Pixels, float], Pixels] | None,
        sound: Sound | None,
        turned: Sequence[int] | None,
    ) -> None:
        if not source.streams.video:
            raise InputError("file: the film has no picture")
        self.source, self.out = source, out
        self.picture = picture
        self.video = streams.known(source.streams.video[0]) if picture is not None else None
        self.copies: dict[int, Stream] = {}
        self.sound: Iterator[Packet[AudioStream]] = iter(())
        self.next_sound: Packet[AudioStream] | None = None
        for stream in source.streams:
            if stream is self.video:
                self.encoder = _encoder(out, self.video, turned)
                made: Stream = self.encoder
            elif sound is not None and stream is source.streams.audio[0]:
                made = self._encoded_sound(source.streams.audio[0], sound)
            else:
                made = self.copies[stream.index] = _copy(out, stream)
            made.metadata.update(_tags(stream.metadata))
        out.metadata.update(_tags(source.metadata))
        if chapters := source.chapters():
            out.set_chapters(chapters)

    def run(self) -> None:
        """Read every packet once."""
        self.next_sound = next(self.sound, None)
        for packet in self.source.demux():
            if packet.stream is self.video and self.picture is not None:
                for frame in packet.decode():
                    self._encode(cast(VideoFrame, frame), self.picture)
            elif packet.dts is not None and packet.stream_index in self.copies:
                packet.stream = self.copies[packet.stream_index]
                self.out.mux(packet)
        if self.video is not None:
            self.out.mux(self.encoder.encode(None))
        self._sound_until(math.inf)

    def _encoded_sound(self, source: AudioStream, sound: Sound) -> AudioStream:
        stream = streams.add_sound(self.out, sound, *streams.kept(source))
        start = (source.start_time or 0) * (source.time_base or Fraction(0))
        self.sound = streams.encoded(stream, sound, max(0, round(start * sound.sample_rate)))
        return stream

    def _encode(self, frame: VideoFrame, picture: Callable[[Pixels, float], Pixels]) -> None:
        context = self.encoder.codec_context
        if (frame.width, frame.height) != (context.width, context.height):
            raise InputError("file: the film's pictures change their size, which cannot be kept")
        quarter = round(frame.rotation / 90) % 4
        stored = frame.to_ndarray(format="rgb24")
        upright = np.ascontiguousarray(np.rot90(stored, quarter)).astype(
            np.uint8, copy=False
        )  # (H, W, 3)
        time = float(frame.time or 0.0)
        drawn = picture(upright, time)
        if drawn is not upright:
            back = np.ascontiguousarray(np.rot90(drawn, -quarter))
            frame = _like(VideoFrame.from_ndarray(back, format="rgb24"), frame)
        if frame.format.name != context.pix_fmt:
            frame = frame.reformat(format=context.pix_fmt)
        # Else the encoder would make the same pictures whole as the source did.
        frame.pict_type = PictureType.NONE
        self.out.mux(self.encoder.encode(frame))
        self._sound_until(time)

    def _sound_until(self, time: float) -> None:
        """Write sound as far as the pictures have come, so that players find both together."""
        packet = self.next_sound
        while packet is not None and float(packet.pts or 0) * float(packet.time_base) <= time:
            self.out.mux(packet)
            packet = next(self.sound, None)
        self.next_sound = packet


def _encoder(
    out: OutputContainer, source: VideoStream, turned: Sequence[int] | None
) -> VideoStream:
    """A stream of pictures like the source's."""
    held = streams.known(source).codec_context
    if held.width * held.height > MOST_PIXELS:
        raise InputError(f"file: its pictures have more than {MOST_PIXELS >> 20} million pixels")
    if source.metadata.get("alpha_mode") == "1":
        raise InputError("file: its pictures are transparent, which cannot be written again")
    name = next(
        (n for n in _ENCODERS.get(held.name, ()) if n in av.codecs_available and _writes(n)), None
    )
    if name is None:
        raise InputError(f"file: its pictures are {held.name}, which cannot be written")
    rate = source.average_rate or source.guessed_rate or Fraction(25)
    stream = cast(VideoStream, out.add_stream(name, rate=rate, options=_QUALITY[name]))
    context = stream.codec_context
    context.width, context.height = held.width, held.height
    formats = [f.name for f in av.Codec(name, "w").video_formats or ()]
    context.pix_fmt = held.pix_fmt if held.pix_fmt in formats else formats[0]
    base = source.time_base or 1 / rate
    if name == "mpeg4" and base.denominator > _FINEST:
        base = Fraction(1, _FINEST - _FINEST % 1000)
    context.time_base = stream.time_base = base
    context.sample_aspect_ratio = held.sample_aspect_ratio or Fraction(1)
    context.color_range, context.colorspace = held.color_range, held.colorspace
    context.color_primaries, context.color_trc = held.color_primaries, held.color_trc
    context.thread_type = source.thread_type = "AUTO"
    if turned is not None:
        stream.set_display_matrix(turned)
    return stream


def _writes(name: str) -> bool:
    try:
        return av.Codec(name, "w").is_encoder
    except ValueError:
        return False


def _copy(out: OutputContainer, stream: Stream) -> Stream:
    try:
        return out.add_stream_from_template(stream, opaque=True)
    except (av.FFmpegError, ValueError, TypeError):
        kind = getattr(stream, "type", None) or "stream"
        raise InputError(
            f"file: its stream {stream.index} ({kind}) cannot be copied; take it out first"
        ) from None


def _like(frame: VideoFrame, old: VideoFrame) -> VideoFrame:
    """A drawn picture in the pixels, colours and time of the one that it takes the place of."""
    made = frame.reformat(
        format=old.format.name,
        dst_colorspace=old.colorspace,
        dst_color_range=old.color_range or ColorRange.MPEG,
        dst_color_trc=old.color_trc,
        dst_color_primaries=old.color_primaries,
    )
    made.pts, made.time_base, made.duration = old.pts, old.time_base, old.duration
    return made


def _has_sound(content: bytes) -> bool:
    with streams.open_file(content) as file:
        return bool(file.streams.audio)


def _display_matrix(content: bytes) -> Sequence[int] | None:
    """How players turn the pictures, as FFmpeg holds it: nine numbers; None: not at all."""
    with streams.open_file(content) as file:
        if not file.streams.video:
            raise InputError("file: the film has no picture")
        try:
            frame = next(file.decode(streams.known(file.streams.video[0])), None)
        except (av.FFmpegError, ValueError) as error:
            raise InputError(f"file: the film cannot be read: {streams.said(error)}") from None
        if frame is None:
            raise InputError("file: the film has no picture")
        matrix = cast(SideData | None, frame.side_data.get("DISPLAYMATRIX"))
        return None if matrix is None else struct.unpack("=9i", bytes(matrix)[:36])


def _tags(held: Mapping[str, str]) -> dict[str, str]:
    return {n: v for n, v in held.items() if not n.lower().startswith(_MUXERS_OWN)}
