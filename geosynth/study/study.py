"""Study: a sweep that has been checked against its data before anything is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from geosynth.checkpoint import ModelCard
from geosynth.config import (
    AugmentSettings,
    DiversitySettings,
    GeneratorSettings,
    ReplaceSettings,
    StudySettings,
    TransferSettings,
)
from geosynth.config.study import EmphasisSettings
from geosynth.download import model_path
from geosynth.errors import DataError, SettingsError, counted, settings_of
from geosynth.files import check_output, output_path, refuse_inputs
from geosynth.inputs import absolute, sha256_of
from geosynth.models.state import weights_digest
from geosynth.mosaic.twin import legend_for
from geosynth.raster.stores.alike import check_alike, check_fits
from geosynth.raster.stores.recombined import emphasised_classes
from geosynth.raster.stores.store import Store
from geosynth.raster.stores.tiles import TileView
from geosynth.segmentation.data import train_views
from geosynth.study.artifacts import Artifacts
from geosynth.study.notes import plan_notes, result_notes
from geosynth.study.operations import Operations
from geosynth.study.plan import Cell, artifacts_of, contrasts, plan_cells
from geosynth.study.recipes import Artifact, CellRecipe, GivenGenerator, asked_segmenters, key_of
from geosynth.study.report import CellRow, Missing, StudyReport, tabulate_differences, tabulate_rows
from geosynth.study.transfer import MATCHED_TYPES
from geosynth.training.start import with_networks_of
from geosynth.version import __version__


@dataclass(frozen=True)
class Study:
    """A sweep that is ready to run."""

    settings: StudySettings
    artifacts: Artifacts
    """Makes and keeps everything in the study's folder."""
    cells: tuple[Cell, ...]
    """All cells of the sweep."""
    generator: str
    """What paints the synthetic tiles, in words."""
    notes: tuple[str, ...]
    """What a reader of the results must know."""

    @classmethod
    def open(
        cls,
        data: str | Path | Store,
        out: str | Path,
        settings: StudySettings,
        model: str | Path | None,
        operations: Operations | None = None,
        target: str | Path | None = None,
    ) -> Study:
        """Check everything that can be checked before the first hour.

        Raises:
            RasterError, CheckpointError: if the store, the model or the weights of segmenters cannot be read.
            SettingsError: if the sweep trains its own generators, but a model is given; if crops are larger than tiles;
                if networks differ from those of the initial model; if a transfer lacks its target, or another sweep has
                one; if a number of coarse tiles has no effect.
            DataError: if there are fewer tiles than asked for, if the model paints other bands or cannot be trained
                further on the data, or if source and target cannot be trained on together.
            GridError: if the pixel sizes of source and target differ.
            LegendError: if the store has a class that the model does not know.
            OutputError: if `out` cannot be written.
        """
        if not isinstance(settings, StudySettings):
            raise SettingsError(f"those of a sweep are needed, not {type(settings).__name__}", setting="settings")
        with settings_of("segment"):
            settings.segment.refuse_idle_coarse()
        store = data if isinstance(data, Store) else Store(data)
        out = output_path(out)
        check_output(out, overwrite=True)
        refuse_inputs(out, [data, target, model], replaced=False)
        other = _open_target(target, settings)
        for file in (settings.segment.weights_file, settings.train.perceptual_file):
            weights_digest(file)  # refuses weights that cannot be read
        tiles = _check_tiles(store, settings, other or store)
        if model is None and other is None:
            given, generator = None, _check_own(store, settings)
        else:
            given, generator = _check_given(store, other, settings, model)
        cells = plan_cells(settings, given)
        if not cells:
            what = "none of them has a cell without labelled tiles of the target; set target_tiles"
            raise SettingsError(what, setting="arms")
        artifacts = Artifacts(
            absolute(store.path),
            store.digest() if other is None else f"{store.digest()} {other.digest()}",
            out.absolute(),
            None if other is None else absolute(other.path),
            frozenset(asked for one in artifacts_of(cells) for asked in asked_segmenters(one)),
            operations or Operations(),
        )
        notes = plan_notes(settings, tiles, is_given=given is not None)
        return cls(settings, artifacts, cells, generator, tuple(notes))

    @property
    def folder(self) -> Path:
        """Folder of the results: several sweeps may share `out`, and with it generators and cells."""
        return self.artifacts.out / self.settings.sweep

    def unfinished(self) -> list[CellRecipe]:
        """Recipes of the cells that are not finished, each once."""
        recipes = dict.fromkeys(cell.recipe for cell in self.cells)
        return [recipe for recipe in recipes if self.artifacts.result_of(recipe) is None]

    def report(self, failed: Mapping[Artifact, str]) -> StudyReport:
        """The report on everything that is finished.

        Args:
            failed: the reasons why cells failed.
        """
        rows, missing = [], []
        for cell in self.cells:
            result = self.artifacts.result_of(cell.recipe)
            if result is None:
                missing.append(Missing(cell=str(cell), reason=failed.get(cell.recipe, "not done yet")))
            else:
                (arm, x), key = cell.condition, key_of(cell.recipe, self.artifacts.digest)
                rows.append(CellRow(arm=arm, x=x, seed=cell.seed, key=key, result=result))
        return StudyReport(
            sweep=self.settings.sweep,
            software=f"geosynth {__version__}",
            data=self.artifacts.data,
            digest=self.artifacts.digest,
            generator=self.generator,
            settings=self.settings.model_dump(mode="json"),
            test_tiles=rows[0].result.num_test if rows else None,
            rows=tabulate_rows(rows),
            differences=tabulate_differences(rows, contrasts(self.settings)),
            cells=tuple(rows),
            missing=tuple(missing),
            notes=(*self.notes, *result_notes(rows)),
        )


