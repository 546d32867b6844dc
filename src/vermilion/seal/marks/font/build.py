"""Make the font of the marks again: a small subset of Noto Sans CJK SC Bold.

    apt-get download fonts-noto-cjk
    dpkg-deb -x fonts-noto-cjk_*.deb noto
    pip install fonttools
    python -m vermilion.seal.marks.font.build \
        noto/usr/share/fonts/opentype/noto/NotoSansCJK-Bold.ttc

writes `marks.otf`, from which pictures and films are drawn, and `outlines.json`, from which
drawings and documents are: the same glyphs as paths, so that what is marked needs no font. A sign
that a mark needs and the font lacks goes into `SIGNS`; then run this again.

The source is under the SIL Open Font License 1.1 (`OFL.txt`), which asks that a changed font does
not bear a reserved name; the subset is called "Vermilion Marks".
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from fontTools.pens.recordingPen import RecordingPen
from fontTools.subset import Options, Subsetter
from fontTools.ttLib import TTFont

FAMILY = "Vermilion Marks"
FACE = 2  # the simplified Chinese one in the collection
HERE = Path(__file__).parent

ASCII = "".join(map(chr, range(0x20, 0x7F)))
LATIN = "".join(map(chr, range(0xA1, 0x100))).replace("\xad", "") + "ŒœŸ–—‘’“”…"
SIGNS = (
    "人工智能生成合作品制图片像画绘照音乐声视频文字本内容由模型辅助编辑修改"
    "部分虚拟数字主播标识示提仅供参考此为经及和或的使用自动訳翻译语配聲識圖視頻輔編製"
    "，。、：；！？（）【】《》「」·"
)


def build(collection: Path, folder: Path = HERE) -> tuple[int, int]:
    """Write both files into `folder`; returns their sizes in bytes.

    Args:
        collection: Debian's NotoSansCJK-Bold.ttc.
        folder: where they are written.
    """
    font = TTFont(collection, fontNumber=FACE, recalcTimestamp=False)
    options = Options()
    options.hinting = False
    options.layout_features = []
    options.name_IDs = [0, 1, 2, 3, 4, 5, 6, 13, 14]
    options.drop_tables += ["GPOS", "GSUB", "GDEF", "BASE", "VORG", "vhea", "vmtx", "DSIG"]
    wanted = sorted({ord(sign) for sign in ASCII + LATIN + SIGNS} & set(font.getBestCmap()))
    subsetter = Subsetter(options)
    subsetter.populate(unicodes=wanted)
    subsetter.subset(font)
    _rename(font)
    drawn, written = folder / "outlines.json", folder / "marks.otf"
    drawn.write_text(_outlines(font, wanted), encoding="utf-8")
    font.save(written)
    return written.stat().st_size, drawn.stat().st_size


def _rename(font: Any) -> None:
    names = {
        1: FAMILY,
        2: "Bold",
        3: f"{FAMILY} Bold, made from Noto Sans CJK SC",
        4: f"{FAMILY} Bold",
        6: FAMILY.replace(" ", "") + "-Bold",
    }
    for number, name in names.items():
        font["name"].setName(name, number, 3, 1, 0x409)
    top = font["CFF "].cff
    top.fontNames = [names[6]]
    top.topDictIndex[0].FullName, top.topDictIndex[0].FamilyName = names[4], FAMILY


def _outlines(font: Any, wanted: list[int]) -> str:
    """Advance widths and SVG paths (m, l, c, z; relative; y upward) in units of 1/1000 em."""
    glyphs, sheet = font.getGlyphSet(), {}
    for code in wanted:
        glyph = glyphs[font.getBestCmap()[code]]
        pen = RecordingPen()
        glyph.draw(pen)
        sheet[chr(code)] = [glyph.width, _path(pen.value)]
    lines = (
        f"{json.dumps(sign, ensure_ascii=False)}:{json.dumps(drawn, separators=(',', ':'))}"
        for sign, drawn in sheet.items()
    )
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _path(record: list[tuple[str, tuple[tuple[float, float], ...]]]) -> str:
    """A recorded glyph as a path whose coordinates are relative, which is half as long."""
    path, x, y, start = "", 0, 0, (0, 0)
    for operator, points in record:
        path += {"moveTo": "m", "lineTo": "l", "curveTo": "c", "closePath": "z"}[operator]
        path += " ".join(f"{round(px) - x} {round(py) - y}" for px, py in points)
        x, y = (round(points[-1][0]), round(points[-1][1])) if points else start
        start = (x, y) if operator == "moveTo" else start
    return path.replace(" -", "-")


def main() -> None:
    """Build from the collection that is named on the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("collection", type=Path, help="NotoSansCJK-Bold.ttc")
    build(parser.parse_args().collection)


if __name__ == "__main__":
    main()
