"""One training step: parts, weights' shares, gradients, choices of networks and losses."""

import pytest
import torch
from torch import nn
from trainings import TINY, ready, update

from geosynth.config import TrainSettings
from geosynth.errors import SettingsError
from geosynth.models.losses import diversity
from geosynth.models.modulation import SpadeModulation
from geosynth.models.spectral import SpectralNorm
from geosynth.training import objectives as objectives_module
from geosynth.training.networks import SpadeNetworks

FOUR = TINY.model_copy(update={"batch_size": 4})


def batch(count=4, seed=0, size=64):
    rng = torch.Generator().manual_seed(seed)
    cells = torch.randint(6, (count, size // 8, size // 8), generator=rng)
    return torch.rand((count, 4, size, size), generator=rng) * 2 - 1, cells.repeat_interleave(8, 1).repeat_interleave(
        8, 2
    )


def freeze_norms(step):
    """As in evaluation: batch norms, the only part of a network that looks at other samples, and spectral norms."""
    for module in step.networks.generator.modules():
        if isinstance(module, nn.BatchNorm2d | SpectralNorm):
            module.eval()


def gradients_of(step, image, mask):
    """Of one update, before the optimiser forgets them; and its losses."""
    kept = {}
    step.adam.step = lambda *_: kept.update(
        {name: value.grad.clone() for name, value in step.networks.named_parameters() if value.grad is not None}
    )
    losses = update(step, image, mask)
    return kept, losses


def losses_of(step, image, mask, number=0):
    """Of the whole batch as one part; its patches, as drawn, come with them."""
    batch = step.draw(number, image, mask)
    return batch, *step.objectives(batch, step.parts[0], torch.ones(6))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"prior_share": 0.25, "diversity_weight": 4.0},
        {"prior_share": 0.25, "diversity_weight": 4.0, "diversity_distance": "features"},
        {"discriminator": "oasis"},
        {"prior_share": 1.0},
        {"augment": 1.0},
    ],
    ids=["patch", "dsgan", "dsgan features", "oasis", "no encoder", "augmented"],
)
def test_parts_give_the_gradients_of_the_whole_batch(changes):
    """Where no norm looks at other samples; batch norm's statistics are a part's own."""
    image, mask = batch()
    results = []
    for parts in (1, 4):
        step = ready(FOUR, parts=parts, **changes)
        freeze_norms(step)
        results.append(gradients_of(step, image, mask))
    (whole, losses), (parted, parted_losses) = results
    assert parted_losses == pytest.approx(losses, rel=1e-4, abs=1e-6)
    learning = {name for name, _ in step.networks.named_parameters() if "average" not in name}
    assert whole.keys() == parted.keys() == learning
    for name, value in whole.items():
        torch.testing.assert_close(parted[name], value, rtol=1e-3, atol=1e-6 + 1e-3 * float(value.abs().max()))


def test_each_loss_reaches_its_own_networks():
    """The generator's and encoder's gradients are those of the painting losses, the discriminator's of the other."""
    image, mask = batch()
    step, plain = ready(FOUR), ready(FOUR)
    found, _ = gradients_of(step, image, mask)
    _, painting, judging = losses_of(plain, image, mask)
    expected = torch.autograd.grad(sum(painting.values()), plain.painting, retain_graph=True)
    expected += torch.autograd.grad(sum(judging.values()), plain.judging)
    names = {value: name for name, value in plain.networks.named_parameters()}
    for value, gradient in zip([*plain.painting, *plain.judging], expected, strict=True):
        torch.testing.assert_close(
            found[names[value]], gradient, rtol=1e-3, atol=1e-6 + 1e-3 * float(gradient.abs().max())
        )


def test_spectral_norms_are_refined_once_a_step():
    vectors = []
    for parts in (1, 2):
        step = ready(FOUR, parts=parts)
        update(step, *batch())
        vectors.append({name: value for name, value in step.networks.named_buffers() if name.endswith("._u")})
    assert vectors[0].keys() == vectors[1].keys() != set()
    assert all(torch.equal(value, vectors[1][name]) for name, value in vectors[0].items())


