"""doctor: what geosynth finds on this machine. It uses no network."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import platformdirs
import psutil
import torch

from geosynth.download import model_path
from geosynth.errors import CheckpointError, counted
from geosynth.models.device import has_kernels, uses_bfloat16
from geosynth.models.hashing import noise_kernel_works
from geosynth.models.trials import kernel_trials
from geosynth.raster.drivers import describe_gdal
from geosynth.version import __version__

_PACKAGES = (
    *("torch", "torchvision", "torchgeo", "lightning", "triton", "rasterio", "zarr", "xarray", "rioxarray", "odc-geo"),
    *("dask", "distributed", "geopandas", "pyogrio", "numpy", "fsspec", "aiohttp", "s3fs"),
)
_VARIABLES = (
    *("GEOSYNTH_DRIVERS", "GEOSYNTH_REMOTE", "GEOSYNTH_PROGRESS", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"),
    *("GDAL_DATA", "PROJ_DATA", "PROJ_LIB", "HF_ENDPOINT", "HF_HOME", "TMPDIR", "TORCH_HOME"),
)


def doctor() -> dict[str, Any]:
    """Versions, devices, formats and paths of this machine, as plain values."""
    memory = psutil.virtual_memory()
    return {
        "geosynth": {"version": __version__, "folder": str(Path(__file__).parent)},
        "python": {"version": platform.python_version(), "executable": sys.executable, "platform": platform.platform()},
        "packages": {name: _version(name) for name in _PACKAGES},
        "processor": {
            "cores": os.cpu_count(),
            "threads of torch": torch.get_num_threads(),
            "memory": f"{memory.total / 2**30:.1f} GiB, {memory.available / 2**30:.1f} GiB free",
            "bfloat16": "fast: --precision auto takes it" if uses_bfloat16("auto", "cpu") else "slow: float32 is taken",
        },
        "gpus": [_gpu(number) for number in range(torch.cuda.device_count())] or "none",
        "gdal": describe_gdal(),
        "model": _embedded_model(),
        "downloads": {
            "models by address": _folder(platformdirs.user_cache_path("geosynth") / "models"),
            "ImageNet weights (segment)": _folder(_hub()),
            "Inception weights (evaluate)": _folder(Path(torch.hub.get_dir())),
            "when": "only where you ask: --model https://..., --weights imagenet, --inception download",
        },
        "temporary files": tempfile.gettempdir(),
        "environment": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _gpu(number: int) -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(number)
    name = f"cuda:{number}"
    return {
        "device": name,
        "name": properties.name,
        "memory": f"{properties.total_memory / 2**30:.0f} GiB",
        "bfloat16": uses_bfloat16("auto", name),
        "kernels": _kernels(name),
    }


def _kernels(device: str) -> str:
    """Whether kernels work on a GPU; if not, why, for instance because Triton finds no compiler."""
    if not has_kernels(device):
        return "none: no Triton, or too old a GPU"
    with torch.cuda.device(device):
        return "work" if noise_kernel_works(device) else f"not used: {kernel_trials.problem}"


def _embedded_model() -> str:
    try:
        return str(model_path())
    except CheckpointError as error:
        return str(error)


def _hub() -> Path:
    """The folder in which the Hugging Face Hub's client keeps files."""
    return Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser() / "hub"


def _folder(path: Path) -> str:
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else []
    return f"{path} ({counted(len(files), 'file')}, {sum(file.stat().st_size for file in files) / 2**20:.0f} MiB)"
