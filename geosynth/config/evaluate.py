"""Everything `evaluate` may be told beside its inputs and its output."""

from __future__ import annotations

from pydantic import Field

from geosynth.config.base import Settings


class EvaluateSettings(Settings):
    """Everything `evaluate` may be told beside its inputs and its output.

    Attributes:
        tile_size: pixels; side of the tiles for distances, spectra and intervals. A multiple of 4, 32 to 4096.
        block_size: pixels; side of the blocks that a synthetic raster was made of, for the seam score.
        seed: of intervals, draws of tiles, pictures, and the first twin where a model paints them.
        features: also compare the features of a network (EfficientNet-Lite0, offline), which takes most of the time.
        inception: FID and KID too: a file of the weights that torch-fidelity uses, or "download" to fetch them.
        max_tiles: of each set of tiles, drawn at random where there are more: bounds memory and time of distances
            between features.
        latents: number of twins with different latents that a model paints; 2 or more give the diversity.
        device: that networks run on: "cpu", "cuda", ...
    """

    tile_size: int = Field(256, ge=32, le=4096, multiple_of=4)
    block_size: int = Field(1024, ge=2)
    seed: int = Field(0, ge=0, lt=2**63)
    features: bool = True
    inception: str | None = None
    max_tiles: int = Field(5000, ge=2)
    latents: int = Field(2, ge=1, le=16)
    device: str = "cpu"