def _open_target(target: str | Path | None, settings: StudySettings) -> Store | None:
    """The second store of a transfer; None for other sweeps."""
    if not isinstance(settings, TransferSettings):
        if target is not None:
            raise SettingsError(f"only a transfer study has one, not {settings.sweep}", setting="target")
        return None
    if target is None:
        raise SettingsError("a transfer study needs one: the store of the place to test on", setting="target")
    return Store(target)


def _check_tiles(store: Store, settings: StudySettings, tested: Store) -> int:
    """The number of train tiles, after checking that there are enough."""
    [view] = train_views([store], settings.segment, settings.train_fold)
    if isinstance(settings, EmphasisSettings) and settings.emphasise:
        emphasised_classes(store.legend, settings.emphasise)
    if isinstance(settings, AugmentSettings):
        wanted = {"real_tiles": max(settings.real_tiles), "synthetic_tiles": settings.synthetic_tiles}
    elif isinstance(settings, ReplaceSettings | DiversitySettings | TransferSettings):
        wanted = {"tiles": settings.tiles}
    _check_counts(view, wanted)
    if isinstance(settings, TransferSettings):
        [there] = train_views([tested], settings.segment, settings.train_fold)
        _check_counts(there, {"target_tiles": max(settings.target_tiles)})
    whole = isinstance(settings, DiversitySettings)
    size = settings.segment.tile_size
    nodata = 0.0 if whole else settings.segment.max_nodata
    tests = TileView(tested, settings.test_fold, size, size, edge="skip", max_nodata=nodata)
    if len(tests) < 1 + whole:
        raise DataError(
            f"{tested.path}: fold {settings.test_fold!r} holds {counted(len(tests), 'whole tile')} of {size} px to"
            " test on; choose smaller tiles or another fold"
        )
    return len(view)


def _check_counts(view: TileView, wanted: Mapping[str, int]) -> None:
    for name, number in wanted.items():
        if number > len(view):
            raise DataError(
                f"{view.source.path}: {name}={number}, but fold {view.fold!r} holds {counted(len(view), 'tile')} of"
                f" {view.size} px; ask for fewer, or smaller tiles"
            )


