"""Training a generator conditioned on looks: measured styles, changed colours, drawn looks, the model's own look."""

from functools import partial

import numpy as np
import pytest
import torch
from trainings import BANDS, TINY, checkpoint_in, make_store, start_and_break

import geosynth
from geosynth.checkpoint import load_generator
from geosynth.config import BandSettings, GenerateSettings, TrainSettings
from geosynth.errors import DataError, SettingsError
from geosynth.loop import open_fabric
from geosynth.models.looks.styles import local_statistics
from geosynth.training import train as train_module
from geosynth.training.draws import split_batch
from geosynth.training.looks import changed_colours, num_colour_draws, style_distance, training_look
from geosynth.training.networks import SpadeNetworks
from geosynth.training.step import SpadeStep
from geosynth.training.train import train

TOLD = TrainSettings.parse(
    {**TINY.model_dump(exclude={"latent_size"}), "style_lengths": (24,), "style_width": 3, "style_regions": (4,)}
)
NETWORK = TOLD.generator(6, 4)
RGBN = BandSettings(names=BANDS)


@pytest.fixture(scope="module")
def look(store):
    return training_look([store], "train", RGBN, NETWORK, 64, None)


@pytest.fixture(scope="module")
def told(store, tmp_path_factory):
    return train(store, tmp_path_factory.mktemp("told") / "run", TOLD)


def patches(count=4, seed=0):
    rng = torch.Generator().manual_seed(seed)
    cells = torch.randint(6, (count, 8, 8), generator=rng)
    image = torch.rand((count, 4, 64, 64), generator=rng) - 0.5
    return image, cells.repeat_interleave(8, 1).repeat_interleave(8, 2)


def ready(look, **changes):
    settings = TOLD.model_copy(update=changes)
    networks = SpadeNetworks(settings, 6, 4, looks=[look])
    return SpadeStep(networks, settings, BANDS, open_fabric(settings.precision, "cpu"))


def test_the_look_is_that_of_the_tiles(store, look):
    image, labels = store.read(store.scenes[0].window)
    expected = np.stack([image[:, labels == index].mean(1) for index in range(6)])
    np.testing.assert_allclose((look.mean[:, :4].numpy() + 1) * 127.5, expected, atol=3)
    tiles = np.concatenate([labels[:64].ravel(), labels[32:].ravel()])  # they overlap to reach the edge
    np.testing.assert_allclose(look.shares, np.bincount(tiles, minlength=6) / tiles.size, atol=1e-6)


def test_a_look_of_float_imagery_with_holes_is_finite(store, monkeypatch):
    def with_hole(window):
        image, labels = store.read_image(window).astype(np.float32), store.read_labels(window)
        image[:, :20, :20], labels[:20, :20] = np.nan, 6
        return image, labels

    monkeypatch.setattr(store, "read", with_hole)
    bands = BandSettings(names=BANDS, dtype="float32")
    found = training_look([store], "train", bands, NETWORK, 64, None)
    assert all(values.isfinite().all() for values in found.tensors().values())


def test_the_edge_of_a_hole_is_no_detail(store, monkeypatch):
    """Pixels without data are 0 in a store; pixels without a class that have data are still seen by others."""

    def read(window, hole=0, unlabelled=0):
        image, labels = np.full((4, window.height, window.width), 100, np.uint8), store.read_labels(window)
        labels[: hole + unlabelled, : hole + unlabelled], image[:, :hole, :hole] = 6, 0
        return image, labels

    looks = []
    for given in ({}, {"hole": 20}, {"hole": 20, "unlabelled": 9}, {"unlabelled": 9}):
        monkeypatch.setattr(store, "read", partial(read, **given))
        looks.append(training_look([store], "train", RGBN, NETWORK, 64, None))
    for look in looks[1:]:
        torch.testing.assert_close(look.mean, looks[0].mean, atol=1e-3, rtol=0)


def test_a_fold_without_a_whole_tile_has_no_look(store):
    with pytest.raises(DataError, match="no tile of 512 px"):
        training_look([store], "train", RGBN, NETWORK, 512, None)


def test_the_model_has_its_look_and_paints_by_it(told, store):
    model = load_generator(told)
    assert model.card.settings == NETWORK
    assert (model.encoder, list(model.looks)) == (None, ["training"])
    again = training_look([store], "train", model.card.bands, NETWORK, 64, None)
    assert all(torch.equal(value, model.looks["training"].tensors()[name]) for name, value in again.tensors().items())


