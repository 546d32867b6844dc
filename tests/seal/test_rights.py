"""What licences allow, and whose style a prompt names."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vermilion.errors import InputError
from vermilion.seal.rights import artist_note, artists, commercial_use


@pytest.mark.parametrize(
    ("licence", "use"),
    [
        ("Apache-2.0", "allowed"),
        ("apache-2.0", "allowed"),
        ("MIT", "allowed"),
        ("CC0-1.0", "allowed"),
        ("CC-BY-4.0", "allowed"),
        ("CC-BY-SA-3.0", "allowed"),
        ("CC-BY-NC-4.0", "forbidden"),
        ("cc-by-nc-sa-4.0", "forbidden"),
        ("CC-BY-NC-ND-3.0-IGO", "forbidden"),
        ("PolyForm-Noncommercial-1.0.0", "forbidden"),
        ("LicenseRef-research-only", "forbidden"),
        ("flux-1-dev-non-commercial-license", "forbidden"),
        ("creativeml-openrail-m", "allowed"),
        ("openrail++", "allowed"),
        ("GPL-3.0-or-later WITH Classpath-exception-2.0", "allowed"),
        ("GPL-2.0+", "allowed"),
        ("llama3.1", "unknown"),
        ("LicenseRef-other", "unknown"),
        ("other", "unknown"),
        ("", "unknown"),
        ("MIT OR CC-BY-NC-4.0", "allowed"),
        ("MIT AND CC-BY-NC-4.0", "forbidden"),
        ("MIT AND other", "unknown"),
        ("other OR CC-BY-NC-4.0", "unknown"),
        ("MIT OR Apache-2.0 AND CC-BY-NC-4.0", "allowed"),
        ("(MIT OR Apache-2.0) AND CC-BY-NC-4.0", "forbidden"),
        ("mit and (apache-2.0 or other)", "allowed"),
        ("(MIT", "unknown"),
        ("MIT AND", "unknown"),
        ("MIT MIT", "unknown"),
        ("my own licence!", "unknown"),
    ],
)
def test_commercial_use(licence: str, use: str) -> None:
    assert commercial_use(licence) == use


@given(st.text(alphabet=st.sampled_from("MIT ANDORcc-by()+.:nc4"), max_size=40))
def test_any_text_gets_an_answer(licence: str) -> None:
    assert commercial_use(licence) in ("allowed", "forbidden", "unknown")


def test_the_licences_of_the_catalog_are_known() -> None:
    from vermilion.runtime.cards import catalog

    assert {commercial_use(card.licence) for card in catalog().values()} == {"allowed"}


@pytest.mark.parametrize(
    ("prompt", "named"),
    [
        ("a castle in the style of Greg Rutkowski", "Greg Rutkowski"),
        ("a castle, greg_rutkowski, 4k", "Greg Rutkowski"),
        ("by simon stalenhag", "Simon Stålenhag"),
        ("ＷＬＯＰ portrait", "WLOP"),
        ("一座城，新海誠的风格", "Makoto Shinkai"),
        ("a castle, oil on canvas, low sun", ""),
        ("a slow lope over wlopping hills", ""),
        ("in the style of Vermeer", ""),
    ],
)
def test_a_prompt_that_names_a_living_artist_gets_a_note(prompt: str, named: str) -> None:
    note = artist_note(prompt, artists())
    assert note.startswith(f"{named} is a living artist") if named else note == ""


def test_the_list_of_artists_can_be_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("# mine\nAnna Example = 安娜 # a friend\n\n", encoding="utf-8")
    assert artists(path) == {"Anna Example": ["Anna Example", "安娜"]}
    assert "Anna Example" in artist_note("像安娜一样", artists(path))
    assert artist_note("by Greg Rutkowski", artists(path)) == ""
    with pytest.raises(InputError, match="artists"):
        artists(tmp_path / "none.txt")
