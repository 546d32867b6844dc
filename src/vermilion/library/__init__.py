"""The library: every finished asset, kept once, found again.

    from vermilion.library import Library
    with Library.open(get_settings().library_dir) as library:
        hits = library.find("dark roast")

`assets` has the library itself; `db` its tables, `blobs` its files, `search` its words.
"""

from vermilion.library.assets import Library
from vermilion.library.lineage import Lineage, Relative

__all__ = ["Library", "Lineage", "Relative"]
