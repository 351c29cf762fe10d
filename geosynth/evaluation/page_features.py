"""The part of report.html on networks: distances, memorisation with its pictures, diversity, consistency."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from geosynth.evaluation import html
from geosynth.evaluation.pictures import ClosestPicture
from geosynth.evaluation.report import Report
from geosynth.evaluation.report_features import FeatureComparison
from geosynth.evaluation.report_pixels import number


def feature_parts(report: Report, closest: Sequence[ClosestPicture]) -> Iterator[str]:
    """Section by section."""
    yield "<h2>Distances between features of tiles</h2>"
    yield from (html.paragraph(why) for why in (report.features_reason, report.inception_reason) if why)
    yield from _distances(report.features)
    yield "<h2>Memorisation</h2>"
    yield from _memorisation(report, closest)
    yield "<h2>Diversity: equal labels, different latents</h2>"
    many = report.diversity
    if many.reason:
        yield html.paragraph(many.reason)
    else:
        told = f"{many.num_latents} latents, {many.num_tiles} tiles: mean absolute difference {many.pixels} DN"
        features = f"; mean distance of {many.feature_space} features {many.features}" if many.feature_space else ""
        yield html.paragraph(f"{told}{features}.")
    yield "<h2>Segmentation consistency</h2>"
    yield from _consistency(report)


def _distances(comparisons: Sequence[FeatureComparison]) -> Iterator[str]:
    if not comparisons:
        return
    head = ("distance", "real tiles", "n real", "n synthetic", "value", "real to real", "real to synthetic alike")
    rows = []
    for one in comparisons:
        common = (one.reference, str(one.num_real), str(one.num_synthetic))
        for name, distance in ((one.frechet_name, one.frechet), (one.kid_name, one.kid)):
            rows.append((name, *common, str(distance.estimate), str(distance.real), str(distance.across)))
    yield html.table(head, rows)
    yield html.table(
        ("feature space", "real tiles", "precision", "recall", "density", "coverage"),
        [
            (one.feature_space, one.reference, *map(str, (one.precision, one.recall, one.density, one.coverage)))
            for one in comparisons
        ],
    )
    told: dict[str, list[str]] = {}
    for one in comparisons:
        for note in dict.fromkeys((one.reason, one.note, one.frechet.note, one.kid.note)):
            if note:
                told.setdefault(note, []).append(f"{one.feature_space} to {one.reference}")
    yield from (html.paragraph(f"{', '.join(where)}: {note}.") for note, where in told.items())


def _memorisation(report: Report, closest: Sequence[ClosestPicture]) -> Iterator[str]:
    found = report.memorisation
    if found.reason:
        yield html.paragraph(found.reason)
    if found.share_nearer_train.value is not None:
        yield html.table(
            ("measure", "value", "meaning"),
            [
                (
                    "share nearer to train",
                    str(found.share_nearer_train),
                    f"{found.control} of the other real tiles, which nobody has memorised",
                ),
                ("median distance, train over other", str(found.distance_ratio), "1 if nothing is memorised"),
                (
                    "tiles",
                    f"{found.num_synthetic}",
                    f"{found.num_train} real ones of train, {found.num_other} of {found.other}; {found.feature_space}",
                ),
            ],
            text=True,
        )
    if closest:
        yield html.paragraph(
            "The closest pairs: synthetic, and the real train tile nearest to it in the feature space."
        )
    for one in closest:
        yield html.images((("synthetic", one.synthetic), ("train", one.train)), one.caption)


def _consistency(report: Report) -> Iterator[str]:
    found = report.consistency
    if found.reason:
        yield html.paragraph(found.reason)
        return
    yield html.paragraph(
        f"{found.segmenter}, trained on real tiles, on {found.num_tiles} tiles of {found.num_places} places: mIoU"
        f" {found.synthetic} on synthetic, {found.real} on real ones; difference {found.difference}."
    )
    rows = [(name, number(real), number(synthetic)) for name, (real, synthetic) in found.class_iou.items()]
    yield html.table(("class", "IoU on real", "IoU on synthetic"), rows)
