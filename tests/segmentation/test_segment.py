"""`segment`: what it learns, reports, repeats, resumes and refuses."""

from __future__ import annotations

import hashlib
import json
import signal
import threading

import numpy as np
import pytest
import torch
from segment_stores import BANDS, COLOURS, LEGEND, SIDE, STEP, TINY, make_segment_store
from sklearn.metrics import jaccard_score

from geosynth.config import SegmentSettings
from geosynth.errors import CheckpointError, DataError, OutputError, SettingsError, TrainingError
from geosynth.grid import SpatialSplit
from geosynth.loop import Checkpoint, made_ahead
from geosynth.segmentation import segment as module
from geosynth.segmentation.data import left_out, open_data
from geosynth.segmentation.scores import SegmentReport
from geosynth.segmentation.segment import segment
from geosynth.segmentation.segmenter import Segmenter, load_segmenter
from geosynth.segmentation.unet import build_unet


def files_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_it_learns_and_says_how_well(segment_store, trained):
    out, report = trained
    assert files_in(out) == ["model.safetensors", "report.json"]
    assert report.miou > 0.85
    assert (report.real_tiles, report.synthetic_tiles, report.test_tiles, report.test_places) == (12, 0, 12, 3)
    assert report.miou_low <= report.miou <= report.miou_high
    assert report.weights == "scratch"
    assert SegmentReport.load(out / "report.json") == report
    # By hand: predict the test scenes tile by tile, and ask scikit-learn.
    segmenter = load_segmenter(out)
    truth, guess = [], []
    for scene in segment_store.scenes_in("test"):
        labels, image = segment_store.read_labels(scene.window), segment_store.read_image(scene.window)
        for rows in (slice(0, 32), slice(32, 64)):
            for columns in (slice(0, 32), slice(32, 64)):
                truth.append(labels[rows, columns])
                guess.append(segmenter.predict(image[None, :, rows, columns])[0])
    expected = jaccard_score(np.ravel(truth), np.ravel(guess), average=None)
    np.testing.assert_allclose(list(report.class_iou.values()), expected, atol=0.002)  # batches of other sizes
    assert np.sum(report.confusion) == 3 * 64 * 64
    assert len(report.place_confusions) == 3
    np.testing.assert_array_equal(np.sum(report.place_confusions, axis=0), report.confusion)


def test_the_same_seed_gives_the_same_file(segment_store, tmp_path):
    options = {"augment": "flips+colour", "real_tiles": 5}
    for name, seed in (("one", 1), ("two", 1), ("three", 2)):
        segment(segment_store, tmp_path / name, TINY, seed=seed, subset_seed=0, **options)
    one, two, three = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two", "three"))
    assert one == two
    assert one != three


def test_batches_that_threads_make_for_a_gpu_are_those_of_a_cpu(segment_store, tmp_path, monkeypatch):
    settings = TINY.model_copy(update={"steps": 6, "real_tiles": 5, "augment": "flips+colour"})
    segment(segment_store, tmp_path / "one", settings)
    made = set()
    first_two = threading.Barrier(2, timeout=60)  # each is in a thread of its own, however fast it is

    def ahead(items, device, finish):
        def watched(item):
            if item < 2:
                first_two.wait()
            made.add(threading.current_thread().name)
            return finish(item)

        return made_ahead(items, torch.device("cuda"), watched)

    monkeypatch.setattr(module, "made_ahead", ahead)
    segment(segment_store, tmp_path / "two", settings)
    assert len(made) > 1
    one, two = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two"))
    assert one == two


def test_layers_that_are_left_out_by_chance_follow_from_the_seed(segment_store, tmp_path):
    """Some encoders draw random numbers in each step: the step and the seed tell them, also after an interruption."""
    settings = TINY.model_copy(update={"encoder": "efficientnet-b0", "save_minutes": 1e-9})
    segment(segment_store, tmp_path / "one", settings)

    class Stop(Exception):
        pass

    def stop(done, total):
        if done == 2:
            raise Stop

    with pytest.raises(Stop):
        segment(segment_store, tmp_path / "two", settings, progress=stop)
    segment(segment_store, tmp_path / "two", settings)
    one, two = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two"))
    assert one == two


