"""Study: a sweep that was checked against its data before anything is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from geosynth.checkpoint import ModelCard
from geosynth.config import AugmentSettings, DiversitySettings, ReplaceSettings, StudySettings, TransferSettings
from geosynth.config.study import EmphasisSettings
from geosynth.download import model_path
from geosynth.errors import DataError, SettingsError, counted
from geosynth.evaluation.distances import bias_note
from geosynth.files import check_output, refuse_inputs, sha256_of
from geosynth.models.state import weights_digest
from geosynth.mosaic.twin import legend_for
from geosynth.raster.remote import absolute
from geosynth.raster.stores.alike import check_alike, check_fits
from geosynth.raster.stores.recombined import emphasised_classes
from geosynth.raster.stores.store import Store
from geosynth.raster.stores.tiles import TileView
from geosynth.segmentation.data import train_views
from geosynth.study.artifacts import Artifacts
from geosynth.study.operations import Operations
from geosynth.study.plan import Artifact, Cell, CellRecipe, GivenGenerator, contrasts, judges_of, key_of, plan_cells
from geosynth.study.report import CellRow, Missing, StudyReport, tabulate_differences, tabulate_rows
from geosynth.study.transfer import MATCHED_TYPES
from geosynth.training.start import with_networks_of
from geosynth.version import __version__

_NUM_FEATURES = 1280  # of EfficientNet-Lite0


@dataclass(frozen=True)
class Study:
    """A sweep, ready to be done."""

    settings: StudySettings
    artifacts: Artifacts
    """What it makes, and where."""
    cells: tuple[Cell, ...]
    """All of them."""
    generator: str
    """What paints, in words."""
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
            SettingsError: if the sweep trains its own generators, but a model is given; crops are larger than tiles;
                networks are not those of the model that trainings go on from; or a transfer lacks its target, or
                another sweep has one.
            DataError: if there are fewer tiles than asked for, the model paints other bands or is no start for the
                data, or source and target cannot be trained on together.
            GridError: if the pixels of source and target have other sizes.
            LegendError: if the store has a class that the model does not know.
            OutputError: if `out` cannot be written.
        """
        store = data if isinstance(data, Store) else Store(data)
        out = Path(out)
        check_output(out, overwrite=True)
        refuse_inputs(out, [data, target, model], replaced=False)
        transfer = isinstance(settings, TransferSettings)
        if transfer != (target is not None):
            raise SettingsError(
                "a transfer study needs a target: the store of the place to test on"
                if transfer
                else f"target: only a transfer study has one, not {settings.sweep}"
            )
        other = None if target is None else Store(target)
        for file in (settings.segment.weights_file, settings.train.perceptual_file):
            weights_digest(file)  # for its refusal
        tiles = _check_tiles(store, settings, other or store)
        given = None
        if model is None and not transfer:
            _check_crop(settings)
            train = with_networks_of(settings.train)
            _check_look(settings, "what the study trains", train.look_name if train.style_lengths else ())
            generator = _of_own(store, settings)
        else:
            if isinstance(settings, DiversitySettings):
                raise SettingsError("the diversity study trains a generator for each lambda; leave out the model")
            file = model_path(model)
            card = ModelCard.read(file)
            legend_for(card, file, store)
            _check_look(settings, str(file), card.looks)
            given = GivenGenerator(path=str(file.absolute()), sha256=sha256_of(file))
            seen = _trained_on(other or store, settings, card)
            generator = f"{file.name} ({given.sha256[:12]}), {'' if other is None else 'of the target: '}{seen}"
            if isinstance(settings, TransferSettings):
                assert other is not None
                _check_transfer(store, other, settings, file, card)
        cells = plan_cells(settings, given)
        artifacts = Artifacts(
            absolute(store.path),
            store.digest() if other is None else f"{store.digest()} {other.digest()}",
            out.absolute(),
            None if other is None else absolute(other.path),
            judges_of(cells),
            operations or Operations(),
        )
        notes = _notes(settings, tiles, given is not None)
        return cls(settings, artifacts, cells, generator, notes)

    @property
    def folder(self) -> Path:
        """Of the results: studies of several sweeps may share `out`, and with it generators and cells."""
        return self.artifacts.out / self.settings.sweep

    def unfinished(self) -> list[CellRecipe]:
        """What is still to be done, each once."""
        recipes = dict.fromkeys(cell.recipe for cell in self.cells)
        return [recipe for recipe in recipes if self.artifacts.result_of(recipe) is None]

    def report(self, failed: Mapping[Artifact, str]) -> StudyReport:
        """All that is finished.

        Args:
            failed: why cells failed.
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
            notes=(*self.notes, *_measured_notes(rows)),
        )


def _check_tiles(store: Store, settings: StudySettings, tested: Store) -> int:
    """How many train tiles there are."""
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
    """Refuse what only a transfer can have wrong."""
    check_alike([store, target])
    if store.digest() == target.digest():
        raise DataError(f"{target.path}: is the same data as {store.path}; a transfer needs another place")
    if any("matched" in arm for arm in settings.arms) and store.dtype not in MATCHED_TYPES:
        raise DataError(
            f"{store.path}: histograms are matched of 8 and 16 bit imagery, not of {store.dtype}; leave out"
            " the matched arm"
        )
    if any("painted" in arm or "nearer" in arm for arm in settings.arms) and not card.settings.style_lengths:
        raise SettingsError(f"{file}: its generator is not told looks, so it cannot paint in that of {target.path}")
    if any("adapted" in arm for arm in settings.arms):
        with_networks_of(settings.train.model_copy(update={"init": str(file)}))
        check_fits([target], file, card.legend.names, card.bands)
    if not plan_cells(settings, GivenGenerator(path=str(file), sha256="")):
        raise SettingsError("arms: none of them has a cell without labelled tiles of the target; say target_tiles")


def _check_look(settings: StudySettings, painter: str, looks: Sequence[str]) -> None:
    look = settings.generate.look
    if look is not None and look not in looks:
        raise SettingsError(f"generate.look={look}: there is no such look; {painter} has {', '.join(looks) or 'none'}")


def _check_crop(settings: StudySettings) -> None:
    if isinstance(settings, AugmentSettings) and settings.train.crop_size > settings.segment.tile_size:
        raise SettingsError(
            f"train.crop_size={settings.train.crop_size} does not fit into the kept tiles of"
            f" {settings.segment.tile_size} px; make one smaller or the other larger"
        )


def _of_own(store: Store, settings: StudySettings) -> str:
    """On what the study trains its generators, and what those knew that they go on from."""
    train = settings.train
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
    """How much of a store a model has seen, by the hashes that its file and the store's scenes hold."""
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


