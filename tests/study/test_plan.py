"""Which cells a sweep has, and what makes two of them the same."""

import os

import pytest
from studies import AUGMENT, DIVERSITY, REPLACE, SMALL, TRANSFER, make_study_store

from geosynth.config import GenerateSettings, ReplaceSettings, StudySettings, TrainSettings, TransferSettings
from geosynth.errors import SettingsError
from geosynth.raster.stores.store import Store
from geosynth.study.plan import Condition, contrasts, plan_cells
from geosynth.study.recipes import (
    EmphasisedTwin,
    GivenGenerator,
    LookedGenerator,
    Twin,
    asked_segmenters,
    key_of,
    needs,
)
from geosynth.training.start import with_networks_of

GIVEN = GivenGenerator(path="/model.safetensors", sha256="f" * 64)


def test_replace_keeps_the_total_and_the_places():
    cells = plan_cells(REPLACE, GIVEN)
    assert len(cells) == 3 * 3
    for cell in cells:
        segment = cell.recipe.segment
        assert segment.real_tiles + segment.synthetic_tiles == segment.pool_tiles == REPLACE.tiles
        assert segment.synthetic_tiles == cell.condition.x * REPLACE.tiles
        assert (cell.recipe.twin is None) == (cell.condition.x == 0)
        assert segment.seed == cell.seed
    assert [cell.seed for cell in cells] == sorted(cell.seed for cell in cells)


def test_arms_of_augment_differ_in_what_they_add_only():
    cells = plan_cells(AUGMENT, None)
    assert len(cells) == 4 * 2 * 2
    seen = {}
    for cell in cells:
        segment = cell.recipe.segment
        assert segment.real_tiles == cell.condition.x
        assert (segment.synthetic_tiles, segment.augment) == (
            3 * ("synthetic" in cell.condition.arm),
            "flips+colour" if "ordinary" in cell.condition.arm else "none",
        )
        changed = {"synthetic_tiles": 0, "augment": "none"}
        seen.setdefault((cell.seed, cell.condition.x), set()).add(segment.model_copy(update=changed))
        if cell.recipe.twin is not None:  # the generator sees the very tiles that the segmenter sees
            kept = cell.recipe.twin.generator.kept
            assert (kept.real_tiles, kept.seed, kept.tile_size) == (cell.condition.x, cell.seed, segment.tile_size)
    assert all(len(settings) == 1 for settings in seen.values())


def test_diversity_trains_for_each_lambda_and_compares_two_realisations():
    cells = plan_cells(DIVERSITY, None)
    assert {cell.recipe.twin.generator.train.diversity_weight for cell in cells} == {0, 2}
    for cell in cells:
        twin, (first, second) = cell.recipe.twin, cell.recipe.compared
        assert twin.generator == first.generator == second.generator
        assert twin.generate.seed == first.generate.seed == cell.seed
        assert GenerateSettings.parse(dict(second.generate)).seed > 10**6  # that of no cell
        assert (twin.fold, first.fold, second.fold) == ("train", "test", "test")
        assert cell.recipe.segment.real_tiles == 0
    assert len({cell.recipe.segment for cell in cells}) == DIVERSITY.seeds


def test_what_a_transfer_paints_is_in_the_look_of_the_target_at_the_places_of_the_source():
    arms = ("painted + ordinary", "emphasised painted + ordinary", "adapted + ordinary")
    changes = {"arms": arms, "emphasise": {"water": 2.0}, "target_tiles": (3, 0, 1)}
    cells = plan_cells(TransferSettings.parse({**dict(TRANSFER), **changes}), GIVEN)
    assert [cell.condition.x for cell in cells if cell.seed == 0 and cell.condition.arm == arms[0]] == [0, 1, 3]
    for cell in cells:
        twins = [one for one in needs(cell.recipe) if isinstance(one, Twin)]
        assert twins
        for twin in twins:
            assert (twin.tiles.real_tiles, twin.tiles.synthetic_tiles) == (0, TRANSFER.tiles)
            assert twin.generate.look == ("target" if isinstance(twin.generator, LookedGenerator) else None)
            assert isinstance(twin, EmphasisedTwin) == ("emphasised" in cell.condition.arm)


def test_segmenters_are_asked_for_where_cells_judge_or_go_on():
    judged = AUGMENT.model_copy(update={"arms": ("real + ordinary", "real + judged synthetic + ordinary")})
    for cell in plan_cells(judged, GIVEN):
        assert asked_segmenters(cell.recipe) == ((cell.recipe.judge,) if "judged" in cell.condition.arm else ())
    for cell in plan_cells(TRANSFER, GIVEN):
        if "nearer" not in cell.condition.arm:
            assert asked_segmenters(cell.recipe) == ((cell.recipe.init,) if cell.recipe.init else ())


