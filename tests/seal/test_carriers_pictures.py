"""The label and the rest of a Statement in pictures, drawings and documents; read by others too."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pypdf
import pytest
from defusedxml import ElementTree
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from tests.seal import pictures_files as files
from tests.seal.pictures_files import ALL, ANIMATED, FULL, LABEL, PARAMETERS, PICTURES
from vermilion.errors import InputError
from vermilion.seal import carriers
from vermilion.seal.carriers import jpeg, xmp
from vermilion.seal.labels import EDITED_WITH_AI, MADE_BY_AI, Label, Statement

PLAIN = Statement(label=LABEL, source_type=MADE_BY_AI)
TC260 = "{http://www.tc260.org.cn/ns/AIGC/1.0/}AIGC"
SOURCE = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"

allowed = st.text(st.characters(codec="ascii", min_codepoint=0x21, exclude_characters='"\\\x7f'))
labels = st.builds(
    Label,
    label=st.sampled_from("123"),
    content_producer=allowed,
    produce_id=allowed,
    reserved_code1=allowed,
    content_propagator=allowed,
    propagate_id=allowed,
    reserved_code2=allowed,
)
words = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff")
    | st.sampled_from("\n\r\t"),
    max_size=60,
)
statements = st.builds(
    Statement,
    label=st.none() | labels,
    source_type=st.sampled_from(["", MADE_BY_AI, EDITED_WITH_AI]),
    parameters=words | words.map(lambda text: f"{text}\nSteps: 1, Seed: 0, Model: a"),
    recipe=st.dictionaries(st.text(max_size=5), st.none() | st.integers() | st.text(max_size=9)),
    foreign=st.dictionaries(st.sampled_from(["prompt", "workflow", "Dream"]), words.filter(bool)),
)


@pytest.fixture(params=ALL)
def suffix(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def write(content: bytes, suffix: str, statement: Statement) -> bytes:
    return carriers.write(content, files.form(suffix), statement)


def read(content: bytes, suffix: str) -> Statement:
    return carriers.read(content, files.form(suffix))


@pytest.mark.parametrize("statement", [PLAIN, FULL, Statement(), Statement(source_type=MADE_BY_AI)])
def test_what_is_written_is_read(suffix: str, statement: Statement) -> None:
    content = files.small(suffix)
    written = write(content, suffix, statement)
    assert read(content, suffix) == Statement()
    assert read(written, suffix) == statement
    assert write(written, suffix, statement) == written
    assert write(content, suffix, statement) == written


@settings(max_examples=60, deadline=None)
@given(statement=statements, before=statements)
def test_any_statement_takes_the_place_of_any_other(
    statement: Statement, before: Statement
) -> None:
    for suffix in ALL:
        written = write(write(files.small(suffix), suffix, before), suffix, statement)
        assert read(written, suffix) == statement


def test_nothing_is_left_of_what_is_taken_away(suffix: str) -> None:
    content = files.small(suffix)
    bare = write(write(content, suffix, FULL), suffix, Statement())
    assert read(bare, suffix) == Statement()
    for trace in ("lighthouse", "Euler", "KSampler", "001191MA", "cv.iptc.org"):
        for encoding in ("utf-8", "utf-16-be", "utf-16-le"):
            assert trace.encode(encoding) not in bare
    if suffix in ("png", "jpg", "svg", "gif"):
        assert len(bare) <= len(content) + 70


def test_one_label_takes_the_place_of_another(suffix: str) -> None:
    other = Label(label="2", content_producer="somebody", produce_id="77")
    written = write(write(files.small(suffix), suffix, PLAIN), suffix, replace(FULL, label=other))
    assert read(written, suffix).label == other
    assert b"a1b2c3d4" not in written


@pytest.mark.parametrize("suffix", PICTURES)
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_pixels_stay(suffix: str, mode: str) -> None:
    if suffix == "jpg" and mode == "RGBA":
        mode = "L"
    content = files.saved(files.image(mode, (33, 21)), suffix)
    assert files.frames(write(content, suffix, FULL)) == files.frames(content)


@pytest.mark.parametrize("suffix", ANIMATED)
def test_frames_stay(suffix: str) -> None:
    content = files.animated(suffix)
    written = write(content, suffix, FULL)
    assert len(files.frames(written)) == 3
    assert files.frames(written) == files.frames(content)
    assert files.frames(write(written, suffix, Statement())) == files.frames(content)
    assert read(written, suffix) == FULL


@pytest.mark.parametrize(
    "options", [{"lossless": True}, {"lossless": False}, {"icc_profile": b"x"}]
)
def test_every_kind_of_webp(options: dict[str, object]) -> None:
    for mode in ("RGB", "RGBA"):
        content = files.saved(files.image(mode, (31, 17)), "webp", **options)
        written = write(content, "webp", FULL)
        assert files.frames(written) == files.frames(content)
        assert Image.open(io.BytesIO(written)).info.get("icc_profile") == options.get("icc_profile")


@pytest.mark.parametrize("options", [{"big_tiff": True}, {"compression": "tiff_lzw"}])
def test_every_kind_of_tiff(options: dict[str, object]) -> None:
    pages = [files.image(seed=seed) for seed in range(3)]
    for order in ("II", "MM"):
        head = files.image() if order == "II" else files.image("L")
        content = files.saved(head, "tiff", save_all=True, append_images=pages, **options)
        written = write(content, "tiff", FULL)
        assert files.frames(written) == files.frames(content)
        assert len(files.frames(written)) == 4
        assert read(written, "tiff") == FULL


def test_big_endian_tiff() -> None:
    picture = files.image("L")
    content = files.saved(Image.frombytes("I;16B", (24, 32), picture.tobytes()), "tiff")
    assert content.startswith(b"MM")
    written = write(content, "tiff", FULL)
    assert read(written, "tiff") == FULL
    assert files.opened(written).tobytes() == files.opened(content).tobytes()


def packet(content: bytes, suffix: str) -> str:
    """The XMP as another reader finds it."""
    if suffix == "svg":
        return content.decode()
    if suffix == "pdf":
        return pypdf.PdfReader(io.BytesIO(content)).root_object["/Metadata"].get_data().decode()
    if suffix == "gif":  # Pillow tells only where it stands
        start = content.index(b"<?xpacket begin")
        return content[start : content.index(b'<?xpacket end="w"?>', start)].decode()
    found = files.opened(content).info["xmp"]
    return found.decode() if isinstance(found, bytes) else found


def test_other_readers_find_label_and_source(suffix: str) -> None:
    """Pillow and pypdf find the packet, ElementTree reads it."""
    written = write(files.small(suffix), suffix, FULL)
    root = ElementTree.fromstring(packet(written, suffix))
    assert [found.text for found in root.iter(SOURCE)] == [MADE_BY_AI]
    if suffix == "pdf":
        info = pypdf.PdfReader(io.BytesIO(written)).metadata
        assert json.loads(info["/AIGC"]) == {"AIGC": json.loads(LABEL.inner())}
        assert info["/Title"] == "Tea"
    else:
        assert [json.loads(found.text) for found in root.iter(TC260)] == [json.loads(LABEL.inner())]


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")
def test_exiftool_finds_all_and_warns_of_nothing(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"file.{suffix}"
    path.write_bytes(write(files.small(suffix), suffix, FULL))
    done = subprocess.run(
        ["exiftool", "-json", "-G0", "-warning", "-all", path],
        capture_output=True,
        text=True,
        check=True,
    )
    (found,) = json.loads(done.stdout)
    assert not [key for key in found if key.endswith(("Error", "Warning"))], found
    label = found["PDF:AIGC"] if suffix == "pdf" else found["XMP:Aigc"]
    inner = json.loads(label)
    assert inner.get("AIGC", inner) == json.loads(LABEL.inner())
    assert found["XMP:DigitalSourceType"] == MADE_BY_AI
    keys = {"png": "PNG:Parameters", "jpg": "EXIF:UserComment", "webp": "EXIF:UserComment"}
    keys |= {"avif": "EXIF:UserComment", "gif": "File:Comment"}
    assert found[keys.get(suffix, "XMP:Parameters")] == PARAMETERS


def test_parameters_stand_where_a1111_looks_for_them() -> None:
    png = files.opened(write(files.small("png"), "png", FULL))
    assert png.info["parameters"] == PARAMETERS
    assert json.loads(png.info["vermilion"]) == FULL.recipe
    assert png.info["prompt"] == FULL.foreign["prompt"]
    for suffix in ("jpg", "webp", "avif"):
        written = files.opened(write(files.small(suffix), suffix, FULL))
        comment = written.getexif().get_ifd(0x8769)[0x9286]
        assert comment == b"UNICODE\0" + PARAMETERS.encode("utf-16-be")
    gif = files.opened(write(files.small("gif"), "gif", FULL))
    assert gif.info["comment"].decode() == PARAMETERS


OTHERS = (
    '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?>\n<x:xmpmeta xmlns:x="adobe:ns:meta/">\n'
    ' <RDF:RDF xmlns:RDF="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\n  <RDF:Description'
    ' RDF:about="uuid:7" xmlns:dc="http://purl.org/dc/elements/1.1/"\n   xmlns:q='
    '"http://www.tc260.org.cn/ns/AIGC/1.0/" dc:format = "a>b"\n   q:AIGC=\'{"Label":"3",'
    '"ContentProducer":"other","ProduceID":"9"}\'><!-- mine --><dc:creator><RDF:Seq>'
    "<RDF:li>山</RDF:li></RDF:Seq></dc:creator></RDF:Description>\n </RDF:RDF>\n"
    "</x:xmpmeta>\n          \n"
    '<?xpacket end="w"?>'
)


def with_packet(suffix: str, words: str) -> bytes:
    """A file whose XMP was written by Pillow."""
    if suffix == "png":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", words, zip=True)
        info.add_text("Author", "somebody")
        return files.picture("png", pnginfo=info)
    if suffix == "tiff":
        return files.picture("tiff", tiffinfo={700: words.encode()})
    return files.picture(suffix, xmp=words.encode())


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tiff", "avif"])
def test_a_label_of_another_producer_is_read_and_the_rest_of_its_packet_stays(suffix: str) -> None:
    content = with_packet(suffix, OTHERS)
    other = Label(label="3", content_producer="other", produce_id="9")
    assert read(content, suffix) == Statement(label=other)
    written = write(content, suffix, FULL)
    assert read(written, suffix) == FULL
    merged = packet(written, suffix)
    mine = xmp.description({xmp.SOURCE_TYPE: MADE_BY_AI}).decode()
    assert 'RDF:about="uuid:7"' in merged
    assert merged.count('rdf:about="uuid:7"') == 1  # ours describes the same thing
    assert mine.partition("Iptc")[0] not in merged
    root = ElementTree.fromstring(merged)
    assert len(list(root.iter(TC260))) == 1
    assert "other" not in merged
    left = xmp.merge(merged.encode(), {}).decode()
    assert left == OTHERS.replace(
        '\n   q:AIGC=\'{"Label":"3","ContentProducer":"other","ProduceID":"9"}\'', ""
    )


@pytest.mark.parametrize("suffix", ["jpg", "webp", "avif"])
def test_exif_of_others_stays(suffix: str) -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x0112] = "Maker", "prompt taker", 6
    exif.get_ifd(0x8769)[0x9286] = b"ASCII\0\0\0a walk by the sea"
    exif.get_ifd(0x8769)[0x920A] = 50.0
    exif.get_ifd(0x8825)[0x0001] = "N"
    content = files.picture(suffix, exif=exif.tobytes())
    assert read(content, suffix) == Statement()
    written = write(content, suffix, FULL)
    assert read(written, suffix) == FULL
    found = files.opened(written).getexif()
    assert dict(found) == dict(files.opened(content).getexif())
    assert found.get_ifd(0x8769)[0x9286] == b"ASCII\0\0\0a walk by the sea"
    assert found.get_ifd(0x8825)[0x0001] == "N"
    exif.get_ifd(0x8769).pop(0x9286)
    content = files.picture(suffix, exif=exif.tobytes())
    found = files.opened(write(content, suffix, FULL)).getexif()
    assert found.get_ifd(0x8769)[0x9286].startswith(b"UNICODE\0")
    assert (found[0x010F], found.get_ifd(0x8769)[0x920A], found.get_ifd(0x8825)[1]) == (
        "Maker",
        50.0,
        "N",
    )


def without(content: bytes, *cuts: bytes) -> bytes:
    for part in cuts:
        assert content.count(part) == 1
        content = content.replace(part, b"")
    return content


def test_the_rest_of_a_png_and_a_jpeg_stays_byte_for_byte() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "mine")
    info.add(b"caBX", b"a manifest", after_idat=False)
    png = files.picture("png", pnginfo=info, dpi=(300, 300)) + b"trailing"
    written = write(png, "png", FULL)
    assert written.endswith(b"trailing")
    start = 8 + 25  # after the signature and IHDR
    assert written[:start] == png[:start]
    assert written.endswith(png[start:])
    plain = files.picture("jpg", comment=b"mine", progressive=True)
    manifest = b"\xff\xeb\0\x0ea manifest.."
    jpg = plain[:20] + manifest + plain[20:] + b"trailing"  # behind JFIF's segment
    written = write(jpg, "jpg", FULL)
    assert written[:20] == jpg[:20]
    assert written.endswith(jpg[20:])
    assert files.frames(written) == files.frames(plain)


def test_the_rest_of_a_gif_a_webp_a_tiff_and_a_drawing_stays() -> None:
    gif = files.picture("gif", comment=b"mine") + b"trailing"
    written = write(gif, "gif", FULL)
    assert written.endswith(b"trailing")
    assert files.opened(written).info["comment"] == b"mine"
    assert read(written, "gif") == FULL
    webp = files.animated("webp")
    inner = webp[30:]  # after the head of the file
    assert inner in write(webp, "webp", FULL)
    assert write(webp + b"trailing", "webp", FULL).endswith(b"trailing")
    tiff = files.picture("tiff")
    written = write(tiff, "tiff", FULL)
    strip = files.opened(tiff).tag_v2[273][0]
    assert files.opened(written).tag_v2[273] == (strip,)
    svg = files.drawing()
    written = write(svg, "svg", FULL)
    start, end = written.index(b"<metadata"), written.index(b"</metadata>") + len(b"</metadata>")
    assert written[:start] + written[end:] == svg


def test_a_drawing_keeps_its_metadata_and_prefixes() -> None:
    svg = (
        b'<?xml version="1.0" encoding="ISO-8859-1"?>\n<!DOCTYPE svg PUBLIC'
        b' "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd">\n'
        b'<s:svg xmlns:s="http://www.w3.org/2000/svg"><s:metadata><rdf:RDF '
        b'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><cc:Work rdf:about="" '
        b'xmlns:cc="http://creativecommons.org/ns#"><cc:license/></cc:Work></rdf:RDF>'
        b"</s:metadata><s:g/></s:svg>"
    )
    written = write(svg, "svg", FULL)
    assert read(written, "svg") == FULL
    assert written.isascii()
    assert write(written, "svg", Statement()) == svg
    assert write(svg, "svg", FULL).count(b"<s:metadata") == 1
    for empty in (b'<svg xmlns="http://www.w3.org/2000/svg"/>', files.drawing()):
        assert read(write(empty, "svg", FULL), "svg") == FULL


def test_pdf_is_appended_to_and_written_anew_when_words_have_to_go() -> None:
    content = files.document(2, title="Tea", author="山")
    written = write(content, "pdf", FULL)
    assert written.startswith(content)
    private = write(written, "pdf", PLAIN)
    assert b"lighthouse" not in private
    reader = pypdf.PdfReader(io.BytesIO(private))
    assert len(reader.pages) == 2
    assert reader.metadata["/Author"] == "山"
    assert read(write(files.document(), "pdf", PLAIN), "pdf") == PLAIN


def test_an_encrypted_pdf_is_refused() -> None:
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(files.document()))
    writer.encrypt("", "secret", algorithm="RC4-128")
    buffer = io.BytesIO()
    writer.write(buffer)
    with pytest.raises(InputError, match="PDF: the file is encrypted"):
        write(buffer.getvalue(), "pdf", PLAIN)
    with pytest.raises(InputError, match="encrypted"):
        read(buffer.getvalue(), "pdf")


def test_two_labels_that_differ_are_told_and_replaced() -> None:
    second = xmp.description({xmp.LABEL: '{"Label":"2","ContentProducer":"b","ProduceID":"c"}'})
    content = with_packet("png", OTHERS.replace(" </RDF:RDF>", f"{second.decode()} </RDF:RDF>"))
    with pytest.raises(InputError, match="two that differ"):
        read(content, "png")
    assert read(write(content, "png", FULL), "png") == FULL


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_packets_in_other_encodings(encoding: str) -> None:
    content = OTHERS.encode(encoding)
    assert xmp.read(content) == xmp.read(OTHERS.encode())
    assert xmp.read(xmp.merge(content, {xmp.RECIPE: "{}"})) == {xmp.RECIPE: "{}"}


def test_an_rdf_without_inside_takes_ours_in() -> None:
    rdf = 'xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#"'
    for empty in (f"<r:RDF {rdf}/>", f"<r:RDF {rdf} />", f"<r:RDF {rdf}></r:RDF>"):
        merged = xmp.merge(empty.encode(), {xmp.SOURCE_TYPE: "a"})
        assert xmp.read(merged) == {xmp.SOURCE_TYPE: "a"}
        assert xmp.read(xmp.merge(merged, {})) == {}
    resource = (
        f'<r:RDF {rdf}><r:Description><i:DigitalSourceType r:resource="b" '
        'xmlns:i="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"/></r:Description></r:RDF>'
    )
    assert xmp.read(resource.encode()) == {xmp.SOURCE_TYPE: "b"}


def extended(head: str, inside: str, guid: str = "A" * 32) -> bytes:
    """A JPEG whose XMP does not fit into one segment."""
    note = f'xmlns:n="http://ns.adobe.com/xmp/note/" n:HasExtendedXMP="{guid}"'
    main = head.replace('RDF:about="uuid:7"', f'RDF:about="uuid:7" {note}').encode()
    content, body = files.picture("jpg"), inside.encode()
    parts = [
        guid.encode() + len(body).to_bytes(4, "big") + start.to_bytes(4, "big") + body[start:][:400]
        for start in range(0, len(body), 400)
    ]
    name = b"http://ns.adobe.com/xmp/extension/\0"
    segments = [b"http://ns.adobe.com/xap/1.0/\0" + main, *(name + part for part in parts[::-1])]
    packed = b"".join(b"\xff\xe1" + (len(s) + 2).to_bytes(2, "big") + s for s in segments)
    return content[:2] + packed + content[2:]


def test_extended_xmp_is_read_and_kept() -> None:
    bare = OTHERS[: OTHERS.index("q:AIGC")] + OTHERS[OTHERS.index("><!-- mine") :]
    content = extended(bare, OTHERS)
    assert read(content, "jpg").label == Label(label="3", content_producer="other", produce_id="9")
    with pytest.raises(InputError, match="extended XMP"):
        write(content, "jpg", FULL)
    content = extended(bare, bare)
    assert read(write(content, "jpg", FULL), "jpg") == FULL
    broken = content.replace(b"\xff\xe1\x01\xdd", b"\xff\xe2\x01\xdd", 1)
    assert broken != content
    with pytest.raises(InputError, match="not whole"):
        read(broken, "jpg")


def test_what_a_format_cannot_hold_is_said() -> None:
    large = replace(PLAIN, recipe={"text": "x" * 70_000})
    with pytest.raises(InputError, match="JPEG: holds at most 65533 bytes"):
        write(files.small("jpg"), "jpg", large)
    for suffix in ("png", "webp", "gif", "tiff", "avif", "svg", "pdf"):
        assert read(write(files.small(suffix), suffix, large), suffix) == large
    wide = replace(PLAIN, parameters=f"{'山' * 33_000}\nSteps: 1, Seed: 2, Model: a")
    with pytest.raises(InputError, match="JPEG"):
        write(files.small("jpg"), "jpg", wide)
    fits = replace(PLAIN, parameters=f"{'a' * 33_000}\nSteps: 1, Seed: 2, Model: a")
    assert read(write(files.small("jpg"), "jpg", fits), "jpg") == fits
    assert jpeg.LARGEST == 65_533


@pytest.mark.parametrize(
    ("statement", "sentence"),
    [
        (Statement(parameters="a\0b"), "zero|U\\+0000"),
        (Statement(parameters="half \ud800"), "parameters: has half a surrogate"),
        (Statement(foreign={"other": "x"}), "foreign: 'other' is not known"),
        (Statement(recipe={"a": {1, 2}}), "recipe: cannot be written as JSON"),  # type: ignore[dict-item]
        (Statement(recipe={"a": float("nan")}), "recipe: cannot be written as JSON"),
    ],
)
def test_a_statement_that_cannot_be_written_is_refused(
    suffix: str, statement: Statement, sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        write(files.small(suffix), suffix, statement)


def test_a_label_in_a_text_or_a_comment_is_read_and_leaves() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("AIGC", LABEL.outer())
    png = files.picture("png", pnginfo=info)
    assert read(png, "png").label == LABEL
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"ASCII\0\0\0" + LABEL.outer().encode()
    jpg = files.picture("jpg", exif=exif.tobytes())
    assert read(jpg, "jpg").label == LABEL
    for content, suffix in ((png, "png"), (jpg, "jpg")):
        assert read(write(content, suffix, Statement()), suffix) == Statement()
