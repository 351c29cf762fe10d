"""--dry-run: what is there, what is to do, and how long it takes, by a clock that only the operations move."""

import dataclasses
from types import SimpleNamespace

import pytest
from studies import AUGMENT, DIVERSITY, REPLACE, FakeOperations, open_study

from geosynth.study.duration import _by_steps, expected_work
from geosynth.study.run import run_cells


@dataclasses.dataclass(frozen=True)
class SteadyOperations(FakeOperations):
    """A second for each step of a generator, two for one of a segmenter, three for each tenth of a twin or comparison;
    before and after them nothing.
    """  # fmt: skip

    clock: list[float] = dataclasses.field(default_factory=lambda: [0.0])

    def _work(self, seconds, steps, progress):
        for step in range(steps):
            self.clock[0] += seconds
            progress(step + 1, steps)

    def train(self, source, out, settings, fold, progress):
        self._work(0, 4, progress)  # blocks that are read to scale imagery
        self._work(1, settings.steps, progress)
        return super().train(source, out, settings, fold, lambda done, total: None)

    def segment(self, data, out, settings, twin, train_fold, test_fold, progress, **others):
        self._work(2, settings.steps, progress)
        return super().segment(data, out, settings, twin, train_fold, test_fold, progress, **others)

    def twin(self, source, out, model, settings, fold, progress):
        self._work(3, 10, progress)
        super().twin(source, out, model, settings, fold, progress)

    def compare(self, store, twins, fold, tile_size, progress):
        self._work(3, 10, progress)
        return super().compare(store, twins, fold, tile_size, progress)


@pytest.fixture
def steady(tmp_path, monkeypatch):
    operations = SteadyOperations(tmp_path / "calls.txt")
    for module in ("duration", "artifacts"):
        monkeypatch.setattr(f"geosynth.study.{module}.time", SimpleNamespace(monotonic=lambda: operations.clock[0]))
    return operations


def by_kind(plan):
    return {work.kind: work for work in plan.work}


def test_a_new_study_is_timed_and_leaves_nothing(study_store, tmp_path, steady):
    long = DIVERSITY.model_copy(
        update={
            "train": DIVERSITY.train.model_copy(update={"steps": 1000}),
            "segment": DIVERSITY.segment.model_copy(update={"steps": 500}),
        }
    )
    plan = expected_work(open_study(study_store, tmp_path / "out", long, steady), workers=2)
    found = by_kind(plan)
    assert {kind: (work.finished, work.todo, work.seconds) for kind, work in found.items()} == {
        "generators": (0, 4, 1000),
        "twins": (0, 12, 30),  # though broken off after more than 15
        "cells": (0, 4, 2 * 500 + 30),
    }
    assert not steady.calls("twin")
    assert plan.hours == pytest.approx((4 * 1000 + 12 * 30 + 4 * 1030) / 2 / 3600)
    assert not any(is_made for _, is_made in plan.cells)
    assert not (tmp_path / "out").exists()


def test_what_comes_before_and_after_the_steps_does_not_grow_with_them(steady):
    def operation(progress):
        progress(0, 5)
        steady.clock[0] += 7
        for step in range(5):
            steady.clock[0] += 2
            progress(step + 1, 5)
        steady.clock[0] += 1

    assert _by_steps(operation, 100) == 7 + 100 * 2 + 1
    assert _by_steps(lambda progress: None, 100) == 0


def test_finished_pieces_tell_the_time_of_the_others(study_store, tmp_path, steady):
    run_cells(open_study(study_store, tmp_path / "out", REPLACE, steady))
    count = len(steady.calls())
    more = REPLACE.model_copy(update={"seeds": 5, "train": REPLACE.train.model_copy(update={"steps": 200})})
    found = by_kind(expected_work(open_study(study_store, tmp_path / "out", more, steady), workers=1))
    assert len(steady.calls()) == count  # nothing was tried
    assert found["generators"].source == "from 3 finished generators"
    assert found["generators"].seconds == pytest.approx(200)
    assert found["twins"].seconds == pytest.approx(30)
    assert (found["cells"].finished, found["cells"].todo) == (3, 12)  # those without synthetic tiles stay
    again = expected_work(open_study(study_store, tmp_path / "out", REPLACE, steady), workers=1)
    assert again.hours == 0
    assert all(is_made for _, is_made in again.cells)


def test_twins_of_a_finished_study_may_be_deleted(study_store, tmp_path, steady):
    study = open_study(study_store, tmp_path / "out", REPLACE, steady)
    run_cells(study)
    for twin in (tmp_path / "out" / "twins").glob("*.zarr"):
        twin.rmdir()
    assert expected_work(study, workers=1).hours == 0


def test_judges_whose_segmenters_were_not_kept_are_counted(study_store, tmp_path, steady):
    """Only those that cells ask for which are still to be done."""
    plain = REPLACE.model_copy(update={"arms": ("mixed",)})
    run_cells(open_study(study_store, tmp_path / "out", plain, steady))
    judged = REPLACE.model_copy(update={"arms": ("mixed", "judged mixed")})
    study = open_study(study_store, tmp_path / "out", judged, steady)
    count = len(steady.calls("segment"))
    cells = by_kind(expected_work(study, workers=1))["cells"]
    assert (cells.finished, cells.todo) == (6, 3 + 6)  # a judge for each seed, and the judged ones
    run_cells(study)
    assert len(steady.calls("segment")) == count + cells.todo
    assert by_kind(expected_work(study, workers=1))["cells"].todo == 0


def test_a_given_model_is_not_trained(study_store, tmp_path, steady, tiny_model):
    plan = expected_work(open_study(study_store, tmp_path / "out", AUGMENT, steady, tiny_model.path), workers=1)
    assert by_kind(plan)["generators"].todo == 0
    assert by_kind(plan)["twins"].todo == AUGMENT.seeds
    assert not steady.calls("train")
