"""What training loops share: number formats, the clock, Ctrl-C, checkpoints, losses that are read late."""

from __future__ import annotations

import resource
import signal
import threading
import time

import pytest
import torch
from torch import nn

from geosynth import loop as module
from geosynth.errors import CheckpointError, OutputError, TrainingError
from geosynth.loop import Checkpoint, Loop, LossHistory, made_ahead, number_format, open_fabric

pytestmark = pytest.mark.usefixtures("ctrl_c_is_pythons")

# --- Devices and number formats.


def test_formats():
    assert number_format("bf16", "cpu") == torch.bfloat16
    assert number_format("fp16", "cpu") == torch.float16
    assert number_format("fp32", "cpu") == torch.float32
    assert number_format("auto", "cpu") in (torch.bfloat16, torch.float32)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_step_is_that_of_plain_torch(precision):
    """Scaled and unscaled again, gradients are what they were."""
    torch.manual_seed(0)
    network, plain = nn.Linear(4, 3), nn.Linear(4, 3)
    plain.load_state_dict(network.state_dict())
    values = torch.randn(5, 4)
    fabric = open_fabric(precision, "cpu")
    optimizer = fabric.setup_optimizers(torch.optim.Adam(network.parameters(), 0.1, fused=True))
    reference = torch.optim.Adam(plain.parameters(), 0.1)
    for _ in range(2):
        fabric.backward(network(values).square().mean(), inputs=list(network.parameters()))
        plain(values).square().mean().backward()
        optimizer.step()
        reference.step()
        optimizer.zero_grad()
        reference.zero_grad()
        torch.testing.assert_close(network.weight, plain.weight)


def test_overflow_leaves_the_step_out_and_lowers_the_scale():
    network = nn.Linear(2, 2)
    before = network.weight.clone()
    fabric = open_fabric("fp16", "cpu")
    scaler = fabric.strategy.precision
    optimizer = fabric.setup_optimizers(torch.optim.Adam(network.parameters(), fused=True))
    scale = scaler.state_dict()["scale"]
    fabric.backward(network(torch.ones(1, 2)).sum() * float("inf"))
    optimizer.step()
    assert torch.equal(network.weight, before)
    assert scaler.state_dict()["scale"] == scale / 2

    later = open_fabric("fp16", "cpu").strategy.precision
    later.load_state_dict(scaler.state_dict())
    assert later.state_dict()["scale"] == scale / 2
    open_fabric("fp32", "cpu").strategy.precision.load_state_dict(scaler.state_dict())  # another format has none


@pytest.mark.parametrize(("precision", "expected"), [("fp32", False), ("bf16", True), ("fp16", True)])
def test_float32_is_not_tf32(precision, expected, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    open_fabric(precision, "cpu")
    assert torch.backends.cudnn.allow_tf32 is expected


def test_autocast_computes_in_the_format():
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)):
        with open_fabric(precision, "cpu").autocast():
            assert nn.Linear(2, 2)(torch.ones(1, 2)).dtype == dtype


