"""A model or segmenter as a STAC item with the MLM extension, 1.5: https://github.com/stac-extensions/mlm."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from geosynth.config.bands import Quantity, values_of_each
from geosynth.errors import CheckpointError, counted

# Fields for the meaning of raster values in STAC 1.1 and its raster extension.
_TOLD = {"scale": "raster:scale", "offset": "raster:offset", "unit": "unit"}
_RASTER = "https://stac-extensions.github.io/raster/v2.0.0/schema.json"


def model_item(values: Mapping[str, Any]) -> dict[str, Any]:
    """A STAC item whose asset is the file beside it.

    It has no geometry, because a model records the names of its training data but not their places.

    Args:
        values: the result of `info` for a model or segmenter.

    Raises:
        CheckpointError: if they describe something else.
    """
    if values["kind"] not in ("model", "segmenter"):
        raise CheckpointError(f"{values['path']}: a {values['kind']}; only models and segmenters have such items")
    meanings = _meanings(values["bands"])
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [
            "https://stac-extensions.github.io/mlm/v1.5.0/schema.json",
            "https://stac-extensions.github.io/file/v2.1.0/schema.json",
            "https://stac-extensions.github.io/classification/v2.0.0/schema.json",
            *([_RASTER] if any(meanings) else []),
        ],
        "id": Path(values["path"]).stem,
        "geometry": None,
        "properties": _properties(values),
        "assets": {"model": _asset(values, meanings)},
        "links": [],
    }


def _meanings(bands: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Scale, offset and unit of each band, as far as they are known."""
    quantities = [Quantity.model_validate(one) for one in bands.get("quantities", [])]
    return values_of_each(quantities, len(bands["names"]))


def _properties(values: Mapping[str, Any]) -> dict[str, Any]:
    path, paints = Path(values["path"]), values["kind"] == "model"
    legend, data = values["legend"], values["provenance"].get("data", [])
    name = re.sub("[^A-Za-z0-9_.-]+", " ", f"geosynth {path.stem}").rstrip("._- ")
    classes = [
        {
            "value": entry["code"],
            "name": re.sub(r"[^A-Za-z0-9-]+", "_", entry["name"]).strip("_"),
            "description": entry["name"],
            "color_hint": entry["colour"].lstrip("#").upper(),
        }
        for entry in legend["classes"]
    ]
    return {
        "datetime": datetime.fromtimestamp(int(path.stat().st_mtime), UTC).isoformat().replace("+00:00", "Z"),
        "title": name,
        "description": "Synthetic imagery from land-cover labels." if paints else "Land-cover labels from imagery.",
        **({} if values["gsd"] is None else {"gsd": values["gsd"]}),
        "classification:classes": classes,
        "mlm:name": name,
        "mlm:architecture": "SPADE" if paints else "U-Net",
        "mlm:tasks": _tasks(paints),
        "mlm:framework": "PyTorch",
        "mlm:framework_version": version("torch"),
        "mlm:total_parameters": values["parameters"],
        "mlm:accelerator": None,  # not needed
        "mlm:accelerator_summary": "CPU, or a GPU by CUDA",
        "mlm:pretrained": True,
        "mlm:pretrained_source": f"{counted(len(data), 'labelled scene')}" if data else "labelled scenes",
        "mlm:hyperparameters": {name: value for name, value in values["settings"].items() if value is not None},
        **_input_and_output(values["bands"], legend["name"], classes, paints),
        "geosynth:nodata": legend["nodata"],
        "geosynth:data": data,
        **({"geosynth:scores": values["scores"]} if "scores" in values else {}),
    }


def _tasks(paints: bool) -> list[str]:
    return ["generative" if paints else "semantic-segmentation"]


def _input_and_output(
    bands: Mapping[str, Any], legend: str, classes: list[dict[str, Any]], paints: bool
) -> dict[str, Any]:
    """Labels and an image: what a model reads and paints, or a segmenter the other way round."""
    size = {"batch": -1, "height": -1, "width": -1}
    codes = {"dim_order": list(size), "shape": list(size.values()), "data_type": "int64"}
    size = {"batch": -1, "band": len(bands["names"]), "height": -1, "width": -1}
    pixels = {"dim_order": list(size), "shape": list(size.values()), "data_type": bands["dtype"]}
    labels = {"name": "labels", "bands": [], "description": f"Codes of the land-cover legend {legend}."}
    image = {"name": "image", "bands": bands["names"], "description": "Pixels as they stand in the raster."}
    output = {
        "tasks": _tasks(paints),
        "classification:classes": [] if paints else classes,
        "post_processing_function": None,
    }
    return {
        "mlm:input": [{**labels, "input": codes} if paints else {**image, "input": pixels}],
        "mlm:output": [{**image, **output, "result": pixels} if paints else {**labels, **output, "result": codes}],
    }


def _asset(values: Mapping[str, Any], meanings: list[dict[str, Any]]) -> dict[str, Any]:
    """The asset for the model's file; `meanings` are scale, offset and unit of each band, see `_meanings`."""
    path, bands = Path(values["path"]), values["bands"]
    return {
        "href": f"./{path.name}",
        "title": "Weights, with settings, legend and provenance",
        "type": "application/octet-stream; application=safetensors",
        "roles": ["mlm:model", "mlm:weights", "data"],
        "mlm:artifact_type": "safetensors",
        "bands": [
            {"name": band, "data_type": bands["dtype"], **{_TOLD[name]: value for name, value in meaning.items()}}
            for band, meaning in zip(bands["names"], meanings, strict=True)
        ],
        "file:size": values["bytes"],
        "file:checksum": f"1220{values['sha256']}",  # multihash for SHA-256, 32 bytes
    }
