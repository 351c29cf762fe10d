"""`study transfer`: labels and imagery there, imagery and few labels or none here."""

import dataclasses
import shutil
from typing import get_args

import numpy as np
import pytest
from studies import TRANSFER, FakeOperations, close, make_study_store, means, open_study

from geosynth.checkpoint import save_generator
from geosynth.config import BandSettings, TrainSettings, TransferSettings
from geosynth.config.study import TransferArm
from geosynth.errors import DataError, SettingsError, TrainingError
from geosynth.evaluation.nearness import measure_nearness
from geosynth.grid import SpatialSplit, Window
from geosynth.raster.stores.store import Store
from geosynth.raster.stores.tiles import TileView
from geosynth.segmentation.data import open_data
from geosynth.study.duration import expected_work
from geosynth.study.plan import artifacts_of, contrasts, plan_cells
from geosynth.study.recipes import (
    AdaptedGenerator,
    GivenGenerator,
    LookedGenerator,
    NearerRecipe,
    TrainedGenerator,
    TransferRecipe,
    Twin,
    key_of,
    needs,
)
from geosynth.study.run import run_cells, run_study
from geosynth.study.tables import tables_of
from geosynth.study.transfer import matched, only
from memory_source import MemorySource

GIVEN = GivenGenerator(path="/model.safetensors", sha256="f" * 64)


