"""What a study would do, and about how long it takes: from finished work of the same kind, or a few steps of it."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from geosynth.config import SegmentSettings
from geosynth.progress import Progress
from geosynth.raster.stores.store import Store
from geosynth.study.artifacts import KINDS, Artifacts
from geosynth.study.plan import artifacts_of
from geosynth.study.recipes import (
    Artifact,
    GivenGenerator,
    LookedGenerator,
    NearerRecipe,
    Recipe,
    TrainedGenerator,
    TransferRecipe,
    Twin,
    asked_segmenters,
)
from geosynth.study.study import Study

_STEPS = 5  # steps that are timed
_SECONDS = 15.0  # after which the timing of work without steps is stopped


class Work(BaseModel):
    """All artifacts of one kind."""

    model_config = ConfigDict(frozen=True)

    kind: str
    """ "generators", "looks", "twins", "cells" or "choices"."""
    todo: int
    finished: int
    seconds: float | None
    """Time for one, on average over those to do; None if there is nothing to do."""
    source: str
    """How this number was found."""


class StudyPlan(BaseModel):
    """What `run_study` would do."""

    model_config = ConfigDict(frozen=True)

    generator: str
    """What paints the synthetic tiles, in words."""
    cells: tuple[tuple[str, bool], ...]
    """Each cell in words, and whether it is finished."""
    work: tuple[Work, ...]
    """One entry for each kind of artifact."""
    workers: int
    """Number of workers that share the work."""
    hours: float
    """Time for all of it if it is shared evenly, which it never quite is."""


def expected_work(study: Study, workers: int) -> StudyPlan:
    """Count what exists, and estimate the rest."""
    kept = study.artifacts
    unfinished = {cell.recipe for cell in study.cells if not kept.is_made(cell.recipe)}
    every = artifacts_of(study.cells)
    # Artifacts that only finished cells needed are not made again, even if they were deleted.
    needed = set(artifacts_of([cell for cell in study.cells if cell.recipe in unfinished]))
    todo: list[Artifact] = []
    asked: set[Artifact] = set()  # cells whose segmenters are needed
    for artifact in reversed(every):  # each after those that need it
        if artifact in needed and not kept.is_made(artifact, with_segmenter=artifact in asked):
            todo.insert(0, artifact)
            asked.update(asked_segmenters(artifact))
    with tempfile.TemporaryDirectory(prefix="geosynth-study-") as folder:
        probe = _Probe(kept, Store(kept.data), Path(folder))
        work = tuple(
            _work(
                name,
                [artifact for artifact in todo if isinstance(artifact, kinds)],
                sum(isinstance(artifact, kinds) for artifact in every),
                probe,
            )
            for name, kinds in KINDS.items()
            if name not in ("looks", "choices") or any(isinstance(artifact, kinds) for artifact in every)
        )
    return StudyPlan(
        generator=study.generator,
        cells=tuple((str(cell), cell.recipe not in unfinished) for cell in study.cells),
        work=work,
        workers=workers,
        hours=sum(entry.todo * (entry.seconds or 0) for entry in work) / 3600 / workers,
    )


def _work(kind: str, todo: Sequence[Artifact], total: int, probe: _Probe) -> Work:
    finished = total - len(todo)
    if not todo:
        return Work(kind=kind, todo=0, finished=finished, seconds=None, source="nothing to do")
    rates = list(_known_rates(probe.artifacts.out / kind, probe.store))
    if rates:
        amounts = [_amount(artifact.model_dump(mode="json"), probe.store) for artifact in todo]
        seconds = sum(rates) / len(rates) * sum(amounts) / len(amounts)
        source = f"from {len(rates)} finished {kind}"
    else:
        seconds, source = probe.time(todo[0])
    return Work(kind=kind, todo=len(todo), finished=finished, seconds=seconds, source=source)


def _known_rates(folder: Path, store: Store) -> Iterator[float]:
    """Seconds per amount of work, for all artifacts that record how long they took."""
    for path in sorted(folder.glob("*.json")):
        with suppress(OSError, ValueError, KeyError, TypeError):
            values = json.loads(path.read_text(encoding="utf-8"))
            yield float(values["seconds"]) / _amount(values, store)


def _amount(made_of: dict[str, Any], store: Store) -> float:
    """The amount of work of an artifact: steps for generators and segmenters, pixels for twins."""
    for part in ("train", "segment"):
        if part in made_of:
            return float(made_of[part]["steps"])
    if made_of.get("tiles") is not None:
        return float(made_of["tiles"]["synthetic_tiles"] * made_of["tiles"]["tile_size"] ** 2)
    if "tiles" in made_of:
        return float(store.split.area(made_of["fold"]).area)
    return 1.0  # a look reads a fold once, a choice some tiles


class _Probe:
    """Times an artifact by making a part of it, in a folder that is deleted."""

    def __init__(self, artifacts: Artifacts, store: Store, folder: Path) -> None:
        self.artifacts, self.store, self._folder = artifacts, store, folder
        self._operations = artifacts.operations
        self._model: Path | None = None

    def time(self, artifact: Artifact) -> tuple[float, str]:
        """Seconds, and how they were found."""
        if isinstance(artifact, TrainedGenerator):
            return self._generator(artifact), f"from {_STEPS} timed steps"
        if isinstance(artifact, Twin):
            return self._twin(artifact), f"from up to {_SECONDS:g} s of painting"
        if isinstance(artifact, LookedGenerator):
            return self._look(artifact), "from one that was measured"
        if isinstance(artifact, TransferRecipe):
            return self._transfer(artifact), f"from {_STEPS} timed steps and a test"
        if isinstance(artifact, NearerRecipe):
            return self._choice(artifact), "from one that was measured"
        assert isinstance(artifact, Recipe)
        return self._cell(artifact), f"from {_STEPS} timed steps and a test"

    def _generator(self, generator: TrainedGenerator) -> float:
        source, settings = self.artifacts.source_of(generator), generator.train
        few = settings.model_copy(update={"steps": _STEPS, "preview_every": 0})

        def train(progress: Progress) -> None:
            self._model = self._operations.train(source, self._folder / "generator", few, generator.fold, progress)

        return _by_steps(train, settings.steps)

    def _look(self, look: LookedGenerator) -> float:
        start = time.monotonic()
        self.artifacts.take_look(look, self._folder / "look")
        return time.monotonic() - start

    def _twin(self, twin: Twin) -> float:
        if isinstance(twin.generator, GivenGenerator):
            self._model = Path(twin.generator.path)
        elif isinstance(twin.generator, LookedGenerator):
            self._look(twin.generator)
            self._model = self._folder / "look" / "model.safetensors"
        elif self._model is None:  # finished generators have recorded their time, but a twin needs one
            self._generator(twin.generator)
        model = self._model
        assert model is not None
        out, source = self._folder / "twin.zarr", self.artifacts.source_of(twin)
        return _broken_off(
            lambda progress: self._operations.twin(source, out, model, twin.generate, twin.fold, progress)
        )

    def _cell(self, recipe: Recipe) -> float:
        # Only real tiles, as a step takes the same time with them.
        number = max(recipe.segment.real_tiles or 0, recipe.segment.synthetic_tiles or 0)
        values = {"steps": _STEPS, "real_tiles": number, "synthetic_tiles": 0}
        few = SegmentSettings.parse({**recipe.segment.model_dump(), **values})
        out, folds = self._folder / "segmenter", (recipe.train_fold, recipe.test_fold)
        seconds = _by_steps(
            lambda progress: self._operations.segment(self.store, out, few, None, *folds, progress),
            recipe.segment.steps,
        )
        if recipe.compared is not None:
            same, size = Path(self.store.path), recipe.segment.tile_size
            seconds += _broken_off(
                lambda progress: self._operations.compare(self.store, (same, same), recipe.test_fold, size, progress)
            )
        return seconds

    def _transfer(self, recipe: TransferRecipe) -> float:
        few = SegmentSettings.parse({**recipe.segment.model_dump(), "steps": _STEPS})
        sources = self.artifacts.sources_of(recipe, painted=False)
        out, folds = self._folder / "segmenter", (recipe.train_fold, recipe.test_fold)
        return _by_steps(
            lambda progress: self._operations.segment(sources, out, few, None, *folds, progress), recipe.segment.steps
        )

    def _choice(self, recipe: NearerRecipe) -> float:
        views = self.artifacts.views_of(recipe, painted=False)
        start = time.monotonic()
        self._operations.nearness(*views)
        return time.monotonic() - start


class _Enough(Exception):  # noqa: N818 - not an error
    """An operation has been timed for long enough."""


class _Clock:
    """Records an operation's progress: time, done and total of each call."""

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


def _by_steps(operation: Callable[[Progress], Any], steps: int) -> float:
    """Seconds of an operation with many steps, from one with `_STEPS`: those per step, and those before and after."""
    clock = _Clock()
    operation(clock.tick)
    total = clock.passed()
    times = [when for when, done, of in clock.calls if done and of == _STEPS]  # before, blocks may be read
    step = (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else total / _STEPS
    return max(0.0, total - _STEPS * step) + steps * step


def _broken_off(operation: Callable[[Progress], Any]) -> float:
    """Seconds of an operation, which is stopped when it has been timed for long enough."""
    clock = _Clock(_SECONDS)
    try:
        operation(clock.tick)
    except _Enough:
        _, done, total = clock.calls[-1]
        return clock.passed() * total / done
    return clock.passed()
