"""Presets of `train`, and what they cost."""

from __future__ import annotations

from typing import Any, NamedTuple


class Cost(NamedTuple):
    """What a step takes: peak memory (GiB; of the process, or of its tensors on the GPU) and seconds."""

    memory: float
    seconds_per_step: float


class Preset(NamedTuple):
    """A named choice of settings.

    `parameters` counts the generator, the style encoder and the discriminator, for 6 classes and 4 bands. Costs are
    those that `python benchmarks/training.py --preset NAME [--device cuda]` measured, without the perceptual loss: on
    one core of an AMD EPYC with AVX512-BF16, shared with other work, and on an NVIDIA H100; None where that was not
    done.
    """

    purpose: str
    values: dict[str, Any]
    parameters: int
    on_core: Cost | None
    on_gpu: Cost | None


PRESETS: dict[str, Preset] = {
    "tiny": Preset(
        "to see that everything works",
        {
            "steps": 1000,
            "batch_size": 4,
            "base_width": 8,
            "hidden_channels": 32,
            "latent_size": 32,
            "noise_channels": 8,
            "encoder_width": 16,
            "discriminator_width": 24,
        },
        3_086_782,
        Cost(1.1, 0.34),
        None,
    ),
    "small": Preset(
        "a CPU and a few hours; the defaults", {"steps": 10_000}, 19_120_702, Cost(1.9, 1.66), Cost(1.1, 0.145)
    ),
    "base": Preset(
        "one GPU and a day",
        {
            "steps": 100_000,
            "batch_size": 16,
            "crop_size": 256,
            "depth": "normal",
            "base_width": 64,
            "hidden_channels": 128,
            "encoder_width": 64,
            "discriminator_width": 64,
            "ema_decay": 0.9999,
            "save_every": 1000,
            "preview_every": 2000,
            "log_every": 100,
        },
        105_775_430,
        None,
        Cost(14.6, 0.188),
    ),
    "reference": Preset(
        "SPADE with the VAE as in Park et al. 2019; needs VGG19 (a download)",
        {
            "steps": 100_000,
            "batch_size": 16,
            "crop_size": 256,
            "depth": "normal",
            "start": "linear",
            "padding": "zeros",
            "stage_noise": False,
            "noise_channels": 0,
            "base_width": 64,
            "hidden_channels": 128,
            "latent_size": 256,
            "encoder_width": 64,
            "discriminator_width": 64,
            "prior_share": 0.0,
            "mean_weight": 0.0,
            "perceptual_weight": 10.0,
            "perceptual_source": "vgg19",
            "ema_decay": 0.9999,
            "save_every": 1000,
            "preview_every": 2000,
            "log_every": 100,
        },
        124_942_470,
        None,
        None,
    ),
}