def darker(image):
    """Monotone, and not one to one."""
    return (image // 2 + 20).astype(image.dtype)


@pytest.fixture(scope="module")
def target_store(tmp_path_factory):
    return make_study_store(tmp_path_factory.mktemp("target") / "target.zarr", change=darker)


@dataclasses.dataclass(frozen=True)
class CopyingOperations(FakeOperations):
    """Twins are copies; adapting fails, if it is to."""

    adapts: bool = True

    def train(self, *arguments):
        if not self.adapts:
            raise TrainingError("the loss is not a finite number")
        return super().train(*arguments)

    def twin(self, source, out, *arguments, **recombined):
        super().twin(source, out, *arguments, **recombined)
        shutil.copytree(source.path, out, dirs_exist_ok=True)


@pytest.fixture
def operations(tmp_path):
    return CopyingOperations(tmp_path / "calls.txt")


@pytest.fixture
def study(study_store, target_store, told_model, operations, tmp_path):
    return open_study(study_store, tmp_path / "out", TRANSFER, operations, told_model.path, target_store.path)


def test_what_a_given_model_has_seen_is_told_of_the_target(study):
    assert study.generator.endswith(", of the target: trained on other images than these")


def test_looks_and_adaptations_are_of_the_target_and_twins_of_the_source(study, study_store, target_store):
    kinds = set()
    for artifact in artifacts_of(study.cells):
        if isinstance(artifact, AdaptedGenerator | LookedGenerator | Twin):
            kinds.add(type(artifact))
            found = study.artifacts.source_of(artifact)
            expected = study_store if isinstance(artifact, Twin) else target_store
            assert str(found.path) == str(expected.path)
    assert kinds == {AdaptedGenerator, LookedGenerator, Twin}


def chain(recipe):
    """A recipe and those that it goes on from; of two among which is chosen, the first."""
    if isinstance(recipe, NearerRecipe):
        return chain(recipe.real)
    return [recipe] if recipe.init is None else [recipe, *chain(recipe.init)]


def test_arms_of_equal_labelled_tiles_take_equal_steps():
    cells = plan_cells(TRANSFER, GIVEN)
    steps = {}
    for cell in cells:
        steps.setdefault(cell.condition.x, set()).add(sum(one.segment.steps for one in chain(cell.recipe)))
    assert steps == {0: {4}, 2: {4 + 3}}
    arms = {x: {cell.condition.arm for cell in cells if cell.condition.x == x} for x in (0, 2)}
    assert arms[2] == set(TransferSettings.model_fields["arms"].default)
    assert arms[2] - arms[0] == {"target + ordinary", "adapted + ordinary"}
    # Of the same arm k > 0 goes on from k = 0, but for looks, which labels sharpen.
    of_none = {(cell.condition.arm, cell.seed): cell.recipe for cell in cells if cell.condition.x == 0}
    for cell in cells:
        if isinstance(cell.recipe, TransferRecipe) and cell.condition.x and (cell.condition.arm, cell.seed) in of_none:
            same = cell.recipe.init == of_none[cell.condition.arm, cell.seed]
            assert same == ("painted" not in cell.condition.arm)


def test_the_adapt_preset_is_planned_and_told_by_the_models_content(
    study_store, target_store, told_model, operations, tmp_path
):
    train = TrainSettings.resolve(preset="adapt", init=str(told_model.path))
    settings = TransferSettings.parse({**dict(TRANSFER), "train": train})
    study = open_study(study_store, tmp_path / "out", settings, operations, told_model.path, target_store.path)
    shutil.copy(told_model.path, tmp_path / "moved.safetensors")
    moved = GivenGenerator(path=str(tmp_path / "moved.safetensors"), sha256=told_model.sha256)
    here, there = (
        [one for cell in cells for one in needs(cell.recipe) if isinstance(one, AdaptedGenerator)]
        for cells in (study.cells, plan_cells(settings, moved))
    )
    assert {one.train.learn for one in here} == {"styles"}
    assert {one.train.init for one in there} == {moved.path}
    assert [key_of(one, "data") for one in here] == [key_of(one, "data") for one in there]


def test_judges_are_segmenters_of_the_sources_real_tiles():
    settings = TRANSFER.model_copy(update={"arms": ("source + ordinary", "judged painted + ordinary")})
    cells = plan_cells(settings, GIVEN)
    of_source = {cell.seed: cell.recipe for cell in cells if cell.condition == ("source + ordinary", 0)}
    judged = [cell for cell in cells if "judged" in cell.condition.arm]
    assert len(judged) == 4
    for cell in judged:
        assert chain(cell.recipe)[-1].judge == of_source[cell.seed]
        assert of_source[cell.seed] in set(needs(cell.recipe))


def test_another_given_model_is_another_key_for_all_that_needs_it():
    """Else a study with another model would take what the first one painted for its own."""
    other = GIVEN.model_copy(update={"sha256": "0" * 64})
    settings = TransferSettings.parse({**dict(TRANSFER), "arms": get_args(TransferArm), "emphasise": {"water": 2}})
    for one, two in zip(plan_cells(settings, GIVEN), plan_cells(settings, other), strict=True):
        for first, second in zip((*needs(one.recipe), one.recipe), (*needs(two.recipe), two.recipe), strict=True):
            assert (key_of(first, "data") != key_of(second, "data")) == (GIVEN in {first, *needs(first)})


def test_emphasised_twins_are_of_the_same_places(study_store, target_store, told_model, operations, tmp_path):
    arms = ("painted + ordinary", "emphasised painted + ordinary")
    settings = TransferSettings.parse(
        {**dict(TRANSFER), "arms": arms, "emphasise": {"Water": 1.1}, "target_tiles": (0,)}
    )
    study = open_study(study_store, tmp_path / "out", settings, operations, told_model.path, target_store.path)
    assert not run_cells(study).missing
    plain, more = operations.calls("twin")[:2]
    assert more == plain | {"emphasise": {"Water": 1.1}, "tile_size": 64, "num_tiles": TRANSFER.tiles}
    with pytest.raises(SettingsError, match="no class road"):
        wrong = settings.model_copy(update={"emphasise": {"road": 2.0}})
        open_study(study_store, tmp_path / "out", wrong, operations, told_model.path, target_store.path)
    for lacking in ({"arms": arms}, {"emphasise": {"water": 2}}):
        with pytest.raises(SettingsError, match="go together"):
            TransferSettings.parse(lacking)


def test_looks_and_generators_see_no_more_labels_than_the_segmenter():
    made = [
        (cell, artifact)
        for cell in plan_cells(TRANSFER, GIVEN)
        for artifact in needs(cell.recipe)
        if isinstance(artifact, LookedGenerator | TrainedGenerator)
    ]
    assert {type(artifact) for _, artifact in made} == {LookedGenerator, AdaptedGenerator}
    for cell, artifact in made:
        kept = artifact.kept and artifact.kept.real_tiles
        assert kept == (cell.condition.x or None)
        assert kept is None or (artifact.kept.seed, artifact.kept) == (cell.seed, chain(cell.recipe)[0].kept)


def test_contrasts_are_of_arms_with_a_generator_against_those_without():
    found = contrasts(TRANSFER)
    assert all(one.condition.x == one.baseline.x for one in found)
    pairs = {(one.condition.arm, one.baseline.arm) for one in found if one.condition.x == 0}
    without = ("source", "source + ordinary", "matched + ordinary")
    with_one = ("painted + ordinary", "source + painted + ordinary", "nearer + ordinary")
    assert pairs == {(arm, one) for arm in with_one for one in without}


def test_what_segmenters_see(study, study_store, target_store):
    """Places of the source, kept tiles of the target and its test tiles, by the code that `segment` runs."""
    by_arm = {(cell.condition.arm, cell.condition.x): cell.recipe for cell in study.cells if cell.seed == 0}
    seen = {}
    for name in ("source", "matched + ordinary", "source + painted + ordinary"):
        recipe = by_arm[name, 0]
        sources = study.artifacts.sources_of(recipe, painted=False)
        data = open_data(sources, None, recipe.segment, "train", "test")
        seen[name] = [(source, window) for source, window in data.train.places]
        assert all(source.geobox == study_store.geobox for source, _ in seen[name])
        assert [source.path for source, _ in data.test.places] == [target_store.path] * 4
    windows = {window for _, window in seen["source"]}
    assert len(windows) == len(seen["source"]) == TRANSFER.tiles
    assert {window for _, window in seen["matched + ordinary"]} == windows
    assert len(seen["source + painted + ordinary"]) == 2 * TRANSFER.tiles
    twin = next(one for one in needs(by_arm["painted + ordinary", 0]) if isinstance(one, Twin))
    assert {*windows} == {  # what is painted are the very places
        window
        for _, window in open_data(
            study.artifacts.sources_of(by_arm["painted + ordinary", 0], painted=False),
            None,
            twin.tiles.model_copy(update={"real_tiles": None, "synthetic_tiles": 0, "pool_tiles": None}),
            "train",
            "test",
        ).train.places
    }
    recipe = by_arm["source", 2]
    assert {
        source.path
        for source, _ in open_data(
            study.artifacts.sources_of(recipe), None, recipe.segment, "train", "test"
        ).train.places
    } == {target_store.path}


def test_each_piece_is_made_once_and_kept_segmenters_are_gone_on_from(study, operations, tmp_path):
    report = run_cells(study)
    assert not report.missing
    looks = operations.calls("look")
    assert [(one["labelled"], one["area"]) for one in looks if one["labelled"]] == [(True, 2 * 64.0**2)] * 2
    assert [one["labelled"] for one in looks].count(False) == 1  # of all imagery: the same for each seed
    assert len(operations.calls("train")) == 2
    assert {call["area"] for call in operations.calls("twin")} == {3 * 64.0**2}
    # Two seeds of: 5 arms without labels, 2 that paint with the look of labels, adapted, then 7 on labelled tiles.
    assert len(operations.calls("segment")) == 2 * (5 + 2 + 1 + 7)
    found = means(report)
    assert all(close(miou, 0.004) for (_, x), miou in found.items() if x == 0)
    assert all(close(miou, 0.007) for (_, x), miou in found.items() if x == 2)
    assert all((row.real_tiles, row.synthetic_tiles) == (2, 0) for row in report.rows if row.x == 2)
    assert "transfer" in (study.folder / "report.html").read_text()
    count = len(operations.calls())
    assert run_cells(study) == report
    assert len(operations.calls()) == count


def test_the_nearer_arm_takes_over_what_it_chose(study, operations, study_store, target_store):
    """Here what is painted, then what is real, and so on; it costs no segmenter, and the tables say what was taken."""
    report = run_cells(study)
    cells = {(cell.arm, cell.x, cell.seed): cell for cell in report.cells}
    order = [(0, 0), (2, 0), (0, 1), (2, 1)]
    for (k, seed), taken in zip(order, ["painted", "source"] * 2, strict=True):
        nearer, chosen = (cells[f"{arm} + ordinary", k, seed].result for arm in ("nearer", taken))
        assert nearer.nearness.nearer == ("synthetic" if taken == "painted" else "real")
        changes = {"nearness": None, "seconds": chosen.seconds}
        assert nearer.model_copy(update=changes) == chosen
        assert chosen.nearness is None
    for call in operations.calls("nearness"):
        (target, of_target), (source, of_source), (_, of_twin) = call["tiles"]
        assert (target, source) == (target_store.path, study_store.path)
        assert (of_target, of_source) == (8, TRANSFER.tiles)
        assert of_twin == 8  # here twins are copies of the store
    table = tables_of(report)["Nearer to the target's imagery, kernel distances"]
    assert table["taken"].tolist() == ["painted", "source"] * 2
    assert set(table["distance of source"]) == {"0.2"}
    assert "nearer arm" in " ".join(report.notes)


def test_what_is_nearer_is_seen(study_store, target_store, tmp_path):
    """The target's own imagery at other places is nearer than that of another look, whichever is called what."""
    target, source, other = (TileView(store, "train", 64, 64) for store in (target_store, study_store, study_store))
    same = TileView(target_store, "test", 64, 64)
    found = measure_nearness(target, source, same)
    assert (found.nearer, found.num_target) == ("synthetic", 8)
    assert found.synthetic < found.real
    turned = measure_nearness(target, same, source)
    assert (turned.nearer, turned.real, turned.synthetic) == ("real", found.synthetic, found.real)
    assert measure_nearness(target, source, other).nearer == "real"  # of equal ones the real tiles
    with pytest.raises(DataError, match="fold 'val' has 0 whole tiles of 64 px"):
        measure_nearness(target, TileView(study_store, "val", 64, 64), same)


def test_what_fails_takes_along_only_what_needs_it(study_store, target_store, told_model, tmp_path):
    operations = CopyingOperations(tmp_path / "calls.txt", adapts=False)
    report = run_cells(
        open_study(study_store, tmp_path / "out", TRANSFER, operations, told_model.path, target_store.path)
    )
    assert {(one.cell, one.reason) for one in report.missing} == {
        (f"adapted + ordinary, 2, seed {seed}", "the loss is not a finite number") for seed in (0, 1)
    }


def test_matched_values_are_distributed_as_the_targets(study_store, target_store):
    source = matched(study_store, target_store, "train", 64)
    window = Window(20, 30, 64, 70)
    image, labels = source.read(window)
    known = labels < source.legend.num_classes
    np.testing.assert_array_equal(image[:, known], darker(study_store.read_image(window))[:, known])
    np.testing.assert_array_equal(labels, study_store.read_labels(window))
    assert source.digest() != study_store.digest()
    assert not source.synthetic  # it is real imagery, of which a judge leaves out nothing
    same = matched(study_store, study_store, "train", 64).read_image(window)
    np.testing.assert_array_equal(same[:, known], study_store.read_image(window)[:, known])


@pytest.mark.parametrize(("dtype", "low"), [("uint16", 0), ("int16", -400)])
def test_matched_values_are_the_targets_quantiles(dtype, low):
    """Of the pixels with a class; the others hold one value."""
    window, rng = Window(0, 0, 32, 64), np.random.default_rng(0)
    pair = []
    for seed, most in enumerate((900, 250)):
        split = SpatialSplit.by_scenes({"train": [window]})
        one = MemorySource((32, 64), [window], split, seed=seed, holes=True, dtype=dtype)
        one.image = np.where(one.labels < 6, low + rng.integers(0, most, (4, 32, 64)), low).astype(dtype)
        one.digest = str
        pair.append(one)
    found, _ = matched(*pair, "train", 16).read(window)
    assert found.dtype == dtype
    here, there = (one.image[:, one.labels < 6] for one in pair)
    for own, wanted, changed in zip(here, there, found[:, pair[0].labels < 6], strict=True):
        shares = (own[:, None] >= own).mean(axis=1)
        np.testing.assert_array_equal(changed, np.quantile(wanted, shares, method="inverted_cdf"))


def test_one_fold_only(study_store):
    train = only(study_store, "train")
    assert train.scenes_in("train") == study_store.scenes_in("train")
    assert not train.scenes_in("test")
    assert study_store.scenes_in("test")


def test_a_plan_says_how_long(study):
    plan = expected_work(study, workers=1)
    assert {work.kind: work.todo for work in plan.work} == {
        **{"generators": 2, "looks": 3, "twins": 6},
        **{"cells": 30, "choices": 4},
    }


def test_refusals_are_one_line(study_store, target_store, narrow_model, told_model, operations, tmp_path):
    other = make_study_store(tmp_path / "bands.zarr", band_names=("red", "green"))
    legend = told_model.card.legend.model_copy(update={"classes": told_model.card.legend.classes[::-1]})
    card = told_model.card.model_copy(update={"legend": legend})
    turned = save_generator(tmp_path / "turned.safetensors", told_model.generator, card, looks=told_model.looks)
    cases = [
        ({"target": None}, SettingsError, "target: a transfer study needs one"),
        ({"target": study_store.path}, DataError, "same data"),
        ({"target": other.path}, DataError, r"its bands \(red, green\) differ"),
        ({"model": narrow_model}, SettingsError, "not conditioned on looks"),
        *(
            (
                {"model": narrow_model, "settings": TRANSFER.model_copy(update={"arms": (arm,)})},
                SettingsError,
                "not conditioned on looks",
            )
            for arm in ("painted + ordinary", "nearer + ordinary")
        ),
        # It can paint, but no training can go on from it.
        ({"model": turned}, DataError, "model .*turned.safetensors, which has impervious"),
        ({"settings": TRANSFER.model_copy(update={"tiles": 99})}, DataError, "tiles=99"),
        ({"settings": TRANSFER.model_copy(update={"target_tiles": (99,)})}, DataError, "target_tiles=99"),
        (
            {"settings": TRANSFER.model_copy(update={"train": TrainSettings.parse({"base_width": 8})})},
            SettingsError,
            "base_width: the model .* leave it out",
        ),
        (
            {"settings": TRANSFER.model_copy(update={"target_tiles": (0,), "arms": ("target + ordinary",)})},
            SettingsError,
            "set target_tiles",
        ),
    ]
    for changes, error, said in cases:
        values = {"settings": TRANSFER, "model": told_model.path, "target": target_store.path} | changes
        settings = values.pop("settings")
        with pytest.raises(error, match=said) as caught:
            open_study(study_store, tmp_path / "out", settings, operations, **values)
        assert "\n" not in str(caught.value)


def test_what_is_nearer_is_told_of_16_bit_imagery_as_of_bytes(told_model, operations, tmp_path):
    """Of stores that hold the same in other units; 0 and 255 are the source's percentiles."""

    def make(dtype, change):
        def in_units(image):
            values = change((image - 1.0) * 255 // 253)
            return values.astype(np.uint8) if dtype == "uint8" else (13 * values + 1000).astype(dtype)

        return make_study_store(tmp_path / f"{dtype}_{change.__name__}.zarr", dtype=dtype, change=in_units)

    source, target = make("uint16", np.copy), make("uint16", darker)
    found, of_bytes = (
        measure_nearness(*(TileView(store, "train", 64, 64) for store in (there, here, there)))
        for here, there in ((source, target), (make("uint8", np.copy), make("uint8", darker)))
    )
    assert found == of_bytes
    assert found.nearer == "synthetic"
    bands = BandSettings(names=source.band_names, high=9999, dtype="uint16")
    card = told_model.card.model_copy(update={"bands": bands})
    model = save_generator(tmp_path / "wide.safetensors", told_model.generator, card, looks=told_model.looks)
    study = open_study(source, tmp_path / "out", TRANSFER, operations, model, target.path)
    assert any("nearer" in cell.condition.arm for cell in study.cells)


@pytest.mark.slow
def test_a_transfer_with_real_networks(study_store, target_store, told_model, tmp_path):
    arms = ("matched + ordinary", "painted + ordinary", "adapted + ordinary")
    settings = TRANSFER.model_copy(update={"seeds": 1, "arms": arms})
    report = run_study(study_store, tmp_path / "out", settings, model=told_model.path, target=target_store.path)
    assert not report.missing
    assert [(row.arm, row.x, row.real_tiles, row.synthetic_tiles) for row in report.rows] == [
        ("matched + ordinary", 0, 3, 0),
        ("painted + ordinary", 0, 0, 3),
        ("matched + ordinary", 2, 2, 0),
        ("painted + ordinary", 2, 2, 0),
        ("adapted + ordinary", 2, 2, 0),
    ]
    twins = sorted((tmp_path / "out" / "twins").glob("*.zarr"))
    assert len(twins) == 3
    assert {Store(twin).synthetic["GEOSYNTH_LOOK"] for twin in twins} >= {"target"}
