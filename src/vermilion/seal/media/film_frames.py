"""A few pictures of a film, at fixed shares of its length, for its fingerprint.

    packets → times and where decoding can begin → what has to be decoded → those pictures

The file is read twice and never jumped about in, so that an index that is missing or lies changes
nothing. All limits are held before the first picture is decoded.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from vermilion.errors import MissingExtraError
from vermilion.seal.media import streams

try:
    import av
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream
except ImportError:
    raise MissingExtraError("looking at film", "film") from None

MOST_PACKETS = 2_000_000  # eighteen hours of 30 pictures a second
MOST_PIXELS = 8192 * 8192  # of one picture
MOST_DECODED = 8_000_000_000  # pixels of all pictures that have to be decoded: 3,800 of 1080 lines
_SIDE = 256  # pixels: larger pictures are made smaller before they become grey


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A picture.

    Attributes:
        time: of it, in ticks of its stream.
        start: number of the packet where decoding has to begin for it.
    """

    time: int
    start: int


def at_shares(content: bytes, count: int) -> list[NDArray[np.uint8] | None] | None:
    """The pictures of a film that are shown at (k + 1/2) / count of its length.

    Args:
        content: the film.
        count: how many.

    Returns:
        Each upright and grey, uint8 (H, W), at most 256 pixels to a side; None where it cannot be
        decoded. None for all: there is no picture, nobody knows its codec, or it is above one of
        the limits.

    Raises:
        InputError: it is no film.
    """
    with streams.open_file(content) as file:
        stream = _stream(file)
        wanted = None if stream is None else _plan(file, stream, count)
    if wanted is None:
        return None
    with streams.open_file(content) as file:
        stream = cast(VideoStream, _stream(file))
        found = dict(_decoded(file, stream, wanted))
    return [found.get(place) for place in range(count)]


def _stream(file: InputContainer) -> VideoStream | None:
    """The film's pictures, if they can be decoded and are not too large."""
    if not file.streams.video:
        return None
    stream = file.streams.video[0]
    context = getattr(stream, "codec_context", None)
    if context is None or not 0 < context.width * context.height <= MOST_PIXELS:
        return None
    return stream


def _plan(file: InputContainer, stream: VideoStream, count: int) -> list[_Wanted] | None:
    """Which pictures are wanted, and where decoding has to begin for each."""
    times: list[int] = []
    keys: list[tuple[int, int]] = []  # time and number of the packets where decoding can begin
    number = -1
    try:
        for number, packet in enumerate(_packets(file, stream)):
            if number >= MOST_PACKETS:
                return None
            if packet.pts is not None:
                times.append(packet.pts)
                if packet.is_keyframe:
                    keys.append((packet.pts, number))
    except (av.FFmpegError, ValueError):
        pass  # what was read so far is the film, as for a player
    if not times:
        return None
    shown = sorted(times)
    end = shown[-1] + (shown[-1] - shown[0]) // max(1, len(shown) - 1)
    wanted = []
    for place in range(count):
        at = shown[0] + (end - shown[0]) * (2 * place + 1) // (2 * count)
        time = shown[bisect_right(shown, at) - 1]
        starts = [start for key, start in keys if key <= time]
        wanted.append(_Wanted(time, max(starts, default=0)))
    pictures = _to_decode(times, wanted)
    return wanted if pictures * stream.width * stream.height <= MOST_DECODED else None


def _to_decode(times: Sequence[int], wanted: Sequence[_Wanted]) -> int:
    """How many pictures have to be decoded, a few more or less."""
    place = {time: number for number, time in enumerate(times)}
    total, done = 0, -1
    for each in wanted:
        last = place[each.time]
        total += max(0, last - max(each.start - 1, done))
        done = max(done, last)
    return total


def _packets(file: InputContainer, stream: VideoStream) -> Iterator[Packet[VideoStream]]:
    return (packet for packet in file.demux(stream) if packet.size)


def _decoded(
    file: InputContainer, stream: VideoStream, wanted: Sequence[_Wanted]
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """The wanted pictures with their places; those that are broken are missing."""
    context = stream.codec_context
    place, is_decoding, last = 0, False, None
    for number, packet in enumerate(_packets(file, stream)):
        if not is_decoding and number >= wanted[place].start:
            context.flush_buffers()
            is_decoding = True
        if not is_decoding:
            continue
        for frame in _frames(stream, packet):
            last = frame
            while place < len(wanted) and _time(frame) >= wanted[place].time:
                yield from _grey(place, frame)
                place += 1
        if place == len(wanted):
            return
        is_decoding = wanted[place].start <= number
    for frame in _frames(stream, None):
        last = frame
        while place < len(wanted) and _time(frame) >= wanted[place].time:
            yield from _grey(place, frame)
            place += 1
    if last is not None:  # the end is broken, and nothing comes after it
        for left in range(place, len(wanted)):
            yield from _grey(left, last)


def _frames(stream: VideoStream, packet: Packet[VideoStream] | None) -> list[VideoFrame]:
    """What a packet makes visible; of a broken one nothing."""
    try:
        return list(stream.decode(packet))
    except (av.FFmpegError, ValueError):
        return []


def _time(frame: VideoFrame) -> int:
    return -(2**63) if frame.pts is None else frame.pts


def _grey(place: int, frame: VideoFrame) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """A picture with its place, small, upright and grey; nothing where it cannot be read."""
    if frame.width * frame.height > MOST_PIXELS:
        return
    scale = min(1.0, _SIDE / max(frame.width, frame.height))
    width, height = max(1, round(frame.width * scale)), max(1, round(frame.height * scale))
    try:
        small = frame.reformat(width=width, height=height, format="gray", interpolation="AREA")
        grey = np.rot90(small.to_ndarray(), round(frame.rotation / 90) % 4)
    except (av.FFmpegError, ValueError):
        return
    yield place, np.ascontiguousarray(grey, np.uint8)
