"""What a study would do, and about how long: from finished pieces of the same kind, or from a few steps of it."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from geosynth.config import SegmentSettings, TrainSettings
from geosynth.raster.stores.store import Store
from geosynth.study.plan import Cell, GivenGenerator, Piece, Recipe, TrainedGenerator, Twin
from geosynth.study.study import Study
from geosynth.study.verbs import Progress
from geosynth.study.workshop import Workshop, source_for_twin

_STEPS = 5  # that are timed
_SECONDS = 15.0  # after which timing of what has no steps is broken off


class Work(BaseModel):
    """All pieces of one kind.

    Attributes:
        kind: "generators", "twins" or "cells".
        todo, finished: how many.
        seconds: that one takes, on average over those to do; None where nothing is to do.
        source: where this number comes from.
    """

    model_config = ConfigDict(frozen=True)

    kind: str
    todo: int
    finished: int
    seconds: float | None
    source: str


class StudyPlan(BaseModel):
    """What `run_study` would do.

    Attributes:
        generator: what the synthetic tiles come from, in words.
        cells: each with whether it is finished.
        work: by kind.
        workers: among how many it is shared.
        hours: in all. Shared evenly, which it never quite is.
    """

    model_config = ConfigDict(frozen=True)

    generator: str
    cells: tuple[tuple[str, bool], ...]
    work: tuple[Work, ...]
    workers: int
    hours: float


def estimate(study: Study, workers: int) -> StudyPlan:
    """Count what is there, and estimate the rest."""
    store, shop = Store(study.workshop.data), study.workshop
    pieces = _pieces(study.cells)
    # What only finished cells needed is not made again, should it have been deleted.
    needed = set(_pieces([cell for cell in study.cells if not shop.is_made(cell.recipe)]))
    todo = [piece for piece in pieces if piece in needed and not shop.is_made(piece)]
    kinds: dict[str, type[Piece]] = {"generators": TrainedGenerator, "twins": Twin, "cells": Recipe}
    with tempfile.TemporaryDirectory(prefix="geosynth-study-") as folder:
        probe = _Probe(shop, store, Path(folder))
        work = [
            _work(
                name,
                [piece for piece in todo if isinstance(piece, kind)],
                sum(isinstance(piece, kind) for piece in pieces),
                probe,
            )
            for name, kind in kinds.items()
        ]
    seconds = sum(entry.todo * (entry.seconds or 0) for entry in work)
    cells = tuple((str(cell), shop.is_made(cell.recipe)) for cell in study.cells)
    hours = seconds / 3600 / workers
    return StudyPlan(generator=study.generator, cells=cells, work=tuple(work), workers=workers, hours=hours)


def _pieces(cells: Sequence[Cell]) -> list[Piece]:
    """All, each once."""
    found: dict[Piece, None] = {}
    for cell in cells:
        for twin in (cell.recipe.twin, *(cell.recipe.compared or ())):
            if twin is not None:
                found |= {twin.generator: None, twin: None}
        found[cell.recipe] = None
    return list(found)


def _work(kind: str, todo: Sequence[Piece], total: int, probe: _Probe) -> Work:
    finished = total - len(todo)
    if not todo:
        return Work(kind=kind, todo=0, finished=finished, seconds=None, source="nothing to do")
    store = probe.store
    rates = list(_known_rates(probe.shop.out / kind, store))
    if rates:
        per_amount, source = sum(rates) / len(rates), f"from {len(rates)} finished {kind}"
        seconds = sum(_amount(piece.inputs(), store) for piece in todo) / len(todo) * per_amount
    else:
        seconds, source = probe.time(todo[0])
    return Work(kind=kind, todo=len(todo), finished=finished, seconds=seconds, source=source)


def _known_rates(folder: Path, store: Store) -> Iterator[float]:
    """Seconds an amount of all pieces that tell how long they took."""
    for path in sorted(folder.glob("*.json")):
        with suppress(OSError, ValueError, KeyError, TypeError):
            values = json.loads(path.read_text(encoding="utf-8"))
            yield float(values["seconds"]) / _amount(values, store)


def _amount(inputs: dict[str, Any], store: Store) -> float:
    """Of a piece's work, by what it is made of: steps of generators and segmenters, pixels of twins."""
    for part in ("train", "segment"):
        if part in inputs:
            return float(inputs[part]["steps"])
    if inputs["tiles"] is not None:
        return float(inputs["tiles"]["synthetic_tiles"] * inputs["tiles"]["tile_size"] ** 2)
    return float(store.split.area(inputs["painted"]).area)


