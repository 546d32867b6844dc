"""The sets of drawings that may be trained on: where each comes from, who drew it, its licence.

Not here, though the packages hold them: openmoji and emojione-v1 (share-alike), sets of logos
(trademarks), and everything whose licence does not allow what a trained model is used for.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass

from vermilion.data.corpora.packages import Package

ICONIFY = Package(
    registry="npm",
    name="@iconify/json",
    version="2.2.535",
    file="iconify-json-2.2.535.tgz",
    sha256="1a545f86fa224d6531d8fb101dcbe83aac2b28689a21cbed6fc68318a5af4d91",
    licence="MIT",
    holds="Sets of emoji and icons as SVG, each under the licence of its own (see below)",
    author="Vjacheslav Trushkin and the contributors of Iconify",
)
FLUENT_3D = Package(
    registry="npm",
    name="@lobehub/fluent-emoji-3d",
    version="1.1.0",
    file="lobehub-fluent-emoji-3d-1.1.0.tgz",
    sha256="c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58",
    licence="MIT",
    holds="Microsoft's Fluent Emoji in three dimensions",
    author="LobeHub",
)
EMOJIBASE = Package(
    registry="npm",
    name="emojibase-data",
    version="17.0.0",
    file="emojibase-data-17.0.0.tgz",
    sha256="d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a",
    licence="MIT",
    holds="Labels and tags of emoji in English and Chinese",
    author="Miles Johnson",
)
ICON_PARK = Package(
    registry="npm",
    name="@icon-park/svg",
    version="1.4.2",
    file="icon-park-svg-1.4.2.tgz",
    sha256="fbd548c2d6c3830a56828c9cf09787d61ce2a74a4f398919059e111de17c504b",
    licence="Apache-2.0",
    holds="Chinese titles and tags of IconPark",
    author="ByteDance",
)
OPENCLIPART = Package(
    registry="debian",
    name="openclipart-svg",
    version="1:0.18+dfsg-19",
    file="openclipart-svg_1%3a0.18+dfsg-19_all.deb",
    sha256="989712d90d57dfa3230049f553bb43b76c30ee4d4b8c5f6e106e33f7db5cbdc5",
    licence="LicenseRef-PublicDomainDedication",
    holds="Clip art that its authors gave to the public domain",
    author="the authors of the Open Clip Art Library",
)
TABLER = Package(
    registry="npm",
    name="@tabler/icons",
    version="3.52.0",
    file="tabler-icons-3.52.0.tgz",
    sha256="626620c7d42afd2f294fba167ce4653b5cb946336d186b4991c70b700e5616af",
    licence="MIT",
    holds="Tags of Tabler Icons",
    author="Paweł Kuna",
)
MDI = Package(
    registry="npm",
    name="@mdi/svg",
    version="7.4.47",
    file="mdi-svg-7.4.47.tgz",
    sha256="de92e5dc9ce46c392ab5c53aa7190b19f82b40cb48872a083f788c7e13e91fef",
    licence="Apache-2.0",
    holds="Other names of the Material Design Icons",
    author="Pictogrammers",
)
LUCIDE = Package(
    registry="npm",
    name="lucide-static",
    version="1.62.0",
    file="lucide-static-1.62.0.tgz",
    sha256="386f9080c440d6f5049cefe3456ae8357f7a0c7f76e59670cd1cb83bc7050a44",
    licence="ISC",
    holds="Tags of Lucide",
    author="the contributors of Lucide",
)
PHOSPHOR = Package(
    registry="npm",
    name="@phosphor-icons/core",
    version="2.1.1",
    file="phosphor-icons-core-2.1.1.tgz",
    sha256="313332be6190b724da24107addd781799b48bf76b13963f24501112ffe1baadd",
    licence="MIT",
    holds="Tags of Phosphor",
    author="Phosphor Icons",
)

# SPDX identifiers of licences that allow training and passing on with at most a credit.
LICENCES = {
    "Apache-2.0": "https://www.apache.org/licenses/LICENSE-2.0",
    "MIT": "https://opensource.org/license/mit",
    "ISC": "https://opensource.org/license/isc-license-txt",
    "CC-BY-4.0": "https://creativecommons.org/licenses/by/4.0/",
    "CC-BY-3.0": "https://creativecommons.org/licenses/by/3.0/",
    "LicenseRef-PublicDomainDedication": "https://creativecommons.org/licenses/publicdomain/",
}
GROUPS = ("emoji", "icons", "clipart", "line")


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawingSet:
    """A set of drawings in one style or a few.

    Attributes:
        name: of the set, the first part of its pictures' names.
        title: as its authors call it.
        group: "emoji", "icons" (in colour), "clipart" or "line" (one colour).
        styles: the style in words, by the ending that a drawing's name has in the set; the
            ending "" is all that have no other. No two sets share one.
        author: whom to credit.
        url: where the set comes from.
        licence: SPDX identifier of the drawings' licence.
        trimmed: whether drawings are cut to what is drawn: some have wide margins.
        other: endings of styles that are left out.
        kin: sets that draw a thing alike have one word here and are held back together; "" for
            a set that is alone.
        declared: what the package must say that it is; "" for the same as `licence`.
        package: that holds the drawings.
        tags: package that holds more tags of them.
    """

    name: str
    title: str
    group: str
    styles: Mapping[str, str]
    author: str
    url: str
    licence: str
    trimmed: bool = False
    other: tuple[str, ...] = ()
    kin: str = ""
    declared: str = ""
    package: Package = ICONIFY
    tags: Package | None = None

    def style_of(self, name: str, others: Container[str]) -> tuple[str, str] | None:
        """A name without its ending, and the style; None where the ending is of no style.

        Args:
            name: as the set has it.
            others: all names of the set: "traffic-light" has no ending where no "traffic" is.
        """
        for ending in sorted((*self.styles, *self.other), key=len, reverse=True):
            bare = name.removesuffix(f"-{ending}")
            if ending and bare != name and (bare in others or "" not in self.styles):
                return None if ending in self.other else (bare, self.styles[ending])
        return (name, self.styles[""]) if "" in self.styles else None
