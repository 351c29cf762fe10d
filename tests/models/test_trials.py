"""Kernels and recordings are used only where they do what the plain form does; told here by ones that fail."""

import gc
import logging
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest
import torch
from label_maps import label_map, randomise

from geosynth import machine
from geosynth.models import hashing, modulation
from geosynth.models.affine import LayerNoise
from geosynth.models.looks import field as look_field
from geosynth.models.modulation import SpadeModulation, SpadeNorm
from geosynth.models.patterns import LabelPatterns
from geosynth.models.replay import Replay
from geosynth.models.trials import KernelTrials
from geosynth.models.windows import Windows
from geosynth.models.zoom import upsampled


@pytest.fixture
def trials(monkeypatch):
    """Of a process that has tried nothing yet, on a machine that has kernels."""
    trials = KernelTrials()
    for module in (hashing, look_field, modulation):
        monkeypatch.setattr(module, "kernel_trials", trials)
        monkeypatch.setattr(module, "has_kernels", lambda device: True)
    return trials


def raises(*arguments):
    raise RuntimeError("out of resource: shared memory\nat line 3")


def slightly_wrong(values):
    return values + 0.01


def test_a_kernel_is_tried_once_and_kept(trials):
    asked = []
    right = torch.tensor([1.0, -300.0])
    for _ in range(3):
        assert trials.passed("a", lambda: asked.append(1) or right + 0.2, lambda: right)
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("kernel", "reason"),
    [
        (raises, "out of resource: shared memory"),
        (lambda: torch.ones(2) * 1.01, "its result differs by 0.01"),
        (lambda: torch.tensor([1.0, torch.nan]), "its result differs by nan"),
    ],
)
def test_after_one_that_fails_none_is_used(trials, caplog, kernel, reason):
    assert trials.passed("good", lambda: torch.ones(2), lambda: torch.ones(2))
    for key in ("bad", "bad", "good", "other"):
        assert not trials.passed(key, kernel, lambda: torch.ones(2))
    assert [record.message for record in caplog.records] == [f"GPU kernels are not used, painting is slower: {reason}"]


@pytest.mark.parametrize("padding", ["replicate", "zeros"])
@pytest.mark.parametrize("how", ["raises", "wrong", "right"])
def test_modulation_is_dense_where_the_kernel_does_not_work(trials, caplog, monkeypatch, padding, how):
    def kernel(self, features, patterns, norm, slope, noise, told, zoom):
        if how == "raises":
            raises()
        used.append(features.shape)
        layer = next(layer for layer in layers if layer.modulation is self)
        features = features.clone() if zoom is None else upsampled(features, zoom)
        values = layer._plain("dense", features, patterns, slope, True, noise, told)
        return slightly_wrong(values) if how == "wrong" else values

    used = []
    monkeypatch.setattr(SpadeModulation, "by_kernel", kernel)
    layers = [SpadeNorm(channels, 4, 3, padding).eval() for channels in (5, 7)]
    labels = label_map("patches", (2, 9, 12), 4, holes=True)
    with torch.no_grad():
        for layer in layers:
            randomise(layer)
            features = torch.randn(2, layer.modulation.channels, 9, 12)
            noise = LayerNoise(torch.randn(2, 1, 9, 12), torch.rand(5, layer.modulation.channels))
            patterns = LabelPatterns(labels, 4, padding)
            layer.modulation.form = "dense"
            expected = layer(features.clone(), patterns, 0.2, True, noise)
            layer.modulation.form = "kernel"
            for _ in range(2):
                assert torch.equal(layer(features.clone(), patterns, 0.2, True, noise), expected)
    assert len(caplog.records) == (how != "right")
    assert sum(shape[-1] == 12 for shape in used) == (4 if how == "right" else 0)


@pytest.mark.parametrize("kernel", [raises, lambda *arguments: slightly_wrong(hashing._plain_normal(*arguments))])
def test_noise_is_plain_where_the_kernel_does_not_work(trials, caplog, monkeypatch, kernel):
    monkeypatch.setattr(hashing, "_normal_by_kernel", kernel)
    asked = 5, 1, 2, Windows.at(3, -4, 8, 6)
    for _ in range(2):
        assert torch.equal(hashing.normal_numbers(*asked), hashing._plain_normal(*asked))
    assert len(caplog.records) == 1