def _check_transfer(store: Store, target: Store, settings: TransferSettings, file: Path, card: ModelCard) -> None:
    """Refuse what only a transfer requires and does not have."""
    check_alike([store, target])
    if store.digest() == target.digest():
        raise DataError(f"{target.path}: is the same data as {store.path}; a transfer needs another place")
    if any("matched" in arm for arm in settings.arms) and store.dtype not in MATCHED_TYPES:
        raise DataError(
            f"{store.path}: histograms are matched of 8 and 16 bit imagery, not of {store.dtype}; leave out"
            " the matched arm"
        )
    if any("painted" in arm or "nearer" in arm for arm in settings.arms) and not card.settings.style_lengths:
        raise SettingsError(
            f"{file}: its generator is not conditioned on looks, so it cannot paint in that of {target.path}"
        )
    if any("adapted" in arm for arm in settings.arms):
        with settings_of("train"):
            with_networks_of(settings.train.model_copy(update={"init": str(file)}))
        check_fits([target], file, card.legend.names, card.bands)


def _check_generate(settings: StudySettings, painter: str, network: GeneratorSettings, looks: Sequence[str]) -> None:
    """Refuse settings of images that a generator cannot paint, before it is trained or a twin is painted."""
    with settings_of("generate"):
        settings.generate.mode(network)
    look = settings.generate.look
    if look is not None and look not in looks:
        what = f"there is no look {look!r}; {painter} has {', '.join(looks) or 'none'}"
        raise SettingsError(what, setting="generate.look")


def _check_given(
    store: Store, target: Store | None, settings: StudySettings, model: str | Path | None
) -> tuple[GivenGenerator, str]:
    """The user's generator, after checking that it can paint for the study, and a text that describes it."""
    if isinstance(settings, DiversitySettings):
        raise SettingsError("the diversity study trains a generator for each lambda; leave it out", setting="model")
    file = model_path(model)
    card = ModelCard.read(file)
    legend_for(card, file, store)
    _check_generate(settings, str(file), card.settings, card.looks)
    given = GivenGenerator(path=str(file.absolute()), sha256=sha256_of(file))
    seen = _trained_on(target or store, settings, card)
    if isinstance(settings, TransferSettings):
        assert target is not None
        _check_transfer(store, target, settings, file, card)
        seen = f"of the target: {seen}"
    return given, f"{file.name} ({given.sha256[:12]}), {seen}"


def _check_own(store: Store, settings: StudySettings) -> str:
    """A text on what the study trains its generators, and on what their initial model was, after checking both."""
    if isinstance(settings, AugmentSettings) and settings.train.crop_size > settings.segment.tile_size:
        what = f"{settings.train.crop_size} px do not fit into the kept tiles of {settings.segment.tile_size} px"
        raise SettingsError(f"{what}; make one smaller or the other larger", setting="train.crop_size")
    with settings_of("train"):
        train = with_networks_of(settings.train)
        network = train.generator(store.legend.num_classes, len(store.band_names))
    _check_generate(settings, "what the study trains", network, train.look_name if train.style_lengths else ())
    what = {
        ReplaceSettings: "one for each seed, on the whole train fold",
        AugmentSettings: "one for each seed and number of kept tiles, on exactly these tiles",
        DiversitySettings: "one for each seed and lambda, on the whole train fold",
    }[type(settings)]
    start = ""
    if train.init:
        file = model_path(train.init)
        card = ModelCard.read(file)
        check_fits([store], train.init, card.legend.names, card.bands)
        start = f", from the weights of {file.name}, {_trained_on(store, settings, card)}"
    return f"{what}, {train.steps} steps of {train.batch_size} patches of {train.crop_size} px{start}"


def _trained_on(store: Store, settings: StudySettings, card: ModelCard) -> str:
    """A text on how much of a store a model has seen, by the hashes in its file and in the store's scenes."""
    known = {entry.get("sha256") for entry in card.provenance.get("data", []) if isinstance(entry, dict)} - {"", None}
    seen = {scene.window for scene in store.scenes if scene.image_sha256 in known}
    if not seen:
        return "trained on other images than these"
    [view] = train_views([store], settings.segment, settings.train_fold)
    tiles = sum(store.scenes[index].window in seen for index in view.scene_index.tolist())
    tested = {scene.window for scene in store.scenes_in(settings.test_fold)}
    text = f"trained on the scenes of {tiles} of the {len(view)} train tiles"
    if seen & tested:
        text += f" and of test tiles ({len(seen & tested)} of {len(tested)} test scenes)"
    return text
