from __future__ import annotations

import pytest

from vermilion.errors import NotFoundError

from .helpers import keep


def _shape(relatives):
    """Relatives as nested tuples of texts; None stands for one that was removed."""
    return tuple(
        (relative.asset.text if relative.asset is not None else None, *_shape(relative.beyond))
        for relative in relatives
    )


def test_ancestors_and_descendants(library):
    brief = keep(library, "brief")
    slogan = keep(library, "slogan", parents=[brief.id])
    voice = keep(library, "voice", parents=[slogan.id, brief.id])
    film = keep(library, "film", parents=[voice.id])
    keep(library, "stranger")

    lineage = library.lineage(voice.id[:7])
    assert lineage.asset == voice
    assert _shape(lineage.ancestors) == (("slogan", ("brief",)), ("brief",))
    assert _shape(lineage.descendants) == (("film",),)
    assert lineage.descendants[0].asset == film
    assert _shape(library.lineage(brief.id).descendants) == (
        ("slogan", ("voice",)),
        ("voice", ("film",)),
    )


def test_parents_in_their_order_and_children_by_age(library):
    parents = [keep(library, word) for word in "cab"]
    children = [keep(library, word, parents=[a.id for a in parents]) for word in "zxy"]
    assert children[0].parents == tuple(parent.id for parent in parents)
    assert _shape(library.lineage(children[0].id).ancestors) == (("c",), ("a",), ("b",))
    assert _shape(library.lineage(parents[2].id).descendants) == (("z",), ("x",), ("y",))


def test_a_removed_parent_stays_as_an_id(library):
    parent = keep(library, "parent")
    child = keep(library, "child", parents=[parent.id])
    library.remove(parent.id)

    assert library.get(child.id).parents == (parent.id,)
    (shown,) = library.lineage(child.id).ancestors
    assert (shown.id, shown.asset, shown.beyond) == (parent.id, None, ())
    with pytest.raises(NotFoundError):
        library.lineage(parent.id)


def test_a_removed_child_is_no_descendant(library):
    parent = keep(library, "parent")
    library.remove(keep(library, "child", parents=[parent.id]).id)
    assert library.lineage(parent.id).descendants == ()


def test_the_same_parent_twice(library):
    parent = keep(library, "parent")
    child = keep(library, "child", parents=[parent.id, parent.id])
    assert child.parents == (parent.id, parent.id)
    assert _shape(library.lineage(child.id).ancestors) == (("parent",),)


def test_a_family_where_all_ways_cross_gives_a_small_tree(library):
    generation = [keep(library, "0a"), keep(library, "0b")]
    for number in range(1, 30):
        parents = [asset.id for asset in generation]
        generation = [keep(library, f"{number}{name}", parents=parents) for name in "ab"]

    def size(relatives):
        return sum(1 + size(relative.beyond) for relative in relatives)

    assert size(library.lineage(generation[0].id).ancestors) == 2 + 4 * 28