def test_doctor_says_why_kernels_are_not_used(trials, monkeypatch):
    monkeypatch.setattr(machine, "kernel_trials", trials)
    monkeypatch.setattr(torch.cuda, "device", lambda name: nullcontext())
    assert machine._kernels("cpu") == "none: no Triton, or too old a GPU"
    monkeypatch.setattr(machine, "has_kernels", lambda device: True)
    monkeypatch.setattr(hashing, "_normal_by_kernel", hashing._plain_normal)
    assert machine._kernels("cpu") == "work"
    trials._passed.clear()
    monkeypatch.setattr(hashing, "_normal_by_kernel", raises)
    assert machine._kernels("cpu") == "not used: out of resource: shared memory"


class Driver:
    """What of `torch.cuda` a `Replay` uses. A recording that fails cannot be ended either, and leaves its stream."""

    def __init__(self, works):
        self.works, self.stream, self.is_recording, self.recordings, self.resets = works, "main", False, 0, 0

    def current_stream(self, device=None):
        return SimpleNamespace(name=self.stream, wait_stream=lambda other: None)

    @contextmanager
    def on(self, stream):
        before, self.stream = self.stream, stream.name
        try:
            yield
        finally:
            self.stream = before

    @contextmanager
    def record(self, graph, pool=None, stream=None, capture_error_mode="global"):
        assert not self.is_recording
        self.stream, self.is_recording = stream.name, True
        self.recordings += 1
        yield
        self.is_recording = False
        if not self.works and self.recordings == 1:
            raise RuntimeError("operation failed due to a previous error during capture\nmore")
        self.stream = "main"

    def graph(self):
        def reset():
            self.is_recording = False
            self.resets += 1

        return SimpleNamespace(reset=reset, replay=lambda: None)


@pytest.fixture
def driver(monkeypatch, request):
    driver = Driver(request.param)
    monkeypatch.setattr(
        torch.cuda, "Stream", lambda device: SimpleNamespace(name="own", wait_stream=lambda other: None)
    )
    monkeypatch.setattr(torch.cuda, "current_stream", driver.current_stream)
    monkeypatch.setattr(torch.cuda, "stream", driver.on)
    monkeypatch.setattr(torch.cuda, "graph", driver.record)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", driver.graph)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    return driver


def replay(function, warm_ups):
    replay = Replay(function, "cuda", warm_ups=warm_ups)
    replay.device = torch.device("cpu")
    return replay


@pytest.mark.parametrize("driver", [True], indirect=True)
def test_a_recording_that_works_is_used(driver, caplog):
    calls = []
    twice = replay(lambda values: calls.append(1) or (2 * values,), 1)
    for _ in range(4):
        twice(torch.ones(3))
    assert len(calls) == 2, "once as it is, once recorded"
    assert driver.recordings == 1
    assert not caplog.records


@pytest.mark.parametrize("driver", [True], indirect=True)
def test_a_thread_records_what_it_has_run_itself(driver):
    """Libraries set themselves up in each thread anew, and cannot while work is recorded."""
    recorded = []
    twice = replay(lambda values: recorded.append(driver.is_recording) or (2 * values,), 1)
    twice(torch.ones(3))
    with ThreadPoolExecutor(1) as other:
        other.submit(twice, torch.ones(3)).result()
        assert recorded == [False, False]
        other.submit(twice, torch.ones(3)).result()
        twice(torch.ones(3))
        assert recorded == [False, False, True], "what one has recorded, all replay"


def test_what_replays_its_own_method_goes_with_its_last_reference():
    """Not when the garbage collector comes by: until then a GPU would keep its weights and its graphs."""

    class Doubler:
        def __init__(self):
            self.replay = Replay(self.twice, "cpu")

        def twice(self, values):
            return (2 * values,)

    doubler = Doubler()
    assert doubler.replay(torch.ones(1))[0] == 2
    seen = weakref.ref(doubler)
    gc.disable()
    try:
        del doubler
        assert seen() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("driver", [False], indirect=True)
@pytest.mark.parametrize("where", ["in the function", "at its end"])
def test_after_a_recording_that_fails_work_goes_on_as_it_is(driver, caplog, where):
    def function(values):
        if driver.is_recording and where == "in the function":
            raise RuntimeError("operation not permitted when stream is capturing\nmore")
        if not driver.is_recording:
            state.add_(1)
        return (2 * values,)

    state, twice = torch.zeros(1), replay(function, 2)
    for step in range(5):
        (values,) = twice(torch.full((3,), float(step)))
        assert values.tolist() == [2.0 * step] * 3
        assert (driver.stream, driver.is_recording) == ("main", False)
    assert state == 5, "each step counts once"
    twice(torch.ones(7))  # nor is another shape recorded
    assert (driver.recordings, driver.resets) == (2, 1), "the second is of nothing: it frees the random numbers"
    (line,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert line.message.startswith("work on the GPU is not replayed and takes longer: operation ")
    assert "\n" not in line.message
