"""Metrics and pictures of a training, through interruptions."""

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer
from trainings import BANDS, TINY, ready

from geosynth.legend import CHESAPEAKE
from geosynth.training.records import Records, preview_grid


def rows_in(out):
    with (out / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def write(out, start, steps):
    with Records(out, start, float(start)) as records:
        for step in steps:
            records.add(step, float(step), {"gan": step / 10}, (1e-4, 4e-4), batch_size=3)


def board_in(out):
    board = EventAccumulator(str(out / "tensorboard"))
    board.Reload()
    return board


@pytest.fixture(autouse=True)
def number_of_files(monkeypatch):
    """TensorBoard sorts the files of one second by their numbers as text, in which 10 comes before 9."""
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))


def test_steps_after_the_checkpoint_are_forgotten(tmp_path):
    write(tmp_path, 0, range(1, 6))
    write(tmp_path, 3, range(4, 7))
    assert [(row["step"], row["loss/gan"]) for row in rows_in(tmp_path)] == [(str(i), str(i / 10)) for i in range(1, 7)]
    assert {row["images_per_second"] for row in rows_in(tmp_path)} == {"3"}  # one step a second
    assert {(row["rate/generator"], row["rate/discriminator"]) for row in rows_in(tmp_path)} == {("0.0001", "0.0004")}
    assert [event.step for event in board_in(tmp_path).Scalars("loss/gan")] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_a_table_goes_on_from_as_many_lines_as_there_are(tmp_path, kept):
    write(tmp_path, 0, range(1, kept + 2))
    if kept == 0:
        (tmp_path / "metrics.csv").unlink()
    write(tmp_path, kept or 5, [6])
    assert [row["step"] for row in rows_in(tmp_path)] == [*map(str, range(1, kept + 1)), "6"]


def test_the_rate_of_images_is_that_since_the_line_before(tmp_path):
    for start, seconds, lines in ((0, 0.0, [(2, 4.0), (8, 10.0)]), (8, 10.0, [(10, 10.5)])):
        with Records(tmp_path, start, seconds) as records:
            for line in lines:
                records.add(*line, {"gan": 0.0}, (1e-4, 4e-4), batch_size=3)
    assert [float(row["images_per_second"]) for row in rows_in(tmp_path)] == [1.5, 3.0, 12.0]
    assert [float(row["seconds"]) for row in rows_in(tmp_path)] == [4.0, 10.0, 10.5]


def test_a_half_written_line_is_dropped(tmp_path):
    write(tmp_path, 0, range(1, 4))
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("4,0.")
    write(tmp_path, 4, [5])
    assert [row["step"] for row in rows_in(tmp_path)] == ["1", "2", "3", "5"]


@pytest.mark.parametrize("left", ["", "step,loss/g"])
def test_an_interruption_before_the_first_line_leaves_the_head_to_the_next_run(tmp_path, left):
    (tmp_path / "metrics.csv").write_text(left)
    write(tmp_path, 2, [3, 4])
    assert [(row["step"], row["loss/gan"]) for row in rows_in(tmp_path)] == [("3", "0.3"), ("4", "0.4")]


def test_a_fresh_training_starts_a_fresh_table(tmp_path):
    write(tmp_path, 0, range(1, 4))
    write(tmp_path, 0, [1])
    assert [row["step"] for row in rows_in(tmp_path)] == ["1"]


def test_pictures_go_to_both_places(tmp_path):
    grid = torch.arange(60, dtype=torch.uint8).view(3, 4, 5)
    with Records(tmp_path, 0, 0.0) as records:
        records.show(7, grid)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "previews" / "000007.png")), grid.permute(1, 2, 0))
    assert board_in(tmp_path).Tags()["images"] == ["labels, real, synthetic"]


def test_the_grid_shows_labels_in_their_colours_and_real_pixels():
    step = ready(TINY)
    step.recent_masks.append(torch.zeros((2, 64, 64), dtype=torch.uint8))
    mask = torch.zeros((1, 64, 64), dtype=torch.long)
    mask[0, 32:] = 4
    mask[0, :, 40:] = 6  # no class
    real = torch.full((1, 4, 64, 64), -1.0)
    real[:, 1], real[:, 3] = 1.0, 0.0
    batch = replace(step.draw(0, real, mask), image=real, mask=mask)  # not turned
    grid = preview_grid(step, batch, CHESAPEAKE, BANDS)
    assert grid.shape == (3, 68, 6 * 66 + 2)
    for (row, column), expected in {(5, 5): 0, (50, 5): 4}.items():
        assert tuple(grid[:, row, column].tolist()) == CHESAPEAKE.classes[expected].rgb
    assert grid[:, 20, 60].tolist() == [0, 0, 0]
    assert grid[:, 20, 66 + 20].tolist() == [0, 255, 0]
    assert grid[:, 20, 4 * 66 + 20].tolist() == [128, 128, 128]
    assert not torch.equal(grid[:, 2:66, 134:198], grid[:, 2:66, 200:264])  # two styles


def test_of_a_large_batch_four_patches_are_shown():
    step, mask = ready(TINY), torch.zeros((5, 64, 64), dtype=torch.long)
    step.recent_masks.append(mask[:1].byte())
    real = torch.linspace(-1, 1, 5)[:, None, None, None].expand(5, 4, 64, 64)
    batch = replace(step.draw(0, real[:1], mask[:1]), image=real, mask=mask)
    grid = preview_grid(step, batch, CHESAPEAKE, BANDS)
    assert grid.shape[1] == 4 * 66 + 2
    assert [int(grid[0, row * 66 + 20, 66 + 20]) for row in range(4)] == [0, 64, 128, 191]


def test_the_grid_shows_natural_colours_whatever_the_order_of_the_bands():
    step, mask = ready(TINY), torch.zeros((1, 64, 64), dtype=torch.long)
    step.recent_masks.append(mask.byte())
    real = torch.tensor([0.0, -1.0, -0.5, 1.0])[None, :, None, None].expand(1, 4, 64, 64)
    grid = preview_grid(step, step.draw(0, real, mask), CHESAPEAKE, ("nir", "blue", "green", "red"))
    assert grid[:, 20, 66 + 20].tolist() == [255, 64, 0]
    assert grid[:, 20, 4 * 66 + 20].tolist() == [128, 128, 128]  # near infrared


def test_the_norms_of_a_grid_rest_on_a_few_batches_those_of_the_model_on_all():
    step, mask = ready(TINY), torch.zeros((1, 64, 64), dtype=torch.long)
    step.recent_masks.extend([mask.byte()] * 20)
    passes = []
    step.networks.average.register_forward_hook(lambda network, *values: passes.append(network.training))
    preview_grid(step, step.draw(0, torch.zeros(1, 4, 64, 64), mask), CHESAPEAKE, BANDS)
    assert passes.count(True) == 8
    passes.clear()
    step.finished_generator()
    assert passes.count(True) == 20
