"""SpadeTask: one training step of generator, encoder and discriminator, as a LightningModule."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import _SpectralNorm

from geosynth.checkpoint import GeneratorModel
from geosynth.config import EncoderSettings, TrainSettings
from geosynth.errors import TrainingError
from geosynth.models.encoder import StyleEncoder, reparameterised
from geosynth.models.generator import SpadeGenerator
from geosynth.models.oasis import count_classes
from geosynth.models.spectral import load_folded
from geosynth.training.average import estimate_norms, update_average
from geosynth.training.draws import Rows, draw_rows, drawn_places, random_inputs, sample_rngs
from geosynth.training.numbers import Numbers
from geosynth.training.objectives import Objectives, build_adversary
from geosynth.training.replicas import average_gradients, gathered, rank_index, total

_NORM_BATCHES = 50
_LARGEST_LOSS = 1e6


class SpadeTask(LightningModule):
    """Networks, losses and updates. Sample from the dataset in, weights updated.

    Each step paints one fake a patch and shows it, and the real image, to the discriminator once: both networks' losses
    come from the same outputs, and both step after both backward passes.

    Args:
        settings: of the training.
        num_classes: in the labels.
        band_names: of the images.
        initial: a model of such networks, whose generator and encoder to go on from.
    """

    def __init__(
        self,
        settings: TrainSettings,
        num_classes: int,
        band_names: Sequence[str],
        initial: GeneratorModel | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.settings = settings
        num_bands = len(band_names)
        generator = settings.generator(num_classes, num_bands)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.generator = SpadeGenerator(generator, spectral_norm=True)
            self.encoder = _build_encoder(settings, num_bands, initial) if settings.has_encoder else None
            self.adversary = build_adversary(settings, num_classes, num_bands)
            self.average = SpadeGenerator(generator).requires_grad_(False).eval()
        if initial is not None:
            load_folded(self.generator, initial.generator.state_dict())
            if self.encoder is not None and initial.encoder is not None:
                load_folded(self.encoder, initial.encoder.state_dict())
        update_average(self.average, self.generator, decay=0.0)
        self.to(memory_format=torch.channels_last)
        # In a tuple: what it holds is no part of the checkpoint.
        self.objectives = (Objectives(settings, num_classes, band_names),)
        self.steps_done = 0
        self.drawn_places = drawn_places(settings.prior_share, settings.batch_size)
        self.recent_masks: deque[Tensor] = deque(maxlen=_NORM_BATCHES)
        self.losses: dict[str, float] = {}  # of the last step
        self._scale: dict[str, Any] = {}  # of float16 gradients, from a checkpoint

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Adam for generator and encoder, and for the discriminator, at two time scales (TTUR)."""
        rate, betas = self.settings.generator_rate, self.settings.adam_betas
        strengths = [value for name, value in self.generator.named_parameters() if name.endswith("noise_strength")]
        groups = [{"params": self._painting_weights(without=strengths), "lr": rate}]
        if strengths:
            groups.append({"params": strengths, "lr": rate * self.settings.noise_rate})
        return [
            torch.optim.Adam(groups, betas=betas, fused=True),
            torch.optim.Adam(self.adversary.parameters(), self.settings.discriminator_rate, betas=betas, fused=True),
        ]

    def on_fit_start(self) -> None:
        """Take up what belongs to the device."""
        self.prepare(self.trainer.optimizers)

    def prepare(self, optimisers: Sequence[torch.optim.Optimizer]) -> None:
        """What `update` needs, once the networks are on their device."""
        self.optimisers = optimisers
        self.numbers = Numbers(self.settings.precision, self.device)
        self.numbers.load_state_dict(self._scale)
        self.objectives[0].to(self.device)
        self.painting, self.judging = self._painting_weights(), list(self.adversary.parameters())

    def _painting_weights(self, without: Sequence[nn.Parameter] = ()) -> list[nn.Parameter]:
        networks = [self.generator, *([self.encoder] if self.encoder else [])]
        left_out = {id(value) for value in without}
        return [value for network in networks for value in network.parameters() if id(value) not in left_out]

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """One update of each network."""
        self.update(batch["image"], batch["mask"])

    def update(self, image: Tensor, mask: Tensor) -> None:
        """One update of each network, from this device's share of a batch.

        Args:
            image: (B, num_bands, N, N) in [-1, 1].
            mask: (B, N, N) class indices.

        Raises:
            TrainingError: if a loss is not finite.
        """
        rows = self._rows(image, mask)
        self.recent_masks.append(gathered(rows.mask.to(torch.uint8)).cpu())
        counts = total(count_classes(rows.mask, self.generator.settings.num_classes))
        parts = self.settings.parts
        sums: dict[str, Tensor] = {}
        for index in range(parts):
            _set_power_iterations(self, on=index == 0)
            with parametrize.cached():
                painting, judging = self._losses(rows.part(index, parts), counts)
                self.numbers.backward(_sum(painting) / parts, self.painting, keep_graph=True)
                self.numbers.backward(_sum(judging) / parts, self.judging)
            for name, value in (painting | judging).items():
                sums[name] = sums.get(name, 0) + value.detach() / parts
        average_gradients(self.painting)
        average_gradients(self.judging)
        self.numbers.step(self.optimisers)
        update_average(self.average, self.generator, self._average_decay())
        self.steps_done += 1
        means = total(torch.stack(list(sums.values()))) / self.settings.devices
        self.losses = dict(zip(sums, means.tolist(), strict=True))
        self._refuse_divergence()

    def _rows(self, image: Tensor, mask: Tensor) -> Rows:
        return draw_rows(
            image,
            mask,
            self.generator.settings,
            seed=self.settings.seed,
            step=self.steps_done,
            first_place=rank_index() * len(mask),
            drawn=self.drawn_places,
            turn=self.settings.turn,
        )

    def _losses(self, rows: Rows, counts: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Losses of the generator (with the encoder), and of the discriminator, by name.

        Means over the patches of a part: their mean over parts and devices is that of the whole batch.
        """
        objectives = self.objectives[0]
        with self.numbers.autocast():
            fakes, latents, moments = self._paint(rows)
            fake, second = fakes[: len(rows.mask)], fakes[len(rows.mask) :]
            labels, shown_fake, shown_real = objectives.shown(fake, rows)
            judged_fake = self.adversary.judge(labels, shown_fake)
            judged_real = self.adversary.judge(labels, shown_real)
            painting = self.adversary.for_generator(
                judged_fake, judged_real, labels, paired=objectives.paired(rows), counts=counts
            )
            if self.settings.feature_weight and self.settings.discriminator == "patch":
                painting["features"] = painting.get("features", fake.new_zeros(())) * objectives.paired_share(rows)
            painting |= objectives.comparing(fake, rows) | objectives.kl(moments, rows)
            if objectives.wants_second:
                painting |= objectives.diversity(self.adversary, judged_fake, fake, second, latents, rows)
            judging = self.adversary.for_discriminator(
                judged_fake, judged_real, labels, shown_fake.detach(), shown_real, rows.rngs, counts=counts
            )
        return painting, judging

    def _paint(self, rows: Rows) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor] | None]:
        """(fakes, their latents, mean and log variance of those that were read from images).

        One pass, so that all share their statistics: the B fakes of the patches, then second ones, if wanted, with
        the other drawn style, for the rows whose style is drawn.
        """
        latents, moments = rows.latents, None
        if self.encoder is not None and len(rows.paired):
            mean, log_variance = moments = tuple(values.float() for values in self.encoder(rows.image[rows.paired]))
            read = reparameterised(mean, log_variance, latents[rows.paired])
            latents = latents.index_copy(0, rows.paired, read)
        mask, noise = rows.mask, rows.noise
        if self.objectives[0].wants_second:
            latents = torch.cat([latents, rows.seconds])
            mask = torch.cat([mask, mask[rows.drawn]])
            noise = [torch.cat([values, values[rows.drawn]]) for values in noise]
        return self.generator(mask, latents, noise).float(), latents, moments

    def _average_decay(self) -> float:
        """Shorter memory at first, so that the random start is forgotten."""
        return min(self.settings.ema_decay, (1 + self.steps_done) / (10 + self.steps_done))

    def set_rates(self, progress: float) -> tuple[float, float]:
        """Learning rates at `progress` (0..1) of the training, generator's and discriminator's.

        They are constant, then fall linearly to zero; the generator's may first rise.
        """
        start, warmup = self.settings.decay_from, self.settings.generator_warmup
        fall = 1.0 if progress <= start else max(0.0, (1 - progress) / (1 - start))
        rise = min(1.0, progress / warmup) if warmup else 1.0
        for optimiser, factor in zip(self.optimisers, (rise * fall, fall), strict=True):
            for group in optimiser.param_groups:
                group.setdefault("initial_lr", group["lr"])
                group["lr"] = group["initial_lr"] * factor
        return self.optimisers[0].param_groups[0]["lr"], self.optimisers[1].param_groups[0]["lr"]

    def _refuse_divergence(self) -> None:
        for name, value in self.losses.items():
            if not math.isfinite(value) or abs(value) > _LARGEST_LOSS:
                raise TrainingError(
                    f"step {self.steps_done}: loss {name!r} is {value:.3g}; lower the learning rates or use"
                    " precision fp32"
                )

    def finished_generator(self) -> SpadeGenerator:
        """The averaged generator with batch-norm statistics measured on recent labels and fresh styles."""
        settings, seed = self.generator.settings, self.settings.seed

        def batches() -> Iterator[tuple[Tensor, Tensor, list[Tensor]]]:
            for index, stored in enumerate(self.recent_masks):
                mask = stored.to(self.device, torch.long)
                yield mask, *random_inputs(settings, mask, sample_rngs(seed, index, range(len(mask))))

        estimate_norms(self.average, batches())
        return self.average

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put beside the weights what else is needed to go on: settings, steps, recent labels, the gradients' scale.

        There is no random state: what a step draws follows from the seed and its number.
        """
        checkpoint.setdefault("geosynth", {}).update(
            settings=self.settings.model_dump(mode="json"),
            steps=self.steps_done,
            recent_masks=list(self.recent_masks),
            scale=self.numbers.state_dict(),
        )

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The inverse of `on_save_checkpoint`."""
        values = checkpoint["geosynth"]
        self.steps_done = values["steps"]
        self.recent_masks.extend(mask.cpu() for mask in values["recent_masks"])
        self._scale = values["scale"]


def _build_encoder(settings: TrainSettings, num_bands: int, initial: GeneratorModel | None) -> StyleEncoder:
    if initial is not None and initial.card.encoder is not None:
        return StyleEncoder(initial.card.encoder, spectral_norm=True)
    return StyleEncoder(
        EncoderSettings(
            num_bands=num_bands,
            base_width=settings.encoder_width,
            latent_size=settings.latent_size,
            num_layers=6 if settings.crop_size >= 256 else 5,
        ),
        spectral_norm=True,
    )


def _sum(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()


def _set_power_iterations(network: nn.Module, *, on: bool) -> None:
    """Let spectral norms refine their vectors at the next pass: once a step, however many parts it has."""
    for module in network.modules():
        if isinstance(module, _SpectralNorm):
            module.train(on)
