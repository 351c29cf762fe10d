"""What is made of weights once, and anew when they have changed."""

import copy
import pickle

import pytest
import torch

from geosynth.models.weight_cache import WeightCache


@pytest.fixture
def made():
    """A value kept of one tensor, and how often it was made."""
    kept, source, calls = WeightCache(), torch.ones(2), []

    def get(key="key", source=source):
        return kept.get(key, [source], lambda: calls.append(key) or source * 2)

    return kept, source, calls, get


def test_it_is_made_once_a_key(made):
    _, _, calls, get = made
    with torch.no_grad():
        assert get() is get()
        get("other")
        get()
    assert calls == ["key", "other"]


def test_it_is_made_anew_of_what_has_changed(made):
    _, source, calls, get = made
    with torch.no_grad():
        get()
        source.add_(1)
        assert get().tolist() == [4, 4]
        assert get(source=torch.zeros(2)).tolist() == [0, 0]
    assert len(calls) == 3


def test_nothing_is_kept_for_gradients_or_of_what_counts_no_changes(made):
    _, source, calls, get = made
    source.requires_grad_()
    assert get().requires_grad
    with torch.inference_mode():
        other = torch.ones(2)
        for _ in range(2):
            get(source=other)
            other.add_(1)
    assert len(calls) == 3


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda kept: pickle.loads(pickle.dumps(kept))])
def test_a_copy_begins_empty(made, copied):
    kept, source, calls, get = made
    with torch.no_grad():
        get()
        copied(kept).get("key", [source], lambda: calls.append("copy"))
    assert calls == ["key", "copy"]