# --- The loop.


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is moved."""

    class Clock:
        now = 100.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def start(path, steps=4, **options):
    return Loop(path, {"seed": 1}, open_fabric("fp32", "cpu"), steps, **{"save_minutes": 10, **options})


def test_steps_are_counted_to_the_end(tmp_path):
    told = []
    with start(tmp_path / "last.ckpt", progress=lambda *values: told.append(values[:2])) as loop:
        for batch in loop.until_over("abcdefg"):
            assert batch == "abcd"[loop.done]
            loop.end_step()
            loop.tell()
            assert loop.is_save_due == (loop.done == 4)
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert loop.is_finished


def test_time_ends_it_too_and_counts_over_all_runs(tmp_path, clock):
    earlier = Checkpoint({"seed": 1}, 10, 50.0, {}, {})
    told = []
    with start(
        tmp_path / "last.ckpt", 1000, max_time=100, resume=earlier, progress=lambda *values: told.append(values)
    ) as loop:
        for _ in loop.until_over(range(1000)):
            clock.now += 20
            loop.end_step()
            loop.tell()
    assert (loop.done, loop.seconds) == (13, 110.0)
    assert told == [(11, 13, 30.0), (12, 13, 10.0), (13, 13, 0.0)]
    assert list(loop.until_over("abc")) == []


@pytest.mark.parametrize(
    ("options", "due"), [({}, [3, 6]), ({"save_every": 5}, [2, 4, 5, 6]), ({"save_minutes": 1e9}, [6])]
)
def test_checkpoints_are_due_by_the_clock_and_by_steps(tmp_path, clock, options, due):
    saved = []
    with start(tmp_path / "last.ckpt", 6, **{"save_minutes": 2.5, **options}) as loop:
        for _ in loop.until_over(range(6)):
            clock.now += 60 if options.get("save_every") is None else 100
            loop.end_step()
            if loop.is_save_due:
                saved.append(loop.done)
                loop.save(nn.Linear(1, 1))
    assert saved == due


def test_a_checkpoint_comes_back(tmp_path):
    network = nn.Linear(2, 2)
    with start(tmp_path / "last.ckpt") as loop:
        for _ in loop.until_over("ab"):
            loop.end_step()
        loop.save(network, rates=[1, 2], masks=[torch.ones(2)])
    found = Checkpoint.load(tmp_path / "last.ckpt")
    assert (found.job, found.steps, found.others["rates"]) == ({"seed": 1}, 2, [1, 2])
    assert torch.equal(found.network["weight"], network.weight)
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("values", [{}, [1], {"job": {}, "steps": "many", "seconds": 1.0, "network": {}, "others": {}}])
def test_what_is_no_checkpoint(tmp_path, values):
    torch.save(values, tmp_path / "last.ckpt")
    with pytest.raises(CheckpointError, match=r"last\.ckpt: not a training checkpoint; delete it"):
        Checkpoint.load(tmp_path / "last.ckpt")


def test_ctrl_c_lets_the_step_end_and_makes_a_checkpoint_due(tmp_path):
    done = []
    with pytest.raises(KeyboardInterrupt), start(tmp_path / "last.ckpt") as loop:
        for batch in loop.until_over("abcd"):
            if batch == "b":
                signal.raise_signal(signal.SIGINT)
            done.append(batch)
            loop.end_step()
            assert loop.is_save_due == (batch == "b")
    assert done == ["a", "b"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_between_steps_waits_for_a_checkpoint_too(tmp_path):
    """Whenever it comes, no step that was done is lost."""
    saved = []
    with pytest.raises(KeyboardInterrupt), start(tmp_path / "last.ckpt") as loop:
        for batch in loop.until_over("abcd"):
            loop.end_step()
            if loop.is_save_due:
                saved.append(loop.done)
            if batch == "b":
                signal.raise_signal(signal.SIGINT)
    assert saved == [loop.done] == [3]


def test_ctrl_c_after_the_last_step_is_not_lost(tmp_path):
    with pytest.raises(KeyboardInterrupt), start(tmp_path / "last.ckpt") as loop:
        for _ in loop.until_over("abcd"):
            loop.end_step()
        signal.raise_signal(signal.SIGINT)
    assert loop.is_finished


def test_ctrl_c_twice_does_not_wait(tmp_path):
    with pytest.raises(KeyboardInterrupt), start(tmp_path / "last.ckpt") as loop:
        for _ in loop.until_over("abcd"):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            pytest.fail("goes on")


def test_where_sigint_is_ignored_it_stays_ignored(tmp_path):
    """As in a job in the background."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with start(tmp_path / "last.ckpt") as loop:
        for _ in loop.until_over("abcd"):
            signal.raise_signal(signal.SIGINT)
            loop.end_step()
    assert loop.done == 4


