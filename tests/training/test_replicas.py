"""Several processes train as one does on the same batch."""

import csv
import json
import subprocess
import sys

import pytest
import torch
from trainings import BANDS, TINY, checkpoint_in

from geosynth.checkpoint import load_generator
from geosynth.errors import TrainingError
from geosynth.training import replicas
from geosynth.training.step import SpadeTask
from geosynth.training.train import train

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
    path = train(store, together, SETTINGS.model_copy(update={"devices": 2}), progress=lambda *v: told.append(v[0]))
    assert told == [1, 2, 3]
    assert not torch.distributed.is_initialized()
    assert metrics_of(together) == [pytest.approx(row, rel=1e-3, abs=1e-5) for row in metrics_of(alone)]

    expected, found = checkpoint_in(alone), checkpoint_in(together)
    for one, other in zip(expected["geosynth"]["recent_masks"], found["geosynth"]["recent_masks"], strict=True):
        assert torch.equal(one, other)
    # Single weights may differ: Adam's steps are of one length however small the gradient, and those of biases before a
    # norm are rounding errors. So compare to how far the weights have come, all together.
    start = SpadeTask(SETTINGS, 6, BANDS).state_dict()
    moved = differ = 0.0
    for name, value in expected["state_dict"].items():
        moved += float((value - start[name]).abs().sum())
        differ += float((value - found["state_dict"][name]).abs().sum())
    assert differ < 0.02 * moved
    model, reference = load_generator(path), load_generator(alone / "model.safetensors")
    for one, other in zip(reference.generator.buffers(), model.generator.buffers(), strict=True):
        torch.testing.assert_close(one, other, rtol=0.05, atol=0.01)


def test_one_process_starts_no_other(monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **kwargs: pytest.fail("starts a process"))
    with replicas.workers(1, {}) as rank:
        assert rank == replicas.Rank(0, 1)


FAKE = """
import json, sys
arguments = json.loads(sys.stdin.readline())
print("many\\nlines", file=sys.stderr)
sys.exit(arguments["says"])
"""
PATIENT = "import sys; sys.stdin.readline(); sys.stdin.read()"


def fake_worker(monkeypatch, code):
    original, started = subprocess.Popen, []

    def start(command, **options):
        started.append(original([sys.executable, "-c", code], **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    return started


def test_a_workers_failure_is_told_in_its_last_line(monkeypatch):
    fake_worker(monkeypatch, FAKE)
    with pytest.raises(TrainingError, match=r"^a worker failed: store\.zarr: cannot be read$"):  # noqa: SIM117
        with replicas.workers(2, {"says": "store.zarr: cannot be read"}):
            raise RuntimeError("Connection closed by peer")  # as collective calls do then


def test_a_worker_that_fails_at_the_end_is_told_too(monkeypatch):
    fake_worker(monkeypatch, FAKE)
    with pytest.raises(TrainingError, match="a worker failed"), replicas.workers(3, {"says": "no"}):
        pass


def test_workers_do_not_outlive_a_failure_here(monkeypatch):
    started = fake_worker(monkeypatch, PATIENT)
    threads = torch.get_num_threads()
    with pytest.raises(KeyError), replicas.workers(3, {}):
        raise KeyError("ours")
    assert len(started) == 2
    assert all(process.poll() is not None for process in started)
    assert torch.get_num_threads() == threads


WATCHING = """
import multiprocessing, time
from geosynth.training.replicas import end_with_parent
end_with_parent()
time.sleep(0.2)
child = multiprocessing.get_context("fork").Process(target=int)
child.start()
child.join(30)
print(child.exitcode, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_a_worker_may_fork_and_ends_when_its_parent_does():
    """It forks to load data; the parent's end closes its standard input."""
    process = subprocess.Popen([sys.executable, "-c", WATCHING], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"0\n"
    process.stdin.close()
    assert process.wait(timeout=60) == 1
    process.stdout.close()


def test_arguments_reach_the_worker(monkeypatch, tmp_path):
    code = f"import sys; open({str(tmp_path / 'got')!r}, 'w').write(sys.stdin.readline())"
    fake_worker(monkeypatch, code)
    with replicas.workers(2, {"data": "a b", "fold": "train"}) as rank:
        pass
    got = json.loads((tmp_path / "got").read_text())
    assert got == {"data": "a b", "fold": "train", "rank": {"index": 1, "count": 2, "port": rank.port}}


def test_alone_all_is_as_it_was():
    values = torch.tensor([1.0, 2.0])
    assert torch.equal(replicas.total(values), values)
    assert torch.equal(replicas.gathered(values), values)
    assert replicas.agreed(1.0, 2.0, device=torch.device("cpu")) == [1.0, 2.0]
    assert replicas.rank_index() == 0
