"""What is asked of a device, told without one: tensors without values, and a record of operations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from geosynth.models import hashing, modulation
from geosynth.models.looks import field as look_field

# Of these the host waits for the device's answer. Tensors without values refuse them anyway, except for copies.
WAITING = {"_local_scalar_dense", "nonzero", "_unique2", "bincount", "masked_select", "equal"}
_NOTHING = ("prim::", "empty", "new_empty", "detach", "_unsafe_view")  # what starts nothing on a device
_WHOLE = ("upsample", "prim::")  # composites that a GPU has in one piece


class Operation(NamedTuple):
    name: str
    is_view: bool
    shapes: tuple[Any, ...]  # (shape, type, device) of each tensor that goes in
    results: tuple[Any, ...]  # and of each that comes out


class Launch(NamedTuple):
    """Of a Triton kernel."""

    name: str
    arguments: tuple[Any, ...]
    constants: dict[str, Any]


class Record(TorchDispatchMode):
    """While it is entered, keeps all operations in `operations`."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Operation] = []
        self.kernels: dict[tuple[Any, ...], Launch] = {}
        """How each Triton kernel was launched, in each way for which it is compiled anew, sizes of blocks aside."""
        self.gpus: list[torch.device] = []
        """Whose kernels can be launched, the last one's."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.name().removeprefix("aten::").split(".")[0]
        if not name.startswith(_WHOLE) and _is_composite(function.name()):  # "reshape" may be a view or a copy
            with self:
                return function.decompose(*args, **(kwargs or {}))
        result = function(*args, **(kwargs or {}))
        if name == "convolution" and isinstance(result, FakeTensor):  # which does not know cuDNN's memory format
            result = torch.empty_like(result, memory_format=torch.channels_last)
        self.operations.append(Operation(name, function.is_view, _of((args, kwargs)), _of(result)))
        return result

    @property
    def launches(self) -> list[Operation]:
        """Those that do something on the device."""
        return [each for each in self.operations if not each.is_view and not each.name.startswith(_NOTHING)]

    @property
    def waits(self) -> list[Operation]:
        """Those that the host waits for: reads of values, shapes that depend on them, copies from the host's memory."""
        return [each for each in self.operations if each.name in WAITING or _from_host(each)]


def _is_composite(name: str) -> bool:
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(name, "CompositeImplicitAutograd"))


class Kernel:
    """In the place of a Triton kernel: each launch is an operation, and nothing is computed."""

    def __init__(self, name: str, record: Record) -> None:
        self.name, self.record = name, record

    def __getitem__(self, grid: object) -> Callable[..., None]:
        def launch(*args: Any, **constants: Any) -> None:
            devices = {value.device for value in args if isinstance(value, Tensor)}
            assert devices == set(self.record.gpus[-1:])  # Triton starts it on the current one
            self.record.operations.append(Operation(self.name, False, _of(args), ()))
            ways = [value for value in constants.values() if isinstance(value, bool)]
            ones = [number for number, value in enumerate(args) if type(value) is int and value == 1]
            self.record.kernels[self.name, *ways, *ones] = Launch(self.name, args, constants)

        return launch


def launch_nothing(monkeypatch: Any, record: Record, *, kernels: bool) -> None:
    """Let networks and fields take their kernels, which are launched and compute nothing, or none of them."""
    names = ("pattern_kernels", "modulation_kernels", "field_kernels") if kernels else ()
    modules = [pytest.importorskip(f"geosynth.models.{name}", exc_type=ImportError) for name in names]
    for module in modules:  # only now, as one imports functions of another
        for function in [name for name, value in vars(module).items() if hasattr(value, "warmup")]:
            monkeypatch.setattr(module, function, Kernel(function, record))

    @contextmanager
    def device_of(tensor: Tensor) -> Iterator[None]:
        record.gpus.append(tensor.device)
        yield
        record.gpus.pop()

    monkeypatch.setattr(torch.cuda, "device_of", device_of)
    for module in (modulation, hashing, look_field):
        monkeypatch.setattr(module, "has_kernels", lambda device: kernels)
        monkeypatch.setattr(module, "kernel_trials", SimpleNamespace(passed=lambda *arguments: True))


def _of(values: Any) -> tuple[Any, ...]:
    tensors = [value for value in tree_leaves(values) if isinstance(value, Tensor)]
    return tuple((tuple(value.shape), value.dtype, value.device.type) for value in tensors)


def _from_host(operation: Operation) -> bool:
    into = any(device == "cuda" for _, _, device in (*operation.results, *operation.shapes[:1]))
    return into and any(device == "cpu" and shape for shape, _, device in operation.shapes)


@contextmanager
def fake_gpu(*modules: nn.Module) -> Iterator[None]:
    """While it is entered, new tensors lie on a GPU that there is not, and have no values; modules are moved there."""
    with FakeTensorMode(), torch.device("cuda"):
        for module in (part for whole in modules for part in whole.modules()):
            for tensors in (module._parameters, module._buffers):
                for name, value in tensors.items():
                    if value is not None:
                        fake = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="cuda")
                        tensors[name] = (
                            nn.Parameter(fake, value.requires_grad) if tensors is module._parameters else fake
                        )
        yield
