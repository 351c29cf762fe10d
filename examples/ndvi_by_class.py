"""Compares the NDVI of a synthetic image with that of the real one, for each class of the labels.

    python examples/ndvi_by_class.py --image naip.tif --labels land_cover.tif [--legend legend.yaml] [--model FILE]

The synthetic image is a lazy xarray array: it is painted block by block while the means are computed, and never stored.
"""

from __future__ import annotations

import argparse

import rioxarray
import xarray as xr

import geosynth


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--image", required=True, help="real image with bands red and nir, on the grid of the labels")
    parser.add_argument("--labels", required=True, help="class codes")
    parser.add_argument("--legend", help="of the labels, if their codes are not the model's")
    parser.add_argument("--model", help="a model file; without it the embedded one")
    parser.add_argument("--red", type=int, default=1, help="number of the red band in the real image")
    parser.add_argument("--nir", type=int, default=4, help="number of the near-infrared band in the real image")
    options = parser.parse_args()
    # Images on another grid are an error, instead of being cropped silently.
    xr.set_options(arithmetic_join="exact")  # type: ignore[no-untyped-call]

    pieces = {"y": 1024, "x": 1024}
    legend = geosynth.Legend.load(options.legend or "chesapeake")
    labels = rioxarray.open_rasterio(options.labels, chunks=pieces).squeeze("band", drop=True)
    image = rioxarray.open_rasterio(options.image, chunks=pieces, mask_and_scale=True)
    real = image.sel(band=[options.red, options.nir])

    stored = geosynth.generate(labels, model=options.model, legend=legend, seed=1)
    synthetic = xr.decode_cf(stored.to_dataset())["image"].sel(band=["red", "nir"])  # reflectances, if the model knows
    is_class = labels == xr.DataArray(list(legend.codes), coords={"class": list(legend.names)})
    ndvi = {
        name: (image[1] - image[0]) / (image[1] + image[0])
        for name, image in {"real": real.astype(float), "synthetic": synthetic.astype(float)}.items()
    }
    means = xr.Dataset({name: values.where(is_class).mean(["y", "x"]) for name, values in ndvi.items()})
    print(means.compute().to_dataframe()[["real", "synthetic"]].round(3))


if __name__ == "__main__":
    main()
