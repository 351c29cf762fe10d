"""Exhausted memory, as torch itself reports it."""

import pytest
import torch

from geosynth.models.device import plain_memory_error


def test_an_allocation_beyond_the_machine_is_a_memory_error():
    with pytest.raises(MemoryError, match="allocate") as caught, plain_memory_error():
        torch.empty(2**50)
    assert "\n" not in str(caught.value)


def test_an_accelerators_error_is_one_too():
    with pytest.raises(MemoryError, match=r"^CUDA out of memory$"), plain_memory_error():
        raise torch.OutOfMemoryError("CUDA out of memory\nof many lines")


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="size of tensor"), plain_memory_error():
        torch.zeros(2) + torch.zeros(3)
