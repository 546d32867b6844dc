"""Every kind sealed, and read back by programs that know nothing of us. What they find is the
table in docs/seal.md; this writes it anew:

    python -m tests.seal.test_every_kind
"""

from __future__ import annotations

import io
import json
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import av
import c2pa
import numpy as np
import pypdf
import pytest
import soundfile
from defusedxml import ElementTree
from PIL import Image

from tests.seal import sound_files
from tests.seal.signing import by_c2pa
from tests.seal.test_seal import ABOUT, content
from tests.seal.test_watermark_sound import RATE, voice
from vermilion.seal import private, verify
from vermilion.seal.formats import FORMATS, Format
from vermilion.seal.labels import MADE_BY_AI, Label
from vermilion.seal.order import Sealed
from vermilion.seal.seal import Sealer
from vermilion.seal.watermark import key

DOCS = Path(__file__).parents[2] / "docs" / "seal.md"
BEGIN, END = "<!-- every kind -->", "<!-- end of every kind -->"
HEADINGS = (
    "kind",
    "mark",
    "watermark",
    "label stands in",
    "label read by",
    "credential",
    "credential read by",
)
LABEL = Label(content_producer="Example-Studio", produce_id=ABOUT.asset_id)
WANTED = json.loads(LABEL.inner())
TC260 = "{http://www.tc260.org.cn/ns/AIGC/1.0/}AIGC"
SOURCE = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"

# What ExifTool 12.57 finds. Where it is not installed the table still says so.
EXIFTOOL = frozenset(FORMATS) - {"wav", "txt", "md", "html"}
EXIFTOOL_CREDENTIAL = ("png", "jpg")


@dataclass(frozen=True, slots=True)
class Kind:
    """A sealed file of a kind, and what we read in it."""

    form: Format
    plain: bytes
    sealed: Sealed
    verdict: verify.Verdict


