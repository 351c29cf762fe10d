"""Doing cells, with operations that only leave traces: each once, in spite of failures, kills and company."""

import dataclasses
import multiprocessing
import pickle

import pytest
from distributed import Client, LocalCluster, get_worker
from studies import AUGMENT, DIVERSITY, REPLACE, FakeOperations, close, means, open_study, recipes_of

from geosynth.config import GenerateSettings, ReplaceSettings, SegmentSettings, TrainSettings
from geosynth.errors import CheckpointError, DataError, SettingsError
from geosynth.study.run import run_cells, run_study
from geosynth.study.study import Study


def test_each_piece_is_made_once_and_never_again(study_store, operations, tmp_path):
    told = []
    study = open_study(study_store, tmp_path / "out", REPLACE, operations)
    report = run_cells(study, progress=lambda *counts: told.append(counts))
    assert len(operations.calls("train")) == len(operations.calls("twin")) == REPLACE.seeds
    assert {call["area"] for call in operations.calls("twin")} == {8 * 32.0**2}  # not a tile more is painted
    assert len(operations.calls("segment")) == 9
    assert told == [(done, 9) for done in range(10)]
    assert not report.missing
    found = means(report)
    assert close(found["mixed", 0], 0.6)
    assert close(found["mixed", 1], 0.4)
    count = len(operations.calls())
    assert run_cells(open_study(study_store, tmp_path / "out", REPLACE, operations)) == report
    assert len(operations.calls()) == count
    # One more seed: only its own cells.
    run_cells(open_study(study_store, tmp_path / "out", REPLACE.model_copy(update={"seeds": 4}), operations))
    assert [call["seed"] for call in operations.calls()[count:]] == [3] * 5


def test_differences_are_paired_by_seed(study_store, operations, tmp_path):
    report = run_cells(open_study(study_store, tmp_path / "out", REPLACE, operations))
    assert report.rows[0].miou.high - report.rows[0].miou.low > 0.4  # seeds differ by 0.1 each
    for entry, expected in zip(report.differences, (-0.1, -0.2), strict=True):
        assert close(entry.miou.value, expected)
        assert close(entry.miou.low, expected)  # but the difference is the same for all of them
        assert close(entry.miou.high, expected)


def test_generators_of_augment_see_the_kept_tiles_only(study_store, operations, tmp_path):
    report = run_cells(open_study(study_store, tmp_path / "out", AUGMENT, operations))
    assert sorted((call["seed"], call["area"]) for call in operations.calls("train")) == [
        (seed, kept * 64.0**2) for seed in (0, 1) for kept in (2, 4)
    ]
    differences = {(entry.arm, entry.baseline, entry.x): entry.miou.value for entry in report.differences}
    assert close(differences["real + ordinary", "real", 4], 0.05)
    assert close(differences["real + synthetic", "real", 2], -0.2 * 3 / 5)
    assert close(differences["real + synthetic + ordinary", "real + ordinary", 2], -0.2 * 3 / 5)


def test_judges_are_the_segmenters_of_the_arm_without(study_store, operations, tmp_path):
    """As cells of their own, or made for the judged arm alone."""
    arms = ("real + judged synthetic + ordinary",)
    alone = AUGMENT.model_copy(update={"arms": arms, "seeds": 1})
    report = run_cells(open_study(study_store, tmp_path / "out", alone, operations))
    assert not report.missing
    assert len(operations.calls("segment")) == 2 * 2  # two numbers of kept tiles, each with its judge
    both = AUGMENT.model_copy(update={"arms": ("real + ordinary", *arms), "seeds": 1})
    report = run_cells(open_study(study_store, tmp_path / "out", both, operations))
    assert len(operations.calls("segment")) == 2 * 2
    assert [(entry.arm, entry.baseline, entry.x) for entry in report.differences] == [
        (*arms, "real + ordinary", 2),
        (*arms, "real + ordinary", 4),
    ]


