"""A cache of values that are computed from weights, valid until these change."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

Made = TypeVar("Made")


class WeightCache(Generic[Made]):
    """Values computed from tensors, by key; each is used again until the tensors change. A copy starts empty."""

    def __init__(self) -> None:
        self._values: dict[Hashable, tuple[Any, Made]] = {}

    def __reduce__(self) -> tuple[type[WeightCache[Made]], tuple[()]]:
        return type(self), ()

    def get(self, key: Hashable, sources: Iterable[Tensor], make: Callable[[], Made]) -> Made:
        """The value for a key, used again in later calls unless a gradient is needed.

        Args:
            key: of the value.
            sources: the tensors from which it is computed. Those made in torch's inference mode do not count their
                changes, so values computed from them are not kept.
            make: computes the value.
        """
        sources = list(sources)
        if torch.is_grad_enabled() or any(value.is_inference() for value in sources):
            return make()
        versions = [(value.data_ptr(), value._version) for value in sources]
        if key not in self._values or self._values[key][0] != versions:
            self._values[key] = versions, make()
        return self._values[key][1]