def test_a_report_that_is_there_is_not_made_again(segment_store, tmp_path, monkeypatch):
    first = segment(segment_store, tmp_path / "out", TINY)
    monkeypatch.setattr(module, "_train", None)
    assert segment(segment_store.path, tmp_path / "out", TINY) == first
    with pytest.raises(OutputError, match=r"made differently \(steps, seed\)"):
        segment(segment_store, tmp_path / "out", TINY, steps=4, seed=1)
    other = make_segment_store(tmp_path / "other.zarr", seed=5)
    with pytest.raises(OutputError, match=r"made differently \(data\)"):
        segment(other, tmp_path / "out", TINY)
    with pytest.raises(TypeError):  # it would train
        segment(segment_store, tmp_path / "out", TINY, overwrite=True)
    assert files_in(tmp_path / "out") == ["model.safetensors"]


def test_an_interrupted_training_goes_on_to_the_same_end(segment_store, tmp_path):
    settings = TINY.model_copy(update={"steps": 6, "save_minutes": 1e-9, "augment": "flips"})
    segment(segment_store, tmp_path / "whole", settings)

    class Stop(Exception):
        pass

    def stop(done, total):
        if done == 5:  # before it is saved
            raise Stop

    with pytest.raises(Stop):
        segment(segment_store, tmp_path / "part", settings, progress=stop)
    assert files_in(tmp_path / "part") == ["last.ckpt"]
    assert Checkpoint.load(tmp_path / "part" / "last.ckpt").steps == 4
    told = []
    segment(segment_store, tmp_path / "part", settings, progress=lambda done, total: told.append((done, total)))
    assert told == [(5, 6), (6, 6)]
    whole, part = (tmp_path / name / "model.safetensors" for name in ("whole", "part"))
    assert whole.read_bytes() == part.read_bytes()
    assert files_in(tmp_path / "part") == ["model.safetensors", "report.json"]


@pytest.mark.usefixtures("ctrl_c_is_pythons")
def test_ctrl_c_keeps_what_is_done(segment_store, tmp_path):
    """However long it is until `save_minutes` are over; what goes on from it ends in the same bytes."""
    settings = TINY.model_copy(update={"steps": 4})
    segment(segment_store, tmp_path / "whole", settings)

    def press(done, total):
        if done == 2:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        segment(segment_store, tmp_path / "part", settings, progress=press)
    assert Checkpoint.load(tmp_path / "part" / "last.ckpt").steps == 3  # the next step ends first
    told = []
    segment(segment_store, tmp_path / "part", settings, progress=lambda done, total: told.append(done))
    assert told == [4]
    whole, part = (tmp_path / name / "model.safetensors" for name in ("whole", "part"))
    assert whole.read_bytes() == part.read_bytes()


def test_a_training_that_was_stopped_in_the_test_is_not_trained_again(segment_store, tmp_path, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "_test", stop)
        with pytest.raises(KeyboardInterrupt):
            segment(segment_store, tmp_path, TINY)
    monkeypatch.setattr(module, "_loss", None)
    assert segment(segment_store, tmp_path, TINY).test_tiles == 12


def test_a_loss_that_is_no_number_stops_it(segment_store, tmp_path, monkeypatch):
    original, calls = module._loss, []

    def diverge(*args):
        calls.append(0)
        return original(*args) * (float("nan") if len(calls) == 2 else 1.0)

    monkeypatch.setattr(module, "_loss", diverge)
    with pytest.raises(
        TrainingError, match=r"step 2: loss 'cross-entropy' is nan; lower learning_rate; .*ckpt is kept"
    ):
        segment(segment_store, tmp_path, TINY, save_minutes=1e-9)
    assert Checkpoint.load(tmp_path / "last.ckpt").steps == 1


