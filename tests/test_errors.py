"""What messages are made of."""

import pytest

from geosynth.errors import counted


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 label tiles"), (1, "1 label tile"), (2, "2 label tiles"), (11, "11 label tiles")]
)
def test_one_thing_is_no_plural(number: int, text: str) -> None:
    assert counted(number, "label tile") == text
