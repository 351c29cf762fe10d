"""The Chesapeake Land Cover data set: published by Robinson et al. (2019), stored as by TorchGeo's ChesapeakeCVPR."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from geosynth.errors import DataError, SettingsError
from geosynth.grid.split import FOLDS
from geosynth.inputs import check_input
from geosynth.raster.stores.items import Item

STATES = ("de", "md", "va", "wv", "pa", "ny")
_IMAGE, _LABELS = "naip-new", "lc"


def chesapeake_items(
    folder: str | Path,
    states: Sequence[str] = STATES,
    splits: Sequence[str] = FOLDS,
    *,
    extras: Sequence[str] = (),
) -> list[Item]:
    """NAIP and land cover of the Chesapeake tiles of some states and splits; each tile's fold is its split.

    Args:
        folder: the `root` of `torchgeo.datasets.ChesapeakeCVPR`.
        states: some of de, md, va, wv, pa, ny.
        splits: some of train, val, test.
        extras: single-band layers to add as further maps, such as "nlcd" or "buildings".

    Raises:
        SettingsError: if there is no such state or split.
        DataError: if a folder, or a layer of a tile, is missing.
    """
    for what, given, known in (("state", states, STATES), ("split", splits, FOLDS)):
        if strange := [one for one in given if one not in known]:
            raise SettingsError(f"{what} {', '.join(strange)}: the {what}s of Chesapeake are {', '.join(known)}")
    check_input(folder, "the folder of the data set")
    root = Path(folder)
    items = []
    for state in states:
        for split in splits:
            pattern = f"{state}_1m_201[34]_extended-debuffered-{split}_tiles"
            tiles = sorted(root.glob(f"{pattern}/*_{_IMAGE}.tif"))
            if not tiles:
                raise DataError(f"{root}: no tiles {pattern}/*_{_IMAGE}.tif; is the zip file unpacked there?")
            items += [_chesapeake_item(tile, split, extras) for tile in tiles]
    return items


def _chesapeake_item(image: Path, split: str, extras: Sequence[str]) -> Item:
    tile = image.name.removesuffix(f"_{_IMAGE}.tif")

    def layer(name: str) -> str:
        path = image.with_name(f"{tile}_{name}.tif")
        if not path.is_file():
            raise DataError(f"{path}: is missing beside {image.name}")
        return str(path)

    maps = {name: layer(name) for name in extras}
    return Item(str(image), layer(_LABELS), tile, split, None, maps)