def test_what_synthetic_tiles_replace_judges_them(study_store, operations, tmp_path):
    """It is the cell of share 0, or made for the judged ones alone; where all is real there is nothing to judge."""
    alone = REPLACE.model_copy(update={"arms": ("judged mixed",), "shares": (0.5, 1), "seeds": 2})
    report = run_cells(open_study(study_store, tmp_path / "out", alone, operations))
    assert not report.missing
    segmented = [(call["real"], call["synthetic"]) for call in operations.calls("segment")]
    assert sorted(segmented) == [(0, 8)] * 2 + [(4, 4)] * 2 + [(8, 0)] * 2
    both = REPLACE.model_copy(update={"arms": ("mixed", "judged mixed"), "seeds": 2})
    report = run_cells(open_study(study_store, tmp_path / "out", both, operations))
    assert len(operations.calls("segment")) == len(segmented) + 2 * 2, "the mixed ones as they are"
    assert [(row.arm, row.x) for row in report.rows] == [
        ("mixed", 0),
        *((arm, x) for x in (0.5, 1) for arm in ("mixed", "judged mixed")),
    ]
    assert any("finds less likely than 0.05" in note for note in report.notes)


def test_a_judge_that_was_not_kept_is_made_anew(study_store, operations, tmp_path):
    """Segmenters are kept for cells that ask for them; those of before nobody asked for."""
    plain = REPLACE.model_copy(update={"seeds": 2})
    judged = plain.model_copy(update={"arms": ("judged mixed",)})
    before = run_cells(open_study(study_store, tmp_path / "out", plain, operations))
    assert not list(tmp_path.glob("out/cells/*/segmenter/*"))
    count = len(operations.calls("segment"))
    report = run_cells(open_study(study_store, tmp_path / "out", judged, operations))
    assert not report.missing
    again = [(call["seed"], call["real"], call["synthetic"]) for call in operations.calls("segment")[count:]]
    assert sorted(again) == [(seed, *tiles) for seed in (0, 1) for tiles in ((0, 8), (4, 4), (8, 0))]
    assert len(list(tmp_path.glob("out/cells/*/segmenter/model.safetensors"))) == 2
    assert close(means(report)["mixed", 0], means(before)["mixed", 0])


def test_sweeps_in_one_folder_share_generators(study_store, operations, tmp_path):
    run_cells(open_study(study_store, tmp_path / "out", REPLACE, operations))
    before = len(operations.calls("train"))
    run_cells(open_study(study_store, tmp_path / "out", DIVERSITY, operations))
    assert [call["weight"] for call in operations.calls("train")[before:]] == [2, 2]  # lambda 0 is there
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"replace", "diversity"}


def test_what_fails_does_not_stop_the_others_and_is_tried_again(study_store, operations, tmp_path):
    failing = dataclasses.replace(operations, fails=2.0)
    report = run_cells(open_study(study_store, tmp_path / "out", DIVERSITY, failing))
    assert [(cell.x, cell.seed) for cell in report.cells] == [(0, 0), (0, 1)]
    assert [entry.reason for entry in report.missing] == ["the loss is not a finite number"] * 2
    assert "Missing: 2 of 4 cells" in (tmp_path / "out" / "diversity" / "table.md").read_text()
    assert not run_cells(open_study(study_store, tmp_path / "out", DIVERSITY, operations)).missing


def _run(store, out, operations):
    run_cells(Study.open(store, out, REPLACE, None, operations))


def test_a_killed_study_goes_on(study_store, operations, tmp_path):
    dying = dataclasses.replace(operations, dies_at=5)
    arguments = (study_store.path, tmp_path / "out", dying)
    process = multiprocessing.get_context("fork").Process(target=_run, args=arguments, daemon=True)
    process.start()
    process.join(300)
    assert process.exitcode == -9
    study = open_study(study_store, tmp_path / "out", REPLACE, operations)
    partial = study.report({})
    assert (len(partial.cells), len(partial.missing)) == (4, 5)
    assert {entry.reason for entry in partial.missing} == {"not done yet"}
    whole = run_cells(study)
    assert len(operations.calls("segment")) == 9 + 1
    assert len(operations.calls("twin")) == 3
    other = FakeOperations(tmp_path / "other.txt")
    unbroken = run_cells(open_study(study_store, tmp_path / "unbroken", REPLACE, other))
    assert whole.rows == unbroken.rows
    assert whole.differences == unbroken.differences