def _notes(settings: StudySettings, tiles: int, is_given: bool) -> tuple[str, ...]:
    notes = [
        f"{counted(settings.seeds, 'seed')}: each draws tiles, weights and images anew; the test tiles are the same for"
        " all, so the intervals over seeds say nothing of other areas. Those over places say how far the means rest on"
        " which clusters of touching test scenes there are; fewer than three make none.",
        f"Every segmenter takes {settings.segment.steps} steps of {settings.segment.batch_size} tiles, whatever it is"
        " trained on.",
    ]
    if settings.seeds < 2:
        notes.append("One seed gives no interval.")
    else:
        notes.append("Verdicts are read off one 95 % interval each: of twenty equal pairs about one looks different.")
    if isinstance(settings, TransferSettings):
        notes.append(
            "Tested on the target, whose unlabelled imagery (of its train fold) the matched and painted arms see."
            f" Cells of k > 0 labelled tiles take {settings.target_steps} further steps on them alone; the arm"
            " that knows only these takes as many in all."
        )
        if any("nearer" in arm for arm in settings.arms):
            notes.append(
                "The nearer arm takes over, seed by seed, what came of the source's real tiles or of the painted ones:"
                " of those whose kernel distance to the target's unlabelled imagery is smaller, in features of"
                " EfficientNet-Lite0."
            )
    if isinstance(settings, ReplaceSettings):
        notes.append("A synthetic tile stands at the very place of the real one that it replaces.")
        if any("judged" in arm for arm in settings.arms):
            notes.append(
                "Judged tiles lack the synthetic pixels whose class the segmenter of the real tiles finds less likely"
                f" than {settings.segment.agreement:g}: they hold what it knows, too."
            )
        if 1 in settings.shares:
            notes.append(
                "With synthetic tiles only, the mIoU is what Shmelkov et al. (2018) call GAN-train, the accuracy the"
                " classification accuracy score of Ravuri and Vinyals (2019), both for pixels."
            )
    if isinstance(settings, AugmentSettings):
        notes.append(
            "Synthetic tiles have the true labels of further places, which the arms without them do not see; what they"
            " add is the worth of these labels and of the images together."
        )
        kept, added = max(settings.real_tiles), settings.synthetic_tiles
        if kept + added > tiles:
            notes.append(
                f"With {kept} real and {added} synthetic of {tiles} tiles, {kept + added - tiles} places are both."
            )
        if is_given:
            notes.append("The generator was given: it has seen more real tiles than the few that are kept.")
    return tuple(notes)


def _measured_notes(rows: list[CellRow]) -> list[str]:
    compared = [row.result.num_compared for row in rows if row.result.num_compared is not None]
    if not compared:
        return []
    bias = bias_note(compared[0], _NUM_FEATURES)
    return [
        f"Frechet distances are those of {compared[0]} real test tiles and as many synthetic ones in features of"
        " EfficientNet-Lite0; they must not be compared with published FID values.",
        *([f"{bias[0].upper()}{bias[1:]}."] if bias else []),
        "Diversity is the mean absolute difference between two realisations of the same labels.",
    ]
