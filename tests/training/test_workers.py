"""Several processes train as one does on the same batch."""

import csv
import json
import os
import socket
import subprocess
import sys

import pytest
import torch
from trainings import TINY, checkpoint_in
from worker_tasks import fail, note, wait

from geosynth.checkpoint import load_generator
from geosynth.errors import RasterError, TrainingError
from geosynth.training.networks import SpadeNetworks
from geosynth.training.train import train
from geosynth.training.workers import workers

# Three places of four read their style: one process has one more than the other, and one has no second fake.
SETTINGS = TINY.model_copy(update={"batch_size": 4, "prior_share": 0.25, "diversity_weight": 2.0})


def metrics_of(out):
    with (out / "metrics.csv").open() as file:
        return [[float(value) for name, value in row.items() if "/" in name] for row in csv.DictReader(file)]


@pytest.mark.slow
def test_two_processes_train_as_one_does(store, tmp_path):
    alone, together = tmp_path / "alone", tmp_path / "together"
    train(store, alone, SETTINGS)
    told = []
    settings = SETTINGS.model_copy(update={"devices": 2})
    path = train(store, together, settings, progress=lambda *values: told.append(values[0]))
    assert told == [1, 2, 3]
    assert not torch.distributed.is_initialized()
    assert metrics_of(together) == [pytest.approx(row, rel=1e-3, abs=1e-5) for row in metrics_of(alone)]

    expected, found = checkpoint_in(alone), checkpoint_in(together)
    for one, other in zip(expected["others"]["recent_masks"], found["others"]["recent_masks"], strict=True):
        assert torch.equal(one, other)
    # Single weights may differ: Adam's steps are of one length however small the gradient, and those of biases before a
    # norm are rounding errors. So compare to how far the weights have come, all together.
    start = SpadeNetworks(SETTINGS, 6, 4).state_dict()
    moved = differ = 0.0
    for name, value in expected["network"].items():
        moved += float((value - start[name]).abs().sum())
        differ += float((value - found["network"][name]).abs().sum())
    assert differ < 0.02 * moved
    model, reference = load_generator(path), load_generator(alone / "model.safetensors")
    for one, other in zip(reference.generator.buffers(), model.generator.buffers(), strict=True):
        torch.testing.assert_close(one, other, rtol=0.05, atol=0.01)


def test_one_process_starts_no_other(monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **kwargs: pytest.fail("starts a process"))
    with workers(1, print) as rank:
        assert (rank.local_rank(), rank.count) == (0, 1)


@pytest.fixture(autouse=True)
def _workers_know_these_files(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))


@pytest.fixture
def started(monkeypatch):
    """The processes that are started."""
    original, processes = subprocess.Popen, []

    def start(command, **options):
        processes.append(original(command, **options))
        return processes[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    return processes


@pytest.mark.slow
def test_a_workers_failure_is_told_in_its_last_line(started):
    error = RasterError("store.zarr: cannot be read")
    with pytest.raises(TrainingError, match=r"^a worker failed: store\.zarr: cannot be read$"):  # noqa: SIM117
        with workers(2, fail, error):
            started[0].wait()
            raise RuntimeError("Connection closed by peer")  # as collective calls do then


@pytest.mark.slow
@pytest.mark.parametrize(("error", "said"), [(KeyError(5), "KeyError: 5"), (MemoryError(), "out of memory")])
def test_a_worker_that_fails_at_the_end_is_told_too(error, said):
    with pytest.raises(TrainingError, match=f"^a worker failed: {said}$"), workers(2, fail, error):
        pass


def test_workers_do_not_outlive_a_failure_here(started):
    threads = torch.get_num_threads()
    with pytest.raises(KeyError), workers(2, wait):
        raise KeyError("ours")
    assert len(started) == 1
    assert all(process.poll() is not None for process in started)
    assert torch.get_num_threads() == threads


WATCHING = """
import multiprocessing, time
from geosynth.parallel import end_with_parent
end_with_parent()
time.sleep(0.2)
child = multiprocessing.get_context("fork").Process(target=int)
child.start()
child.join(300)
print(child.exitcode, flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_a_worker_may_fork_and_ends_when_its_parent_does():
    """It forks to load data; the parent's end closes its standard input."""
    process = subprocess.Popen([sys.executable, "-c", WATCHING], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"0\n"
    process.stdin.close()
    assert process.wait(timeout=300) == 1
    process.stdout.close()


def test_nobody_else_gets_the_port_where_processes_meet():
    with pytest.raises(OSError, match="in use"), workers(2, wait) as rank, socket.socket() as other:
        other.bind((rank.main_address, rank.main_port))
        pytest.fail("the port is free")


@pytest.mark.slow
def test_arguments_reach_the_worker(tmp_path):
    with workers(2, note, tmp_path / "got", {"a": 1}) as rank:
        pass
    assert json.loads((tmp_path / "got").read_text()) == [1, 2, rank.port, {"a": 1}]