def test_contrasts_are_against_the_arm_without():
    assert [(one.condition.x, one.baseline.x) for one in contrasts(REPLACE)] == [(0.5, 0), (1, 0)]
    judged = REPLACE.model_copy(update={"arms": ("mixed", "judged mixed")})
    real, *shares = ("mixed", 0), 0.5, 1
    assert [(one.condition, one.baseline) for one in contrasts(judged)] == [
        *((each, real) for x in shares for each in (("mixed", x), ("judged mixed", x))),
        *((("judged mixed", x), ("mixed", x)) for x in shares),
    ]
    alone = judged.model_copy(update={"arms": ("judged mixed",), "shares": (0.5, 1)})
    assert [(one.condition, one.baseline) for one in contrasts(alone)] == [(("judged mixed", 1), ("judged mixed", 0.5))]
    found = contrasts(AUGMENT)
    assert len(found) == 4 * 2
    assert all(one.condition.x == one.baseline.x for one in found)
    two = AUGMENT.model_copy(update={"arms": ("real", "real + synthetic")})
    assert [one.condition for one in contrasts(two)] == [
        Condition("real + synthetic", 2),
        Condition("real + synthetic", 4),
    ]
    assert [(one.condition.x, one.baseline.x) for one in contrasts(DIVERSITY)] == [(2, 0)]


def test_a_key_depends_on_all_that_changes_the_result_and_on_nothing_else(study_store, tmp_path):
    digest = study_store.digest()
    assert digest == Store(study_store.path).digest()
    keys = {key_of(cell.recipe, digest) for cell in plan_cells(REPLACE, GIVEN)}
    assert len(keys) == 9
    for change in ({"segment.steps": 5}, {"generate.style_length": 1.0}, {"segment.augment": "none"}):
        [(name, value)] = change.items()
        part, _, inner = name.partition(".")
        values = {**REPLACE.model_dump(), part: {**REPLACE.model_dump()[part], inner: value}}
        same = {key_of(cell.recipe, digest) for cell in plan_cells(ReplaceSettings.parse(values), GIVEN)} & keys
        # Cells without synthetic tiles know no generator.
        assert len(same) == {"steps": 0, "style_length": 3, "augment": 9}[inner]
    other = GIVEN.model_copy(update={"path": "/elsewhere.safetensors"})
    assert {key_of(cell.recipe, digest) for cell in plan_cells(REPLACE, other)} == keys
    assert not {key_of(cell.recipe, "other data") for cell in plan_cells(REPLACE, GIVEN)} & keys
    more = plan_cells(REPLACE.model_copy(update={"seeds": 4}), GIVEN)
    assert keys < {key_of(cell.recipe, digest) for cell in more}
    # Another split is other data.
    moved = make_study_store(tmp_path / "moved.zarr")
    moved.split = type(moved.split)(moved.split.areas[::-1], 0)
    assert moved.digest() != digest


def for_two_contents(file, keys):
    """What `keys` gives for one content of a file, and for another under the same name."""
    found = []
    for content in (b"one", b"other"):
        file.write_bytes(content)
        os.utime(file, ns=(len(content), len(content)))
        found.append(keys())
    return found


def test_generators_that_go_on_from_another_model_are_others(tmp_path):
    """Also where that stands under the same name."""
    file = tmp_path / "model.safetensors"
    settings = REPLACE.model_copy(update={"train": REPLACE.train.model_copy(update={"init": str(file)})})
    keys = for_two_contents(
        file, lambda: [key_of(cell.recipe, "") for cell in plan_cells(settings, None) if cell.condition.x]
    )
    assert not set(keys[0]) & set(keys[1])
    file = file.rename(tmp_path / "moved.safetensors")
    settings = REPLACE.model_copy(update={"train": REPLACE.train.model_copy(update={"init": str(file)})})
    assert [key_of(cell.recipe, "") for cell in plan_cells(settings, None) if cell.condition.x] == keys[1]


@pytest.mark.parametrize(
    "sweep", [REPLACE, TransferSettings(tiles=2, seeds=1, arms=("adapted + ordinary",), target_tiles=(1,))]
)
def test_generators_that_look_through_other_weights_are_others(tmp_path, sweep):
    """Also where these stand under the same name; it is their content that counts, if anything looks through them."""
    file = tmp_path / "vgg19.pth"

    def keys(weight=1.0):
        train = sweep.train.model_copy(update={"perceptual_path": str(file), "perceptual_weight": weight})
        cells = plan_cells(sweep.model_copy(update={"train": train}), GIVEN if sweep.sweep == "transfer" else None)
        return [key_of(cell.recipe, "") for cell in cells if cell.condition.x]

    first, other = for_two_contents(file, keys)
    assert first
    assert not set(first) & set(other)
    unused = keys(weight=0.0)
    file = file.rename(tmp_path / "moved.pth")
    assert keys() == other
    assert keys(weight=0.0) == unused