def test_seconds_differ_from_firsts_by_their_style_only(monkeypatch):
    seen = []

    def record(first, second, latent_first, latent_second, limit):
        seen.append((first, second, latent_first, latent_second))
        return diversity(first, second, latent_first, latent_second, limit)

    monkeypatch.setattr(objectives_module, "diversity", record)
    step = ready(FOUR, diversity_weight=1.0)
    freeze_norms(step)
    drawn_batch, *_ = losses_of(step, *batch())
    drawn = step.parts[0].drawn
    [([first], [second], latent_first, latent_second)] = seen
    noise = [values[drawn] for values in drawn_batch.noise]
    for image, latent in ((first, latent_first), (second, latent_second)):
        expected = step.networks.generator(drawn_batch.mask[drawn], latent, noise)
        torch.testing.assert_close(image, expected, rtol=1e-4, atol=1e-4)
    assert not torch.equal(latent_first, latent_second)


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({}, {"gan", "features", "means", "kl", "discriminator"}),
        ({"feature_weight": 0.0, "mean_weight": 0.0}, {"gan", "kl", "discriminator"}),
        ({"prior_share": 1.0}, {"gan", "features", "means", "discriminator"}),
        ({"discriminator": "oasis"}, {"gan", "means", "kl", "discriminator", "label_mix"}),
        ({"discriminator": "oasis", "labelmix_weight": 0.0}, {"gan", "means", "kl", "discriminator"}),
        ({"diversity_weight": 2.0}, {"gan", "features", "means", "kl", "diversity", "discriminator"}),
        ({"perceptual_weight": 1.0}, {"gan", "features", "means", "kl", "perceptual", "discriminator"}),
        ({"augment": 1.0}, {"gan", "features", "means", "kl", "discriminator"}),
        ({"augment": 1.0, "discriminator": "oasis"}, {"gan", "means", "kl", "discriminator", "label_mix"}),
    ],
)
def test_losses_are_those_that_are_asked_for(changes, names):
    step = ready(TINY, **changes)
    before = {name: value.detach().clone() for name, value in step.networks.named_parameters()}
    assert update(step, *batch(2)).keys() == names
    moved = {name for name, value in step.networks.named_parameters() if not torch.equal(value, before[name])}
    assert {name.split(".")[0] for name in moved} == {name.split(".")[0] for name in before}
    assert (step.networks.encoder is None) == (changes.get("prior_share") == 1.0)


@pytest.mark.parametrize(
    ("weight", "name", "changes"),
    [
        ("kl_weight", "kl", {}),
        ("mean_weight", "means", {}),
        ("feature_weight", "features", {}),
        ("perceptual_weight", "perceptual", {}),
        ("diversity_weight", "diversity", {}),
        ("labelmix_weight", "label_mix", {"discriminator": "oasis"}),
        ("projected_weight", "projected", {}),
        ("perceptual_weight", "perceptual", {"projected_weight": 1.0}),
    ],
)
def test_a_weight_scales_its_own_loss_alone(weight, name, changes):
    found = []
    for by in (1.0, 3.0):
        _, painting, judging = losses_of(ready(TINY, **changes, **{weight: by}), *batch(2))
        found.append({loss: value.item() for loss, value in (painting | judging).items()})
    once, thrice = found
    assert once[name] != 0
    assert thrice == pytest.approx({**once, name: 3 * once[name]}, rel=1e-4)


def test_pretrained_weights_stay_out_of_the_checkpoint():
    with_loss, without = ready(TINY, perceptual_weight=1.0), ready(TINY)
    assert with_loss.networks.state_dict().keys() == without.networks.state_dict().keys()
    assert with_loss.state_dict().keys() == without.state_dict().keys()


