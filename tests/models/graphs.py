"""CUDA graphs on a processor: operations are taken down, and replayed with what their tensors hold by then.

So a step or a painting that is replayed can be compared with one that is not, without a GPU. What would go wrong on one
goes wrong here: a number that the host works out anew each time stands still, memory that was freed is missed, and what
a recording makes has no values before it is replayed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import torch
from operations import WAITING
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from geosynth.models import generator
from geosynth.models.looks import codes
from geosynth.models.modulation import SpadeModulation
from geosynth.models.replay import Replay

# What operations write without saying so.
_UNTOLD = {"aten::native_batch_norm": ("running_mean", "running_var")}


def take_forms_of_a_gpu(monkeypatch: Any) -> None:
    """Let networks and looks do the same operations for any labels and places."""
    monkeypatch.setattr(generator, "check_labels", lambda *arguments: None)
    monkeypatch.setattr(codes, "_can_count", lambda places: False)
    monkeypatch.setattr(SpadeModulation, "form_for", lambda self, patterns: "dense")


def replay_on_cpu(monkeypatch: Any, *modules: Any) -> list[Graph]:
    """Let all that modules make of `Replay` record and replay, on the processor; gives the graphs, as they are made."""
    undefined, graphs = torch.empty_like, list[Graph]()

    def replay(function: Any, device: Any, **options: Any) -> Replay:
        made = Replay(function, "cuda", **options)
        made.device = torch.device(device)
        return made

    @contextmanager
    def recorded(graph: Graph, *arguments: Any, **options: Any) -> Iterator[None]:
        graphs.append(graph)
        try:
            with graph:
                yield
        finally:
            graph.forget_values()

    for module in modules:
        monkeypatch.setattr(module, "Replay", replay)
    stream = SimpleNamespace(wait_stream=lambda other: None)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", recorded)
    # Unlike a GPU, the processor does what it takes down, once: inputs have to be such that it can.
    monkeypatch.setattr(torch, "empty_like", lambda value, **options: undefined(value, **options).copy_(value))
    return graphs


class Graph(TorchDispatchMode):
    """In the place of a `torch.cuda.CUDAGraph`."""

    def __init__(self) -> None:
        super().__init__()
        self.replays = 0
        self._steps: list[tuple[Any, Any, Any, list[_Place]]] = []
        self._own: dict[int, torch.UntypedStorage] = {}  # memory that the recording took, by its identity
        self._numbers: list[torch.UntypedStorage] = []
        self._before: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}  # other memory, and its copy

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = function.name().removeprefix("aten::").split(".")[0]
        if name in WAITING:
            raise RuntimeError(f"operation not permitted when stream is capturing: {name}")
        for value in _written(function, args, kwargs):
            self._keep(value)
        if function.name() == "aten::fill_.Tensor":  # a number of Python's, which a GPU is given as such
            self._numbers.append(args[1].untyped_storage())
        places = tree_map_only(Tensor, self._place, (args, kwargs))
        given = {value.untyped_storage()._cdata for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)}
        result = function(*args, **kwargs)
        tensors = [value for value in tree_leaves(result) if isinstance(value, Tensor)]
        fresh = [value.untyped_storage()._cdata not in given for value in tensors]
        for value, is_fresh in zip(tensors, fresh, strict=True):
            if is_fresh:
                self._own[value.untyped_storage()._cdata] = value.untyped_storage()
        if any(fresh) or function._schema.is_mutable:  # views of memory stay what they are
            made = [self._place(value) if is_fresh else None for value, is_fresh in zip(tensors, fresh, strict=True)]
            self._steps.append((function, *places, made))
        return result

    def _keep(self, value: Tensor) -> None:
        """What memory holds that is not the recording's own."""
        storage = value.untyped_storage()
        if storage._cdata not in self._own and storage._cdata not in self._before:
            self._before[storage._cdata] = storage, storage.clone()

    def _place(self, value: Tensor) -> _Place:
        storage = value.untyped_storage()
        return _Place(value, self._own.get(storage._cdata))

    def forget_values(self) -> None:
        """Recording has run nothing."""
        for storage, before in self._before.values():
            storage.copy_(before)
        self._before.clear()
        for storage in self._own.values():
            storage.fill_(255)  # not a number, for floating point of all sizes

    def reset(self) -> None:
        """Let go of all that was recorded."""
        self._steps.clear()
        self._own.clear()

    def replay(self) -> None:
        """Do all operations once more."""
        self.replays += 1
        with torch._C._AutoDispatchBelowAutograd():
            for function, args, kwargs, made in self._steps:
                tensors = tree_map_only(_Place, _Place.tensor, (args, kwargs))
                results = function(*tensors[0], **tensors[1])
                values = [value for value in tree_leaves(results) if isinstance(value, Tensor)]
                for place, value in zip(made, values, strict=True):
                    if place is not None:
                        place.tensor().copy_(value)


class _Place:
    """Where a tensor lies. Only memory of the recording's own is kept."""

    def __init__(self, value: Tensor, own: torch.UntypedStorage | None) -> None:
        self.own, self.other = own, None if own is not None else StorageWeakRef(value.untyped_storage())
        self.shape, self.dtype = (value.storage_offset(), value.shape, value.stride()), value.dtype

    def tensor(self) -> Tensor:
        storage = self.own
        if storage is None:
            assert self.other is not None
            storage = torch.UntypedStorage._new_with_weak_ptr(self.other.cdata)
            assert storage is not None, "a replayed graph reads or writes memory that has been freed"
        return torch.empty(0, dtype=self.dtype).set_(storage, *self.shape)


def _written(function: Any, args: Any, kwargs: Any) -> Iterator[Tensor]:
    named = dict(zip((argument.name for argument in function._schema.arguments), args, strict=False)) | kwargs
    untold = _UNTOLD.get(function.name(), ())
    for argument in function._schema.arguments:
        if argument.name in untold or (argument.alias_info is not None and argument.alias_info.is_write):
            yield from (value for value in tree_leaves(named.get(argument.name)) if isinstance(value, Tensor))
