"""One training step: `draw` its random choices on the CPU, `learn` on the device, where losses stay until read."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor

from geosynth.config import TrainSettings
from geosynth.loop import number_format
from geosynth.models.adversary import Losses
from geosynth.models.generator import SpadeGenerator
from geosynth.models.oasis import count_classes
from geosynth.models.products import ProductWeights
from geosynth.models.replay import Replay
from geosynth.training.average import estimate_norms, update_average
from geosynth.training.draws import TrainBatch, draw_batch, random_inputs, split_batch
from geosynth.training.networks import SpadeNetworks
from geosynth.training.objectives import Objectives

_NORM_BATCHES = 50
_WARM_UPS = 3  # steps of a training before one is recorded


class SpadeStep:
    """Draws, losses and updates of the networks.

    Args:
        networks: to train; they move to the device of `fabric`.
        settings: of the training.
        band_names: of the images.
        fabric: gives device, precision, and communication with other processes.
    """

    def __init__(
        self, networks: SpadeNetworks, settings: TrainSettings, band_names: Sequence[str], fabric: Fabric
    ) -> None:
        self.networks, self.settings, self.fabric = networks.to(fabric.device), settings, fabric
        self.objectives = Objectives(networks, settings, band_names, fabric.device)
        self.parts = split_batch(settings, fabric.global_rank, fabric.device)
        self.painting, self.judging = networks.painting_weights(), networks.judging_weights()
        if settings.learn == "styles":
            self.painting = networks.style_weights()
        dtype = number_format(settings.precision, str(fabric.device))
        # Several processes communicate, and float16 may skip an update, so the operations are not the same each time.
        alike = fabric.world_size == 1 and dtype != torch.float16
        self._replay = Replay(self._learn_and_average, fabric.device, warm_ups=_WARM_UPS, enabled=alike)
        self.adam = self._build_adam()
        self.optimizer: Any = fabric.setup_optimizers(self.adam)  # for float16 it scales gradients
        self.recent_masks: deque[Tensor] = deque(maxlen=_NORM_BATCHES)
        trained = networks.generator, networks.encoder, networks.adversary, networks.projected
        used = [network for network in (*trained, self.objectives.perceptual) if network is not None]
        self.weights = ProductWeights(used, [self.painting, self.judging], dtype)
        self._names: tuple[str, ...] = ()

    def _build_adam(self) -> torch.optim.Adam:
        """One optimiser for all networks, since in float16 they share the scale of the gradients."""
        settings, learning = self.settings, {id(value) for value in self.painting}
        strengths = [value for value in self.networks.noise_strengths() if id(value) in learning]
        styles = self.networks.style_weights()
        own_rate = {id(value) for value in (*strengths, *styles)}
        others = [value for value in self.painting if id(value) not in own_rate]
        rates = {
            "generator": (others, settings.generator_rate),
            "noise": (strengths, settings.generator_rate * settings.noise_rate),
            "styles": (styles, settings.generator_rate * settings.style_rate),
            "discriminator": (self.judging, settings.discriminator_rate),
        }
        replayed = self._replay.enabled
        groups = [
            {
                "params": weights,
                # A CUDA graph reads the rate from memory, so there it must be a tensor.
                "lr": torch.tensor(rate, device=self.fabric.device) if replayed else rate,
                "full_rate": rate,
                "name": name,
            }
            for name, (weights, rate) in rates.items()
            if weights
        ]
        adam = torch.optim.Adam(groups, betas=settings.adam_betas, fused=True, capturable=replayed)
        # The first steps are not recorded, of which torch would warn.
        adam._warned_capturable_if_run_uncaptured = True
        return adam

    def set_rates(self, progress: float) -> tuple[float, float]:
        """Set the learning rates for `progress` (0 to 1) of the training; returns the generator's and discriminator's.

        The two differ (TTUR). They are constant, then fall linearly to zero; the generator's may first rise from zero.
        """
        start, warmup = self.settings.decay_from, self.settings.generator_warmup
        fall = 1.0 if progress <= start else max(0.0, (1 - progress) / (1 - start))
        learned = progress - self.settings.head_start
        rise = min(1.0, max(0.0, learned) / warmup) if warmup else float(learned >= 0)
        rates = {}
        for group in self.adam.param_groups:
            rate = group["full_rate"] * (fall if group["name"] == "discriminator" else rise * fall)
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
            rates[group["name"]] = rate
        return rates.get("generator", rates.get("styles", 0.0)), rates["discriminator"]

    def draw(self, step: int, image: Tensor, mask: Tensor, sources: Tensor | None = None) -> TrainBatch:
        """This process's share of a batch, with all random choices of a step; see `draw_batch`.

        Args:
            step: number of the step, from 0.
            image: (B, num_bands, N, N).
            mask: (B, N, N) class indices.
            sources: (B,) index of each patch's source; None for 0.
        """
        looks, numbers = self.networks.looks, [0] * len(mask) if sources is None else sources.tolist()
        own = [looks[source] for source in numbers] if looks else None
        generator, rank = self.networks.generator.settings, self.fabric.global_rank
        return draw_batch(image, mask, self.settings, generator, own, step=step, rank=rank)

    def update(self, step: int, batch: TrainBatch) -> Losses:
        """Update each network once.

        Args:
            step: number of the step, from 0.
            batch: on the device, with its image scaled.

        Returns:
            losses by name, means over the whole batch, each a tensor with one value on the device.
        """
        # The average has a shorter memory at first, so that it forgets the random weights.
        decay = torch.tensor(min(self.settings.ema_decay, (1 + step) / (10 + step)))
        (values,) = self._replay(decay, *batch.tensors())
        losses = dict(zip(self._names, values.unbind(), strict=True))
        self.recent_masks.append(self._whole_mask(batch.mask))
        return losses

    def _learn_and_average(self, decay: Tensor, *tensors: Tensor) -> tuple[Tensor]:
        """The operations that are replayed, which are the same for any batch."""
        losses = self.learn(TrainBatch.of(tensors))
        update_average(self.networks.average, self.networks.generator, decay)
        self._names = tuple(losses)
        return (torch.stack(list(losses.values())),)

    def _whole_mask(self, mask: Tensor) -> Tensor:
        """The labels of the whole batch, from all processes, as uint8."""
        count, first = len(mask), len(mask) * self.fabric.global_rank
        whole = mask.new_zeros((count * self.fabric.world_size, *mask.shape[1:]), dtype=torch.uint8)
        whole[first : first + count] = mask
        self.fabric.all_reduce(whole, reduce_op="sum")
        return whole

    def learn(self, batch: TrainBatch) -> Losses:
        """Compute gradients and update the weights; only the device works, with the same operations for any batch.

        Weights change after both backward passes. With `settings.parts` the gradients of several passes are added.
        """
        self.optimizer.zero_grad()  # a failed recording leaves gradients without values
        counts = self._class_counts(batch.mask)
        sums: Losses = {}
        self.weights.refine()  # once per step, however many parts it has
        for part in self.parts:
            with self.weights.in_place(), self.fabric.autocast():
                painting, judging = self.objectives(batch.part(part), part, counts)
            # Each loss reaches only the weights of its own side.
            self.fabric.backward(_sum(painting) / len(self.parts), inputs=self.painting, retain_graph=True)
            self.fabric.backward(_sum(judging) / len(self.parts), inputs=self.judging)
            for name, value in (painting | judging).items():
                sums[name] = sums.get(name, 0) + value.detach() / len(self.parts)
        self._average_gradients()
        self.optimizer.step()
        self.optimizer.zero_grad()
        means = self.fabric.all_reduce(torch.stack(list(sums.values())), reduce_op="mean")
        assert isinstance(means, Tensor)
        return dict(zip(sums, means.unbind(), strict=True))

    def _class_counts(self, mask: Tensor) -> Tensor | None:
        if self.settings.discriminator == "patch":
            return None
        counts = self.fabric.all_reduce(count_classes(mask, self.objectives.num_classes), reduce_op="sum")
        assert isinstance(counts, Tensor)
        return counts

    @torch.no_grad()
    def _average_gradients(self) -> None:
        """Replace each gradient by its mean over all processes; one that a process lacks counts as zero."""
        if self.fabric.world_size == 1:
            return
        gradients = []
        for weight in (*self.painting, *self.judging):
            weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
            gradients.append(weight.grad)
        flat = torch.cat([gradient.flatten() for gradient in gradients])  # as one message instead of hundreds
        self.fabric.all_reduce(flat, reduce_op="mean")
        for gradient, mean in zip(gradients, torch.split(flat, [one.numel() for one in gradients]), strict=True):
            gradient.copy_(mean.view(gradient.shape))

    def finished_generator(self, batches: int = _NORM_BATCHES) -> SpadeGenerator:
        """The averaged generator, with batch-norm statistics measured on recent labels and newly drawn styles.

        All processes must call this together. With `keep_norms` the statistics are left unchanged.

        Args:
            batches: number of batches of labels, at most, on which statistics are measured.
        """
        average, seed = self.networks.average, self.settings.seed
        for value in average.parameters():  # layers cache results by version, which replayed steps do not raise
            torch.autograd.graph.increment_version(value)
        if self.settings.keep_norms:
            return average

        def inputs() -> Iterator[tuple[Tensor, dict[str, Any]]]:
            for index, stored in enumerate(islice(self.recent_masks, batches)):
                mask = stored.to(self.fabric.device, torch.long)
                looks = self.networks.looks_in_turn(len(mask))
                yield mask, random_inputs(average.settings, mask, seed, index, looks)

        estimate_norms(average, inputs())
        return average

    def state_dict(self) -> dict[str, Any]:
        """What is needed to continue, besides the weights.

        There is no random state, because a step's draws depend only on the seed and its number.
        """
        return {
            "adam": self.adam.state_dict()["state"],
            "scale": self.fabric.strategy.precision.state_dict(),
            "recent_masks": [mask.cpu() for mask in self.recent_masks],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`. The gradient scale of another precision is ignored."""
        groups = self.adam.state_dict()["param_groups"]  # with the rates of the settings
        self.adam.load_state_dict({"state": state["adam"], "param_groups": groups})
        if state["scale"]:
            self.fabric.strategy.precision.load_state_dict(state["scale"])
        self.recent_masks.extend(mask.to(self.fabric.device) for mask in state["recent_masks"])


def _sum(losses: Losses) -> Tensor:
    return torch.stack(list(losses.values())).sum()