@pytest.mark.parametrize("changes", [{}, {"discriminator": "oasis"}, {"prior_share": 1.0}])
def test_a_batch_of_one_and_of_one_class(changes):
    step = ready(TINY, batch_size=1, **changes)
    image, _ = batch(1)
    for number, label in enumerate((0, 6)):  # a class, and no class at all
        update(step, image, torch.full((1, 64, 64), label), number)
    assert all(torch.isfinite(value).all() for value in step.networks.state_dict().values())


def test_networks_do_not_touch_the_callers_random_state():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    SpadeNetworks(TINY, 6, 4)
    assert torch.equal(torch.rand(1), expected)


def test_rates_are_constant_then_fall_to_zero():
    step = ready(TINY, decay_from=0.5)
    rates = [step.set_rates(progress) for progress in (0.0, 0.5, 0.75, 1.0, 0.25)]
    generator, discriminator = TINY.generator_rate, TINY.discriminator_rate
    assert rates == [pytest.approx((generator * f, discriminator * f)) for f in (1, 1, 0.5, 0, 1)]
    assert [group["lr"] for group in step.adam.param_groups] == pytest.approx(
        [generator, 10 * generator, discriminator]
    )


def test_the_discriminator_alone_sees_changed_images(monkeypatch):
    step, seen = ready(TINY, augment=1.0), []
    adversary = step.networks.adversary
    plain_judge = adversary.judge
    monkeypatch.setattr(adversary, "judge", lambda *both: seen.append(both) or plain_judge(*both))
    drawn, *_ = losses_of(step, *batch(2))
    (labels, fake), (same_labels, real) = seen
    assert labels is same_labels
    hole = labels != drawn.mask
    assert hole.any()
    assert not fake.movedim(1, -1)[hole].any()
    assert not real.movedim(1, -1)[hole].any()
    assert not torch.isclose(real, drawn.image).movedim(1, -1)[~hole].all(-1).any()


def test_noise_strengths_may_stay_as_they_are():
    step = ready(TINY, noise_rate=0.0)
    generator = step.networks.generator
    before = {name: value.detach().clone() for name, value in generator.named_parameters()}
    update(step, *batch(2))
    moved = {name for name, value in generator.named_parameters() if not torch.equal(value, before[name])}
    assert moved == {name for name in before if not name.endswith("noise_strength")}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch_size": 6, "devices": 2, "parts": 2}, "batch_size: must be a multiple of devices x parts, 4"),
        ({"diversity_weight": 1.0, "prior_share": 0.0}, "diversity_weight: needs drawn styles"),
        ({"start": "linear"}, "noise_channels"),
        (
            {"augment": 0.5, "diversity_weight": 1.0, "diversity_distance": "features"},
            "set diversity_distance to pixels",
        ),
        ({"crop_size": 64, "num_scales": 7}, "num_scales: must be 6 at most for crops of 64 px"),
        ({"max_time": "soon"}, "give a time, as in 90m"),
        ({"adam_betas": (0.0, 1.0)}, "adam_betas.1"),
    ],
)
def test_settings_that_do_not_go_together(changes, words):
    with pytest.raises(SettingsError, match=words) as caught:
        TrainSettings.parse(changes)
    assert "\n" not in str(caught.value)


def test_a_finished_generator_knows_what_replayed_steps_changed():
    """They write into the weights without torch counting it, as `data` does here."""
    step = ready(TINY)
    step.settings = TINY.model_copy(update={"keep_norms": True})  # else measured norms tell
    drawn, images = step.draw(0, *batch(2)), []
    for _ in range(2):
        with torch.no_grad():
            images.append(step.finished_generator()(drawn.mask, torch.ones(2, 3), drawn.noise))
        for module in step.networks.average.modules():
            if isinstance(module, SpadeModulation):
                module.gamma_beta.bias.data.add_(1)
    assert not torch.equal(*images)
