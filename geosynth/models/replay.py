"""Replaying work on a GPU: a function's operations are recorded once as a CUDA graph, then started by one call.

The speed of a network with a few hundred small operations is limited by the time that the host takes to start them.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from geosynth.errors import first_line

_LOG = logging.getLogger(__name__)
_alone = threading.Lock()  # a process can record one graph at a time


@dataclass(frozen=True)
class _Recording:
    graph: torch.cuda.CUDAGraph
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


def _without_object(function: Callable[..., tuple[Tensor, ...]]) -> Callable[..., tuple[Tensor, ...]]:
    """A method without a reference to its object, as a cycle would keep GPU memory until garbage is collected."""
    if not inspect.ismethod(function):
        return function
    method = weakref.WeakMethod(function)

    def call(*inputs: Tensor) -> tuple[Tensor, ...]:
        bound = method()
        assert bound is not None
        results: tuple[Tensor, ...] = bound(*inputs)
        return results

    return call


class Replay:
    """A function of tensors that runs on a GPU as a recorded graph, one for each set of shapes, with equal results.

    On another device, or if replaying is not wanted, each call runs the function directly. So do all calls after a
    failed recording, with one warning.

    Args:
        function: takes and returns tensors, on `device`. It must do the same operations whatever their values: nothing
            is read by the host, no shapes depend on values. Anything else that it changes, such as weights, it changes
            in place.
            A method does not keep its object alive, which may have this replay for an attribute.
        device: where it computes. Inputs may be on the host; from pinned memory they are copied without waiting.
        warm_ups: number of calls for each set of shapes, in each thread, that run directly before one is recorded, as
            libraries initialise themselves in each thread.
        enabled: whether to record at all.
    """

    def __init__(
        self,
        function: Callable[..., tuple[Tensor, ...]],
        device: torch.device | str,
        *,
        warm_ups: int = 1,
        enabled: bool = True,
    ) -> None:
        self.function = _without_object(function)
        self.device = torch.device(device)
        self.warm_ups = warm_ups
        self.enabled = enabled and self.device.type == "cuda"
        self._calls: dict[object, int] = {}
        self._recordings: dict[object, _Recording] = {}
        if self.enabled:
            self._stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
            self._memory = torch.cuda.graph_pool_handle()  # one for all graphs: they never run at the same time

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The function's results, which later calls do not change."""
        if not self.enabled:
            return self._run_as_it_is(inputs)
        shapes = tuple((value.shape, value.dtype) for value in inputs)
        recording = self._recordings.get(shapes)
        if recording is None:
            caller = threading.get_ident(), shapes
            calls = self._calls[caller] = self._calls.get(caller, 0) + 1
            if calls <= self.warm_ups:
                return self._run_aside(inputs)
            recording = self._record(inputs)
            if recording is None:
                return self._run_as_it_is(inputs)
            self._recordings[shapes] = recording
        for static, value in zip(recording.inputs, inputs, strict=True):
            static.copy_(value, non_blocking=True)
        recording.graph.replay()
        return tuple(value.clone() for value in recording.outputs)

    def _run_as_it_is(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return self.function(*(value.to(self.device, non_blocking=True) for value in inputs))

    def _run_aside(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Run on the stream that will record, as state of autograd and libraries belongs to a stream."""
        current = torch.cuda.current_stream(self.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            results = self._run_as_it_is(inputs)
        current.wait_stream(self._stream)
        return tuple(value.clone() for value in results)

    def _record(self, inputs: tuple[Tensor, ...]) -> _Recording | None:
        """Record what the function starts, without running it. None if that fails."""
        graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self.device)
        try:
            static = tuple(torch.empty_like(value, device=self.device) for value in inputs)
            with (
                _alone,
                torch.cuda.stream(current),  # to be current again afterwards, whatever happens
                # Other threads may continue to request pinned memory from the driver.
                torch.cuda.graph(graph, self._memory, self._stream, capture_error_mode="thread_local"),
            ):
                outputs = self.function(*static)
        except Exception as error:  # from the driver, memory or an operation; without a recording it is only slower
            self._give_up(graph, current)
            _LOG.warning("work on the GPU is not replayed and takes longer: %s", first_line(error))
            return None
        return _Recording(graph, static, outputs)

    def _give_up(self, graph: torch.cuda.CUDAGraph, current: torch.cuda.Stream) -> None:
        """Remove all traces of a failed recording."""
        self.enabled = False
        self._recordings.clear()
        with contextlib.suppress(RuntimeError):
            graph.reset()
        # Before torch 2.9 random numbers cannot be drawn after a failed recording, until another one has succeeded.
        with (
            contextlib.suppress(RuntimeError),
            _alone,
            torch.cuda.stream(current),
            torch.cuda.graph(torch.cuda.CUDAGraph(), stream=self._stream, capture_error_mode="thread_local"),
        ):
            torch.zeros(1, device=self.device)