def test_resumed_it_is_the_unbroken_one(store, told, tmp_path):
    start_and_break(store, tmp_path, TOLD.model_copy(update={"save_every": 1}), 2)
    assert checkpoint_in(tmp_path)["steps"] == 1
    path = train(store, tmp_path, TOLD.model_copy(update={"save_every": 1}))
    again, expected = load_generator(path), load_generator(told)
    for name, value in expected.generator.state_dict().items():
        assert torch.equal(again.generator.state_dict()[name], value), name


def test_going_on_keeps_the_looks_before(store, told, tmp_path):
    settings = TrainSettings.parse(
        {**TINY.model_dump(include={"batch_size", "crop_size", "discriminator_width", "precision", "preview_every"})}
        | {"init": str(told), "look_name": "here", "steps": 1}
    )
    model = load_generator(train(store, tmp_path, settings))
    assert list(model.looks) == ["here", "training"]
    assert model.card.settings.style_regions == (4,)


def test_a_training_from_before_regions_goes_on(store, tmp_path):
    settings = TOLD.model_copy(update={"save_every": 1, "style_regions": ()})
    checkpoint = start_and_break(store, tmp_path, settings, 2)
    del checkpoint["job"]["settings"]["style_regions"]
    torch.save(checkpoint, tmp_path / "last.ckpt")
    with pytest.raises(SettingsError, match="was trained with style_regions=\\[\\], not \\[4\\]"):
        train(store, tmp_path, settings.model_copy(update={"style_regions": (4,)}))
    assert load_generator(train(store, tmp_path, settings)).card.settings.style_regions == ()


def test_each_store_has_its_look(store, tmp_path):
    """By name, and drawn for its own patches."""
    bright = make_store(tmp_path / "bright.zarr", brighter=30)
    settings = TOLD.model_copy(
        update={"look_name": ("here", "there"), "store_shares": (1.0, 3.0), "steps": 2, "batch_size": 4}
    )
    seen, original = [], train_module.SpadeStep

    class Spy(original):
        def draw(self, step, image, mask, sources=None):
            batch = super().draw(step, image, mask, sources)
            seen.append((sources, batch.styles.mean((2, 3, 4)), self.networks.looks))
            return batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_module, "SpadeStep", Spy)
        model = load_generator(train([store, bright], tmp_path / "run", settings))
    here, there = model.looks["here"], model.looks["there"]
    assert list(model.looks) == ["here", "there"]
    assert torch.allclose((there.mean - here.mean)[:, :4], torch.tensor(30 / 127.5), atol=0.01)
    assert {0, 1} == {number for numbers, *_ in seen for number in numbers.tolist()}
    for numbers, styles, looks in seen:
        for number, style in zip(numbers[1::2], styles, strict=True):  # every second patch has a drawn look
            gaps = [(look.mean.mean(1) - style).abs().mean() for look in looks]
            assert gaps[number] < gaps[1 - number]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"look_name": ("a", "b", "c")}, "one for each of 2 stores"),
        ({"look_name": ("a", "a")}, "one for each of 2 stores"),
        ({"store_shares": (1.0,)}, "1 share for 2 stores"),
    ],
)
def test_looks_and_shares_are_those_of_the_stores(store, tmp_path, changes, words):
    with pytest.raises(SettingsError, match=words):
        train([store, store], tmp_path / "run", TOLD.model_copy(update=changes))
    assert not (tmp_path / "run").exists()


def test_names_of_looks_are_for_a_generator_that_is_told_them(store, tmp_path):
    for names in ("here", ("here", "there")):
        settings = TrainSettings.parse({**TINY.model_dump(exclude_unset=True), "look_name": names})
        with pytest.raises(SettingsError, match=r"^look_name: needs a generator conditioned on looks"):
            train([store, store], tmp_path / "run", settings)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("changes", [{"learn": "styles"}, {"style_regions": (0,)}])
def test_so_is_what_such_a_generator_alone_can_learn(store, trained, tmp_path, changes):
    settings = TrainSettings.parse({"init": str(trained[0] / "model.safetensors"), "steps": 1, **changes})
    with pytest.raises(SettingsError, match=f"^{next(iter(changes))}: needs a generator conditioned on looks"):
        train(store, tmp_path / "run", settings)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["my look", "", "ohio.summer"])
def test_names_that_no_model_file_takes_are_refused_before_the_training(name):
    with pytest.raises(SettingsError, match=rf"^a look's name consists of letters, digits, - and _; got '{name}'$"):
        TrainSettings.parse({"look_name": ["here", name]})


