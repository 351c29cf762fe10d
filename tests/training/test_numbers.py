"""Mixed precision: the format that is asked for, and float16's scale, one for two networks."""

import pytest
import torch
from torch import nn

from geosynth.training.step import Numbers, number_format

CPU = torch.device("cpu")


def test_formats():
    assert number_format("bf16", "cpu") == torch.bfloat16
    assert number_format("fp16", "cpu") == torch.float16
    assert number_format("fp32", "cpu") == torch.float32
    assert number_format("auto", "cpu") in (torch.bfloat16, torch.float32)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_step_is_that_of_plain_torch(precision):
    """Scaled and unscaled again, gradients are what they were."""
    torch.manual_seed(0)
    networks = [nn.Linear(4, 3) for _ in range(2)]
    plain = [nn.Linear(4, 3) for _ in range(2)]
    for one, other in zip(networks, plain, strict=True):
        other.load_state_dict(one.state_dict())
    values = torch.randn(5, 4)
    numbers = Numbers(precision, CPU)
    optimisers = [torch.optim.SGD(network.parameters(), 0.1) for network in networks]
    for network, reference, optimiser in zip(networks, plain, optimisers, strict=True):
        numbers.backward(network(values).square().mean(), list(network.parameters()))
        reference(values).square().mean().backward()
        torch.optim.SGD(reference.parameters(), 0.1).step()
        assert optimiser is not None
    numbers.step(optimisers)
    for one, other in zip(networks, plain, strict=True):
        torch.testing.assert_close(one.weight, other.weight)
        assert one.weight.grad is None


def test_gradients_reach_the_named_weights_only():
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    numbers = Numbers("fp32", CPU)
    loss = second(first(torch.ones(1, 2))).sum()
    numbers.backward(loss, list(first.parameters()), keep_graph=True)
    assert first.weight.grad is not None
    assert second.weight.grad is None
    numbers.backward(loss, list(second.parameters()))
    assert second.weight.grad is not None


def test_overflow_in_one_network_leaves_it_out_and_lowers_the_scale():
    good, bad = nn.Linear(2, 2), nn.Linear(2, 2)
    before = {name: value.clone() for name, value in (("good", good.weight), ("bad", bad.weight))}
    numbers = Numbers("fp16", CPU)
    scale = numbers.scaler.get_scale()
    numbers.backward(good(torch.ones(1, 2)).sum(), list(good.parameters()))
    numbers.backward(bad(torch.ones(1, 2)).sum() * float("inf"), list(bad.parameters()))
    numbers.step([torch.optim.SGD(network.parameters(), 0.1) for network in (good, bad)])
    assert torch.equal(bad.weight, before["bad"])
    assert not torch.equal(good.weight, before["good"])
    assert numbers.scaler.get_scale() == scale / 2

    later = Numbers("fp16", CPU)
    later.load_state_dict(numbers.state_dict())
    assert later.scaler.get_scale() == scale / 2
    Numbers("fp32", CPU).load_state_dict(numbers.state_dict())  # another format has none


@pytest.mark.parametrize(("precision", "expected"), [("fp32", False), ("bf16", True), ("fp16", True)])
def test_float32_is_not_tf32(precision, expected, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    Numbers(precision, CPU)
    assert torch.backends.cudnn.allow_tf32 is expected


def test_autocast_computes_in_the_format():
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)):
        with Numbers(precision, CPU).autocast():
            assert nn.Linear(2, 2)(torch.ones(1, 2)).dtype == dtype