def test_without_a_class_there_is_no_loss():
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    labels = torch.full((2, 4, 4), 3)
    module._cross_entropy(logits, labels).backward()
    assert not logits.grad.any()
    labels[0, 1, 2] = 1
    expected = torch.nn.functional.cross_entropy(logits, labels, ignore_index=3)
    torch.testing.assert_close(module._cross_entropy(logits, labels), expected)


@pytest.mark.parametrize("damage", ["settings", "bytes"])
def test_unfinished_work_that_does_not_fit_is_thrown_away(segment_store, tmp_path, caplog, damage):
    settings = TINY.model_copy(update={"save_minutes": 1e-9})

    def stop(done, total):
        if done == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        segment(segment_store, tmp_path, settings, progress=stop)
    if damage == "bytes":
        (tmp_path / "last.ckpt").write_bytes(b"no checkpoint")
    told = []
    segment(
        segment_store,
        tmp_path,
        settings,
        progress=lambda done, total: told.append(done),
        **({"seed": 1} if damage == "settings" else {}),
    )
    assert told == [1, 2, 3]
    assert "discarded" in caplog.text


def test_other_weights_under_the_same_name_are_other_work(segment_store, tmp_path, caplog):
    file, out = tmp_path / "weights.pth", tmp_path / "out"
    options = {"weights": str(file), "save_minutes": 1e-9}

    def save(scale):
        state = build_unet(TINY.encoder, 4, 2).encoder.state_dict()
        torch.save({name: scale * value for name, value in state.items()}, file)

    def stop(done, total):
        if done == 2:
            raise InterruptedError

    save(1)
    with pytest.raises(InterruptedError):
        segment(segment_store, out, TINY, **options, progress=stop)
    save(2)
    first = segment(segment_store, out, TINY, **options)
    assert "discarded" in caplog.text
    assert first.weights_sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert segment(segment_store, out, TINY, **options) == first
    save(3)
    with pytest.raises(OutputError, match=r"made differently \(weights_sha256\)"):
        segment(segment_store, out, TINY, **options)


def test_synthetic_tiles_are_the_twins(segment_store, segment_twin, tmp_path):
    """Trained on the twin only, a segmenter knows the twin's colours and not the real ones."""
    options = {"synthetic": segment_twin, "steps": 25, "batch_size": 8, "learning_rate": 5e-3}
    report = segment(segment_store, tmp_path / "twin", TINY, real_tiles=0, **options)
    assert (report.real_tiles, report.synthetic_tiles) == (0, 12)  # all of the twin, where nobody says how many
    segmenter = load_segmenter(tmp_path / "twin")
    scenes = segment_twin.scenes_in("test")
    own = segmenter.scores((segment_twin.read_image(s.window), segment_twin.read_labels(s.window)) for s in scenes)
    assert own.miou() > 0.8 > 0.6 > report.miou


def test_the_rate_rises_for_a_twentieth_of_the_steps_and_falls_as_a_cosine(segment_store, tmp_path, monkeypatch):
    used, step = [], torch.optim.AdamW.step

    def watched(self, *arguments, **options):
        used.append(self.param_groups[0]["lr"])
        return step(self, *arguments, **options)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    segment(segment_store, tmp_path / "out", TINY, steps=60, learning_rate=0.01)
    assert used[:3] == pytest.approx([0.01 / 3, 0.02 / 3, 0.01])
    assert used[3:] == pytest.approx([0.005 + 0.005 * np.cos(np.pi * n / 58) for n in range(1, 58)])


def test_a_twin_that_is_not_used_changes_nothing(segment_store, segment_twin, tmp_path):
    alone = segment(segment_store, tmp_path / "alone", TINY)
    beside = segment(segment_store, tmp_path / "beside", TINY, synthetic=segment_twin, synthetic_tiles=0)
    assert alone.data == beside.data
    assert alone.confusion == beside.confusion