def test_a_head_start_and_kept_norms_leave_what_init_knows(told, store, tmp_path):
    """While only the discriminator learns, the model stays what it was, with its statistics."""
    settings = TrainSettings.parse(
        {**TINY.model_dump(include={"batch_size", "crop_size", "discriminator_width", "precision", "preview_every"})}
        | {"init": str(told), "steps": 4, "head_start": 0.99, "keep_norms": True, "projected_weight": 1.0}
    )
    before, after = load_generator(told), load_generator(train(store, tmp_path / "run", settings))
    for name, value in before.generator.state_dict().items():
        found = after.generator.state_dict()[name]
        if "running" in name:
            assert torch.equal(found, value), name
        elif value.any() and value.ndim:  # up to the spectral norm, which few steps estimate roughly
            assert torch.cosine_similarity(found.flatten(), value.flatten(), 0) > 0.9999, name
    lines = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    assert {"loss/projected", "loss/projected_discriminator"} <= set(lines[0].split(","))


def test_the_preset_adapt_changes_what_is_told_alone(told, store, tmp_path):
    """So that classes which the few tiles lack keep their structure."""
    few = {"steps": 3, "crop_size": 64, "batch_size": 4, "max_time": None, "precision": "fp32", "head_start": 0.0}
    settings = TrainSettings.resolve(preset="adapt", **{**few, "init": str(told), "warmup": 0.0, "decay_from": 1.0})
    before, after = load_generator(told), load_generator(train(store, tmp_path / "run", settings))
    assert list(after.looks) == ["adapted", "training"]
    assert [path.name for path in (tmp_path / "run" / "previews").iterdir()] == ["000003.png"]
    for name, value in before.generator.state_dict().items():
        found = after.generator.state_dict()[name]
        if name.startswith("style_codes.second") or "style.scale_shift" in name:
            assert not torch.equal(found, value), name
        elif value.any() and value.ndim and not name.startswith("style_codes"):
            assert torch.cosine_similarity(found.flatten(), value.flatten(), 0) > 0.9999, name


def test_a_model_with_a_latent_goes_on_as_one_that_is_told_looks(trained, store, tmp_path):
    """At first it paints as it did with the latent at its mean, whatever look it is told."""
    init = trained[0] / "model.safetensors"
    own = {"base_width", "max_multiple", "hidden_channels", "latent_size", "noise_channels", "encoder_width"}
    values = TINY.model_dump(exclude=own, exclude_defaults=True)
    settings = TrainSettings.parse({**values, "init": str(init), "style_lengths": [24], "steps": 1})
    seen = {}
    original = train_module.SpadeStep

    class Spy(original):
        def update(self, step, batch):
            seen["start"] = self.networks.average.start.weight.clone()
            seen["blocks"] = [block.style.scale_shift.weight.clone() for block in self.networks.average.blocks.values()]
            return super().update(step, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_module, "SpadeStep", Spy)
        model = load_generator(train(store, tmp_path, settings))
    before = load_generator(init).generator.start.weight
    classes, latent, noise = torch.split(before, [6, 3, 2], 1)
    assert torch.equal(seen["start"][:, :8], torch.cat([classes, noise], 1))
    assert not seen["start"][:, 8:].any()
    assert not any(weight.any() for weight in seen["blocks"])
    assert model.card.settings.style_lengths == (24,) * 6
    assert model.card.settings.latent_size == 0
    assert latent.any()


def test_a_look_that_is_told_is_learned(store, tmp_path):
    """The looks of the fakes come nearer to those that were asked for."""
    settings = TOLD.model_copy(
        update={"steps": 40, "batch_size": 2, "generator_rate": 2e-3, "style_rate": 3.0, "style_weight": 20.0}
    )
    path = train(store, tmp_path / "run", settings)
    lines = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    column = lines[0].split(",").index("loss/styles")
    distances = [float(line.split(",")[column]) for line in lines[1:]]
    assert np.mean(distances[-10:]) < 0.8 * np.mean(distances[:10])
    assert path.is_file()


def test_all_shares_of_a_batch_are_drawn_alike(look):
    image, mask = patches()
    step = ready(look, batch_size=4, prior_share=0.5)
    whole = step.draw(0, image, mask)
    assert whole.styles.shape == (2, 6, 12, 8, 8)
    assert whole.colours.shape == (4, num_colour_draws(6, 4))
    assert whole.colours.any(1).tolist() == [False, False, True, False]  # 1 and 3 have a drawn look
    parts = [whole.part(part) for part in split_batch(step.settings.model_copy(update={"parts": 2}))]
    assert torch.equal(torch.cat([part.styles for part in parts]), whole.styles)
    assert torch.equal(torch.cat([part.colours for part in parts]), whole.colours)
    assert whole.latents.shape == (4, 0)