def test_segmenters_that_start_from_other_weights_are_others(tmp_path):
    """Also where these stand under the same name."""
    file = tmp_path / "weights.pth"
    settings = REPLACE.model_copy(update={"segment": REPLACE.segment.model_copy(update={"weights": str(file)})})
    keys = for_two_contents(file, lambda: {key_of(cell.recipe, "") for cell in plan_cells(settings, GIVEN)})
    assert not keys[0] & keys[1]


def test_what_a_generator_shows_meanwhile_does_not_change_its_key():
    changed = REPLACE.train.model_copy(update={"preview_every": 7, "log_every": 3})
    cells = plan_cells(REPLACE, None), plan_cells(REPLACE.model_copy(update={"train": changed}), None)
    one, other = ([key_of(cell.recipe, "") for cell in its] for its in cells)
    assert one == other


@pytest.mark.parametrize(
    ("sweep", "changes", "words"),
    [
        ("replaced", {}, "choose from replace, augment, diversity"),
        ("replace", {"shares": [0, 1.5]}, "shares.1"),
        ("replace", {"lambdas": [0]}, "lambdas"),
        ("replace", {"train.zzz": 1}, "^train.zzz: there is no such setting"),
        ("replace", {"segment.seed": 3}, "segment.seed: the study sets it itself"),
        ("replace", {"generate.preview": True}, "generate.preview: the study sets it itself"),  # else each twin fails
        ("replace", {"train.devices": 2, "train.batch_size": 4}, "one device"),
        ("replace", {"test_fold": "train"}, "test_fold: must not be the train fold"),
        ("augment", {"arms": ["real", "unreal"]}, "arms.1"),
        ("transfer", {"generate.look": "dim"}, "generate.look: the study sets it itself"),
        ("diversity", {"lambdas": [4], "train.prior_share": 0}, "prior_share"),
        ("diversity", {"train.diversity_weight": 4}, "from lambdas"),
        ("replace", {"seeds": 0}, "seeds"),
        ("augment", {"emphasise": {"road": 3}}, "go together; give both or neither"),
        ("augment", {"arms": ["real", "real + emphasised synthetic + ordinary"]}, "go together"),
    ],
)
def test_settings_that_cannot_work_are_one_line(sweep, changes, words):
    with pytest.raises(SettingsError, match=words) as error:
        StudySettings.resolve(sweep, **changes)
    assert "\n" not in str(error.value)


def test_generators_of_each_lambda_go_on_from_a_model_of_other_networks(tiny_model):
    """What nobody chose is the model's."""
    settings = StudySettings.resolve("diversity", lambdas=[4], **{"train.init": str(tiny_model.path)})
    [generator] = {cell.recipe.twin.generator for cell in plan_cells(settings, None) if cell.seed == 0}
    width = with_networks_of(generator.train).base_width
    assert width == tiny_model.card.settings.base_width != TrainSettings().base_width


def test_settings_from_a_file_and_from_the_command_line(tmp_path):
    file = tmp_path / "study.yaml"
    file.write_text("shares: [0, 1]\nseeds: 4\nsegment: {steps: 7, tile_size: 64}\ntrain: {preset: tiny, steps: 9}\n")
    settings = StudySettings.resolve("replace", config=file, seeds=5, **{"segment.steps": 8})
    assert (settings.shares, settings.seeds) == ((0, 1), 5)
    assert (settings.segment.steps, settings.segment.tile_size) == (8, 64)
    assert (settings.train.steps, settings.train.base_width) == (9, 8)
    assert StudySettings.resolve("replace", **{**SMALL, "tiles": 8}).segment.steps == 4
    file.write_text("segment:\n")  # nothing chosen
    assert StudySettings.resolve("replace", config=file, **{"segment.steps": 8}).segment.steps == 8


def test_seeds_follow_the_first_one():
    assert list(StudySettings.resolve("replace", first_seed=3, seeds=2).all_seeds) == [3, 4]


def test_judged_and_emphasised_arms_must_be_asked_for():
    usual = ("real", "real + ordinary", "real + synthetic", "real + synthetic + ordinary")
    assert StudySettings.resolve("augment").arms == usual
    assert StudySettings.resolve("replace").arms == ("mixed",)
    asked = (*usual, "real + emphasised synthetic + ordinary")
    assert StudySettings.resolve("augment", arms=asked, emphasise={"road": 3}).arms == asked