def test_pixels_without_a_class_do_not_count(tmp_path):
    store = make_segment_store(tmp_path / "holes.zarr", hole=True)
    report = segment(store, tmp_path / "out", TINY, max_nodata=0.9)
    assert np.sum(report.confusion) == 3 * 64 * 64 - 16 * 16
    assert (report.real_tiles, report.test_tiles) == (12, 12)
    strict = segment(store, tmp_path / "strict", TINY, max_nodata=0)
    assert (strict.real_tiles, strict.test_tiles) == (11, 11)


@pytest.mark.parametrize(("dtype", "factor"), [("uint16", 20), ("float32", 0.01)])
def test_other_imagery(tmp_path, dtype, factor):
    bands = ("pan", "nir")

    def paint(index, labels):
        return (COLOURS[:2, labels] * factor * 20).astype(float)

    store = make_segment_store(tmp_path / "other.zarr", colours=paint, dtype=dtype, bands=bands)
    told = []
    changes = {"steps": 20, "batch_size": 4, "learning_rate": 5e-3}
    report = segment(store, tmp_path / "out", TINY, **changes, progress=lambda *values: told.append(values))
    blocks = len(list(store.blocks(512, "train")))
    scaling, training = ([(done, total) for done in range(1, total + 1)] for total in (blocks, 20))
    assert told == scaling + training
    card = load_segmenter(tmp_path / "out").card
    assert (card.bands.names, card.bands.dtype) == (bands, dtype)
    assert report.miou > 0.7


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_the_precision_is_that_of_training_and_of_the_test(segment_store, tmp_path, monkeypatch, precision, dtype):
    entropy, logits, seen = module._cross_entropy, Segmenter._logits, []

    def trained(values, labels):
        seen.append(values)
        return entropy(values, labels)

    def tested(segmenter, image):
        seen.append(logits(segmenter, image))
        return seen[-1]

    monkeypatch.setattr(module, "_cross_entropy", trained)
    monkeypatch.setattr(Segmenter, "_logits", tested)
    segment(segment_store, tmp_path, TINY, precision=precision)
    assert len(seen) > TINY.steps
    assert {values.dtype for values in seen} == {dtype}