def test_losses_are_means_over_patches(look):
    """So that parts, and devices, add up to the whole."""
    image, mask = patches()
    scale = torch.ones(12)
    styles, _ = local_statistics(image, mask, 6, NETWORK.style_lengths)
    other = patches(seed=1)[0]
    whole = style_distance(other, mask, styles, scale, NETWORK)
    parts = [style_distance(other[i : i + 1], mask[i : i + 1], styles[i : i + 1], scale, NETWORK) for i in range(4)]
    assert torch.allclose(whole, torch.stack(parts).mean())
    assert style_distance(image, mask, styles, scale, NETWORK) == 0


def test_losses_reach_the_weights_that_are_told(look):
    step = ready(look, batch_size=4)
    image, mask = patches()
    batch = step.draw(0, image, mask)
    painting, _ = step.objectives(batch, step.parts[0], None)
    assert {"styles", "means", "features", "gan"} <= painting.keys()
    heavier = ready(look, batch_size=4, style_weight=3 * TOLD.style_weight)
    weighed, _ = heavier.objectives(batch, heavier.parts[0], None)
    assert weighed["styles"].item() == pytest.approx(3 * painting["styles"].item(), rel=1e-4)
    painting["styles"].backward()
    told = [value.grad for name, value in step.networks.generator.named_parameters() if "scale_shift" in name]
    assert all(gradient is not None and gradient.any() for gradient in told)
    groups = {group["name"]: group for group in step.adam.param_groups}
    assert groups["styles"]["full_rate"] == 8 * TOLD.generator_rate
    assert sum(len(group["params"]) for group in groups.values()) == len(
        [*step.networks.painting_weights(), *step.networks.judging_weights()]
    )


def test_colours_change_as_the_numbers_say():
    image, mask = patches()
    mask[:, :8] = 6  # no class
    count = num_colour_draws(6, 4)
    still = changed_colours(image, mask, torch.zeros(4, count), 6)
    assert torch.allclose(still, image, atol=1e-5)
    draws = torch.randn(4, count, generator=torch.Generator().manual_seed(0))
    changed = changed_colours(image, mask, draws, 6)
    assert changed.aminmax().min >= -1
    assert changed.aminmax().max <= 1
    assert (changed - image).abs().mean() > 0.05
    alone = changed_colours(image[1:2], mask[1:2], draws[1:2], 6)
    assert torch.allclose(alone, changed[1:2], atol=1e-6)
    for number in range(count):  # all of them are used
        draws = torch.zeros(4, count)
        draws[:, number] = 1.5
        assert not torch.equal(changed_colours(image, mask, draws, 6), still)


def test_what_it_paints_is_exact(told, tmp_path, write_raster):
    labels = write_raster(np.kron(np.random.default_rng(0).integers(1, 7, (20, 30)), np.ones((16, 16))).astype("uint8"))
    images = [
        geosynth.generate(labels, tmp_path / f"{size}.tif", told, GenerateSettings(precision="fp32", block_size=size))
        for size in (512, 1024)
    ]
    assert images[0].read_bytes() == images[1].read_bytes()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"style_lengths": (8, 8)}, "one length"),
        ({"style_lengths": (8, 8), "style_regions": (2,)}, "style_regions: places in the legend, from 0, below 2"),
        ({"style_lengths": (8,), "style_regions": (1, 1)}, "each once"),
        ({"style_regions": (1,)}, "set style_lengths"),
        ({"style_gradual": (1,)}, "style_gradual: needs .* set style_lengths"),
        ({"style_lengths": (8, 8), "style_gradual": (2,)}, "style_gradual: places in the legend, from 0, below 2"),
        ({"style_lengths": (8,), "diversity_weight": 1.0}, "diversity_weight"),
        (
            {"style_lengths": (8,), "start": "linear", "noise_channels": 0},
            "looks of classes need the convolutional start",
        ),
        ({"head_start": 0.1}, "needs init"),
        ({"keep_norms": True}, "needs init"),
        ({"learn": "styles"}, "conditioned on looks"),
        ({"projected_weight": 1.0, "perceptual_weight": 1.0, "perceptual_source": "vgg19"}, "efficientnet-lite0"),
    ],
)
def test_settings_that_do_not_go_together(changes, words):
    with pytest.raises(SettingsError, match=words):
        TrainSettings.parse({**TINY.model_dump(), **changes}).generator(6, 4)


@pytest.mark.slow
def test_other_processes_get_what_they_need(tmp_path):
    """Two devices train as one does."""
    store = make_store(tmp_path / "store.zarr")
    models = [
        load_generator(train(store, tmp_path / str(devices), TOLD.model_copy(update={"devices": devices, "steps": 1})))
        for devices in (1, 2)
    ]
    one, two = (dict(model.generator.named_parameters()) for model in models)
    for name, value in one.items():
        assert torch.allclose(two[name], value, atol=1e-2), name
