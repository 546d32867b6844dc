from __future__ import annotations

import pytest

from vermilion.data.pictures import Faults
from vermilion.errors import InputError


def test_faults_are_counted_and_the_first_ones_are_named() -> None:
    faults = Faults(named=2)
    faults.rows = 100
    for number in range(3):
        faults.add("damaged", f"{number}.png", "is broken")
    faults.add("missing", "row 7", "is not there")
    assert faults.count == 4
    assert faults.sentences == ["0.png: is broken", "1.png: is broken"]
    faults.notes.append("2 copies")
    assert faults.report() == (
        "4 of 100 left out (damaged 3, missing 1): 0.png: is broken; 1.png: is broken. 2 copies"
    )


def test_the_limit() -> None:
    faults = Faults()
    faults.rows = 1
    faults.add("damaged", "a.png", "is broken")
    faults.check()  # one alone never ends a run
    faults.add("damaged", "b.png", "is broken")
    faults.check(40)
    with pytest.raises(InputError) as caught:
        faults.check(39)
    assert str(caught.value) == (
        "data: 2 of 39 pictures cannot be used, more than 0.05 of all (damaged 2), such as a.png:"
        " is broken; export them again, or allow more with max_faults"
    )
    strict = Faults(0)
    strict.add("missing", "a", "b")
    strict.add("missing", "a", "b")
    with pytest.raises(InputError):
        strict.check(10**9)
    allowing = Faults(1)
    allowing.add("missing", "a", "b")
    allowing.add("missing", "a", "b")
    allowing.check(2)


def test_names_can_be_printed() -> None:
    faults = Faults()
    faults.add("damaged", "caf\udce9.png", "is broken")
    faults.sentences[0].encode()