def test_what_kills_after_the_last_file_of_artifacts_left_goes(study_store, operations, tmp_path):
    """Locks, checkpoints, and no record of how long they took; a cell's lock though nothing is left to do."""
    out = tmp_path / "out"
    run_cells(open_study(study_store, out, DIVERSITY, operations))
    made = sorted(path for path in out.rglob("*") if path.is_file())
    for result in out.glob("cells/*/result.json"):
        result.rename(result.with_name(".result.0a.partial.json"))
    records = [*out.glob("generators/*.json"), *out.glob("twins/*.json")]
    for record in records:
        record.with_suffix(".lock").touch()
        record.rename(record.with_name(f".{record.stem}.0a.partial.json"))
    for folder in out.glob("generators/*/"):
        (folder / "last.ckpt").touch()
    before = [len(operations.calls(verb)) for verb in ("train", "twin")]
    run_cells(open_study(study_store, out, DIVERSITY, operations))
    next(out.glob("cells/*.json")).with_suffix(".lock").touch()
    run_cells(open_study(study_store, out, DIVERSITY, operations))
    assert records
    assert before == [len(operations.calls(verb)) for verb in ("train", "twin")]
    assert sorted(path for path in out.rglob("*") if path.is_file()) == made


def test_an_interrupted_study_leaves_its_table(study_store, operations, tmp_path):
    def stop(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_cells(open_study(study_store, tmp_path / "out", REPLACE, operations), progress=stop)
    assert "Missing: 7 of 9 cells" in (tmp_path / "out" / "replace" / "table.md").read_text()


def test_workers_share_the_work_and_make_each_piece_once(study_store, operations, tmp_path):
    slow = dataclasses.replace(operations, seconds=0.02)
    with (
        LocalCluster(n_workers=3, threads_per_worker=2, processes=False, dashboard_address=":0") as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        report = run_cells(open_study(study_store, tmp_path / "out", AUGMENT, slow), client)
        failing = dataclasses.replace(slow, fails=2.0)
        partial = run_cells(open_study(study_store, tmp_path / "out", DIVERSITY, failing), client)
    assert len(partial.cells) == len(partial.missing) == 2
    kept = [(call["seed"], call["area"]) for call in operations.calls("train")[:4]]
    assert len(kept) == len(set(kept)) == 4
    recipes = recipes_of(open_study(study_store, tmp_path / "out", AUGMENT, operations))
    assert len(operations.calls("segment")) == len(recipes) + 2
    assert not report.missing
    alone = FakeOperations(tmp_path / "alone.txt")
    assert run_cells(open_study(study_store, tmp_path / "alone", AUGMENT, alone)).rows == report.rows


class WorkersOperations(FakeOperations):
    """Refuses to segment anywhere else than on a worker."""

    def segment(self, *arguments, **others):
        get_worker()
        return super().segment(*arguments, **others)


def test_the_workers_of_a_given_client_do_the_cells_and_it_stays_open(study_store, operations, tmp_path, monkeypatch):
    monkeypatch.setattr("geosynth.study.study.Operations", lambda: WorkersOperations(operations.log))
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        report = run_study(study_store, tmp_path / "out", REPLACE, client=client)
        assert client.submit(sum, (1, 2)).result() == 3
    assert (len(report.cells), report.missing) == (9, ())


def test_what_travels_to_workers_comes_back_equal(study_store, operations, tmp_path):
    study = open_study(study_store, tmp_path / "out", AUGMENT, operations)
    assert pickle.loads(pickle.dumps(study.artifacts)) == study.artifacts
    for recipe in recipes_of(study):
        again = pickle.loads(pickle.dumps(recipe))
        assert again == recipe
        assert study.artifacts.path_of(again) == study.artifacts.path_of(recipe)


def test_two_studies_at_a_time_do_not_do_the_same(study_store, operations, tmp_path):
    slow = dataclasses.replace(operations, seconds=0.02)
    context = multiprocessing.get_context("fork")
    arguments = (study_store.path, tmp_path / "out", slow)
    both = [context.Process(target=_run, args=arguments, daemon=True) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(300)
        assert process.exitcode == 0
    assert len(operations.calls("segment")) == 9
    assert len(operations.calls("train")) == 3


def in_look(name: str) -> ReplaceSettings:
    return REPLACE.model_copy(update={"generate": GenerateSettings(look=name)})


def overlapping(pixels: int) -> ReplaceSettings:
    return REPLACE.model_copy(update={"generate": GenerateSettings(overlap=pixels)})


def with_idle_coarse_tiles() -> ReplaceSettings:
    return REPLACE.model_copy(update={"segment": SegmentSettings.changed(REPLACE.segment, {"coarse_tiles": 2})})


def from_weights(file) -> ReplaceSettings:
    return REPLACE.model_copy(update={"segment": REPLACE.segment.model_copy(update={"weights": str(file)})})


def going_on_from(model, **train) -> ReplaceSettings:
    return REPLACE.model_copy(update={"train": TrainSettings.parse({"crop_size": 64, **train, "init": str(model)})})


def test_bad_input_is_one_line_before_anything_is_done(study_store, tmp_path, tiny_model, told_model, other_model):
    out = tmp_path / "out"
    many = REPLACE.model_copy(update={"tiles": 33})
    cases = [
        (many, None, DataError, "tiles=33, but fold 'train' holds 32 tiles of 32 px"),
        (AUGMENT.model_copy(update={"synthetic_tiles": 9}), None, DataError, "synthetic_tiles=9"),
        (from_weights(out / "none.pth"), None, CheckpointError, "none.pth: weights cannot be read: No such file"),
        (REPLACE.model_copy(update={"test_fold": "val"}), None, DataError, "'val' holds 0"),
        (DIVERSITY, tiny_model.path, SettingsError, "model: .* leave it out"),
        (REPLACE, other_model, DataError, "paints red, green"),
        (going_on_from(other_model), None, DataError, "bands red, .*, nir do not fit .* which has red, green; name"),
        (
            going_on_from(tiny_model.path, base_width=2),
            None,
            SettingsError,
            "^train.base_width: the model .*, not 2; leave it out",
        ),
        (
            going_on_from(tiny_model.path, learn="styles"),
            None,
            SettingsError,
            "^train.learn: needs a generator conditioned on looks",
        ),
        (
            in_look("bleak"),
            told_model.path,
            SettingsError,
            "generate.look: there is no look 'bleak'; .* has dim, bright",
        ),
        (in_look("dim"), tiny_model.path, SettingsError, "generate.look: there is no look 'dim'; .* has none"),
        *((overlapping(32), model, SettingsError, "^generate.overlap: no effect") for model in (None, tiny_model.path)),
        (with_idle_coarse_tiles(), None, SettingsError, "^segment.coarse_tiles: no effect without coarse"),
        (in_look("dim"), None, SettingsError, "generate.look: there is no look 'dim'; .* has none"),
        (
            AUGMENT.model_copy(update={"segment": REPLACE.segment}),
            None,
            SettingsError,
            "train.crop_size: 64 px do not fit into the kept tiles of 32 px",
        ),
    ]
    for settings, model, kind, words in cases:
        with pytest.raises(kind, match=words) as error:
            run_study(study_store, out, settings, model=model)
        assert "\n" not in str(error.value)
    with pytest.raises(SettingsError, match="three ways"):
        run_study(study_store, out, REPLACE, workers=2, scheduler="tcp://nowhere:1")
    assert not out.exists()


def test_a_given_model_paints_and_is_described(study_store, operations, tmp_path, tiny_model):
    study = open_study(
        study_store, tmp_path / "out", REPLACE, operations_that_read_no_model(operations), tiny_model.path
    )
    assert "trained on other images" in study.generator
    report = run_cells(study)
    assert not operations.calls("train")
    assert {cell.result.model_sha256 for cell in report.cells} == {None, tiny_model.sha256}


@pytest.mark.parametrize(
    ("scenes", "expected"),
    [
        (("elsewhere.tif",), "trained on other images than these"),
        (("a.tif", "elsewhere.tif"), "trained on the scenes of 16 of the 32 train tiles"),
        (
            ("a.tif", "c.tif"),
            "trained on the scenes of 16 of the 32 train tiles and of test tiles (1 of 1 test scenes)",
        ),
    ],
)
def test_it_is_told_what_a_given_model_has_seen(study_store, operations, tmp_path, model_that_saw, scenes, expected):
    study = open_study(study_store, tmp_path / "out", REPLACE, operations, model_that_saw(*scenes))
    assert study.generator.endswith(f", {expected}")
    assert study.generator == study.report({}).generator


def test_it_is_told_what_generators_go_on_from(study_store, operations, tmp_path, model_that_saw):
    study = open_study(study_store, tmp_path / "out", going_on_from(model_that_saw("c.tif")), operations)
    assert study.generator.endswith(
        "from the weights of seen.safetensors, trained on the scenes of 0 of the 32 train tiles and of test tiles"
        " (1 of 1 test scenes)"
    )


def operations_that_read_no_model(operations):
    class Blind(FakeOperations):
        def twin(self, source, out, model, settings, fold, progress):
            out.mkdir(parents=True)

    return Blind(operations.log)