SWIN = "tu-swin_tiny_patch4_window7_224"  # whose images have 224 px
REFUSED = {
    "nothing": ({"data": []}, DataError, "data: an empty list of stores"),
    "no test tile": ({"test_fold": "val"}, DataError, "fold 'val' holds no whole tile of 32 px to test on"),
    "same fold": ({"test_fold": "train"}, SettingsError, "test_fold: must not be the train fold"),
    "no fold": ({"test_fold": "tset"}, SettingsError, "fold 'tset'"),
    "no train tile": ({"train_fold": "val"}, DataError, "fold 'val' holds no whole tile of 32 px to train on"),
    "too many": ({"real_tiles": 99}, DataError, "real_tiles=99, but there is a choice of 12 tiles"),
    "no twin": ({"synthetic_tiles": 3}, SettingsError, "synthetic tiles need a twin"),
    "encoder": ({"encoder": "resnet1"}, SettingsError, "encoder: segmentation_models_pytorch has no 'resnet1'"),
    "one size": ({"encoder": SWIN}, SettingsError, f"encoder: '{SWIN}' takes no images of 32 px .*match model"),
    "weights": ({"weights": "nothing.pth"}, CheckpointError, "nothing.pth: weights cannot be read: No such file"),
    "coarse": ({"coarse": "nlcd", "real_tiles": 2}, SettingsError, "no map 'nlcd'"),
    "coarse tiles": ({"coarse": "nlcd"}, DataError, "beside 12 real tiles there are 0"),
    "store": ({"data": "nowhere.zarr"}, OSError, "nowhere.zarr"),
    "init": ({"init": "nothing.safetensors"}, CheckpointError, "nothing.safetensors"),
    "crop": ({"crop_size": 64}, SettingsError, "crop_size: must be at most tile_size, 32 px"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_are_one_line_and_leave_nothing(segment_store, tmp_path, case):
    options, error, said = REFUSED[case]
    with pytest.raises(error, match=said) as caught:
        segment(**{"data": segment_store, "out": tmp_path / "out", "settings": TINY, **options})
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists() or not files_in(tmp_path / "out")


def test_an_encoder_is_tried_with_crops_and_with_whole_tiles(segment_store, tmp_path, monkeypatch):
    tried = []
    monkeypatch.setattr(module, "check_takes", lambda *arguments: tried.append(arguments[-1]))
    segment(segment_store, tmp_path / "out", TINY, tile_size=64, crop_size=32)
    assert sorted(tried) == [32, 64]


@pytest.mark.parametrize("options", [{"test": 4}, {"bands": ("nir", *BANDS[:3])}], ids=["grid", "bands"])
def test_a_twin_of_something_else(segment_store, tmp_path, options):
    other = make_segment_store(tmp_path / "other.zarr", **options)
    with pytest.raises(DataError, match="make the twin of the same store"):
        segment(segment_store, tmp_path / "out", TINY, synthetic=other, synthetic_tiles=2)


def test_real_tiles_do_not_pass_for_synthetic_ones(segment_store, tmp_path):
    with pytest.raises(DataError, match="is the data itself, not a twin of it; make one with `geosynth twin`"):
        segment(segment_store, tmp_path / "out", TINY, synthetic=segment_store, synthetic_tiles=2)


def test_going_on_from_a_segmenter(segment_store, trained, tmp_path):
    start, learned = trained
    # With next to no rate it stays what it was, so that it is known to be the very network.
    kept = segment(segment_store, tmp_path / "kept", TINY, init=start, steps=1, learning_rate=1e-12)
    assert kept.miou == pytest.approx(learned.miou, abs=0.05)
    assert kept.init == load_segmenter(start).sha256
    assert segment(segment_store, tmp_path / "fresh", TINY, steps=1, learning_rate=1e-12).miou < 0.5
    with pytest.raises(OutputError, match=r"made differently \(init\)"):
        segment(segment_store, tmp_path / "kept", TINY, steps=1, learning_rate=1e-12)


@pytest.mark.parametrize("named", ["", "model.safetensors"])
def test_a_segmenter_is_not_replaced_by_what_goes_on_from_it(segment_store, tmp_path, named):
    segment(segment_store, tmp_path / "out", TINY)
    before = (tmp_path / "out" / "model.safetensors").read_bytes()
    for role in ("init", "judge"):
        with pytest.raises(OutputError, match="is also an input and would be lost"):
            segment(segment_store, tmp_path / "out", TINY, overwrite=True, **{role: tmp_path / "out" / named})
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == before


def test_going_on_from_a_segmenter_of_something_else(segment_store, trained, tmp_path):
    with pytest.raises(SettingsError, match=r"encoder: the segmenter .* has tu-test_resnet, not resnet18"):
        segment(segment_store, tmp_path / "out", TINY, init=trained[0], encoder="resnet18")
    other = make_segment_store(tmp_path / "other.zarr", bands=("nir", *BANDS[:3]))
    with pytest.raises(DataError, match="bands nir, red, green, blue do not fit the model"):
        segment(other, tmp_path / "out", TINY, init=trained[0])


def test_trained_in_one_region_and_tested_in_another(segment_store, tmp_path):
    """As several sources, of which each has one of the folds."""
    apart = make_segment_store(tmp_path / "other.zarr", colours=COLOURS[:, ::-1], train=2, test=1)
    here, there = (
        store.with_split(SpatialSplit(tuple(area if fold == name else empty for name, area in areas.items()), 0))
        for store, fold in ((segment_store, "train"), (apart, "test"))
        for areas in [{name: store.split.area(name) for name in ("train", "val", "test")}]
        for empty in [store.split.area("val")]
    )
    report = segment([here, there], tmp_path / "out", TINY, steps=25, batch_size=8, learning_rate=5e-3)
    assert (report.real_tiles, report.test_tiles, report.test_places) == (12, 4, 1)
    assert report.miou < 0.4  # water and roofs have changed their colours there


def test_two_dates_of_a_place_are_one_place_of_the_test(segment_store, tmp_path):
    later = make_segment_store(tmp_path / "later.zarr", seed=7)
    one, two = (open_data(data, None, TINY, "train", "test") for data in (segment_store, [segment_store, later]))
    assert two.test_places == (*one.test_places, *one.test_places)


def test_a_judge_leaves_out_what_it_doubts(segment_store, trained, tmp_path):
    """Half of each synthetic image shows other classes than its labels say."""

    def half_wrong(index, labels):
        wrong = np.where(np.arange(SIDE) < SIDE // 2, labels, (labels + 1) % 3)
        return COLOURS[:, wrong]

    twin = make_segment_store(tmp_path / "twin.zarr", colours=half_wrong, seed=1)
    judge, options = trained[0], {"real_tiles": 2, "synthetic_tiles": 8}
    data = open_data(
        segment_store,
        twin,
        SegmentSettings.parse({**TINY.model_dump(), **options}),
        "train",
        "test",
        load_segmenter(judge),
    )
    known_pixels = kept_pixels = 0
    for index, (source, window) in enumerate(data.train.places):
        known, labels = source.read_labels(window), data.train[index][1]
        if index >= 2:
            known_pixels += np.count_nonzero(known != 3)
            kept_pixels += np.count_nonzero(labels != 3)
        if index < 2:
            np.testing.assert_array_equal(labels, known)
        elif window.column % STEP < SIDE // 2:
            assert (labels == known).mean() > 0.95
        else:
            assert (labels == 3).mean() > 0.8
    report = segment(segment_store, tmp_path / "out", TINY, synthetic=twin, judge=judge, **options)
    assert 0.2 < report.left_out < 0.8
    assert report.left_out == pytest.approx(1 - kept_pixels / known_pixels)
    assert report.judge == load_segmenter(judge).sha256
    assert "of their pixels" in {name: meaning for name, _, meaning in report.summary()}["accuracy"]
    with pytest.raises(OutputError, match=r"made differently \(judge\)"):
        segment(segment_store, tmp_path / "out", TINY, synthetic=twin, **options)


def test_without_synthetic_tiles_a_judge_leaves_out_nothing(segment_store, trained):
    assert left_out(open_data(segment_store, None, TINY, "train", "test", load_segmenter(trained[0])).train) == 0


def test_a_judge_of_something_else_is_refused(segment_store, segment_twin, tmp_path):
    """Before it is asked about a tile."""
    other = make_segment_store(tmp_path / "other.zarr", bands=BANDS[:3], colours=COLOURS[:3])
    segment(other, tmp_path / "judge", TINY)
    options = {"synthetic": segment_twin, "real_tiles": 0, "synthetic_tiles": 4, "judge": tmp_path / "judge"}
    line = (
        r"bands red, green, blue, nir do not fit the model .*, which has red, green, blue; name them in its order: "
        r"ingest --bands red,green,blue, or bands of data in place$"
    )
    with pytest.raises(DataError, match=line):
        segment(segment_store, tmp_path / "out", TINY, **options)


def test_float32_is_not_tf32(segment_store, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    seen = []
    segment(segment_store, tmp_path, TINY, steps=1, progress=lambda *_: seen.append(torch.backends.cudnn.allow_tf32))
    assert seen == [False]


def test_constant_images(tmp_path):
    store = make_segment_store(tmp_path / "flat.zarr")
    for scene in store.scenes:
        store = make_flat(store, scene.window)
    with pytest.raises(DataError, match="each train image holds one value only"):
        segment(store, tmp_path / "out", TINY)


def make_flat(store, window):
    writable = type(store)(store.path, mode="r+")
    codes = LEGEND.decode(store.read_labels(window)).astype("uint8")
    writable.write(window, np.full((4, 64, 64), 7, np.uint8), codes)
    return type(store)(store.path)


def test_a_file_that_is_no_report(segment_store, tmp_path):
    (tmp_path / "report.json").write_text(json.dumps({"miou": 1}))
    with pytest.raises(DataError, match="not a report of `segment`"):
        segment(segment_store, tmp_path, TINY)
