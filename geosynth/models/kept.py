"""A cache of what is computed from weights, valid until they change."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

Made = TypeVar("Made")


class Kept(Generic[Made]):
    """Values that were computed from tensors, by key; each is used again until these change. A copy begins empty."""

    def __init__(self) -> None:
        self._values: dict[Hashable, tuple[Any, Made]] = {}

    def __reduce__(self) -> tuple[type[Kept[Made]], tuple[()]]:
        return type(self), ()

    def get(self, key: Hashable, sources: Iterable[Tensor], make: Callable[[], Made]) -> Made:
        """The value of a key; used again in later calls, unless a gradient is wanted.

        Args:
            key: of the value.
            sources: the tensors that it is computed from. Those of torch's inference mode do not count their changes,
                so nothing that comes from them is kept.
            make: computes it.
        """
        sources = list(sources)
        if torch.is_grad_enabled() or any(value.is_inference() for value in sources):
            return make()
        versions = [(value.data_ptr(), value._version) for value in sources]
        if key not in self._values or self._values[key][0] != versions:
            self._values[key] = versions, make()
        return self._values[key][1]
