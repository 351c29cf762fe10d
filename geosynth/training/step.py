"""SpadeTask: one training step of generator, encoder and discriminator, as a LightningModule."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import _SpectralNorm

from geosynth.checkpoint import GeneratorModel
from geosynth.config import DiscriminatorSettings, EncoderSettings, OasisSettings, TrainSettings
from geosynth.errors import TrainingError
from geosynth.models.adversary import Augmentation, OasisAdversary, PatchAdversary, features_of
from geosynth.models.device import full_float32, uses_bfloat16
from geosynth.models.encoder import StyleEncoder, reparameterised
from geosynth.models.generator import SpadeGenerator
from geosynth.models.losses import Outputs, block_mean_distance, diversity, kl_divergence
from geosynth.models.oasis import count_classes
from geosynth.models.perceptual import PerceptualLoss
from geosynth.models.spectral import load_folded
from geosynth.training.average import estimate_norms, update_average
from geosynth.training.draws import Rows, draw_rows, drawn_places, random_inputs, sample_rngs
from geosynth.training.replicas import average_gradients, gathered, rank_index, total

# --- Number formats of a training: what convolutions run in, and the scale that keeps float16 gradients from vanishing.

_FORMATS = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def number_format(precision: str, device: str) -> torch.dtype:
    """What convolutions run in: as asked for, or what the hardware is fast at.

    Args:
        precision: "bf16", "fp16", "fp32", or "auto": bfloat16 where the hardware is fast at it, else float16 on a GPU
            and float32 on a CPU.
        device: "cpu", "cuda", "cuda:1", ...
    """
    if precision != "auto":
        return _FORMATS[precision]
    if uses_bfloat16("auto", device):
        return torch.bfloat16
    return torch.float16 if torch.device(device).type == "cuda" else torch.float32


class Numbers:
    """Automatic mixed precision for two networks that train side by side.

    Both optimisers step after both backward passes, with one scale for both; Lightning's own would change the scale in
    between.

    Args:
        precision: as in `number_format`.
        device: where the networks are.
    """

    def __init__(self, precision: str, device: torch.device) -> None:
        self.device_type = device.type
        self.dtype = number_format(precision, str(device))
        if self.dtype == torch.float32:
            full_float32()
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype == torch.float16)

    def autocast(self) -> torch.autocast:
        """The context of the forward pass."""
        return torch.autocast(self.device_type, self.dtype, enabled=self.dtype != torch.float32)

    def backward(self, loss: Tensor, parameters: Sequence[nn.Parameter], *, keep_graph: bool = False) -> None:
        """Add the loss's gradients to those of `parameters`, and to no others."""
        torch.autograd.backward(self.scaler.scale(loss), inputs=parameters, retain_graph=keep_graph)

    def step(self, optimisers: Iterable[torch.optim.Optimizer]) -> None:
        """Step each; in float16, leave out one whose gradients overflowed, and lower the scale."""
        for optimiser in optimisers:
            self.scaler.step(optimiser)
            optimiser.zero_grad()
        self.scaler.update()

    def state_dict(self) -> dict[str, Any]:
        """What goes into the checkpoint."""
        return self.scaler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`; that of another format is passed over."""
        if state and self.scaler.is_enabled():
            self.scaler.load_state_dict(state)


# --- What the generator is asked for beside the adversary's opinion, and which patches each loss looks at.

Adversary = PatchAdversary | OasisAdversary


def build_adversary(settings: TrainSettings, num_classes: int, num_bands: int) -> Adversary:
    """The discriminator that the settings ask for, with its losses."""
    width = settings.discriminator_width
    if settings.discriminator == "oasis":
        levels = min(6, (settings.crop_size & -settings.crop_size).bit_length() - 3)
        oasis = OasisSettings(num_classes=num_classes, num_bands=num_bands, base_width=width, num_levels=levels)
        return OasisAdversary(oasis, settings.labelmix_weight)
    patch = DiscriminatorSettings(
        num_classes=num_classes, num_bands=num_bands, base_width=width, num_scales=settings.num_scales
    )
    return PatchAdversary(patch, settings.feature_weight)


class Objectives:
    """Losses by name, each weighted.

    A loss that looks at some patches only is scaled such that its mean over parts and devices is its mean over all
    such patches of the batch, however they are spread.

    Args:
        settings: of the training.
        num_classes: in the labels.
        band_names: of the images.
    """

    def __init__(self, settings: TrainSettings, num_classes: int, band_names: Sequence[str]) -> None:
        self.settings, self.num_classes = settings, num_classes
        self.num_drawn = len(drawn_places(settings.prior_share, settings.batch_size))
        self.wants_second = settings.diversity_weight > 0
        self.perceptual = (
            PerceptualLoss.build(settings.perceptual_source, band_names, settings.perceptual_path)
            if settings.perceptual_weight
            else None
        )

    def to(self, device: torch.device) -> None:
        """Move pretrained networks."""
        if self.perceptual is not None:
            self.perceptual.to(device)

    def shown(self, fake: Tensor, rows: Rows) -> tuple[Tensor, Tensor, Tensor]:
        """Labels, fake and real images as the discriminator sees them."""
        mask, real, strength = rows.mask, rows.image, self.settings.augment
        if not strength:
            return mask, fake, real
        height, width = mask.shape[1:]
        drawn = torch.stack([torch.rand(Augmentation.NUM_DRAWS, generator=rng) for rng in rows.rngs])
        change = Augmentation(strength, height, width, drawn.to(mask.device))
        return change.labels(mask, self.num_classes), change.image(fake), change.image(real)

    def paired(self, rows: Rows) -> Tensor | None:
        """The rows that are compared to their real images; None for all."""
        return rows.paired if self.settings.has_encoder else None

    def paired_share(self, rows: Rows) -> float:
        """What a mean over the rows that are compared counts."""
        return self._share(rows, rows.paired) if self.settings.has_encoder else 1.0

    def comparing(self, fake: Tensor, rows: Rows) -> dict[str, Tensor]:
        """Distances of fakes to their real images: block means, pretrained features."""
        settings, real = self.settings, rows.image
        if settings.has_encoder:
            fake, real = fake[rows.paired], real[rows.paired]
        share, losses = self.paired_share(rows), {}
        if settings.mean_weight:
            means = block_mean_distance(fake, real) if share else fake.new_zeros(())
            losses["means"] = share * settings.mean_weight * means
        if self.perceptual is not None:
            distance = self.perceptual(fake, real) if share else fake.new_zeros(())
            losses["perceptual"] = share * settings.perceptual_weight * distance
        return losses

    def kl(self, moments: tuple[Tensor, Tensor] | None, rows: Rows) -> dict[str, Tensor]:
        """The Kullback-Leibler term of styles that were read from images, by their (mean, log variance)."""
        if not self.settings.has_encoder:
            return {}
        value = kl_divergence(*moments) if moments else rows.latents.new_zeros(())
        return {"kl": self.paired_share(rows) * self.settings.kl_weight * value}

    def diversity(
        self, adversary: Adversary, judged: Outputs, fake: Tensor, second: Tensor, latents: Tensor, rows: Rows
    ) -> dict[str, Tensor]:
        """The DSGAN term over pairs of fakes that differ in their drawn styles only."""
        if not len(rows.drawn):
            return {"diversity": fake.new_zeros(())}
        first_latent, second_latent = latents[rows.drawn], latents[len(rows.mask) :]
        if self.settings.diversity_distance == "pixels":
            pair = [fake[rows.drawn]], [second]
        else:
            chosen = [[values[rows.drawn] for values in scale] for scale in judged]
            pair = features_of(chosen), features_of(adversary.judge(rows.mask[rows.drawn], second))
        weight = self.settings.diversity_weight * self._share(rows, rows.drawn)
        return {"diversity": -weight * diversity(*pair, first_latent, second_latent, self.settings.diversity_limit)}

    def _share(self, rows: Rows, chosen: Tensor) -> float:
        """What the mean over `chosen` rows of a part counts, so that parts and devices average to the batch's mean."""
        everywhere = self.num_drawn if chosen is rows.drawn else self.settings.batch_size - self.num_drawn
        num_shares = self.settings.batch_size / len(rows.mask)
        return len(chosen) * num_shares / everywhere if everywhere else 0.0


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
        self.band_names, num_bands = tuple(band_names), len(band_names)
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
                judged_fake, judged_real, labels, shown_fake.detach(), shown_real, self._sides(rows), counts=counts
            )
        return painting, judging

    def _sides(self, rows: Rows) -> Tensor | None:
        if self.settings.discriminator == "patch":
            return None
        count = self.generator.settings.num_classes + 1
        return (torch.stack([torch.rand(count, generator=rng) for rng in rows.rngs]) < 0.5).to(rows.mask.device)

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