def spoken(suffix: str) -> bytes:
    """Ten seconds like speech; a file of libsndfile's or, where it has no such, of FFmpeg's."""
    wave = voice(10.0)[:, 0]
    buffer = io.BytesIO()
    if suffix != "m4a":
        soundfile.write(buffer, wave, RATE, format=suffix.upper())
        return buffer.getvalue()
    with av.open(buffer, "w", format="ipod") as out:
        stream = out.add_stream("aac", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(wave[None], "fltp", "mono")
        frame.sample_rate, frame.pts = RATE, 0
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return buffer.getvalue()


def ours(folder: Path) -> Sealer:
    """One who seals with a key that is the same each time."""
    private.write(folder / key.FILE, bytes(range(key.SIZE)))
    return Sealer(folder, producer="Example-Studio")


def sealed_kind(suffix: str, sealer: Sealer) -> Kind:
    form = FORMATS[suffix]
    plain = spoken(suffix) if form.medium == "sound" else content(suffix)
    sealed = sealer.seal(plain, form, ABOUT)
    verdict = verify.examine(
        sealed.content,
        form,
        sealed.sidecar,
        authority=sealer.authority,
        key=sealer.key,
        ledger=sealer.ledger,
    )
    return Kind(form, plain, sealed, verdict)


# Marks: what another reader sees or hears of each.


def _seen(kind: Kind) -> str:
    with (
        Image.open(io.BytesIO(kind.plain)) as before,
        Image.open(io.BytesIO(kind.sealed.content)) as after,
    ):
        assert before.size == after.size
        difference = np.abs(
            np.asarray(before.convert("RGB"), int) - np.asarray(after.convert("RGB"), int)
        ).max(2)
    left, top, right, bottom = kind.sealed.notes["mark"]["box"]
    drawn = difference[top:bottom, left:right]
    assert (drawn > 40).mean() > 0.5
    assert (difference > 40).sum() < 2 * difference[top - 9 :, left - 9 :].size
    assert bottom - top >= 0.05 * min(before.size)
    return "words in a corner"


def _drawn(kind: Kind) -> str:
    root = ElementTree.fromstring(kind.sealed.content)
    (group,) = [node for node in root.iter() if node.get("id") == "vermilion-mark"]
    assert any(node.tag.endswith("path") for node in group.iter())
    return "words in a corner, as paths"


def _heard(kind: Kind) -> str:
    def decoded(file: bytes) -> np.ndarray:
        with av.open(io.BytesIO(file)) as opened:
            blocks = [frame.to_ndarray().reshape(-1) for frame in opened.decode(audio=0)]
        wave = np.concatenate(blocks)
        return wave / (32768.0 if wave.dtype == np.int16 else 1.0)

    before, after = decoded(kind.plain), decoded(kind.sealed.content)
    assert 1.0 < (len(after) - len(before)) / RATE < 1.4
    tail = np.abs(after[-int(0.9 * RATE) :])
    assert tail.max() > 0.02
    return "a rhythm at the end"


def _shown(kind: Kind) -> str:
    def first(file: bytes) -> np.ndarray:
        with av.open(io.BytesIO(file)) as opened:
            return next(opened.decode(video=0)).to_ndarray(format="rgb24").astype(int)

    assert (np.abs(first(kind.plain) - first(kind.sealed.content)).max(2) > 40).sum() > 100
    return "words on the first 2.5 s"


class _Page(HTMLParser):
    """The paragraphs that say that AI made it, and the meta elements."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.notices: list[str] = []
        self.metas: dict[str, str] = {}
        self._inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = dict(attrs)
        self._inside = tag == "p" and said.get("class") == "ai-notice"
        if tag == "meta" and said.get("name"):
            self.metas[str(said["name"])] = str(said["content"])

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.notices.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._inside = False


def _written(kind: Kind) -> str:
    suffix, file = kind.form.suffix, kind.sealed.content
    if suffix == "pdf":
        assert "AI-generated" in pypdf.PdfReader(io.BytesIO(file)).pages[0].extract_text()
        return "words on the first page"
    text = file.decode()
    if suffix == "json":
        assert json.loads(text)["ai_notice"] == "AI-generated"
        return "first member"
    if suffix == "html":
        assert _Page(text).notices == ["AI-generated"]
        return "last paragraph"
    lines = [line for line in text.splitlines() if line]
    assert lines[-1] == ("*AI-generated*" if suffix == "md" else "[AI-generated]")
    return "last line"


MARKS: dict[str, Callable[[Kind], str]] = {
    "picture": _seen,
    "drawing": _drawn,
    "sound": _heard,
    "film": _shown,
    "text": _written,
    "document": _written,
}


def watermark(kind: Kind) -> str:
    """What our detector, the only one that has the key, finds."""
    finding = kind.verdict["watermark"]
    assert finding is not None
    if finding.state == "unknown":
        return "choice of words, if asked" if kind.form.suffix in ("txt", "md") else "none"
    assert finding.state == "good", finding
    assert finding.facts["asset_id"] == ABOUT.asset_id
    return "64 bits"


# Labels: each reader gives the label's object, in its inner or its whole form.


def _xmp(packet: bytes | str) -> Any:
    root = ElementTree.fromstring(packet)
    assert [node.text for node in root.iter(SOURCE)] == [MADE_BY_AI]
    (label,) = [node.text for node in root.iter(TC260)]
    return json.loads(label)


def _by_pillow(file: bytes) -> Any:
    with Image.open(io.BytesIO(file)) as image:
        return _xmp(image.info["xmp"])


def _by_elementtree(file: bytes) -> Any:
    start = file.find(b"<?xpacket begin")  # of a GIF, where Pillow tells only that it is there
    return _xmp(file[start : file.index(b'<?xpacket end="w"?>', start)] if start > 0 else file)


def _by_chunks(file: bytes) -> Any:
    at = 12
    while at < len(file):
        name, size = struct.unpack_from("<4sI", file, at)
        if name == b"AIGC":
            return json.loads(file[at + 8 : at + 8 + size])
        at += 8 + size + size % 2
    return None


def _by_ffmpeg(file: bytes) -> Any:
    return json.loads(sound_files.tags_by_ffmpeg(file)["AIGC"])


def _by_pypdf(file: bytes) -> Any:
    reader = pypdf.PdfReader(io.BytesIO(file))
    packet = reader.root_object["/Metadata"].get_data().decode()
    sources = [node.text for node in ElementTree.fromstring(packet).iter(SOURCE)]
    assert sources == [MADE_BY_AI]
    return json.loads(reader.metadata["/AIGC"])


def _by_c2pa(sidecar: bytes) -> Any:
    with c2pa.Reader("application/c2pa", io.BytesIO(sidecar)) as reader:
        found = {one["label"]: one["data"] for one in reader.get_active_manifest()["assertions"]}
    assert found["alt.vermilion.own"]["source_type"] == MADE_BY_AI
    return found["alt.vermilion.label"]


def _by_front_matter(file: bytes) -> Any:
    _, front, _ = file.decode().split("---\n", 2)
    _, _, block = front.partition("AIGC:\n")
    pairs = [line.strip().split(": ", 1) for line in block.splitlines() if line.startswith("  ")]
    return {name: json.loads(value) for name, value in pairs}


def _by_htmlparser(file: bytes) -> Any:
    return json.loads(_Page(file.decode()).metas["AIGC"])


def _by_json(file: bytes) -> Any:
    return json.loads(file)["AIGC"]


Reader = tuple[str, Callable[[bytes], Any]]
PILLOW: Reader = ("Pillow", _by_pillow)
FFMPEG: Reader = ("FFmpeg", _by_ffmpeg)
READERS: dict[str, Reader] = {
    **dict.fromkeys(("png", "jpg", "webp", "tiff", "avif"), PILLOW),
    **dict.fromkeys(("gif", "svg"), ("ElementTree", _by_elementtree)),
    "wav": ("a walk through the chunks", _by_chunks),
    **dict.fromkeys(("mp3", "flac", "m4a", "ogg", "mp4", "mov", "webm", "mkv"), FFMPEG),
    "txt": ("c2pa", _by_c2pa),
    "md": ("its lines", _by_front_matter),
    "html": ("html.parser", _by_htmlparser),
    "json": ("json", _by_json),
    "pdf": ("pypdf", _by_pypdf),
}


def row(kind: Kind, sealer: Sealer) -> tuple[str, ...]:
    """A line of the table, each cell of which was found."""
    suffix, sealed = kind.form.suffix, kind.sealed
    assert kind.verdict.credential.state == "ours"
    assert kind.verdict.label == LABEL
    assert kind.verdict.statement.source_type == MADE_BY_AI
    reader, read = READERS[suffix]
    found = read(sealed.content if kind.form.labels else sealed.sidecar)
    assert found.get("AIGC", found) == WANTED
    # c2pa's own reader, which is given nothing but the certificate above ours.
    state, manifest = by_c2pa(
        sealed.content, kind.form, sealed.sidecar, sealer.authority.current.issuers
    )
    assert state == "Trusted"
    assert manifest["title"] == ABOUT.title
    return (
        suffix,
        MARKS[kind.form.medium](kind),
        watermark(kind),
        kind.form.label,
        ", ".join([reader, *(["ExifTool"] if suffix in EXIFTOOL else [])]),
        "inside" if sealed.sidecar is None else "beside",
        ", ".join(["c2pa", *(["ExifTool"] if suffix in EXIFTOOL_CREDENTIAL else [])]),
    )


def line(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cells) + " |"


def table(rows: list[tuple[str, ...]]) -> str:
    return "\n".join([line(HEADINGS), line(("---",) * len(HEADINGS)), *map(line, rows)])


def in_docs(docs: str) -> str:
    """The table as the docs have it."""
    assert docs.count(BEGIN) == docs.count(END) == 1
    return docs.partition(BEGIN)[2].partition(END)[0].strip()


@pytest.fixture(scope="module")
def sealer(tmp_path_factory: pytest.TempPathFactory) -> Sealer:
    return ours(tmp_path_factory.mktemp("seal"))


@pytest.fixture(scope="module")
def kinds(sealer: Sealer) -> dict[str, Kind]:
    return {suffix: sealed_kind(suffix, sealer) for suffix in FORMATS}


@pytest.mark.parametrize("suffix", FORMATS)
def test_others_read_what_was_sealed_and_the_docs_say_so(
    suffix: str, kinds: dict[str, Kind], sealer: Sealer
) -> None:
    found = row(kinds[suffix], sealer)
    assert line(found) in in_docs(DOCS.read_text(encoding="utf-8")).splitlines()


def test_the_docs_table_has_these_kinds_and_no_other() -> None:
    lines = in_docs(DOCS.read_text(encoding="utf-8")).splitlines()
    assert lines[:2] == table([]).splitlines()
    assert [one.split(" | ")[0] for one in lines[2:]] == [f"| {suffix}" for suffix in FORMATS]


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")
def test_exiftool_reads_what_the_table_says(kinds: dict[str, Kind], tmp_path: Path) -> None:
    for suffix in EXIFTOOL:
        (tmp_path / f"file.{suffix}").write_bytes(kinds[suffix].sealed.content)
    done = subprocess.run(
        ["exiftool", "-a", "-G1", tmp_path], capture_output=True, text=True, check=True
    )
    files = dict(re.findall(r"^=+ .*\.(\w+)\n((?:\[.*\n)+)", done.stdout, re.MULTILINE))
    assert set(files) == EXIFTOOL
    for suffix, printed in files.items():
        assert " Error " not in printed
        labels = [
            one
            for one in printed.splitlines()
            if ABOUT.asset_id in one and not one.startswith(("[CBOR]", "[JUMBF]"))
        ]
        assert labels, suffix
        assert "[CBOR]" in printed or suffix not in EXIFTOOL_CREDENTIAL


def main() -> None:
    """Write the table into the docs."""
    with tempfile.TemporaryDirectory() as folder:
        sealer = ours(Path(folder))
        found = table([row(sealed_kind(suffix, sealer), sealer) for suffix in FORMATS])
    docs = DOCS.read_text(encoding="utf-8")
    DOCS.write_text(docs.replace(in_docs(docs), found), encoding="utf-8")
    sys.stdout.write(found + "\n")


if __name__ == "__main__":
    main()
