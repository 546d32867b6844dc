"""Files of pictures, with captions and classes → batches of pixels; knows no model.

    read → Pictures ─decode→ Cache ─order→ Batches

Start reading at `forms.read`.
"""

from vermilion.data.pictures.batches import Batch, Batches
from vermilion.data.pictures.cache import Cache, CacheSettings
from vermilion.data.pictures.decoding import Decoding, Unusable, decode, measure
from vermilion.data.pictures.faults import Faults
from vermilion.data.pictures.fields import Fields
from vermilion.data.pictures.forms import read
from vermilion.data.pictures.geometry import buckets
from vermilion.data.pictures.pictures import Item, Pictures
from vermilion.data.pictures.tensors import to_bytes, to_float

__all__ = [
    "Batch",
    "Batches",
    "Cache",
    "CacheSettings",
    "Decoding",
    "Faults",
    "Fields",
    "Item",
    "Pictures",
    "Unusable",
    "buckets",
    "decode",
    "measure",
    "read",
    "to_bytes",
    "to_float",
]