class _Enough(Exception):  # noqa: N818 - not an error
    """A verb was watched for long enough."""


class _Clock:
    """Looks at a verb's progress: when each call came, done and total."""

    def __init__(self, limit: float | None = None) -> None:
        self.start = time.monotonic()
        self.limit = limit
        self.calls: list[tuple[float, int, int]] = []

    def tick(self, done: int, total: int) -> None:
        self.calls.append((time.monotonic(), done, total))
        if self.limit is not None and done and self.passed() > self.limit:
            raise _Enough

    def passed(self) -> float:
        return time.monotonic() - self.start


class _Probe:
    """Times a piece by doing some of it, in a folder that is thrown away."""

    def __init__(self, shop: Workshop, store: Store, folder: Path) -> None:
        self.shop, self.store, self._folder = shop, store, folder
        self._verbs = shop.verbs
        self._model: Path | None = None

    def time(self, piece: Piece) -> tuple[float, str]:
        """Seconds, and how they were found."""
        if isinstance(piece, TrainedGenerator):
            return self._generator(piece), f"from {_STEPS} timed steps"
        if isinstance(piece, Twin):
            return self._twin(piece), f"from up to {_SECONDS:g} s of painting"
        assert isinstance(piece, Recipe)
        return self._cell(piece), f"from {_STEPS} timed steps and a test"

    def _generator(self, piece: TrainedGenerator) -> float:
        few = TrainSettings.parse({**piece.settings.model_dump(), "steps": _STEPS, "preview_every": 0})

        def verb(clock: Progress) -> None:
            self._model = self._verbs.train(self.store, self._folder / "generator", few, piece.fold, clock)

        return _by_steps(verb, piece.settings.steps)

    def _twin(self, piece: Twin) -> float:
        if isinstance(piece.generator, GivenGenerator):
            self._model = Path(piece.generator.path)
        elif self._model is None:  # finished generators have told their time, but a twin needs one
            self._generator(piece.generator)
        model = self._model
        assert model is not None
        out, source = self._folder / "twin.zarr", source_for_twin(piece, self.store)
        return _broken_off(lambda clock: self._verbs.twin(source, out, model, piece.settings, piece.fold, clock))

    def _cell(self, piece: Recipe) -> float:
        # Real tiles only, of which a step costs the same.
        number = max(piece.segment.real_tiles or 0, piece.segment.synthetic_tiles or 0)
        values = {"steps": _STEPS, "real_tiles": number, "synthetic_tiles": 0}
        few = SegmentSettings.parse({**piece.segment.model_dump(), **values})
        folds = piece.train_fold, piece.test_fold
        seconds = _by_steps(
            lambda clock: self._verbs.segment(self.store, self._folder / "segmenter", few, None, *folds, clock),
            piece.segment.steps,
        )
        if piece.compared is not None:
            same = Path(self.store.path)
            size = piece.segment.tile_size
            seconds += _broken_off(
                lambda clock: self._verbs.compare(self.store, (same, same), piece.test_fold, size, clock)
            )
        return seconds


def _by_steps(verb: Callable[[Progress], Any], steps: int) -> float:
    """Seconds of a verb of many steps, by one of `_STEPS`: those of a step, and what comes before and after."""
    clock = _Clock()
    verb(clock.tick)
    total = clock.passed()
    times = [when for when, done, _ in clock.calls if done]
    step = (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else total / _STEPS
    return max(0.0, total - _STEPS * step) + steps * step


def _broken_off(verb: Callable[[Progress], Any]) -> float:
    """Seconds of a verb that is broken off when it has been seen for long enough."""
    clock = _Clock(_SECONDS)
    try:
        verb(clock.tick)
    except _Enough:
        _, done, total = clock.calls[-1]
        return clock.passed() * total / done
    return clock.passed()
