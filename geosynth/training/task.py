"""SpadeTask: one training step of generator, encoder and discriminator, as a LightningModule."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from geosynth.config import DiscriminatorSettings, EncoderSettings, GeneratorSettings, TrainSettings
from geosynth.errors import TrainingError
from geosynth.models.discriminator import MultiscaleDiscriminator
from geosynth.models.encoder import StyleEncoder, sample_latent
from geosynth.models.field import random_noise
from geosynth.models.generator import SpadeGenerator
from geosynth.models.losses import (
    block_mean_distance,
    feature_matching,
    hinge_discriminator,
    hinge_generator,
    kl_divergence,
    split_outputs,
)
from geosynth.patches.module import random_dihedral
from geosynth.training.average import estimate_norms, update_average

_ADAM_BETAS = (0.0, 0.9)
_NOISE_RATE = 10.0  # noise strengths start small and are few: they learn this much faster than other weights
_NORM_BATCHES = 50


class SpadeTask(LightningModule):
    """Networks, losses and updates. Sample from the dataset in, weights updated.

    The generator paints one fake a step: the discriminator sees it detached, then judges it for the generator.
    """

    steps_done: Tensor

    def __init__(self, settings: TrainSettings, num_classes: int, num_bands: int) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.settings = settings
        torch.manual_seed(settings.seed)
        generator = settings.generator(num_classes, num_bands)
        self.generator = SpadeGenerator(generator, spectral_norm=True)
        self.average = SpadeGenerator(generator).requires_grad_(False).eval()
        update_average(self.average, self.generator, decay=0.0)
        self.encoder = StyleEncoder(
            EncoderSettings(num_bands=num_bands, base_width=settings.encoder_width, latent_size=settings.latent_size)
        )
        self.discriminator = MultiscaleDiscriminator(
            DiscriminatorSettings(
                num_classes=num_classes,
                num_bands=num_bands,
                base_width=settings.discriminator_width,
                num_scales=settings.num_scales,
            )
        )
        self.register_buffer("steps_done", torch.zeros((), dtype=torch.long))
        self.rng = torch.Generator().manual_seed(settings.seed)
        self.recent_masks: deque[Tensor] = deque(maxlen=_NORM_BATCHES)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Adam for generator and encoder, and for the discriminator, at two time scales (TTUR)."""
        rate = self.settings.generator_rate
        strengths = [value for name, value in self.generator.named_parameters() if name.endswith("noise_strength")]
        weights = [value for name, value in self.generator.named_parameters() if not name.endswith("noise_strength")]
        groups = [
            {"params": [*weights, *self.encoder.parameters()], "lr": rate},
            {"params": strengths, "lr": rate * _NOISE_RATE},
        ]
        discriminator = torch.optim.Adam(
            self.discriminator.parameters(), self.settings.discriminator_rate, betas=_ADAM_BETAS
        )
        return [torch.optim.Adam(groups, betas=_ADAM_BETAS), discriminator]

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """One update of each network."""
        real, mask = random_dihedral(batch["image"], batch["mask"], self.rng)
        self.recent_masks.append(mask.to("cpu", torch.uint8))
        real = real.contiguous(memory_format=torch.channels_last)
        one_hot = torch.nn.functional.one_hot(mask, self.generator.settings.num_classes + 1)
        one_hot = one_hot[..., :-1].permute(0, 3, 1, 2).to(real.dtype)

        mean, log_variance = self.encoder(real)
        latent = sample_latent(mean.float(), log_variance.float(), self.rng)
        noise = _noise_for(mask, self.generator.settings, self.rng)
        fake = self.generator(mask, latent, noise).float()

        self.discriminator.requires_grad_(False)  # gradients flow through it, not into its weights
        fake_out, real_out = self._judge(one_hot, fake, real)
        losses = {
            "gan": hinge_generator(fake_out),
            "features": self.settings.feature_weight * feature_matching(fake_out, real_out),
            "kl": self.settings.kl_weight * kl_divergence(mean.float(), log_variance.float()),
            "means": self.settings.mean_weight * block_mean_distance(fake, real),
        }
        self._update(0, torch.stack(list(losses.values())).sum())

        self.discriminator.requires_grad_(True)
        fake_out, real_out = self._judge(one_hot, fake.detach(), real)
        losses["discriminator"] = hinge_discriminator(fake_out, real_out)
        self._update(1, losses["discriminator"])
        values = {name: float(value.detach()) for name, value in losses.items()}

        update_average(self.average, self.generator, self._average_decay())
        self.steps_done += 1
        self.log_dict(values)
        self._refuse_divergence(values)

    def _judge(self, one_hot: Tensor, fake: Tensor, real: Tensor) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
        both = self.discriminator(torch.cat([one_hot, one_hot]), torch.cat([fake, real]))
        return split_outputs([[value.float() for value in scale] for scale in both])

    def _update(self, index: int, loss: Tensor) -> None:
        """One step of the optimiser at `index` in `configure_optimizers`."""
        optimisers = self.optimizers()
        assert isinstance(optimisers, list)
        optimiser = optimisers[index]
        optimiser.zero_grad()
        self.manual_backward(loss)
        optimiser.step()

    def _average_decay(self) -> float:
        """Shorter memory at first, so that the random start is forgotten."""
        steps = int(self.steps_done)
        return min(self.settings.ema_decay, (1 + steps) / (10 + steps))

    def set_rates(self, progress: float) -> None:
        """Learning rates at `progress` (0..1) of the training: constant, then linear to zero."""
        start = self.settings.decay_from
        factor = 1.0 if progress <= start else max(0.0, (1 - progress) / (1 - start))
        optimisers = self.optimizers()
        assert isinstance(optimisers, list)
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group.setdefault("initial_lr", group["lr"])
                group["lr"] = group["initial_lr"] * factor

    def _refuse_divergence(self, losses: dict[str, float]) -> None:
        for name, value in losses.items():
            if not math.isfinite(value):
                raise TrainingError(
                    f"step {int(self.steps_done)}: loss {name!r} is {value};"
                    " lower the learning rates or use precision fp32"
                )

    def finished_generator(self) -> SpadeGenerator:
        """The averaged generator with batch-norm statistics measured on recent labels and fresh styles."""
        settings = self.generator.settings
        rng = torch.Generator().manual_seed(self.settings.seed)
        masks = (mask.to(self.device, torch.long) for mask in self.recent_masks)
        estimate_norms(self.average, ((mask, *random_inputs(settings, mask, rng)) for mask in masks))
        return self.average

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put beside the weights what else is needed to go on: settings, random state, recent labels."""
        checkpoint.setdefault("geosynth", {}).update(
            settings=self.settings.model_dump(mode="json"),
            rng=self.rng.get_state(),
            recent_masks=list(self.recent_masks),
        )

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The inverse of `on_save_checkpoint`."""
        if values := checkpoint.get("geosynth"):
            self.rng.set_state(values["rng"].cpu())
            self.recent_masks.extend(mask.cpu() for mask in values["recent_masks"])


def random_inputs(settings: GeneratorSettings, mask: Tensor, rng: torch.Generator) -> tuple[Tensor, list[Tensor]]:
    """A random style for each of a batch of (B, H, W) label maps, and noise; on the device of the labels."""
    latent = torch.randn((len(mask), settings.latent_size), generator=rng).to(mask.device)
    return latent, _noise_for(mask, settings, rng)


def _noise_for(mask: Tensor, settings: GeneratorSettings, rng: torch.Generator) -> list[Tensor]:
    batch, height, width = mask.shape
    return [values.to(mask.device) for values in random_noise(settings, batch, height, width, rng)]
