"""Tags of icons, and Chinese titles, out of the packages that hold them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vermilion.data.corpora.packages import members
from vermilion.errors import FetchError


def json_members(path: Path, names: Mapping[str, str]) -> dict[str, Any]:
    """Files of JSON in a package.

    Args:
        path: of the package.
        names: file's name in it, by a key of one's own.

    Raises:
        FetchError: one is not there.
    """
    wanted = {name: key for key, name in names.items()}
    found = {wanted[name]: json.loads(content) for name, content in members(path) if name in wanted}
    if missing := sorted(names.keys() - found.keys()):
        raise FetchError(f"{path}: there is no {names[missing[0]]} in it; fetch it again")
    return found


def tabler_tags(path: Path) -> dict[str, tuple[str, ...]]:
    """Tags of Tabler Icons by name."""
    content = json_members(path, {"icons": "package/icons.json"})["icons"]
    return {name: tuple(map(str, icon["tags"])) for name, icon in content.items()}


def lucide_tags(path: Path) -> dict[str, tuple[str, ...]]:
    """Tags of Lucide by name."""
    content = json_members(path, {"tags": "package/tags.json"})["tags"]
    return {name: tuple(tags) for name, tags in content.items()}


def mdi_tags(path: Path) -> dict[str, tuple[str, ...]]:
    """Other names of the Material Design Icons by name, with hyphens taken out."""
    content = json_members(path, {"meta": "package/meta.json"})["meta"]
    return {
        icon["name"].removesuffix("-outline"): tuple(
            alias.replace("-", " ") for alias in icon["aliases"]
        )
        for icon in content
    }


def phosphor_tags(path: Path) -> dict[str, tuple[str, ...]]:
    """Tags of Phosphor by name: its package has them as literals of JavaScript alone."""
    module = next(
        (content for name, content in members(path) if name == "package/dist/index.mjs"), b""
    ).decode()
    entries = re.findall(
        r'\bname: "([a-z0-9-]+)",(?:(?!\bname:).)*?\btags: \[(.*?)\]', module, re.S
    )
    if not entries:
        raise FetchError(f"{path}: there are no tags in it; fetch it again")
    return {
        name: tuple(tag for tag in re.findall(r'"([^"]+)"', tags) if not tag.startswith("*"))
        for name, tags in entries
    }


TAGS: Mapping[str, Callable[[Path], dict[str, tuple[str, ...]]]] = {
    "tabler": tabler_tags,
    "lucide": lucide_tags,
    "mdi": mdi_tags,
    "ph": phosphor_tags,
}


def chinese_titles(path: Path) -> dict[str, tuple[str, tuple[str, ...]]]:
    """IconPark's Chinese titles and tags by name, without its trademarks."""
    content = json_members(path, {"icons": "package/icons.json"})["icons"]
    return {
        icon["name"]: (icon["title"], tuple(t for t in icon["tag"] if t and t != icon["title"]))
        for icon in content
        if icon["category"] != "Brand"
    }
