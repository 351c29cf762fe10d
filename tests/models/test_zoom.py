"""From a level of a network to the next finer one: the oracle repeats each cell and drops the sides."""

import pytest
import torch
from torch import Tensor

from geosynth.models.patterns import LabelPatterns
from geosynth.models.zoom import Zoom, cropped, upsampled


def repeated(features: Tensor, zoom: Zoom) -> Tensor:
    finer = features.repeat_interleave(zoom.factor, 2).repeat_interleave(zoom.factor, 3)
    rows, columns = (slice(zoom.dropped, side - zoom.dropped) for side in finer.shape[2:])
    return finer[:, :, rows, columns]


@pytest.mark.parametrize("zoom", [Zoom(factor, dropped) for factor in (1, 2, 4) for dropped in range(6)], ids=str)
@pytest.mark.parametrize("learns", [False, True])
def test_each_cell_is_repeated_and_the_sides_are_dropped(zoom: Zoom, learns: bool) -> None:
    features = torch.arange(2 * 3 * 13 * 17).view(2, 3, 13, 17).float()
    expected = repeated(features, zoom)
    with torch.set_grad_enabled(learns):
        finer = upsampled(features, zoom)
    assert torch.equal(finer, expected)
    assert finer.is_contiguous(memory_format=torch.channels_last)
    patterns = LabelPatterns(torch.zeros(2, *expected.shape[2:], dtype=torch.long), 4)
    pixels = features.permute(0, 2, 3, 1).reshape(-1, 3)[zoom.source(patterns, features)]
    assert torch.equal(pixels, expected.permute(0, 2, 3, 1).reshape(-1, 3)), "each knows the cell that it came from"


def test_rows_and_columns_are_dropped_on_each_side() -> None:
    values = torch.arange(5 * 7).view(1, 5, 7)
    assert torch.equal(cropped(values, 2), values[:, 2:3, 2:5])
    assert torch.equal(cropped(values, 0), values)
