"""Batch norm over several processes equals PyTorch's on the whole batch."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from geosynth.errors import DataError
from geosynth.models.norm import BatchNorm

WORKER = Path(__file__).with_name("norm_worker.py")


def batch(count=4):
    rng = torch.Generator().manual_seed(0)
    shape = (count, 3, 5, 6)
    features = torch.randn(shape, generator=rng) * torch.tensor([1.0, 5.0, 0.1]).view(-1, 1, 1) + 20
    return {"features": features, "weights": torch.randn(shape, generator=rng)}


def test_two_processes_equal_one_on_the_whole_batch(tmp_path):
    """Of unequal parts: output, gradient of the summed loss, running statistics."""
    whole = batch()
    torch.save(whole, tmp_path / "batch.pt")
    command = [sys.executable, WORKER]
    processes = [subprocess.Popen([*command, str(rank), tmp_path]) for rank in (0, 1)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    results = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    for index, momentum in enumerate((0.1, None)):
        parts = [result[index] for result in results]
        norm = nn.BatchNorm2d(3, affine=False, momentum=momentum)
        features = whole["features"].clone().requires_grad_()
        for _ in range(2):
            output = norm(features)
        (output * whole["weights"]).sum().backward()
        for name, expected in (("output", output), ("gradient", features.grad)):
            torch.testing.assert_close(torch.cat([part[name] for part in parts]), expected, rtol=1e-4, atol=1e-4)
        for part in parts:
            for name, expected in norm.named_buffers():
                torch.testing.assert_close(part[name], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_statistics_are_those_that_the_norm_uses(momentum):
    values = batch()
    norms = [BatchNorm(3), nn.BatchNorm2d(3, affine=False)]
    outputs, gradients = [], []
    for norm in norms:
        norm.momentum = momentum
        features = values["features"].clone().requires_grad_()
        if isinstance(norm, BatchNorm):
            mean, variance = norm.statistics(features)
            output = (features - mean.view(-1, 1, 1)) * torch.rsqrt(variance + norm.eps).view(-1, 1, 1)
        else:
            output = norm(features)
        (output * values["weights"]).sum().backward()
        outputs.append(output)
        gradients.append(features.grad)
    torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)
    for (_, found), (_, expected) in zip(*(norm.named_buffers() for norm in norms), strict=True):
        torch.testing.assert_close(found, expected)


def test_one_value_a_channel_is_refused_in_training_only():
    norm, value = BatchNorm(2), torch.ones(1, 2, 1, 1)
    for call in (norm, norm.statistics):
        with pytest.raises(DataError, match="larger batch or crop"):
            call(value)
    assert norm.eval()(value).shape == value.shape
