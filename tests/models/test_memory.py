"""Exhausted memory, as torch itself reports it; and what is changed in the process only for a while."""

import ctypes
import os
import platform
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from geosynth.models.device import plain_memory_error
from geosynth.models.process_settings import full_float32, keep_freed_memory


def test_an_allocation_beyond_the_machine_is_a_memory_error():
    with pytest.raises(MemoryError, match="allocate") as caught, plain_memory_error():
        torch.empty(2**50)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        (torch.OutOfMemoryError, "CUDA out of memory"),
        (RuntimeError, "CUDA error: out of memory"),  # for pinned memory and graphs, and from other processes' use
        (RuntimeError, "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        (RuntimeError, "cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ],
)
def test_an_accelerators_error_is_one_too(kind, line):
    with pytest.raises(MemoryError) as caught, plain_memory_error():
        raise kind(f"{line}\nof many lines")
    assert str(caught.value) == line


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="size of tensor"), plain_memory_error():
        torch.zeros(2) + torch.zeros(3)


def test_full_float32_is_restored_when_the_last_context_is_left(monkeypatch):
    def allowed():
        return torch.backends.cudnn.allow_tf32

    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    entered, leave = threading.Event(), threading.Event()

    def other():
        with full_float32():
            entered.set()
            leave.wait()

    thread = threading.Thread(target=other)
    with full_float32():
        assert not allowed()
        thread.start()
        entered.wait()
    assert not allowed(), "the other thread is still at it"
    leave.set()
    thread.join()
    assert allowed()
    with pytest.raises(KeyError), full_float32():
        raise KeyError
    assert allowed()


@pytest.mark.skipif(not hasattr(torch.backends.cudnn, "conv"), reason="torch before 2.9 has one switch for all")
@pytest.mark.parametrize("before", ["ieee", "tf32"])
def test_full_float32_where_a_process_says_it_of_convolutions_alone(before):
    """Torch then refuses to tell the switch of all operations."""
    convolutions, others = torch.backends.cudnn.conv, torch.backends.cudnn.rnn
    try:
        others.fp32_precision = "tf32" if before == "ieee" else "ieee"
        convolutions.fp32_precision = before
        with pytest.raises(RuntimeError, match="mix of the legacy and new"):
            _ = torch.backends.cudnn.allow_tf32
        with full_float32():
            assert convolutions.fp32_precision == "ieee"
        assert convolutions.fp32_precision == before
    finally:
        torch.backends.cudnn.allow_tf32 = True


class _Mallinfo2(ctypes.Structure):
    names = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
    _fields_ = [(name, ctypes.c_size_t) for name in names]


def mapped_blocks():
    """Blocks that glibc has mapped by themselves."""
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = _Mallinfo2
    return mallinfo2().hblks


def large_block_is_mapped():
    before = mapped_blocks()
    block = torch.empty(64 << 20, dtype=torch.uint8)
    return mapped_blocks() > before and block.numel() > 0


def tell_where_large_blocks_are():
    """Run in a process of its own by the next tests."""
    told = [large_block_is_mapped()]
    with keep_freed_memory():
        told.append(large_block_is_mapped())
    print(*told, large_block_is_mapped())


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator is not glibc's")
@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({}, "True False True"),
        ({"MALLOC_TRIM_THRESHOLD_": "65536"}, "True False True"),  # what Dask gives to its workers
        ({"MALLOC_TOP_PAD_": "65536"}, "True True True"),
        ({"GLIBC_TUNABLES": "glibc.malloc.arena_max=4"}, "True True True"),
    ],
    ids=str,
)
def test_large_blocks_are_kept_only_for_a_while_and_not_against_the_users_choice(chosen, expected):
    others = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    code = "from test_memory import tell_where_large_blocks_are; tell_where_large_blocks_are()"
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    run = subprocess.run(
        [sys.executable, "-c", code], env=others | chosen | {"PYTHONPATH": path}, capture_output=True, text=True
    )
    assert run.stdout.strip() == expected, run.stderr