def test_weights_that_are_not_finite_are_refused(tmp_path):
    network = nn.Linear(2, 2)
    network.bias.data[1] = float("nan")
    with pytest.raises(TrainingError, match="step 0: weights are no longer finite"), start(tmp_path / "a") as loop:
        loop.save(network)
    with pytest.raises(KeyboardInterrupt), start(tmp_path / "a") as loop:
        signal.raise_signal(signal.SIGINT)
        loop.end_step()
        loop.save(network)
    assert not list(tmp_path.iterdir())


# --- Losses.


def test_means_are_of_the_steps_since_the_last(tmp_path):
    losses = LossHistory("do less")
    for step, value in enumerate((1.0, 2.0, 6.0)):
        losses.add(step, {"a": torch.tensor(value), "b": torch.tensor(-value)})
    assert losses.means() == {"a": 3.0, "b": -3.0}
    losses.add(3, {"a": torch.tensor(5.0)})
    assert losses.means() == {"a": 5.0}


@pytest.mark.parametrize(("value", "said"), [(float("nan"), "nan"), (float("-inf"), "-inf"), (2e6, r"2e\+06")])
def test_a_loss_that_is_no_number_or_explodes_is_refused(value, said):
    losses = LossHistory("do less")
    losses.add(1, {"a": torch.tensor(1.0)})
    with pytest.raises(TrainingError, match=f"^step 2: loss 'b' is {said}; do less$"):
        losses.add(2, {"a": torch.tensor(1.0), "b": torch.tensor(value)})


# --- Items made ahead.


def test_items_are_made_ahead_in_order_and_once():
    made = []

    def items():
        for item in range(5):
            made.append((item, threading.current_thread() is threading.main_thread()))
            yield item

    used = []
    for item in made_ahead(items(), torch.device("cuda")):
        deadline = time.monotonic() + 60
        while len(made) < min(5, item + 2):  # the next one comes while this is in use
            assert time.monotonic() < deadline
            time.sleep(0.001)
        used.append(item)
    assert used == list(range(5))
    assert made == [(item, False) for item in range(5)]


def test_several_threads_finish_items_that_keep_their_order():
    threads, together = torch.get_num_threads(), threading.Barrier(2, timeout=60)

    def finish(item):
        together.wait()  # comes back when another thread finishes an item, too
        time.sleep(0.02 * (item % 2 == 0))
        return 2 * item, torch.get_num_threads()

    assert list(made_ahead(range(8), torch.device("cuda"), finish)) == [(2 * item, 1) for item in range(8)]
    assert torch.get_num_threads() == threads


def test_on_a_cpu_nothing_is_made_ahead():
    made = []
    items = made_ahead(range(3), torch.device("cpu"), made.append)
    next(items)
    assert made == [0]


def test_an_error_comes_out_where_the_item_would():
    def items():
        yield 1
        raise KeyError("two")

    items = made_ahead(items(), torch.device("cuda"))
    assert next(items) == 1
    with pytest.raises(KeyError):
        next(items)


@pytest.mark.parametrize(
    ("device", "devices", "wanted"),
    [("cpu", 1, ("cpu", 1)), ("cuda", 2, ("cuda", 2)), ("cuda:3", 1, ("cuda", [3])), ("cuda", 1, ("cuda", 1))],
)
def test_fabric_takes_the_gpu_that_was_chosen(monkeypatch, device, devices, wanted):
    class Asked:
        def __init__(self, **options):
            self.place = options["accelerator"], options["devices"]

        def launch(self):
            pass

    monkeypatch.setattr("geosynth.loop.Fabric", Asked)
    assert open_fabric("bf16", device, devices).place == wanted


def test_why_a_checkpoint_cannot_be_written_is_told(tmp_path):
    """A limit of the size of files, as a quota, is no full disk; torch's writer itself says no cause."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    checkpoint = Checkpoint({}, 1, 1.0, {"weight": torch.zeros(100_000)}, {})
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OutputError, match=r"last\.ckpt: cannot be written: File too large$"):
            checkpoint.save(tmp_path / "last.ckpt")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())
