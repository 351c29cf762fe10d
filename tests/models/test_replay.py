"""Recordings as they are used, told by graphs on a processor: see `graphs.py`."""

import pytest
import torch
from graphs import replay_on_cpu

from geosynth.models import replay as replay_module


@pytest.fixture
def replay(monkeypatch):
    replay_on_cpu(monkeypatch, replay_module)
    return lambda function, **options: replay_module.Replay(function, "cpu", **options)


def test_a_replayed_function_does_what_the_function_does(replay):
    def function(values, factor):
        total.add_(values.sum())
        image = torch.nn.functional.conv2d(values[None, None], torch.ones(1, 1, 3, 3), padding=1)
        return image[0, 0] * factor, image.reshape(-1)[:2], total

    total, replayed, sums = torch.zeros(()), replay(function), []
    for number in range(4):
        values = torch.rand((4, 5), generator=torch.Generator().manual_seed(number))
        inputs = values, torch.tensor(float(number))
        kept, expected = total.clone(), None
        found = replayed(*inputs)
        sums.append(total.clone())
        total.copy_(kept)
        expected = function(*inputs)
        assert all(map(torch.equal, found, expected))
        assert torch.equal(sums[-1], total)
    (recording,) = replayed._recordings.values()
    assert recording.graph.replays == 3


def test_gradients_are_replayed(replay):
    weight = torch.ones(3, requires_grad=True)

    def function(values):
        (values * weight).square().sum().backward()
        with torch.no_grad():
            weight.sub_(weight.grad, alpha=0.1)
        gradient, weight.grad = weight.grad, None
        return (gradient,)

    replayed, expected = replay(function), torch.ones(3)
    for number in range(4):
        values = torch.tensor([1.0, 2.0, float(number)])
        gradient = 2 * values**2 * expected
        torch.testing.assert_close(replayed(values)[0], gradient)
        expected = expected - 0.1 * gradient
        torch.testing.assert_close(weight.detach(), expected)


def test_a_number_of_the_host_stands_still(replay):
    counted = iter(range(10))
    replayed = replay(lambda values: (values + next(counted),))
    assert [int(replayed(torch.zeros(1))[0]) for _ in range(4)] == [0, 1, 1, 1]


def test_memory_that_has_gone_is_missed(replay):
    kept = [torch.ones(2)]
    replayed = replay(lambda values: (values + kept[0],))
    for _ in range(3):
        assert replayed(torch.zeros(2))[0].tolist() == [1, 1]
    kept.clear()
    with pytest.raises(AssertionError, match="has been freed"):
        replayed(torch.zeros(2))


def test_what_a_recording_makes_has_no_values_yet(replay):
    kept = []

    def function(values):
        if not kept:
            kept.append(values * 2)
        return (values + kept[0],)

    replayed = replay(function, warm_ups=0)
    seen = []
    original = replayed._record

    def record(inputs):
        recording = original(inputs)
        seen.append(kept[0].isnan().all())
        return recording

    replayed._record = record
    assert replayed(torch.ones(2))[0].tolist() == [3, 3]
    assert seen == [True]


def test_reading_a_value_cannot_be_recorded(replay, caplog):
    replayed = replay(lambda values: (values * float(values.sum()),))
    for _ in range(3):
        assert replayed(torch.ones(2))[0].tolist() == [2, 2]
    (line,) = caplog.records
    assert "not permitted when stream is capturing" in line.message
