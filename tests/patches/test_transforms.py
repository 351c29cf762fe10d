"""Transforms: image and mask move together, scaling has its inverse, codes become class indices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geosynth.config import BandSettings
from geosynth.patches.transforms import NetworkScaling, random_dihedral
from strategies import few


def symmetries(square: torch.Tensor) -> list[torch.Tensor]:
    """The eight symmetries, each written as what it does to rows and columns."""
    turned = [square, square.flip(-1), square.flip(-2), square.flip(-1).flip(-2)]
    return turned + [value.transpose(-1, -2) for value in turned]


def test_each_symmetry_occurs_and_image_and_mask_move_together() -> None:
    mask = torch.arange(9).reshape(1, 3, 3).expand(400, 3, 3)
    image = torch.stack([mask[:, :, :].float(), mask * 10.0], dim=1)
    turned_image, turned_mask = random_dihedral(image, mask, torch.Generator().manual_seed(0))
    assert (turned_image.shape, turned_mask.shape) == (image.shape, mask.shape)
    torch.testing.assert_close(turned_image[:, 0], turned_mask.float(), rtol=0, atol=0)
    torch.testing.assert_close(turned_image[:, 1], turned_mask * 10.0, rtol=0, atol=0)
    wanted = [value.flatten().tolist() for value in symmetries(mask[0])]
    seen = [value.flatten().tolist() for value in turned_mask]
    counts = [seen.count(value) for value in wanted]
    assert sum(counts) == len(seen)
    assert 25 < min(counts) <= max(counts) < 75  # of 50 expected each


def test_the_generator_decides_the_symmetry() -> None:
    mask = torch.arange(9).reshape(1, 3, 3).expand(20, 3, 3)
    draws = [random_dihedral(mask[:, None].float(), mask, torch.Generator().manual_seed(seed))[1] for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


BANDS = {
    "uint8": BandSettings(names=("red", "green", "blue", "nir")),
    "uint16": BandSettings(names=("b02", "b08"), low=(0.0, 120.0), high=(3000.0, 9000.0), dtype="uint16"),
    "int16": BandSettings(names=("vv",), low=-2500, high=300, dtype="int16"),
    "float32": BandSettings(
        names=("vv", "vh", "dem"), low=(-30.0, -40.0, -5.0), high=(0.5, -2.0, 900.0), dtype="float32"
    ),
}


@pytest.mark.parametrize("dtype", BANDS)
@few
@given(data=st.data())
def test_scaling_reaches_the_range_and_comes_back(dtype: str, data: st.DataObject) -> None:
    bands = BANDS[dtype]
    lows, highs = (
        np.broadcast_to(np.array(limit, dtype=np.float64), len(bands.names)) for limit in (bands.low, bands.high)
    )
    shares = data.draw(st.lists(st.floats(0, 1, width=32), min_size=6, max_size=6))
    values = lows[:, None, None] + np.array(shares).reshape(1, 2, 3) * (highs - lows)[:, None, None]
    if dtype != "float32":
        values = values.round()
    image = torch.from_numpy(values.astype(dtype))
    sample = {"image": image, "mask": torch.zeros(2, 3, dtype=torch.uint8)}
    scaled = NetworkScaling(bands)(sample)
    assert (scaled["image"].dtype, scaled["mask"].dtype) == (torch.float32, torch.int64)
    wanted = (values - lows[:, None, None]) / (highs - lows)[:, None, None] * 2 - 1
    np.testing.assert_allclose(scaled["image"].numpy(), wanted, atol=2e-6)
    np.testing.assert_array_equal(sample["image"].numpy(), values.astype(dtype))  # the sample itself is left alone
    for kind in (torch.from_numpy, lambda array: array):  # batches too
        batch = kind(np.stack([values, values]).astype(np.float32))
        np.testing.assert_allclose(np.asarray(bands.to_network(batch))[1], wanted, atol=2e-6)
        back = np.asarray(bands.from_network(bands.to_network(batch)))[0]
        np.testing.assert_allclose(back, values, atol=2e-6 * (highs - lows).max(), rtol=1e-6)
        if dtype != "float32":
            np.testing.assert_array_equal(back.round(), values)


@pytest.mark.parametrize("changes", [{}, {"dtype": "uint8", "low": 9, "high": 255}, {"dtype": "uint8", "high": 254}])
def test_what_lies_beyond_the_range_is_cut(changes: dict[str, Any]) -> None:
    bands = BANDS["uint16"].model_copy(update=changes)
    dtype = getattr(torch, bands.dtype)
    image = torch.tensor([0, torch.iinfo(dtype).max], dtype=dtype).reshape(1, 1, 2).expand(2, 1, 2)
    scaled = NetworkScaling(bands)({"image": image, "mask": torch.zeros(1, 2)})["image"]
    torch.testing.assert_close(scaled, torch.tensor([-1.0, 1.0]).reshape(1, 1, 2).expand(2, 1, 2))
