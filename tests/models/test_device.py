"""Which device a word means, with GPUs that are not there."""

import sys
from types import SimpleNamespace

import distributed
import pytest
import torch
from operations import Record
from torch import nn

from geosynth.errors import CheckpointError
from geosynth.models.device import choose_device, has_kernels, plain_device_error, without_weights


@pytest.fixture
def machine(monkeypatch):
    """Gives it GPUs and, in this process, a Dask worker of some name."""
    monkeypatch.delitem(sys.modules, "dask_cuda", raising=False)

    def has(gpus, worker=None):
        def get_worker():
            if worker is None:
                raise ValueError("no worker found")
            return SimpleNamespace(name=worker)

        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(distributed, "get_worker", get_worker)

    return has


def test_auto_is_a_gpu_where_there_is_one(machine):
    machine(gpus=0)
    assert choose_device() == choose_device("auto") == "cpu"
    machine(gpus=0, worker="1")
    assert choose_device("auto") == "cpu"
    for gpus in (1, 4):
        machine(gpus)
        assert choose_device("auto") == "cuda"


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_workers_of_a_machine_take_turns_at_its_gpus(machine, device):
    def chosen(name, count):
        machine(count, worker=name)
        return choose_device(device)

    names = ("0", 1, "gpu-3", "node7-4")
    assert [chosen(name, 4) for name in names] == ["cuda:0", "cuda:1", "cuda:3", "cuda:0"]
    assert chosen("alone", 4) == "cuda:0"
    assert chosen("5", 1) == "cuda"


def test_where_gpus_are_given_out_already_the_first_is_taken(machine, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3,0,1")
    machine(4, worker="2")
    assert choose_device("cuda") == "cuda:2", "a cluster's scheduler (Slurm, say) lists all that the job may use"
    monkeypatch.setitem(sys.modules, "dask_cuda", SimpleNamespace())  # puts each worker's own first
    assert choose_device("cuda") == "cuda"


def test_what_is_named_is_taken(machine):
    machine(4, worker="3")
    assert [choose_device(name) for name in ("cpu", "cuda:2", "toaster")] == ["cpu", "cuda:2", "toaster"]


@pytest.mark.parametrize("device", ["mps", "xpu:1", "meta"])
def test_devices_without_code_of_ours_are_refused_before_anything_moves_there(device):
    """On a Mac torch would move a network to "mps", where painting then failed for want of float64."""
    with pytest.raises(CheckpointError) as caught, plain_device_error(device):
        pytest.fail("used")
    kind = device.split(":")[0]
    assert str(caught.value) == (
        f"device: '{device}' cannot be used: geosynth does not compute on {kind}; auto, cpu, cuda and cuda:1 are"
    )


def test_a_gpu_beyond_the_last_is_refused_by_their_number(machine):
    machine(gpus=2)
    with plain_device_error("cuda:1"), plain_device_error("cuda"), plain_device_error("auto"):
        pass
    said = r"^device: 'cuda:2' cannot be used: this machine has 2 GPUs, the first is cuda:0$"
    with pytest.raises(CheckpointError, match=said), plain_device_error("cuda:2"):
        pytest.fail("used")


def test_what_cuda_says_of_a_device_is_its_first_line():
    said = r"^device: 'cuda' cannot be used: CUDA error: out of memory$"
    with pytest.raises(CheckpointError, match=said), plain_device_error("cuda"):
        raise RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported")


def test_no_kernels_without_a_gpu():
    assert not has_kernels("cpu")


def test_weights_that_are_replaced_are_not_drawn():
    """Without values torch would import its compiler to draw them, which took longer than all the rest of loading."""
    with Record() as record, without_weights():
        layer = nn.Linear(3, 3)
        nn.init.xavier_normal_(layer.weight)
    assert layer.weight.is_meta
    assert "normal_" not in {operation.name for operation in record.operations}
